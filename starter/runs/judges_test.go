package runs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// whole writes a dataset of one partition.
func whole[T dataset.Row](t *testing.T, c *runs.Client, dir string, kind dataset.Kind, rows []T) dataset.Ref {
	t.Helper()
	if _, err := dataset.WritePartition(t.Context(), c.Store, dir, 0, 0, rows, nil, dataset.Receipt{Input: int64(len(rows))}); err != nil {
		t.Fatal(err)
	}
	all, err := dataset.CommitRange(t.Context(), c.Store, dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := dataset.Commit(t.Context(), c.Store, dir, dataset.Manifest{Kind: kind, Input: int64(len(rows))}, []dataset.RangeSummary{all})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestJudgesOfEvaluations reads what two judges said of the same answers.
func TestJudgesOfEvaluations(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	type verdict struct{ outcome, forward, backward, output string }
	evaluation := func(name, judge string, said []verdict) {
		var rows []dataset.Judgement
		for i, v := range said {
			inst := fmt.Sprintf("question %d", i)
			rows = append(rows, dataset.Judgement{
				ID: dataset.PromptID(inst), Instruction: inst, Output: v.output, Baseline: "other", Outcome: v.outcome, Forward: v.forward, Backward: v.backward,
			})
		}
		dir := "runs/" + name + "/outcomes"
		whole(t, c, dir, dataset.KindJudgements, rows)
		put(t, c, "runs/"+name+"/result.json", eval.Result{Judge: judge, Outcomes: dir})
	}
	agreed := verdict{"win", "model", "model", "x"}
	evaluation("r/eval/a", "gpt", []verdict{
		agreed,
		agreed,
		{"draw", "model", "baseline", "x"},
		{"loss", "baseline", "", "x"},
		{"same_output", "", "", "x"},
		{"draw", "", "", "x"},
		agreed,
		agreed,
	})
	evaluation("r/02/eval", "M1", []verdict{
		agreed,
		{"loss", "baseline", "baseline", "x"},
		{"draw", "baseline", "model", "x"},
		{"loss", "baseline", "baseline", "x"},
		{"same_output", "", "", "x"},
		agreed,
		{"win", "model", "model", "another answer"},
	})
	got, err := c.Judges(t.Context(), "r/eval/a", "r/02/eval")
	if err != nil {
		t.Fatal(err)
	}
	// Of eight prompts the judges saw four with the same answers: one gave the same output, one was judged by B alone, one had another
	// answer, and one A alone judged.
	if got.N != 4 || got.Agreed != 0.75 || got.Alone != 4 || got.A != "gpt in r/eval/a" || got.B != "M1 in r/02/eval" {
		t.Errorf("%+v", got)
	}
	if got.ContradictsA != 1 || got.ContradictsB != 1 || got.ContradictsBoth != 1 || got.Selected != nil {
		t.Errorf("contradictions %d, %d, both %d", got.ContradictsA, got.ContradictsB, got.ContradictsBoth)
	}
	if len(got.Examples) != 1 || got.Examples[0].Instruction != "question 1" || got.Examples[0].A != "model" || got.Examples[0].B != "baseline" {
		t.Errorf("examples %+v", got.Examples)
	}
	for name, want := range map[string]error{"r/eval/none": runs.ErrNotFound, "none": runs.ErrNotFound} {
		if _, err := c.Judges(t.Context(), "r/eval/a", name); !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJudgesOfRatings compares the ratings of iterations, by what is selected too.
func TestJudgesOfRatings(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("r"), nil); err != nil {
		t.Fatal(err)
	}
	set := func(n int, threshold float64, scores map[string]float64, rewritten string) workflows.IterationSummary {
		var rows []dataset.Rating
		for _, text := range []string{"a", "b", "c", "d", "e"} {
			if score, rated := scores[text]; rated {
				inst := "about " + text
				if text == rewritten {
					inst = "otherwise about " + text
				}
				rows = append(rows, dataset.Rating{ID: dataset.SegmentID(text), Instruction: inst, Output: text, Score: score})
			}
		}
		ref := whole(t, c, fmt.Sprintf("runs/r/%02d/ratings", n), dataset.KindRatings, rows)
		return workflows.IterationSummary{Iteration: n, Threshold: threshold, Ratings: ref, Judge: dataset.ModelRef{Name: fmt.Sprintf("judge-%d", n)}}
	}
	f.status["r"] = workflows.Status{Run: "r", Phase: workflows.PhaseCompleted, Sets: []workflows.IterationSummary{
		set(1, 4, map[string]float64{"a": 1, "b": 2.5, "c": 4, "d": 5, "e": 3}, ""),
		set(2, 4.5, map[string]float64{"a": 1, "b": 3, "c": 5, "d": 5}, "d"),
	}}
	for _, second := range []string{"r@2", "r"} { // the newest, where none is named
		got, err := c.Judges(t.Context(), "r@1", second)
		if err != nil {
			t.Fatal(err)
		}
		if got.N != 3 || got.Alone != 3 || got.A != "judge-1 in iteration 1 of r" || got.B != "judge-2 in iteration 2 of r" || got.MeanA != 2.5 || got.MeanB != 3 {
			t.Errorf("%s: %+v", second, got)
		}
		if got.Selected == nil || got.Selected.N != 3 || got.Order == nil || *got.Order != 1 {
			t.Errorf("%s: selected %+v, order %v", second, got.Selected, got.Order)
		}
	}
	if _, err := c.Judges(t.Context(), "r@1", "r@7"); !errors.Is(err, runs.ErrNotFound) || !strings.Contains(err.Error(), "RUN@ITERATION") {
		t.Errorf("iteration 7: %v", err)
	}
	whole(t, c, "runs/r/eval/x/outcomes", dataset.KindJudgements, []dataset.Judgement{{ID: dataset.PromptID("q"), Outcome: "win", Forward: "model", Backward: "model"}})
	put(t, c, "runs/r/eval/x/result.json", eval.Result{Outcomes: "runs/r/eval/x/outcomes"})
	if _, err := c.Judges(t.Context(), "r", "r/eval/x"); !isConflict(err) || !strings.Contains(err.Error(), "one compared and the other rated") {
		t.Errorf("ratings with comparisons: %v", err)
	}
}
