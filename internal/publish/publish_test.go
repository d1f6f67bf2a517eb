package publish

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hub"
)

func curated(t *testing.T, st *blob.Store, dir string, n int) dataset.Ref {
	t.Helper()
	var rows []dataset.Scored
	for i := range n {
		id := dataset.PromptID(fmt.Sprint(i))
		for sample := 1; sample <= 2; sample++ {
			rows = append(rows, dataset.Scored{
				ID: dataset.ResponseID(id, sample), PromptID: id, Sample: int32(sample), Instruction: fmt.Sprint(i),
				Generation: "line 1\n\"line\" 2 <&>", Score: 4.5, Reason: "good",
			})
		}
	}
	receipt, err := dataset.WritePartition(t.Context(), st, dir, 0, 0, rows, nil, dataset.Receipt{Input: int64(len(rows))})
	if err != nil {
		t.Fatal(err)
	}
	return dataset.Ref{Kind: dataset.KindCurated, Dir: dir, Rows: receipt.Rows, Digest: receipt.Digest}
}

func TestExport(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	ref := curated(t, st, "curated", 100)
	leaves := []Leaf{
		{Config: "default", Default: true, Dataset: ref, Columns: []string{"score", "instruction", "prompt_id"}, Test: 0.3},
		{Config: "scored", Dataset: ref, Test: 0.3},
	}
	e, err := Write(t.Context(), st, "export", leaves, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.checkSums(t, st); err != nil {
		t.Fatal(err)
	}
	type row struct {
		Score       float64 `parquet:"score"`
		Instruction string  `parquet:"instruction"`
		PromptID    string  `parquet:"prompt_id"`
	}
	side := map[string]string{} // of each prompt
	total := int64(0)
	for _, s := range e.Splits[:2] {
		body, err := st.Get(t.Context(), fmt.Sprintf("export/data/%s-00000-of-00001.parquet", s.Name))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(f.Schema().Columns()); got != "[[score] [instruction] [prompt_id]]" {
			t.Fatalf("columns %s", got)
		}
		rows, err := parquet.Read[row](bytes.NewReader(body), int64(len(body)))
		if err != nil || int64(len(rows)) != s.Rows || s.Rows == 0 {
			t.Fatalf("%s: %d rows of %d: %v", s.Name, len(rows), s.Rows, err)
		}
		for _, r := range rows {
			if at, ok := side[r.PromptID]; ok && at != s.Name {
				t.Fatalf("answers to %s are in both splits", r.PromptID)
			}
			side[r.PromptID] = s.Name
		}
		total += s.Rows
	}
	if total != 200 {
		t.Fatalf("%d rows of 200", total)
	}
	lines, err := st.Get(t.Context(), "export/jsonl/scored-train.jsonl")
	if err != nil || int64(bytes.Count(lines, []byte("\n"))) != e.Splits[2].Rows || !strings.Contains(string(lines), `"generation":"line 1\n\"line\" 2 <&>"`) {
		t.Fatalf("%.300s: %v", lines, err)
	}
	// Again, after a death before the list: the same files.
	if err := st.Delete(t.Context(), "export/export.json"); err != nil {
		t.Fatal(err)
	}
	again, err := Write(t.Context(), st, "export", leaves, true, func() { t.Log("written again") })
	if err != nil || again.Digest() != e.Digest() {
		t.Fatalf("digest %s, then %s: %v", e.Digest(), again.Digest(), err)
	}
	if _, err := Write(t.Context(), st, "other", []Leaf{{Config: "default", Dataset: ref, Columns: []string{"nothing"}}}, false, func() {}); err == nil {
		t.Fatal("a column that is not there was taken")
	}
}

func (e Export) checkSums(t *testing.T, st *blob.Store) error {
	t.Helper()
	for _, f := range e.Files {
		info, err := st.Stat(t.Context(), f.Key)
		if err != nil || info.Size != f.Size {
			return fmt.Errorf("%s: %d bytes, listed %d: %w", f.Path, info.Size, f.Size, err)
		}
	}
	return nil
}

// TestCardNamesTheFilesBesideIt: each file of an export is named by the split it is of, as Parquet and as JSONL.
func TestCardNamesTheFilesBesideIt(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	ref := curated(t, st, "curated", 100)
	e, err := Write(t.Context(), st, "export", []Leaf{{Config: "default", Default: true, Dataset: ref, Test: 0.3}, {Config: "scored", Dataset: ref}}, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	for _, jsonl := range []bool{false, true} {
		card, err := Card(t.Context(), st, e, Facts{Title: "t", Run: "r", JSONL: jsonl})
		if err != nil {
			t.Fatal(err)
		}
		readme, err := card.README()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := hub.ParseMeta(readme)
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]string{}
		for _, c := range meta.Configs {
			for _, s := range c.Splits {
				for _, f := range e.Files {
					if ok, err := path.Match(s.Paths[0], f.Path); err != nil {
						t.Fatal(err)
					} else if ok && f.JSONL == jsonl {
						named[f.Path] += c.Name + "/" + s.Name
					}
				}
			}
		}
		if want := map[bool]map[string]string{
			false: {"data/train-00000-of-00001.parquet": "default/train", "data/test-00000-of-00001.parquet": "default/test", "scored/train-00000-of-00001.parquet": "scored/train"},
			true:  {"jsonl/default-train.jsonl": "default/train", "jsonl/default-test.jsonl": "default/test", "jsonl/scored-train.jsonl": "scored/train"},
		}[jsonl]; !maps.Equal(named, want) {
			t.Errorf("jsonl %v: the card names %v, expected %v", jsonl, named, want)
		}
	}
}

// TestEmptyConfigsAreLeftOut: the datasets library refuses a config with a split of no row, whatever it is asked for.
func TestEmptyConfigsAreLeftOut(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	full, none := curated(t, st, "curated", 10), curated(t, st, "none", 0)
	for _, c := range []struct {
		leaves []Leaf
		splits string
		files  int
	}{
		{[]Leaf{{Config: "default", Default: true, Dataset: full}, {Config: "scored", Dataset: none}}, "default/train", 2},
		{[]Leaf{{Config: "default", Default: true, Dataset: full, Test: 1e-9}}, "default/train", 2},
		{[]Leaf{{Config: "default", Default: true, Dataset: none, Test: 0.5}, {Config: "scored", Dataset: none}}, "default/train", 2},
	} {
		e, err := Write(t.Context(), st, fmt.Sprint("export", len(c.leaves), c.leaves[0].Test), c.leaves, true, func() {})
		if err != nil {
			t.Fatal(err)
		}
		var splits []string
		for _, s := range e.Splits {
			splits = append(splits, s.Config+"/"+s.Name)
		}
		if got := strings.Join(splits, " "); got != c.splits || len(e.Files) != c.files {
			t.Errorf("%s in %d files, want %s in %d", got, len(e.Files), c.splits, c.files)
		}
		card, err := Card(t.Context(), st, e, Facts{Title: "t", Run: "r"})
		if err != nil || card.Validate() != nil {
			t.Errorf("card: %v, %v", err, card.Validate())
		}
	}
}
