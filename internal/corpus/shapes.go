package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pairNames are the names under which data sets keep pairs, in the order in which they are tried. Further is a field
// that continues the instruction where a record has it: Alpaca's input, Dolly's context.
var pairNames = []struct{ instruction, output, further string }{
	{"instruction", "output", "input"}, // Alpaca
	{"instruction", "response", "context"},
	{"prompt", "completion", ""},
	{"prompt", "response", ""},
	{"question", "answer", ""},
	{"input", "output", ""},
}

// chatNames are the fields that hold a conversation.
var chatNames = []string{"messages", "conversations", "conversation"}

// Names of the two speakers.
var (
	userNames      = []string{"user", "human", "prompter"}
	assistantNames = []string{"assistant", "gpt", "model", "bot", "chatgpt"}
)

// turn is one message of a conversation, under either pair of names that are in use.
type turn struct {
	Role    string          `json:"role"`
	From    string          `json:"from"`
	Content json.RawMessage `json:"content"`
	Value   json.RawMessage `json:"value"`
}

// shape makes a row of a record whose fields say what it is.
func (sd *seeder) shape(at origin, fields map[string]json.RawMessage, line []byte) bool {
	for _, name := range chatNames {
		if isJSON(fields[name], '[') {
			return sd.chat(at, fields[name], line)
		}
	}
	for _, p := range pairNames {
		if isJSON(fields[p.instruction], '"') && isJSON(fields[p.output], '"') {
			return sd.continued(at, fields, line, p.instruction, p.further, p.output)
		}
	}
	return sd.pair(at, fields, line, sd.opts.Instruction, sd.opts.Output)
}

func isJSON(raw json.RawMessage, first byte) bool { return len(raw) > 0 && raw[0] == first }

// continued reads a pair whose instruction goes on in a further field, which may be absent or empty.
func (sd *seeder) continued(at origin, fields map[string]json.RawMessage, line []byte, instruction, further, output string) bool {
	if further == "" || !isJSON(fields[further], '"') {
		return sd.pair(at, fields, line, instruction, output)
	}
	var texts [3]string
	for i, name := range []string{instruction, further, output} {
		var err error
		if texts[i], err = stringField(fields, name); err != nil {
			return sd.yield(at.reject(ReasonBadRecord, err.Error(), printable(line)))
		}
	}
	if strings.TrimSpace(texts[0]) != "" && strings.TrimSpace(texts[1]) != "" {
		texts[0] = strings.TrimSpace(texts[0]) + "\n\n" + strings.TrimSpace(texts[1])
	}
	return sd.emit(at, texts[0], texts[2])
}

// anyChat reads the conversation in the field that has one.
func (sd *seeder) anyChat(at origin, fields map[string]json.RawMessage, line []byte) bool {
	for _, name := range chatNames {
		if raw, ok := fields[name]; ok {
			return sd.chat(at, raw, line)
		}
	}
	return sd.yield(at.reject(ReasonBadRecord, fmt.Sprintf("no field %q", chatNames[0]), printable(line)))
}

// chat makes a pair of the first question of a conversation and the answer that follows it at once. What a system said
// before is not part of it.
func (sd *seeder) chat(at origin, raw json.RawMessage, line []byte) bool {
	var turns []turn
	if err := json.Unmarshal(raw, &turns); err != nil {
		return sd.yield(at.reject(ReasonBadRecord, jsonDetail(err), printable(line)))
	}
	for i := range turns {
		if turns[i].is(assistantNames) {
			return sd.yield(at.reject(ReasonBadRecord, "a conversation that the assistant begins", printable(line)))
		}
		if !turns[i].is(userNames) {
			continue
		}
		question, err := turns[i].text()
		if err != nil {
			return sd.yield(at.reject(ReasonBadRecord, err.Error(), printable(line)))
		}
		if i+1 == len(turns) || !turns[i+1].is(assistantNames) {
			return sd.yield(at.reject(ReasonNoReply, "no assistant answers the first question", question))
		}
		answer, err := turns[i+1].text()
		if err != nil {
			return sd.yield(at.reject(ReasonBadRecord, err.Error(), printable(line)))
		}
		return sd.emit(at, question, answer)
	}
	return sd.yield(at.reject(ReasonBadRecord, "a conversation without a user", printable(line)))
}

func (t turn) is(names []string) bool {
	return slices.Contains(names, strings.ToLower(t.Role)) || slices.Contains(names, strings.ToLower(t.From))
}

var errNotText = errors.New("a message that is not text alone")

// text returns what was said: a text, or parts that are all texts.
func (t turn) text() (string, error) {
	raw := t.Content
	if len(raw) == 0 {
		raw = t.Value
	}
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var whole string
	if json.Unmarshal(raw, &whole) == nil {
		return whole, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", errNotText
	}
	var texts []string
	for _, p := range parts {
		if p.Type != "text" {
			return "", errNotText
		}
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n\n"), nil
}
