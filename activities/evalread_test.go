package activities

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

type labelledRow struct {
	Question string `parquet:"question"`
	Reply    string `parquet:"reply"`
	Fine     bool   `parquet:"fine"`
	Model    string `parquet:"model"`
}

// Prompts, outputs and labelled pairs are read from Parquet, from a dataset of the Hub and from JSON alike, under the names that
// their source gives.
func TestEvaluationsReadTables(t *testing.T) {
	t.Parallel()
	remote, err := hubtest.Start(hubtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	e := newEvals(t)
	if e.Sources.Hub, err = hub.New(hub.Options{Endpoint: remote.URL()}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := parquet.Write(&b, []labelledRow{{"Name a fish.", "A pike.", true, "g"}, {"Name a bird.", "A pike.", false, "g"}}); err != nil {
		t.Fatal(err)
	}
	table := b.Bytes()
	remote.AddRepo("ann/evals", false, false)
	remote.Put("ann/evals", "main", map[string][]byte{"data/eval-00000-of-00001.parquet": table, "set.json": []byte(`[{"instruction": "Sum up.", "input": "A text.", "output": "x"}]`)})
	mapped := config.Source{Format: "auto", Instruction: "question", Output: "reply", Label: "fine"}
	uploaded := mapped
	uploaded.Path = e.upload(t, "set.parquet", string(table))[0].Path
	onHub := mapped
	onHub.Path, onHub.Split = "hf://ann/evals", "eval"
	lines := mapped
	lines.Path = e.upload(t, "set.jsonl", `{"question": "Name a fish.", "reply": "A pike.", "fine": 1}`+"\n"+`{"question": "Name a bird.", "reply": "A pike.", "fine": "no"}`)[0].Path
	for name, source := range map[string]config.Source{"s3": uploaded, "hub": onHub, "lines": lines} {
		sources := []config.Source{source}
		prompts, err := e.WritePrompts(t.Context(), PromptsInput{Sources: sources, Limit: 10, Tags: config.TagsNone, Output: name + "/prompts"})
		if err != nil {
			t.Fatal(name, err)
		}
		var asked []string
		for p, err := range dataset.Rows[dataset.Prompt](t.Context(), e.Store, prompts) {
			if err != nil {
				t.Fatal(err)
			}
			asked = append(asked, p.Instruction)
		}
		if slices.Sort(asked); !slices.Equal(asked, []string{"Name a bird.", "Name a fish."}) {
			t.Errorf("%s: prompts %q", name, asked)
		}
		outputs, err := e.ImportOutputs(t.Context(), OutputsInput{Sources: sources, Output: name + "/outputs"})
		if err != nil || outputs.Rows != 2 {
			t.Errorf("%s: %d outputs, %v", name, outputs.Rows, err)
		}
		labelled, err := e.WriteLabelled(t.Context(), LabelledInput{Sources: sources, Output: name + "/labelled"})
		if err != nil {
			t.Fatal(name, err)
		}
		good := map[string]bool{}
		for c, err := range dataset.Rows[dataset.Candidate](t.Context(), e.Store, labelled) {
			if err != nil {
				t.Fatal(err)
			}
			good[c.Instruction] = c.Generator == labelledGood
		}
		if len(good) != 2 || !good["Name a fish."] || good["Name a bird."] {
			t.Errorf("%s: labels %v", name, good)
		}
	}
	// AlpacaEval's own form, as a file of a dataset; its input continues the instruction.
	file := config.Source{Path: "hf://ann/evals/set.json", Format: "auto", Instruction: "instruction", Output: "output"}
	outputs, err := e.ImportOutputs(t.Context(), OutputsInput{Sources: []config.Source{file}, Output: "file/outputs"})
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range dataset.Rows[dataset.Response](t.Context(), e.Store, outputs) {
		if err != nil || r.Instruction != "Sum up.\n\nA text." {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// What cannot be read needs a person; that S3 is away does not.
func TestEvaluationsTellWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	e := newEvals(t)
	for name, text := range map[string]string{
		"a.json": `[{"instruction": "a"`, "b.jsonl": `{"text": "no such field"}`, "c.txt": "a text", "d.json": `["a"]`, "e.parquet": "PAR1 and no more PAR1", "f.json": "",
	} {
		source := e.upload(t, name, text)
		source[0].Instruction = "instruction"
		_, err := e.WritePrompts(t.Context(), PromptsInput{Sources: source, Limit: 10, Output: name})
		if trouble, known := TroubleOf(err); !known || trouble.Class != "source" {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost, err := blob.Open(t.Context(), blob.Config{Bucket: "b", Endpoint: "http://127.0.0.1:1", Region: "us-east-1", PathStyle: true, AccessKeyEnv: "PATH", SecretKeyEnv: "PATH"})
	if err != nil {
		t.Fatal(err)
	}
	cut := &Evals{Store: e.Store, Sources: &Sources{Store: lost}}
	source := []config.Source{{Path: "s3://b/good.json"}}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = cut.WritePrompts(ctx, PromptsInput{Sources: source, Limit: 10, Output: "cut"})
	if _, known := TroubleOf(err); err == nil || known {
		t.Errorf("a bucket that does not answer: %v", err)
	}
}
