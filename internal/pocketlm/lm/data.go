// Package lm is a small language model that is fitted on chat examples in milliseconds and then writes instructions for
// texts, rates answers and responds, always the same for the same weights, messages, sampling and seed.
package lm

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of a training file. A file beyond them is refused, never cut silently.
const (
	MaxLineBytes = 4 << 20
	MaxExamples  = 2_000_000
)

// ErrTraining is wrapped by every error about the content of a training file.
var ErrTraining = errors.New("invalid training file")

// Message is one turn of a conversation.
type Message struct{ Role, Content string }

// Example is one turn to learn: Assistant is the only text that a loss falls on. User is what came directly before it.
type Example struct{ System, User, Assistant string }

// ParseTraining reads chat-format JSONL: {"messages":[{"role","content"},…]} a line, blank lines allowed. Every assistant
// turn with a user turn before it is one example, unless its weight is 0. Errors wrap ErrTraining and name the line (from 1).
func ParseTraining(r io.Reader) ([]Example, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), MaxLineBytes)
	var out []Example
	line := 0
	for sc.Scan() {
		line++
		raw := bytes.TrimSpace(sc.Bytes())
		if line == 1 {
			raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
		}
		if len(raw) == 0 {
			continue
		}
		turns, err := parseLine(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrTraining, line, err)
		}
		if out = append(out, turns...); len(out) > MaxExamples {
			return nil, fmt.Errorf("%w: line %d: more than %d examples", ErrTraining, line, MaxExamples)
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("%w: line %d: longer than %d bytes", ErrTraining, line+1, MaxLineBytes)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read training file: %w", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no example in it", ErrTraining)
	}
	return out, nil
}

func parseLine(raw []byte) ([]Example, error) {
	var ex struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
			Weight  *float64        `json:"weight"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(raw, &ex); err != nil {
		return nil, fmt.Errorf("not a JSON object with messages: %w", err)
	}
	if len(ex.Messages) == 0 {
		return nil, errors.New("messages is empty or missing")
	}
	var out []Example
	var system, user string
	assistant := false
	for i, m := range ex.Messages {
		text, err := ContentText(m.Content)
		if err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
		switch m.Role {
		case "system", "developer":
			system = text
		case "user":
			user = text
		case "assistant":
			if assistant = true; strings.TrimSpace(text) == "" {
				return nil, fmt.Errorf("messages[%d]: empty assistant content", i)
			}
			if user != "" && (m.Weight == nil || *m.Weight != 0) {
				out = append(out, Example{System: system, User: user, Assistant: text})
			}
		case "tool", "function":
		default:
			return nil, fmt.Errorf("messages[%d]: unknown role %.40q", i, m.Role)
		}
	}
	if !assistant {
		return nil, errors.New("no assistant message")
	}
	return out, nil
}

// ContentText reads a message's content: a string, null, or a list of parts of which the texts are joined.
func ContentText(raw json.RawMessage) (string, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return "", nil
	}
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", fmt.Errorf("content: %w", err)
		}
		return s, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", errors.New("content is neither a string nor a list of parts")
	}
	var b strings.Builder
	for i, p := range parts {
		if p.Type != "text" && p.Type != "input_text" {
			return "", fmt.Errorf("content[%d]: part of type %.40q is not supported, only text", i, p.Type)
		}
		b.WriteString(p.Text)
	}
	return b.String(), nil
}
