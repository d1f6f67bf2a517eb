package workflows

import (
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/finetune"
)

// play runs one Finetune workflow whose job is looked at hourly and ends after the time given, and returns how long it took.
func playFinetune(t *testing.T, w *world, ends time.Duration, plan func(*testsuite.TestWorkflowEnvironment)) (FinetuneResult, time.Duration) {
	t.Helper()
	env := w.env(t)
	began := env.Now()
	w.poll = func(in activities.PollInput) (activities.TrainingStatus, error) {
		if env.Now().Sub(began) >= ends {
			return activities.TrainingStatus{Status: finetune.Status{State: finetune.StateSucceeded, Model: "ft-" + in.Job.ID}, Done: true}, nil
		}
		return activities.TrainingStatus{}, temporal.NewApplicationErrorWithOptions("still running", activities.ErrTypeTraining,
			temporal.ApplicationErrorOptions{NextRetryDelay: time.Hour})
	}
	plan(env)
	left := int64(5_000_000)
	env.ExecuteWorkflow(Finetune, FinetuneInput{
		Run: "demo", Queue: "selfalign", Name: "m1", Iteration: 1, Training: dataset.Ref{Rows: 10, Digest: "d"},
		Model: config.Model{Base: "b", Trainer: "t"}, MaxMicroUSD: &left,
	})
	var out FinetuneResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	return out, env.Now().Sub(began)
}

func TestWhatIsLeftOfTheBudgetReachesTheTrainer(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	out, _ := playFinetune(t, w, 0, func(*testsuite.TestWorkflowEnvironment) {})
	if out.Model.Name != "ft-m1" || len(w.submits) != 1 || w.submits[0].MaxMicroUSD == nil || *w.submits[0].MaxMicroUSD != 5_000_000 {
		t.Errorf("%+v, submitted %+v", out, w.submits)
	}
}

// A job that has ended is looked at when its trainer says so, not only when its time comes.
func TestEndedJobIsLookedAtOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		about   string
		signals []time.Duration
		least   time.Duration
		most    time.Duration
	}{
		{"told of nothing", nil, 20 * time.Minute, 2 * time.Hour},
		{"told when it ended", []time.Duration{21 * time.Minute}, 21 * time.Minute, 22 * time.Minute},
		{"told too early and again", []time.Duration{time.Minute, 2 * time.Minute, 25 * time.Minute}, 25 * time.Minute, 26 * time.Minute},
	} {
		out, took := playFinetune(t, newWorld(1, 5), 20*time.Minute, func(env *testsuite.TestWorkflowEnvironment) {
			for _, at := range c.signals {
				env.RegisterDelayedCallback(func() { env.SignalWorkflow(SignalEnded, nil) }, at)
			}
		})
		if out.Model.Name != "ft-m1" || took < c.least || took > c.most {
			t.Errorf("%s: %+v after %v, want %v to %v", c.about, out.Model, took, c.least, c.most)
		}
	}
}

// Whoever calls all the time makes no endless history.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	looks := 0
	out, _ := playFinetune(t, w, 20*time.Minute, func(env *testsuite.TestWorkflowEnvironment) {
		poll := w.poll
		w.poll = func(in activities.PollInput) (activities.TrainingStatus, error) { looks++; return poll(in) }
		for i := range 100 {
			env.RegisterDelayedCallback(func() { env.SignalWorkflow(SignalEnded, nil) }, time.Duration(i+1)*time.Second)
		}
	})
	if out.Model.Name != "ft-m1" || looks < maxEnded/2 || looks > maxEnded+5 {
		t.Errorf("%+v after %d looks", out.Model, looks)
	}
}

// A machine that is lost blocks the run, which says what to do; it does not wait for good.
func TestSilentMachineBlocks(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	w.host = "gpu-7"
	w.poll = func(activities.PollInput) (activities.TrainingStatus, error) {
		return activities.TrainingStatus{}, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
	}
	env := w.env(t)
	env.ExecuteWorkflow(Finetune, FinetuneInput{
		Run: "demo", Queue: "selfalign", Name: "m1", Iteration: 1, Training: dataset.Ref{Rows: 10, Digest: "d"}, Model: config.Model{Base: "b", Trainer: "t"},
	})
	trouble, known := activities.TroubleOf(env.GetWorkflowError())
	if !known || !strings.Contains(trouble.Message, "machine gpu-7") || !strings.Contains(trouble.Way, "runs/demo/a/selfalign-claim.json") {
		t.Errorf("%+v, %v", trouble, env.GetWorkflowError())
	}
}

// TestFailedJobsArePaidForToo has a job fail that cost something: it is spent, and the next one may cost that much less.
func TestFailedJobsArePaidForToo(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	failing := true
	w.poll = func(in activities.PollInput) (activities.TrainingStatus, error) {
		if in.Job.ID == "m1" && failing {
			return activities.TrainingStatus{}, temporal.NewNonRetryableApplicationError("out of memory", activities.ErrTypeTrainerFailed, nil,
				activities.Trouble{Class: "trainer", Message: "out of memory", Way: "smaller batch", SpentMicroUSD: 2_000_000})
		}
		return activities.TrainingStatus{Done: true, Status: finetune.Status{
			State: finetune.StateSucceeded, Model: "ft-" + in.Job.ID, CostMicroUSD: 500_000, CostKnown: true,
		}}, nil
	}
	s := spec()
	s.Budget.USD, s.Iterations = 10, 1
	status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration == 1 {
			env.RegisterDelayedCallback(func() { failing = false; update[Status](t, env, UpdateRetry, nil) }, time.Hour)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var left []int64
	for _, in := range w.submits {
		if in.Name == "m1" {
			left = append(left, *in.MaxMicroUSD)
		}
	}
	if len(left) != 2 || left[0]-left[1] != 2_000_000 {
		t.Fatalf("left for m1: %v", left)
	}
	if want := 10_000_000 - left[1] + 500_000; status.Spent.MicroUSD != want {
		t.Errorf("%d spent, want %d", status.Spent.MicroUSD, want)
	}
}
