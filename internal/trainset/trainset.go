// Package trainset writes a training set in the shapes that trainers read, the same bytes for the same rows.
package trainset

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/finetune"
)

// Formats, by who reads them.
const (
	// OpenAI is train.jsonl of {"messages": […]}, with the tag as system message; TRL and most others read it too.
	// https://platform.openai.com/docs/guides/supervised-fine-tuning
	OpenAI = "openai"
	// TRL is Parquet, as messages and as prompt and completion. https://huggingface.co/docs/trl/dataset_formats
	TRL = "trl"
	// Axolotl is JSONL of messages and the part of a configuration that reads it.
	// https://docs.axolotl.ai/docs/dataset-formats/conversation.html
	Axolotl = "axolotl"
	// LlamaFactory is JSONL in the shapes sharegpt and alpaca, with dataset_info.json.
	// https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
	LlamaFactory = "llamafactory"
)

// ManifestFile is written last.
const ManifestFile = "selfalign.json"

// Manifest is ManifestFile: what was exported.
type Manifest struct {
	Format     string  `json:"format"`
	Run        string  `json:"run"`
	Dataset    string  `json:"dataset"`        // digest of the training set
	Rows       int64   `json:"rows"`           // that are trained on
	Seeds      int64   `json:"seeds"`          // of these
	Augmented  int64   `json:"augmented"`      // of these
	Validation int64   `json:"validation"`     // rows held out
	Share      float64 `json:"share_held_out"` // that was asked for
	// Paper is the paper's recipe for so many rows.
	Paper finetune.Hyper `json:"paper_hyperparameters"`
	Files []File         `json:"files"`
	// Digest identifies the export: SHA-256 over the lines "<sha256>  <path>\n" of its files.
	Digest string `json:"digest"`
}

// File is one file of an export.
type File struct {
	Path   string `json:"path"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Export says what to write.
type Export struct {
	Format string
	Run    string
	Share  float64 // held out for validation, 0 to 0.5
	// Dataset is the digest of the training set; Rows goes over it in the order of ids, each time anew.
	Dataset string
	Rows    func() iter.Seq2[dataset.Example, error]
	// Create makes a file of an export, whole or not at all. Paths have slashes.
	Create func(path string, fill func(io.Writer) error) error
}

// Write writes the export, one file after another and ManifestFile last. Memory does not grow with the rows.
func (e Export) Write(ctx context.Context) (Manifest, error) {
	m := Manifest{Format: e.Format, Run: e.Run, Dataset: e.Dataset, Share: e.Share}
	tables, ok := formats[e.Format]
	if !ok {
		return m, fmt.Errorf("export: no format %q (Try: %s, %s, %s or %s)", e.Format, OpenAI, TRL, Axolotl, LlamaFactory)
	}
	if e.Share < 0 || e.Share > 0.5 {
		return m, fmt.Errorf("export: a share of %g cannot be held out (Try: 0 to 0.5)", e.Share)
	}
	for row, err := range e.Rows() {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return m, fmt.Errorf("export: %w", err)
		}
		switch {
		case dataset.HeldOut(row.ID, e.Share):
			m.Validation++
			continue
		case row.Origin == dataset.OriginSeed:
			m.Seeds++
		default:
			m.Augmented++
		}
		m.Rows++
	}
	if m.Rows == 0 {
		return m, errors.New("export: no rows to train on")
	}
	m.Paper = finetune.PaperHyper(m.Rows)
	for _, t := range tables {
		for _, held := range []bool{false, true} {
			if held && m.Validation == 0 {
				continue
			}
			if err := e.table(ctx, &m, t, held); err != nil {
				return m, err
			}
		}
	}
	if about, ok := companions[e.Format]; ok {
		path, body := about(m)
		if err := e.file(&m, path, 0, func(w io.Writer) error { _, err := w.Write(body); return err }); err != nil {
			return m, err
		}
	}
	digest := sha256.New()
	for _, f := range m.Files {
		fmt.Fprintf(digest, "%s  %s\n", f.SHA256, f.Path)
	}
	m.Digest = hex.EncodeToString(digest.Sum(nil))
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, fmt.Errorf("export: %w", err)
	}
	return m, e.Create(ManifestFile, func(w io.Writer) error { _, err := w.Write(append(body, '\n')); return err })
}

// Names of the two parts of an export.
const (
	partTrain      = "train"
	partValidation = "validation"
)

func (e Export) table(ctx context.Context, m *Manifest, t table, held bool) error {
	part, rows := partTrain, m.Rows
	if held {
		part, rows = partValidation, m.Validation
	}
	return e.file(m, t.path(part), rows, func(w io.Writer) error {
		rows := func(yield func(dataset.Example) bool) error {
			for row, err := range e.Rows() {
				if err = errors.Join(err, ctx.Err()); err != nil {
					return err
				}
				if dataset.HeldOut(row.ID, e.Share) == held && !yield(row) {
					return nil
				}
			}
			return nil
		}
		return t.write(w, rows)
	})
}

func (e Export) file(m *Manifest, path string, rows int64, fill func(io.Writer) error) error {
	f := File{Path: path, Rows: rows}
	err := e.Create(path, func(w io.Writer) error {
		digest := sha256.New()
		counted := &counter{w: io.MultiWriter(w, digest)}
		if err := fill(counted); err != nil {
			return err
		}
		f.Bytes, f.SHA256 = counted.n, hex.EncodeToString(digest.Sum(nil))
		return nil
	})
	if err != nil {
		return fmt.Errorf("export %s: %w", path, err)
	}
	m.Files = append(m.Files, f)
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// companions are the files beside the tables that tell a trainer how to read them.
var companions = map[string]func(Manifest) (path string, body []byte){
	Axolotl:      axolotlConfig,
	LlamaFactory: llamaFactoryInfo,
}

func axolotlConfig(m Manifest) (string, []byte) {
	var b bytes.Buffer
	const dataset = `  - path: %s.jsonl
    ds_type: json
    type: chat_template
    field_messages: messages
    message_property_mappings: {role: role, content: content}
    roles_to_train: [assistant] # loss on outputs only
    train_on_eos: turn
`
	fmt.Fprintf(&b, "# Put this into an axolotl configuration, paths relative to where axolotl runs.\ndatasets:\n"+dataset, partTrain)
	if m.Validation > 0 {
		fmt.Fprintf(&b, "test_datasets:\n"+dataset+"    split: train # the name of the only split of a file\n", partValidation)
	}
	fmt.Fprintf(&b, `# The template's end of an answer is what is trained; with chatml base models want: special_tokens: {eos_token: <|im_end|>}
excess_length_strategy: truncate # the default leaves longer examples out
# The paper's recipe for %d examples, on one GPU with gradients of %d batches of 1:
max_steps: %d
micro_batch_size: 1
gradient_accumulation_steps: %d
learning_rate: %g
lr_scheduler: polynomial # of power 1: a straight line, which ends a step after the last
lr_scheduler_kwargs: {power: 1.0, lr_end: %g}
warmup_steps: 0
weight_decay: %g
`, m.Rows, m.Paper.BatchSize, m.Paper.Steps, m.Paper.BatchSize, m.Paper.LearningRate, lineEnd(m.Paper), m.Paper.WeightDecay)
	return "axolotl.yaml", b.Bytes()
}

// lineEnd is the learning rate a step after the last, where the library's line ends.
func lineEnd(h finetune.Hyper) float64 {
	if h.Steps < 2 {
		return h.LearningRateEnd
	}
	end := h.LearningRate - (h.LearningRate-h.LearningRateEnd)*float64(h.Steps)/float64(h.Steps-1)
	return math.Round(end*1e12) / 1e12
}

func llamaFactoryInfo(m Manifest) (string, []byte) {
	info := map[string]any{}
	for _, part := range []string{partTrain, partValidation} {
		if part == partValidation && m.Validation == 0 {
			continue
		}
		info["selfalign_sharegpt_"+part] = map[string]any{
			"file_name": "sharegpt-" + part + ".jsonl", "formatting": "sharegpt",
			"columns": map[string]string{"messages": "conversations", "system": "system"},
			"tags":    map[string]string{"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
		}
		info["selfalign_alpaca_"+part] = map[string]any{
			"file_name": "alpaca-" + part + ".jsonl", "formatting": "alpaca",
			"columns": map[string]string{"prompt": "instruction", "query": "input", "response": "output", "system": "system"},
		}
	}
	body, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		panic(err) // plain strings
	}
	return "dataset_info.json", append(body, '\n')
}
