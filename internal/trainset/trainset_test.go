package trainset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/dataset"
)

func examples(n int) []dataset.Example {
	out := make([]dataset.Example, n)
	for i := range out {
		e := dataset.Example{Origin: dataset.OriginSeed, System: "Answer in the style of an AI Assistant.", Instruction: fmt.Sprintf("Ask <%d> & \"é\"", i), Output: fmt.Sprintf("Tell\n%d ", i)}
		if i%3 > 0 {
			e.Origin, e.System, e.Score = dataset.OriginAugmented, "Answer with knowledge from web search.", 5
		}
		e.ID = dataset.SegmentID(e.Output)
		out[i] = e
	}
	slices.SortFunc(out, func(a, b dataset.Example) int { return strings.Compare(a.ID, b.ID) })
	return out
}

func write(t *testing.T, format string, share float64, rows []dataset.Example) (Manifest, map[string][]byte, error) {
	t.Helper()
	files := map[string][]byte{}
	m, err := Export{
		Format: format, Run: "r", Share: share, Dataset: "d",
		Rows: func() iter.Seq2[dataset.Example, error] {
			return func(yield func(dataset.Example, error) bool) {
				for _, r := range rows {
					if !yield(r, nil) {
						return
					}
				}
			}
		},
		Create: func(path string, fill func(io.Writer) error) error {
			if _, ok := files[ManifestFile]; ok {
				t.Errorf("%s after the manifest", path)
			}
			var b bytes.Buffer
			if err := fill(&b); err != nil {
				return err
			}
			files[path] = b.Bytes()
			return nil
		},
	}.Write(t.Context())
	return m, files, err
}

func TestFormats(t *testing.T) {
	t.Parallel()
	rows := examples(300)
	for format, want := range map[string][]string{
		OpenAI:       {"selfalign.json", "train.jsonl", "validation.jsonl"},
		TRL:          {"messages/train.parquet", "messages/validation.parquet", "prompt-completion/train.parquet", "prompt-completion/validation.parquet", "selfalign.json"},
		Axolotl:      {"axolotl.yaml", "selfalign.json", "train.jsonl", "validation.jsonl"},
		LlamaFactory: {"alpaca-train.jsonl", "alpaca-validation.jsonl", "dataset_info.json", "selfalign.json", "sharegpt-train.jsonl", "sharegpt-validation.jsonl"},
	} {
		m, files, err := write(t, format, 0.1, rows)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(files))); d != "" {
			t.Errorf("%s: %s", format, d)
		}
		if m.Rows+m.Validation != 300 || m.Validation < 10 || m.Validation > 60 || m.Seeds+m.Augmented != m.Rows || m.Paper.Steps == 0 {
			t.Errorf("%s: %+v", format, m)
		}
		again, _, err := write(t, format, 0.1, rows)
		if err != nil || again.Digest != m.Digest || m.Digest == "" {
			t.Errorf("%s: other bytes the second time: %v", format, err)
		}
		changed := slices.Clone(rows)
		changed[7].Output += "!"
		if other, _, err := write(t, format, 0.1, changed); err != nil || other.Digest == m.Digest {
			t.Errorf("%s: another set has the same digest, %v", format, err)
		}
		if whole, files, err := write(t, format, 0, rows); err != nil || whole.Rows != 300 || files["validation.jsonl"] != nil {
			t.Errorf("%s: %+v, %v", format, whole, err)
		}
	}
}

// TestRowsAreWhole reads back what was written, in order and on both sides of the split.
func TestRowsAreWhole(t *testing.T) {
	t.Parallel()
	rows := examples(100)
	_, files, err := write(t, TRL, 0.2, rows)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, part := range []string{partTrain, partValidation} {
		raw := files["prompt-completion/"+part+".parquet"]
		got, err := parquet.Read[split](bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(got, func(a, b split) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("%s: out of order", part)
		}
		for _, s := range got {
			i := slices.IndexFunc(rows, func(e dataset.Example) bool { return e.ID == s.ID })
			if d := cmp.Diff(splitOf(rows[i]), s); d != "" {
				t.Error(d)
			}
			if dataset.HeldOut(s.ID, 0.2) != (part == partValidation) {
				t.Errorf("%s is in %s", s.ID, part)
			}
			seen[s.ID] = true
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d rows", len(seen))
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	row := dataset.Example{ID: "01", Origin: "seed", System: "S", Instruction: "A <b>?", Output: "C"}
	for _, c := range []struct{ format, file, want string }{
		{OpenAI, "train.jsonl", `{"messages":[{"role":"system","content":"S"},{"role":"user","content":"A <b>?"},{"role":"assistant","content":"C"}]}`},
		{Axolotl, "train.jsonl", `{"messages":[{"role":"system","content":"S"},{"role":"user","content":"A <b>?"},{"role":"assistant","content":"C"}],"id":"01","origin":"seed","score":0}`},
		{LlamaFactory, "sharegpt-train.jsonl", `{"conversations":[{"from":"human","value":"A <b>?"},{"from":"gpt","value":"C"}],"system":"S","id":"01","origin":"seed"}`},
		{LlamaFactory, "alpaca-train.jsonl", `{"instruction":"A <b>?","input":"","output":"C","system":"S","id":"01","origin":"seed"}`},
	} {
		_, files, err := write(t, c.format, 0, []dataset.Example{row})
		if err != nil || string(files[c.file]) != c.want+"\n" {
			t.Errorf("%s: %s, %v", c.format, files[c.file], err)
		}
	}
}

func TestCompanions(t *testing.T) {
	t.Parallel()
	_, files, err := write(t, Axolotl, 0.1, examples(3200))
	if err != nil {
		t.Fatal(err)
	}
	var about map[string]any
	if err := yaml.Unmarshal(files["axolotl.yaml"], &about); err != nil || about["lr_scheduler"] != "polynomial" || about["excess_length_strategy"] != "truncate" || about["datasets"] == nil || about["test_datasets"] == nil {
		t.Errorf("%v, %v", about, err)
	}
	_, files, err = write(t, LlamaFactory, 0.1, examples(300))
	if err != nil {
		t.Fatal(err)
	}
	var info map[string]struct {
		File string `json:"file_name"`
	}
	if err := json.Unmarshal(files["dataset_info.json"], &info); err != nil || len(info) != 4 {
		t.Errorf("%v, %v", info, err)
	}
	for name, i := range info {
		if files[i.File] == nil {
			t.Errorf("%s names %s, which is not there", name, i.File)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		format string
		share  float64
		rows   int
	}{{"csv", 0, 1}, {OpenAI, 0.6, 1}, {OpenAI, -1, 1}, {OpenAI, 0, 0}} {
		if _, files, err := write(t, c.format, c.share, examples(c.rows)); err == nil || len(files) > 0 {
			t.Errorf("%+v: %v, %d files", c, err, len(files))
		}
	}
	_, err := Export{Format: OpenAI, Rows: func() iter.Seq2[dataset.Example, error] {
		return func(yield func(dataset.Example, error) bool) { yield(dataset.Example{}, io.ErrUnexpectedEOF) }
	}}.Write(t.Context())
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}
