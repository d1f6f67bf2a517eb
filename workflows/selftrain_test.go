package workflows

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/stage"
)

func TestTwoIterationsAsInThePaper(t *testing.T) {
	t.Parallel()
	w := newWorld(3, 10)
	var judges []string
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task == stage.TaskRate && work.Partition == 0 {
			judges = append(judges, work.Model.Name)
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	status, err := w.play(t, spec(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if status.Phase != PhaseCompleted || len(status.Sets) != 2 {
		t.Fatalf("phase %s with %d sets, want completed with 2", status.Phase, len(status.Sets))
	}
	slices.Sort(w.jobs[:2]) // the backward model and M0 are trained side by side
	if want := []string{"m0/0", "myx/0", "m1/0", "m2/0"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs %v, want %v", w.jobs, want)
	}
	if want := []string{"ft-m0", "ft-m1"}; !slices.Equal(judges, want) {
		t.Errorf("judges %v, want M0 then M1", judges)
	}
	if got, want := status.Spent.Calls, int64(3*80); got != want {
		t.Errorf("spent %d calls, want %d: augment once, rate all of A twice", got, want)
	}
	if status.Unpriced != 4 {
		t.Errorf("%d trainings of unknown cost, want 4", status.Unpriced)
	}
	for _, name := range []string{"demo/status.json", "demo/state/01.json", "demo/state/02.json"} {
		if w.records[name] == nil {
			t.Errorf("record %s is missing", name)
		}
	}
	var last Status
	if err := json.Unmarshal(w.records["demo/status.json"], &last); err != nil || last.Phase != PhaseCompleted {
		t.Errorf("last record says %q, %v", last.Phase, err)
	}
}

func TestUnchangedTrainingSetConverges(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	w.digest = func(dir string) string {
		if strings.HasSuffix(dir, "/training") && !strings.Contains(dir, "/00/") {
			return "same"
		}
		return dir
	}
	s := spec()
	s.Iterations = 5
	status, err := w.play(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status.Phase != PhaseConverged || status.Iteration != 2 {
		t.Errorf("phase %s in iteration %d, want converged in 2", status.Phase, status.Iteration)
	}
	if slices.Contains(w.jobs, "m2/0") {
		t.Error("trained again on the same set")
	}
}

func TestFixedJudgeRatesAndAugmentsEachIteration(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	s := spec()
	s.Rate.Judge = &config.Judge{Provider: "openai", Model: "gpt-4"}
	status, err := w.play(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"myx/0", "m1/0", "myx/0", "m2/0"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs %v, want %v: nobody asks M0, and Myx is trained again", w.jobs, want)
	}
	if !status.Distilled || status.Sets[0].Judge.Name != "gpt-4" {
		t.Errorf("distilled %v, judge %v", status.Distilled, status.Sets[0].Judge)
	}
}

func TestPauseStopsAndResumeGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(2, 5)
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		return w.done(work.Output, work.Partition, 5, 5, 5), nil
	}
	var paused Status
	status, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration != 1 {
			return
		}
		env.RegisterDelayedCallback(func() { update[Status](t, env, UpdatePause, &paused) }, 0)
		env.RegisterDelayedCallback(func() {
			value, err := env.QueryWorkflow(QueryStatus)
			if err != nil {
				t.Error(err)
				return
			}
			var now Status
			if err := value.Get(&now); err != nil || now.Phase != PhasePaused {
				t.Errorf("after an hour: %s, %v; want paused", now.Phase, err)
			}
			update[Status](t, env, UpdateResume, nil)
			env.UpdateWorkflow(UpdateResume, "again", &testsuite.TestUpdateCallback{
				OnAccept:   func() { t.Error("a run that is not paused is resumed") },
				OnReject:   func(error) {},
				OnComplete: func(any, error) {},
			})
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if paused.Phase != PhasePaused {
		t.Errorf("pause answered %q", paused.Phase)
	}
	if status.Spent.Calls != 3*20 {
		t.Errorf("spent %d calls, want 60: nothing twice", status.Spent.Calls)
	}
}

func TestBlockedRunGoesOnAfterRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	refused := true
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if refused {
			return activities.PartitionResult{}, activities.NewTrouble("auth", "401: bad key", "give a key")
		}
		return w.done(work.Output, work.Partition, 5, 5, 5), nil
	}
	var blocked Status
	status, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration != 0 {
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
			refused = false
			update[Status](t, env, UpdateRetry, nil)
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if blocked.Phase != PhaseBlocked || !strings.Contains(blocked.Message, "Give a key\nThen: starter retry demo") {
		t.Errorf("blocked status %q: %q", blocked.Phase, blocked.Message)
	}
}

func TestFailedJobIsSubmittedAnewAfterRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	failing := true
	w.poll = func(in activities.PollInput) (activities.TrainingStatus, error) {
		if in.Job.ID == "m1" && failing {
			return activities.TrainingStatus{}, temporal.NewNonRetryableApplicationError("out of memory", activities.ErrTypeTrainerFailed, nil,
				activities.Trouble{Class: "trainer", Message: "out of memory", Way: "smaller batch"})
		}
		return activities.TrainingStatus{Status: finetune.Status{State: finetune.StateSucceeded, Model: "ft-" + in.Job.ID}, Done: true}, nil
	}
	_, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration == 1 {
			env.RegisterDelayedCallback(func() { failing = false; update[Status](t, env, UpdateRetry, nil) }, time.Hour)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(w.jobs, "m1/0") || !slices.Contains(w.jobs, "m1/1") {
		t.Errorf("jobs %v, want m1 submitted under two attempts", w.jobs)
	}
}

func TestGateWaitsForApproval(t *testing.T) {
	t.Parallel()
	for _, reject := range []bool{false, true} {
		w := newWorld(1, 5)
		s := spec()
		s.Approve = []string{GateFinetune}
		status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, _ int) {
			for h := 1; h <= 3; h++ {
				env.RegisterDelayedCallback(func() {
					value, err := env.QueryWorkflow(QueryStatus)
					var now Status
					if err != nil || value.Get(&now) != nil || now.Phase != PhaseApproval {
						return
					}
					if len(w.jobs) == 0 && !strings.Contains(now.Message, "starter approve demo") {
						t.Errorf("message %q", now.Message)
					}
					update[Status](t, env, UpdateApprove, nil, Approval{Reject: reject})
				}, time.Duration(h)*time.Hour)
			}
		})
		switch {
		case reject && !temporal.IsCanceledError(err):
			t.Errorf("refused run ended with %v, want cancelled", err)
		case reject && len(w.jobs) > 0:
			t.Errorf("refused run submitted %v", w.jobs)
		case !reject && (err != nil || status.Phase != PhaseCompleted):
			t.Errorf("approved run: %s, %v", status.Phase, err)
		}
	}
}

func TestBudgetStopsBeforeItIsCrossed(t *testing.T) {
	t.Parallel()
	w := newWorld(3, 10)
	paid := map[string]int64{}
	most := int64(0)
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		key := work.Output + string(rune('0'+work.Partition))
		w.mu.Lock()
		want := w.rows
		if work.Budget.Calls >= 0 {
			want = min(want, work.Budget.Calls)
		}
		paid[key] = max(paid[key], want)
		sum := int64(0)
		for _, n := range paid {
			sum += n
		}
		most = max(most, sum)
		spent := paid[key]
		w.mu.Unlock()
		if spent < w.rows {
			return activities.PartitionResult{
				Stop: activities.StopBudget, Spending: activities.Spending{Spent: dataset.Usage{Calls: spent}},
			}, nil
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	s := spec()
	s.Budget.Calls = 75
	var blocked Status
	status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration != 0 {
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
			if most > 75 {
				t.Errorf("paid %d of 75 calls", most)
			}
			update[Status](t, env, UpdateSet, nil, Settings{Budget: &config.Budget{Calls: 1000}})
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if want := "00 augment: the budget is used up: 75 of 75 calls (augment 75 calls). Raise it and the run goes on where it stopped: starter set demo --calls N"; blocked.Phase != PhaseBlocked ||
		blocked.Spent.Calls != 75 || blocked.Message != want {
		t.Errorf("blocked: %s after %d calls: %s", blocked.Phase, blocked.Spent.Calls, blocked.Message)
	}
	if status.Spent.Calls != 240 {
		t.Errorf("spent %d calls, want 240", status.Spent.Calls)
	}
}

func TestCancelReachesTheTrainer(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	w.poll = func(activities.PollInput) (activities.TrainingStatus, error) {
		return activities.TrainingStatus{}, temporal.NewApplicationErrorWithOptions("still running", activities.ErrTypeTraining,
			temporal.ApplicationErrorOptions{NextRetryDelay: time.Minute})
	}
	_, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, _ int) {
		env.RegisterDelayedCallback(env.CancelWorkflow, 3*time.Minute)
	})
	if !temporal.IsCanceledError(err) {
		t.Fatalf("ended with %v, want cancelled", err)
	}
	slices.Sort(w.cancels)
	if want := []string{"m0", "myx"}; !slices.Equal(w.cancels, want) {
		t.Errorf("cancelled %v, want %v", w.cancels, want)
	}
	var last Status
	if err := json.Unmarshal(w.records["demo/status.json"], &last); err != nil || last.Phase != PhaseCancelled {
		t.Errorf("last record says %q, %v", last.Phase, err)
	}
}

func TestUpdatesAreValidated(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	n := func(i int) *int { return &i }
	k, refused := 7.5, 0
	_, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration != 1 {
			return
		}
		env.RegisterDelayedCallback(func() {
			refuse := func(name string, payload ...any) {
				env.UpdateWorkflow(name, fmt.Sprint(name, payload), &testsuite.TestUpdateCallback{
					OnAccept:   func() { t.Errorf("%s %v was accepted", name, payload) },
					OnReject:   func(error) { refused++ },
					OnComplete: func(any, error) {},
				}, payload...)
			}
			refuse(UpdateApprove, Approval{})
			refuse(UpdateRetry)
			refuse(UpdateSet, Settings{})
			refuse(UpdateSet, Settings{Threshold: &k})
			refuse(UpdateSet, Settings{Iterations: n(0)})
			refuse(UpdateSet, Settings{InFlight: n(0)})
			update[Status](t, env, UpdateSet, nil, Settings{Iterations: n(1)})
		}, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	if refused != 6 {
		t.Errorf("%d of 6 impossible updates were refused", refused)
	}
	if slices.Contains(w.jobs, "m2/0") {
		t.Error("went on after iterations was set to 1")
	}
}

// update sends an update that must be accepted, and reads its answer.
func update[T any](t *testing.T, env *testsuite.TestWorkflowEnvironment, name string, answer *T, payload ...any) {
	t.Helper()
	env.UpdateWorkflow(name, name, &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(err error) { t.Errorf("%s refused: %v", name, err) },
		OnComplete: func(v any, err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got, ok := v.(T); ok && answer != nil {
				*answer = got
			}
		},
	}, payload...)
}
