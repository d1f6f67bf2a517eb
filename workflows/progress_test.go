package workflows

import (
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/stage"
)

// now asks a run how it is.
func now(t *testing.T, env *testsuite.TestWorkflowEnvironment) Status {
	t.Helper()
	var s Status
	value, err := env.QueryWorkflow(QueryStatus)
	if err == nil {
		err = value.Get(&s)
	}
	if err != nil {
		t.Error(err)
	}
	return s
}

func stageOf(s Status, key string) StageStatus {
	for _, st := range s.Stages {
		if st.Key == key {
			return st
		}
	}
	return StageStatus{}
}

// A stage of several ranges that stops and goes on counts each of them once, while it works and when it is done.
func TestRangesAreCountedOnceOverAStop(t *testing.T) {
	t.Parallel()
	w := newWorld(10, 1) // 1024 partitions: three ranges
	var env *testsuite.TestWorkflowEnvironment
	var atWork Status
	k := 4.5
	asked, stopped := 0, false
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task == stage.TaskBacktranslate {
			w.mu.Lock()
			asked++
			n, over := asked, asked > 700 && !stopped
			w.mu.Unlock()
			if over {
				return activities.PartitionResult{Stop: activities.StopBudget}, nil
			}
			if stopped && n == 1000 { // an update may be sent from anywhere, a query may not
				update(t, env, UpdateSet, &atWork, Settings{Threshold: &k})
			}
		}
		return w.done(work.Output, work.Partition, 1, 1, 1), nil
	}
	s := spec()
	s.Iterations = 1
	status, err := w.play(t, s, func(e *testsuite.TestWorkflowEnvironment, iteration int) {
		if env = e; iteration != 0 {
			return
		}
		env.RegisterDelayedCallback(func() {
			at := stageOf(now(t, env), "00 augment")
			if at.State != StageStopped || at.Done != 700 || at.Usage.Calls != 700 {
				t.Errorf("blocked: %s with %d rows for %d calls, want stopped with 700", at.State, at.Done, at.Usage.Calls)
			}
			stopped = true
			update[Status](t, env, UpdateRetry, nil)
		}, time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	most := stageOf(atWork, "00 augment")
	if most.Done < 700 || most.Done > 1024 || most.Usage.Calls > 1024 {
		t.Errorf("at work again: %d rows for %d calls", most.Done, most.Usage.Calls)
	}
	if at := stageOf(status, "00 augment"); at.Done != 1024 || at.Usage.Calls != 1024 || at.Before != 700 || at.ResumedAt.IsZero() {
		t.Errorf("done %+v", at)
	}
}

func TestTimeLeftForgetsTheStop(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	s := StageStatus{State: StageRunning, Done: 60, Total: 100, StartedAt: start, ResumedAt: start.Add(time.Hour), Before: 40}
	if got := timeLeft(s, start.Add(time.Hour+10*time.Second)); got != "20s" {
		t.Errorf("%q left, want 20s: 20 rows took 10 s since it went on", got)
	}
	s.State = StageStopped
	if got := timeLeft(s, start.Add(2*time.Hour)); got != "" {
		t.Errorf("%q left of a stage that waits", got)
	}
	s = StageStatus{State: StageRunning, Done: 50, Total: 100, StartedAt: start}
	if got := timeLeft(s, start.Add(10*time.Second)); got != "10s" {
		t.Errorf("%q left, want 10s", got)
	}
}
