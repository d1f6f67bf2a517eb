package runs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

func TestPull(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Dataset(t.Context(), "a", dataset.KindTraining, -1); !errors.Is(err, runs.ErrNotFound) || !strings.Contains(err.Error(), "nothing yet") {
		t.Errorf("nothing yet: %v", err)
	}
	set := func(t int) workflows.IterationSummary {
		return workflows.IterationSummary{
			Iteration: t, Ratings: dataset.Ref{Kind: dataset.KindRatings, Dir: "r" + string(rune('0'+t))},
			Training: dataset.Ref{Kind: dataset.KindTraining, Dir: "t" + string(rune('0'+t))},
		}
	}
	put(t, c, "runs/a/state/01.json", workflows.State{Iteration: 1, Seeds: dataset.Ref{Dir: "seeds"}, Training: dataset.Ref{Kind: dataset.KindTraining, Dir: "t0"}})
	put(t, c, "runs/a/state/02.json", workflows.State{Iteration: 2, Seeds: dataset.Ref{Dir: "seeds"}, Sets: []workflows.IterationSummary{set(1)}})
	f.status["a"] = workflows.Status{Run: "a", Phase: workflows.PhaseCompleted, Sets: []workflows.IterationSummary{set(1), set(2)}}
	for _, tt := range []struct {
		kind      dataset.Kind
		iteration int
		want      string
	}{{dataset.KindTraining, -1, "t2"}, {dataset.KindTraining, 1, "t1"}, {dataset.KindTraining, 0, "t0"}, {dataset.KindRatings, 2, "r2"}, {dataset.KindSeeds, -1, "seeds"}} {
		if ref, err := c.Dataset(t.Context(), "a", tt.kind, tt.iteration); err != nil || ref.Dir != tt.want {
			t.Errorf("%s of %d: %+v, %v", tt.kind, tt.iteration, ref, err)
		}
	}
	if _, err := c.Dataset(t.Context(), "a", dataset.KindRatings, 7); !errors.Is(err, runs.ErrNotFound) || !strings.Contains(err.Error(), "of iterations it has made 1 to 2") {
		t.Errorf("iteration 7: %v", err)
	}

	put(t, c, "t2/part-00000.parquet", []byte("PAR1"))
	put(t, c, "t2/manifest.json", []byte("{}"))
	put(t, c, "t2/rejected/part-00000.parquet", []byte("PAR1x"))
	dir := filepath.Join(t.TempDir(), "out")
	var last runs.PullProgress
	pull := func() {
		t.Helper()
		if err := c.Pull(t.Context(), dataset.Ref{Dir: "t2"}, dir, func(p runs.PullProgress) { last = p }); err != nil {
			t.Fatal(err)
		}
	}
	pull()
	if body, err := os.ReadFile(filepath.Join(dir, "rejected", "part-00000.parquet")); err != nil || string(body) != "PAR1x" || last.Files != 3 || last.Skipped != 0 {
		t.Errorf("pulled %q, %v, %+v", body, err, last)
	}
	if err := os.Truncate(filepath.Join(dir, "part-00000.parquet"), 1); err != nil { // as a copy that broke
		t.Fatal(err)
	}
	pull()
	if body, err := os.ReadFile(filepath.Join(dir, "part-00000.parquet")); err != nil || string(body) != "PAR1" || last.Skipped != 2 {
		t.Errorf("pulled again %q, %v, %+v", body, err, last)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	target := filepath.Join(dir, "report.html")
	if err := c.Report(t.Context(), "a", target); !errors.Is(err, runs.ErrNotFound) || !strings.Contains(err.Error(), "end of iteration 1") {
		t.Errorf("no report: %v", err)
	}
	put(t, c, "runs/a/report.html", []byte("<html>"))
	if err := c.Report(t.Context(), "a", target); err != nil {
		t.Error(err)
	}
}

func TestJSONL(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	rows := []dataset.Example{
		{ID: strings.Repeat("0", 32), Origin: dataset.OriginSeed, System: "s", Instruction: "i <b>", Output: "o\nü", Score: 4.5},
		{ID: strings.Repeat("1", 32), Origin: dataset.OriginAugmented, Instruction: "i2", Output: "o2", Iteration: 2},
	}
	ctx := t.Context()
	receipt, err := dataset.WritePartition(ctx, c.Store, "d", 0, 0, rows, nil, dataset.Receipt{Input: 2})
	if err != nil {
		t.Fatal(err)
	}
	ranged, err := dataset.CommitRange(ctx, c.Store, "d", 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := dataset.Commit(ctx, c.Store, "d", dataset.Manifest{Kind: dataset.KindTraining}, []dataset.RangeSummary{ranged})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n, err := c.WriteJSONL(ctx, ref, &out)
	if err != nil || n != 2 || receipt.Rows != 2 {
		t.Fatalf("%d rows, %v", n, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := `{"id":"00000000000000000000000000000000","origin":"seed","system":"s","instruction":"i <b>","output":"o\nü","score":4.5,`; len(lines) != 2 || !strings.HasPrefix(lines[0], want) {
		t.Errorf("lines are\n%s", out.String())
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("not JSON: %s", l)
		}
	}
}

func TestWriteFileLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "f")
	err := runs.WriteFile(target, func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return errors.New("cut")
	})
	if err == nil {
		t.Fatal("no error")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(target), "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
