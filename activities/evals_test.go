package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/prompt"
)

func newEvals(t *testing.T) *Evals {
	t.Helper()
	st := s3test.Store(t)
	return &Evals{Store: st, Sources: &Sources{Store: st}}
}

// upload puts a file into the bucket and returns it as a source.
func (e *Evals) upload(t *testing.T, name, text string) []config.Source {
	t.Helper()
	if err := e.Store.Put(t.Context(), "uploads/"+name, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return []config.Source{{Path: e.Store.URI("uploads/" + name)}}
}

// judge writes what a judge said of every comparison, by its instruction; nothing of those that it does not name.
func (e *Evals) judge(t *testing.T, pairs dataset.Ref, dir string, say func(c dataset.Comparison) (forward, backward string)) dataset.Ref {
	t.Helper()
	var rows []dataset.Judgement
	var rejects []dataset.Reject
	for c, err := range dataset.Rows[dataset.Comparison](t.Context(), e.Store, pairs) {
		if err != nil {
			t.Fatal(err)
		}
		forward, backward := say(c)
		if forward == "" {
			rejects = append(rejects, dataset.Reject{ID: c.ID, Stage: "compare", Reason: "no_verdict"})
			continue
		}
		j := dataset.Judgement{ID: c.ID, Instruction: c.Instruction, Output: c.Output, Baseline: c.Baseline, Forward: forward, Backward: backward, Share: 0.5, Outcome: "draw"}
		if forward == backward && forward == "model" {
			j.Share, j.Outcome = 1, "win"
		}
		if forward == backward && forward == "baseline" {
			j.Share, j.Outcome = 0, "loss"
		}
		rows = append(rows, j)
	}
	ref, err := writeWhole(t.Context(), e.Store, dir, About{}, dataset.Manifest{Kind: dataset.KindJudgements}, rows, rejects)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// contest does what the workflow does, with a judge that prefers longer answers.
func (e *Evals) contest(ctx context.Context, t *testing.T, prompts, outputs, baseline []config.Source) (eval.Result, dataset.Ref) {
	t.Helper()
	must := func(ref dataset.Ref, err error) dataset.Ref {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	asked := must(e.WritePrompts(ctx, PromptsInput{Sources: prompts, Limit: 100, Tags: config.TagsBoth, Output: "e/prompts"}))
	model := must(e.ImportOutputs(ctx, OutputsInput{Sources: outputs, Output: "e/outputs"}))
	other := must(e.ImportOutputs(ctx, OutputsInput{Sources: baseline, Output: "e/baseline"}))
	pairs := must(e.PairOutputs(ctx, PairInput{Prompts: asked, Model: model, Baseline: other, Output: "e/comparisons"}))
	judged := e.judge(t, pairs, "e/judgements", func(c dataset.Comparison) (string, string) {
		switch {
		case strings.Contains(c.Instruction, "unreadable"):
			return "", ""
		case strings.Contains(c.Instruction, "place"):
			return "model", "baseline"
		case len(c.Output) > len(c.Baseline):
			return "model", "model"
		}
		return "baseline", "baseline"
	})
	r, err := e.MeasureContest(ctx, ContestInput{Comparisons: pairs, Judgements: judged, Known: eval.Result{Name: "eval", Outcomes: "e/outcomes", Key: "e/result.json"}})
	if err != nil {
		t.Fatal(err)
	}
	return r, asked
}

func contestFiles(t *testing.T, e *Evals) (prompts, outputs, baseline []config.Source) {
	t.Helper()
	prompts = e.upload(t, "prompts.json", `[
		{"instruction": "longer", "dataset": "x"}, {"instruction": "shorter"}, {"instruction": "place"}, {"instruction": "unreadable"},
		{"instruction": "same"}, {"instruction": "missing"}, {"instruction": "empty"}, {"instruction": "no baseline"}, {"instruction": "both missing"},
		{"instruction": "longer"}, {"instruction": "  "}, {"instruction": "spaced  out"}, {"instruction": "spaced out"}]`)
	lines := func(output string, of ...string) (text string) {
		for _, instruction := range of {
			text += fmt.Sprintf("{\"instruction\": %q, \"output\": %q, \"generator\": \"g\"}\n", instruction, output)
		}
		return text
	}
	outputs = e.upload(t, "model.jsonl", lines("a long answer", "longer", "place", "unreadable", "no baseline", "spaced out")+lines("no", "shorter")+lines("equal", "same")+lines("", "empty"))
	baseline = e.upload(t, "baseline.jsonl", lines("shorter", "longer", "shorter", "place", "unreadable", "missing", "empty", "spaced out")+lines("equal", "same"))
	return prompts, outputs, baseline
}

func TestContestCounts(t *testing.T) {
	t.Parallel()
	e := newEvals(t)
	prompts, outputs, baseline := contestFiles(t, e)
	r, asked := e.contest(t.Context(), t, prompts, outputs, baseline)
	if asked.Rows != 11 || asked.Rejected != 2 {
		t.Errorf("%d prompts, %d rejected", asked.Rows, asked.Rejected)
	}
	// Won: longer, spaced out. Lost: shorter, and two whose output is missing. Drawn: place, same.
	if r.Wins != 2 || r.Losses != 3 || r.Missing != 2 || r.Draws != 2 || r.Same != 1 || r.Unjudged != 1 || r.NoBaseline != 2 || r.N != 7 || r.Prompts != 10 {
		t.Errorf("%+v", r)
	}
	if want := 3.0 / 7; r.Rate != want || r.Consistent != 0.75 || r.FirstPlace != 0.5+0.5/4 {
		t.Errorf("rate %v, consistent %v, first place %v", r.Rate, r.Consistent, r.FirstPlace)
	}
	_, ref, err := dataset.Open(t.Context(), e.Store, "e/outcomes")
	if err != nil || ref.Rows != r.Prompts {
		t.Errorf("%d rows of outcomes, %v", ref.Rows, err)
	}
	for p, err := range dataset.Rows[dataset.Prompt](t.Context(), e.Store, asked) {
		if err != nil || p.System != prompt.InferenceSystem() {
			t.Errorf("prompt %+v, %v", p, err)
		}
	}
}

// TestEvaluationDiesAnywhere ends an evaluation after each of its writes; done again, it comes to the same.
func TestEvaluationDiesAnywhere(t *testing.T) {
	t.Parallel()
	e := newEvals(t)
	prompts, outputs, baseline := contestFiles(t, e)
	want, _ := e.contest(t.Context(), t, prompts, outputs, baseline)
	keys := written(t, e.Store)
	var order []string
	for _, dir := range []string{"e/prompts/", "e/outputs/", "e/baseline/", "e/comparisons/", "e/judgements/", "e/outcomes/", "e/result.json"} {
		for _, kind := range []string{"/rejected/", "/part-", "/_ranges/", "/manifest.json", "e/result.json"} {
			for _, k := range keys {
				if strings.HasPrefix(k, dir) && strings.Contains(k, kind) && !slices.Contains(order, k) {
					order = append(order, k)
				}
			}
		}
	}
	if len(order) != len(keys) {
		t.Fatalf("%d of %d objects in order", len(order), len(keys))
	}
	for n := range order {
		if err := e.Store.Delete(t.Context(), order[n:]...); err != nil {
			t.Fatal(err)
		}
		got, _ := e.contest(t.Context(), t, prompts, outputs, baseline)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("died after %d writes, before %s: %s", n, order[n], diff)
		}
		if again := written(t, e.Store); !slices.Equal(again, keys) {
			t.Fatalf("died after %d writes: objects %v, want %v", n, again, keys)
		}
	}
}

func written(t *testing.T, st *blob.Store) (keys []string) {
	t.Helper()
	if err := st.List(t.Context(), "e/", func(i blob.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}

func TestDriftOfCuratedSets(t *testing.T) {
	t.Parallel()
	e := newEvals(t)
	sets := &Sets{Store: e.Store}
	seeds := writeOne(t, e.Store, dataset.KindSeeds, "seeds", seedRows(6), dataset.Receipt{})
	before := writeOne(t, e.Store, dataset.KindRatings, "before", ratingRows(5, 5, 5, 1, 1), dataset.Receipt{})
	after := writeOne(t, e.Store, dataset.KindRatings, "after", ratingRows(5, 5, 1, 5, 1), dataset.Receipt{})
	a := selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: before, Threshold: 4.5, Iteration: 1, Output: "a", Bits: 1})
	b := selectAll(t, sets, SelectWork{Seeds: seeds, Ratings: after, Threshold: 4.5, Iteration: 2, Output: "b", Bits: 1})
	d, err := e.CompareSets(t.Context(), DriftInput{Before: a, After: b, From: 1, To: 2, Key: "drift.json"})
	if err != nil || d.Kept != 2 || d.In != 1 || d.Out != 1 || d.Jaccard != 0.5 {
		t.Errorf("%+v, %v", d, err)
	}
	// Held out: the first seeds by id, and no others.
	last, err := e.HoldOut(t.Context(), HoldOutInput{Seeds: seeds, N: 3})
	if err != nil {
		t.Fatal(err)
	}
	c := selectAll(t, sets, SelectWork{Seeds: seeds, Iteration: 0, Output: "c", Bits: 1, HeldTo: last})
	if c.Rows != 3 || c.Rejected != 3 {
		t.Errorf("%d seeds are trained on and %d held out, want 3 and 3", c.Rows, c.Rejected)
	}
	held, err := e.WritePrompts(t.Context(), PromptsInput{Seeds: seeds, Limit: 3, Tags: config.TagsNone, Output: "held"})
	if err != nil || held.Rows != 3 {
		t.Fatalf("%+v, %v", held, err)
	}
	prompts := map[string]bool{}
	for p, err := range dataset.Rows[dataset.Prompt](t.Context(), e.Store, held) {
		if err != nil || p.System != "" {
			t.Fatalf("%+v, %v", p, err)
		}
		prompts[p.Instruction] = true
	}
	for x, err := range dataset.Rows[dataset.Example](t.Context(), e.Store, c) {
		if err != nil || prompts[x.Instruction] {
			t.Errorf("%q is trained on and held out, %v", x.Instruction, err)
		}
	}
	if _, err := e.HoldOut(t.Context(), HoldOutInput{Seeds: seeds, N: 4}); err == nil {
		t.Error("more than half of the seeds were held out")
	}
	// Parts of a training set nest.
	var smaller map[string]bool
	for n := int64(1); n <= b.Rows; n++ {
		part, err := e.TakeSubset(t.Context(), SubsetInput{Training: b, Rows: n, Output: fmt.Sprintf("part-%d", n)})
		if err != nil || part.Rows != n {
			t.Fatalf("%+v, %v", part, err)
		}
		rows := map[string]bool{}
		for x, err := range dataset.Rows[dataset.Example](t.Context(), e.Store, part) {
			if err != nil {
				t.Fatal(err)
			}
			rows[x.ID] = true
		}
		for id := range smaller {
			if !rows[id] {
				t.Errorf("the part of %d rows lacks one of %d", n, n-1)
			}
		}
		smaller = rows
	}
	if _, err := e.TakeSubset(t.Context(), SubsetInput{Training: b, Rows: b.Rows + 1, Output: "more"}); err == nil {
		t.Error("a part was larger than the whole")
	}
}

func TestLabelledSet(t *testing.T) {
	t.Parallel()
	e := newEvals(t)
	var text strings.Builder
	for i, label := range []string{"true", "1", `"good"`, "false", "0", `"perhaps"`} {
		fmt.Fprintf(&text, "{\"instruction\": \"i%d\", \"output\": \"o%d\", \"label\": %s}\n", i, i, label)
	}
	pairs, err := e.WriteLabelled(t.Context(), LabelledInput{Sources: e.upload(t, "labelled.jsonl", text.String()), Output: "labelled"})
	if err != nil || pairs.Rows != 5 || pairs.Rejected != 1 {
		t.Fatalf("%+v, %v", pairs, err)
	}
	rate := func(dir string, scores map[string]float64) dataset.Ref {
		var rows []dataset.Rating
		for c, err := range dataset.Rows[dataset.Candidate](t.Context(), e.Store, pairs) {
			if err != nil {
				t.Fatal(err)
			}
			if score, ok := scores[c.Instruction]; ok {
				rows = append(rows, dataset.Rating{ID: c.ID, Score: score, Scores: []float64{score}, Generator: c.Generator})
			}
		}
		return writeOne(t, e.Store, dataset.KindRatings, dir, rows, dataset.Receipt{})
	}
	now := rate("now", map[string]float64{"i0": 5, "i1": 5, "i3": 5, "i4": 1})
	before := rate("before", map[string]float64{"i0": 5, "i1": 1, "i2": 5, "i3": 1, "i4": 1})
	got, err := e.MeasureSelection(t.Context(), SelectionInput{Pairs: pairs, Ratings: now, Before: before, Threshold: 4.5, Known: eval.Judged{Key: "judged.json"}})
	if err != nil || got.N != 5 || got.Good != 3 || got.Rated != 4 || got.Selected != 3 || got.True != 2 || got.WithPrevious == nil || got.WithPrevious.Agreed != 0.4 {
		t.Errorf("%+v, %v", got, err)
	}
}
