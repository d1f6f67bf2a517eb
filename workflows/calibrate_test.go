package workflows

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

func TestEveryJudgeIsTriedOutBeforeItRates(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 40)
	w.judge = eval.Calibration{Positives: 50, Negatives: 50, Rated: 100, ParseRate: 1, Precision: 0.8, Recall: 0.5, AUC: 0.9}
	var order []string
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task != stage.TaskBacktranslate && work.Partition == 0 {
			order = append(order, work.Task+" "+work.Model.Name+" "+work.Method+" "+work.Rubric)
		}
		rows := w.rows
		if work.Task == stage.TaskCalibrate {
			rows = work.Input.Rows
		}
		return w.done(work.Output, work.Partition, rows, rows, rows), nil
	}
	s := spec()
	s.Rate.Calibration.Pairs = 50
	s.Rate.Method, s.Rate.Rubric = config.MethodLogProbs, config.RubricAdditive
	status, err := w.play(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"calibrate ft-m0 logprobs additive", "rate ft-m0 logprobs additive",
		"calibrate ft-m1 logprobs additive", "rate ft-m1 logprobs additive",
	}
	if !slices.Equal(order, want) {
		t.Errorf("asked %q, want %q", order, want)
	}
	for _, set := range status.Sets {
		c := set.Calibration
		if c == nil || c.Recall != 0.5 || c.Threshold != 4.5 || !c.OnTraining {
			t.Errorf("iteration %d: %+v", set.Iteration, c)
		}
		line := status.JudgeLine(set.Iteration)
		if !strings.Contains(line, "recall 0.50 at ≥ 4.5; AUC 0.90") || !strings.Contains(line, "trained on these seeds") {
			t.Errorf("line %q", line)
		}
		if text := details(status, time.Now()); strings.Count(text, line) != 2 {
			t.Errorf("details do not tell of both judges:\n%s", text)
		}
	}
	if got, want := status.Spent.Calls, int64(3*80+2*100); got != want {
		t.Errorf("spent %d calls, want %d", got, want)
	}
	if _, err := json.Marshal(status); err != nil {
		t.Error(err)
	}
}

// Between two iterations the number is the next one's already, the trial still the last one's.
func TestATrialBelongsToItsIteration(t *testing.T) {
	t.Parallel()
	r := &run{trial: &trial{iteration: 1}}
	r.st.Iteration = 1
	if s := r.status(); s.Calibration != nil || s.JudgeLine(1) != "" || len(s.Warnings) > 0 {
		t.Errorf("before it was measured: %+v, %v", s.Calibration, s.Warnings)
	}
	r.trial.result = &eval.Calibration{AUC: 0.9}
	for iteration, want := range map[int]bool{1: true, 2: false} {
		r.st.Iteration = iteration
		if s := r.status(); (s.Calibration != nil) != want || (s.JudgeLine(iteration) != "") != want {
			t.Errorf("iteration %d: %+v", iteration, s.Calibration)
		}
	}
}

func TestCalibrationObeysTheBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		want := work.Input.Rows
		if work.Budget.Calls >= 0 && work.Budget.Calls < want {
			return activities.PartitionResult{
				Stop: activities.StopBudget, Spending: activities.Spending{Spent: dataset.Usage{Calls: work.Budget.Calls}},
			}, nil
		}
		return w.done(work.Output, work.Partition, want, want, want), nil
	}
	s := spec()
	s.Rate.Calibration.Pairs, s.Rate.Judge, s.Iterations = 10, &config.Judge{Provider: "p", Model: "gpt-4"}, 1
	s.Budget.Calls = 25 // 10 to augment, and 20 for the trial do not fit
	var blocked Status
	status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration == 0 {
			return
		}
		env.RegisterDelayedCallback(func() {
			value, err := env.QueryWorkflow(QueryStatus)
			if err == nil {
				err = value.Get(&blocked)
			}
			if err != nil {
				t.Error(err)
			}
			update[Status](t, env, UpdateSet, nil, Settings{Budget: &config.Budget{Calls: 1000}})
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if blocked.Phase != PhaseBlocked || !strings.Contains(blocked.Message, "01 calibrate") || blocked.Spent.Calls > 25 {
		t.Errorf("blocked: %s after %d calls: %s", blocked.Phase, blocked.Spent.Calls, blocked.Message)
	}
	if c := status.Sets[0].Calibration; c == nil || c.OnTraining {
		t.Errorf("a fixed judge was not trained on the seeds: %+v", c)
	}
}

func TestAChangedThresholdIsMeasuredAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	k := 3.0
	s := spec()
	s.Rate.Calibration.Pairs, s.Iterations = 10, 1
	status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration == 1 {
			w.ask = func(work stage.Work) (activities.PartitionResult, error) {
				if work.Task == stage.TaskRate {
					env.UpdateWorkflow(UpdateSet, "k", &testsuite.TestUpdateCallback{
						OnAccept: func() {}, OnReject: func(err error) { t.Error(err) }, OnComplete: func(any, error) {},
					}, Settings{Threshold: &k})
				}
				return w.done(work.Output, work.Partition, work.Input.Rows, work.Input.Rows, 1), nil
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := status.Sets[0].Calibration; c == nil || c.Threshold != k || status.Sets[0].Threshold != k {
		t.Errorf("%+v", c)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	rating := func(h map[string]int64, a dataset.Answers) []StageStatus {
		return []StageStatus{{Name: "rate", Iteration: 1, Histogram: h, Answers: a}}
	}
	even := map[string]int64{"1": 20, "2": 20, "3": 20, "4": 20, "5": 20}
	set := func(selected, rows int64, c *eval.Calibration) []IterationSummary {
		return []IterationSummary{{Iteration: 1, Selected: selected, Threshold: 4.5, Ratings: dataset.Ref{Rows: rows}, Calibration: c}}
	}
	fine := dataset.Answers{Read: 100, Unreadable: 5}
	for name, c := range map[string]struct {
		stages []StageStatus
		sets   []IterationSummary
		now    *eval.Calibration
		want   string // "" is no warning
	}{
		"nothing yet":     {nil, nil, nil, ""},
		"fine":            {rating(even, fine), set(20, 100, &eval.Calibration{Rated: 100, AUC: 0.9}), nil, ""},
		"dominated":       {rating(map[string]int64{"5": 81, "4": 19}, fine), nil, nil, "81 % of the ratings are 5"},
		"four fifths":     {rating(map[string]int64{"5": 80, "4": 20}, fine), nil, nil, ""},
		"few":             {rating(map[string]int64{"5": 19}, dataset.Answers{Read: 10, Unreadable: 9}), nil, nil, ""},
		"unreadable":      {rating(even, dataset.Answers{Read: 87, Unreadable: 13}), nil, nil, "only 87 % of the judge's answers could be read"},
		"just readable":   {rating(even, dataset.Answers{Read: 88, Unreadable: 12}), nil, nil, ""},
		"no tokens":       {rating(even, dataset.Answers{Read: 100, TextScore: 11}), nil, nil, "11 % of the scores were taken from the answer's text"},
		"empty":           {rating(even, fine), set(0, 100, nil), nil, "nothing was selected"},
		"nearly all":      {rating(even, fine), set(91, 100, nil), nil, "91 % of the rated pairs were selected"},
		"blind":           {rating(even, fine), set(20, 100, &eval.Calibration{Rated: 100, AUC: 0.55}), nil, "AUC 0.55"},
		"blind and early": {rating(even, fine), nil, &eval.Calibration{Rated: 100, AUC: 0.55}, "AUC 0.55"},
		"told once":       {rating(even, fine), set(20, 100, &eval.Calibration{Rated: 100, AUC: 0.9}), &eval.Calibration{Rated: 100, AUC: 0.1}, ""},
	} {
		got := warnings(c.stages, c.sets, c.now)
		switch {
		case c.want == "" && len(got) > 0:
			t.Errorf("%s: warned of %q", name, got)
		case c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "iteration 1: ") || !strings.Contains(got[0], c.want)):
			t.Errorf("%s: %q, want one of %q", name, got, c.want)
		}
	}
}
