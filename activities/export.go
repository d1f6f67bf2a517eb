package activities

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/prompt"
)

// ExportInput names a training set to be written as a training file.
type ExportInput struct {
	Training dataset.Ref `json:"training"`
	Reversed bool        `json:"reversed"` // output → instruction, rendered by the template that inference uses
	Prompt   string      `json:"prompt"`   // the user's backtranslate template; empty is the embedded one
	Key      string      `json:"key"`      // of the file in S3
}

// Exported is a training file: JSON lines of chat messages, in the order of row ids, which is a shuffle that never changes.
type Exported struct {
	Key      string `json:"key"`
	Examples int64  `json:"examples"`
	Digest   string `json:"digest"` // SHA-256 of the file
}

type chatExample struct {
	Messages []chatMessage `json:"messages"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// ExportTraining writes a training set as the file that trainers read. Forward: the tag as system message, instruction
// and output. Reversed: the very prompt that asks for an instruction, and the instruction. Equal rows give equal bytes.
func (s *Sets) ExportTraining(ctx context.Context, in ExportInput) (Exported, error) {
	render, err := exampleRenderer(in)
	if err != nil {
		return Exported{}, err
	}
	file, err := os.CreateTemp("", "selfalign-train-*.jsonl")
	if err != nil {
		return Exported{}, fmt.Errorf("export training file: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	digest := sha256.New()
	buffered := bufio.NewWriterSize(io.MultiWriter(file, digest), 1<<20)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	out := Exported{Key: in.Key}
	beat := newHeart(ctx)
	for row, err := range dataset.Rows[dataset.Example](ctx, s.Store, in.Training) {
		if err != nil {
			return Exported{}, err
		}
		example, err := render(row)
		if err != nil {
			return Exported{}, fmt.Errorf("export row %s: %w", row.ID, err)
		}
		if err := lines.Encode(example); err != nil {
			return Exported{}, fmt.Errorf("export training file: %w", err)
		}
		out.Examples++
		beat.at(1)
	}
	if err := buffered.Flush(); err != nil {
		return Exported{}, fmt.Errorf("export training file: %w", err)
	}
	if err := file.Close(); err != nil {
		return Exported{}, fmt.Errorf("export training file: %w", err)
	}
	out.Digest = hex.EncodeToString(digest.Sum(nil))
	defer beat.keep()() // nothing is counted while the file goes out
	return out, s.Store.PutFile(ctx, in.Key, file.Name())
}

func exampleRenderer(in ExportInput) (func(dataset.Example) (chatExample, error), error) {
	if !in.Reversed {
		return func(e dataset.Example) (chatExample, error) {
			return chatExample{Messages: []chatMessage{
				{Role: "system", Content: e.System},
				{Role: "user", Content: e.Instruction},
				{Role: "assistant", Content: e.Output},
			}}, nil
		}, nil
	}
	template, err := loadTemplate(prompt.Backtranslate, in.Prompt)
	if err != nil {
		return nil, blocked("setting", err, "mend prompts.backtranslate in a new run")
	}
	return func(e dataset.Example) (chatExample, error) {
		messages, err := template.Example(prompt.Vars{Output: e.Output}, e.Instruction)
		if err != nil {
			return chatExample{}, err
		}
		var out chatExample
		for _, m := range messages {
			out.Messages = append(out.Messages, chatMessage(m))
		}
		return out, nil
	}, nil
}

// loadTemplate returns the user's template, or the embedded one where there is none.
func loadTemplate(name, text string) (prompt.Template, error) {
	if text == "" {
		return prompt.Embedded(name)
	}
	return prompt.Parse(name, text)
}

// checkTemplates finds templates that cannot be rendered.
func checkTemplates(p config.Prompts) error {
	for name, text := range map[string]string{prompt.Backtranslate: p.Backtranslate, prompt.Rate: p.Rate} {
		if _, err := loadTemplate(name, text); err != nil {
			return fmt.Errorf("prompts.%s: %w", name, err)
		}
	}
	return nil
}
