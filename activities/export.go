package activities

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

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
	// Share of the rows that go into a file of their own beside Key instead, by dataset.HeldOut.
	Share float64 `json:"share,omitempty"`
}

// Exported is a training file: JSON lines of chat messages, in the order of row ids, which is a shuffle that never changes.
type Exported struct {
	Key      string `json:"key"`
	Examples int64  `json:"examples"`
	Digest   string `json:"digest"` // SHA-256 of the file
	// Validation is the file of the rows held out; "" where there are none.
	Validation string `json:"validation,omitempty"`
}

// trainingFile is a training file that is being written to the disk.
type trainingFile struct {
	file   *os.File
	sum    hash.Hash
	buffer *bufio.Writer
	lines  *json.Encoder
	rows   int64
}

func newTrainingFile() (*trainingFile, error) {
	file, err := os.CreateTemp("", "selfalign-train-*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("export training file: %w", err)
	}
	f := &trainingFile{file: file, sum: sha256.New()}
	f.buffer = bufio.NewWriterSize(io.MultiWriter(file, f.sum), 1<<20)
	f.lines = json.NewEncoder(f.buffer)
	f.lines.SetEscapeHTML(false)
	return f, nil
}

func (f *trainingFile) remove() {
	f.file.Close()
	os.Remove(f.file.Name())
}

func (f *trainingFile) add(e chatExample) error {
	if err := f.lines.Encode(e); err != nil {
		return fmt.Errorf("export training file: %w", err)
	}
	f.rows++
	return nil
}

func (f *trainingFile) finish() error {
	if err := errors.Join(f.buffer.Flush(), f.file.Close()); err != nil {
		return fmt.Errorf("export training file: %w", err)
	}
	return nil
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
	train, err := newTrainingFile()
	if err != nil {
		return Exported{}, err
	}
	defer train.remove()
	held, err := newTrainingFile()
	if err != nil {
		return Exported{}, err
	}
	defer held.remove()
	beat := newHeart(ctx)
	for row, err := range dataset.Rows[dataset.Example](ctx, s.Store, in.Training) {
		if err != nil {
			return Exported{}, err
		}
		example, err := render(row)
		if err != nil {
			return Exported{}, fmt.Errorf("export row %s: %w", row.ID, err)
		}
		to := train
		if dataset.HeldOut(row.ID, in.Share) {
			to = held
		}
		if err := to.add(example); err != nil {
			return Exported{}, err
		}
		beat.at(1)
	}
	if err := errors.Join(train.finish(), held.finish()); err != nil {
		return Exported{}, err
	}
	if train.rows == 0 && held.rows > 0 {
		return Exported{}, blocked("setting", fmt.Errorf("all %d examples are held out for validation", held.rows), "take model.validation down in a new run, or more seeds")
	}
	out := Exported{Key: in.Key, Examples: train.rows, Digest: hex.EncodeToString(train.sum.Sum(nil))}
	defer beat.keep()() // nothing is counted while the files go out
	if held.rows > 0 {
		out.Validation = strings.TrimSuffix(in.Key, ".jsonl") + "-validation.jsonl"
		if err := s.Store.PutFile(ctx, out.Validation, held.file.Name()); err != nil {
			return Exported{}, err
		}
	}
	return out, s.Store.PutFile(ctx, in.Key, train.file.Name())
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
