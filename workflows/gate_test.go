package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

func gated(policy string) config.Run {
	s := spec()
	s.Iterations = 3
	s.Gate = &config.Gate{Holdout: 5, Policy: policy, Contest: config.Contest{Tags: config.TagsBoth, Limit: 20000}}
	s.Gate.Answers.MaxTokens, s.Gate.Compare.MaxTokens = 64, 64
	return s
}

func TestGatePolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy     string
		rate       float64 // of M2 against M1; M1 is better than M0
		iterations int
		ended      string
		result     string
	}{
		{config.GateContinue, 0.2, 3, EndedIterations, "ft-m3"},
		{config.GateStop, 0.8, 3, EndedIterations, "ft-m3"},
		{config.GateStop, 0.55, 2, EndedPlateau, "ft-m2"},
		{config.GateRollback, 0.55, 2, EndedPlateau, "ft-m2"},
		{config.GateRollback, 0.3, 2, EndedRollback, "ft-m1"},
	} {
		w := newWorld(1, 20)
		w.rate = func(r eval.Result) float64 {
			if r.Model == "M2" {
				return c.rate
			}
			return 0.8
		}
		var held []string
		w.selects = func(s activities.SelectWork) {
			w.mu.Lock()
			defer w.mu.Unlock()
			held = append(held, s.HeldTo)
		}
		status, err := w.play(t, gated(c.policy), nil)
		if err != nil {
			t.Fatal(err)
		}
		if status.Phase != PhaseCompleted || status.Iteration != c.iterations || status.EndedBy != c.ended || status.Result == nil || status.Result.Name != c.result {
			t.Errorf("%s at %g: %s in iteration %d, ended by %q, result %v: %s", c.policy, c.rate, status.Phase, status.Iteration, status.EndedBy, status.Result, status.Message)
		}
		if (c.ended != EndedIterations) != strings.HasPrefix(status.Message, "it ended early: M2 wins") {
			t.Errorf("message %q", status.Message)
		}
		g := status.Sets[1].Gate
		if g == nil || g.Model != "M2" || g.Baseline != "M1" || !g.SelfJudged {
			t.Errorf("gate %+v", g)
		}
		for _, to := range held {
			if to != "00000000000000000000000000000005" {
				t.Errorf("a training set was selected with seeds up to %q held out", to)
			}
		}
		if !w.has("runs/demo/02/gate/comparisons") {
			t.Error("nothing was compared in iteration 2")
		}
	}
}

func TestGateAsksAPerson(t *testing.T) {
	t.Parallel()
	for _, reject := range []bool{false, true} {
		w := newWorld(1, 20)
		status, err := w.play(t, gated(config.GateAsk), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
			if iteration == 0 || iteration == 3 {
				return
			}
			env.RegisterDelayedCallback(func() {
				value, err := env.QueryWorkflow(QueryStatus)
				var now Status
				if err != nil || value.Get(&now) != nil || now.Phase != PhaseApproval || now.Gate != GateRound || !strings.Contains(now.Message, "--reject") {
					t.Errorf("iteration %d: %s at %q: %s, %v", iteration, now.Phase, now.Gate, now.Message, err)
					return
				}
				update[Status](t, env, UpdateApprove, nil, Approval{Gate: GateRound, Reject: reject && iteration == 2})
			}, time.Hour)
		})
		if err != nil || status.Phase != PhaseCompleted {
			t.Fatalf("%s, %v", status.Phase, err)
		}
		if reject && (status.Iteration != 2 || status.EndedBy != EndedRefused || status.Result.Name != "ft-m2") {
			t.Errorf("refused in iteration 2: ended in %d by %q with %v", status.Iteration, status.EndedBy, status.Result)
		}
		if !reject && (status.Iteration != 3 || status.EndedBy != EndedIterations) {
			t.Errorf("approved: ended in %d by %q", status.Iteration, status.EndedBy)
		}
	}
}

func TestStopRules(t *testing.T) {
	t.Parallel()
	for ended, c := range map[string]struct {
		stop    config.Stop
		jaccard float64
	}{
		EndedStable:     {config.Stop{Similarity: 0.9}, 0.9},
		EndedIterations: {config.Stop{Similarity: 0.9}, 0.89},
		EndedYield:      {config.Stop{MinSelected: 1}, 0}, // the fake selects as many rows as there are seeds
	} {
		w := newWorld(1, 5)
		w.jaccard = c.jaccard
		s := spec()
		s.Iterations, s.Stop = 3, &c.stop
		status, err := w.play(t, s, nil)
		if err != nil || status.Phase != PhaseCompleted || status.EndedBy != ended {
			t.Errorf("want %s, ended by %q in %s: %s, %v", ended, status.EndedBy, status.Phase, status.Message, err)
		}
		if ended == EndedStable && (slices.Contains(w.jobs, "m2/0") || status.Sets[1].Drift.Jaccard != 0.9) {
			t.Errorf("trained %v on a set that hardly changed", w.jobs)
		}
	}
}

func TestSpentBudgetEndsTheRunWhereTheSpecSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task == stage.TaskRate {
			return activities.PartitionResult{Stop: activities.StopBudget}, nil
		}
		return w.done(work.Output, work.Partition, 5, 5, 5), nil
	}
	s := spec()
	s.Budget.Calls, s.Stop = 100, &config.Stop{Budget: true}
	status, err := w.play(t, s, nil)
	if err != nil || status.Phase != PhaseCompleted || status.EndedBy != EndedBudget || status.Result.Name != "ft-m0" {
		t.Errorf("%s, ended by %q with %v: %s, %v", status.Phase, status.EndedBy, status.Result, status.Message, err)
	}
}

func TestEvaluatesEachIteration(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 20)
	s := spec()
	s.Rate.Judge = &config.Judge{Provider: "openai", Model: "gpt-4"} // so that M0 is wanted for the evaluation alone
	s.Evaluate = &config.Evaluate{
		Prompts: []config.Source{{Path: "s3://b/prompts.json"}}, Labelled: []config.Source{{Path: "s3://b/labelled.jsonl"}}, Against: "0",
		Contest: gated(config.GateStop).Gate.Contest,
	}
	status, err := w.play(t, s, nil)
	if err != nil || len(status.Sets) != 2 {
		t.Fatalf("%+v, %v", status, err)
	}
	if !slices.Contains(w.jobs, "m0/0") {
		t.Errorf("jobs %v: M0 is what the others are compared with", w.jobs)
	}
	for i, set := range status.Sets {
		e := set.Evaluation
		if e == nil || e.Baseline != "M0" || e.Model != []string{"M1", "M2"}[i] || e.Judge != "openai/gpt-4" || e.SelfJudged {
			t.Errorf("evaluation %+v", e)
		}
		if set.Labelled == nil || (set.Labelled.WithPrevious != nil) != (i == 1) {
			t.Errorf("labelled %+v", set.Labelled)
		}
	}
	if strings.Count(strings.Join(details2(status), "\n"), "evaluation: M") != 2 {
		t.Error("the UI does not tell the evaluations")
	}
}

func details2(s Status) []string { return strings.Split(details(s, s.UpdatedAt), "\n") }
