package workflows

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/stage"
)

// A threshold set while a selection is made holds for the next one; the set that is made tells the one it was made with.
func TestThresholdOfASetIsTheOneItWasMadeWith(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	var env *testsuite.TestWorkflowEnvironment
	var once sync.Once
	var made []float64
	k := 3.0
	w.selects = func(s activities.SelectWork) {
		if s.Iteration == 0 || s.Partition != 0 {
			return
		}
		once.Do(func() { update[Status](t, env, UpdateSet, nil, Settings{Threshold: &k}) })
		made = append(made, s.Threshold)
	}
	status, err := w.play(t, spec(), func(e *testsuite.TestWorkflowEnvironment, _ int) { env = e })
	if err != nil {
		t.Fatal(err)
	}
	if want := []float64{4.5, 3}; !slices.Equal(made, want) || status.Sets[0].Threshold != 4.5 || status.Sets[1].Threshold != 3 {
		t.Errorf("made with %v, told %g and %g", made, status.Sets[0].Threshold, status.Sets[1].Threshold)
	}
}

// Instructions are held against the evaluation sets where a run says so: their list is pinned before they are written, which is
// before any is rated, and before each selection. A run begun before there was that goes on as it began.
func TestInstructionsAreHeldAgainstEvaluationSets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		on, old bool
		pins    []string
	}{
		{on: true, pins: []string{"00/candidates", "01/training", "02/training"}},
		{on: true, old: true, pins: []string{"01/training", "02/training"}},
		{},
	} {
		w := newWorld(1, 5)
		w.old = tt.old
		var mu sync.Mutex
		used := map[string]bool{}
		w.selects = func(s activities.SelectWork) {
			mu.Lock()
			defer mu.Unlock()
			used[s.Evaluation] = true
		}
		w.ask = func(work stage.Work) (activities.PartitionResult, error) {
			mu.Lock()
			used[work.Evaluation] = true
			mu.Unlock()
			return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
		}
		s := spec()
		s.Decontaminate = config.Decontaminate{NGram: 13, Seeds: true, Instructions: tt.on}
		s.Curate.MaxInstructionChars = 500
		if _, err := w.play(t, s, func(*testsuite.TestWorkflowEnvironment, int) {}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, in := range w.pinned {
			if len(in.Seeds) != len(s.Seeds) || in.Decontaminate.NGram != 13 || !used[in.Key] {
				t.Errorf("pinned %+v, used %v", in, used)
			}
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(in.Key, "runs/demo/"), "/evaluation.json"))
		}
		if !slices.Equal(got, tt.pins) || len(used) != len(tt.pins)+1 { // and nothing, where M0 or a judge is asked
			t.Errorf("%+v: pinned %v, used %v", tt, got, used)
		}
	}
}

// A fine-tuning job is not begun with money that is not there, and begun once there is more.
func TestNoTrainingOnASpentBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	w.poll = func(in activities.PollInput) (activities.TrainingStatus, error) {
		return activities.TrainingStatus{
			Status: finetune.Status{State: finetune.StateSucceeded, Model: "ft-" + in.Job.ID, CostMicroUSD: 2_000_000, CostKnown: true}, Done: true,
		}, nil
	}
	s := spec()
	s.Budget.USD = 4 // M0, then Myx
	var message string
	status, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration > 1 {
			return
		}
		env.RegisterDelayedCallback(func() {
			if at := now(t, env); at.Phase == PhaseBlocked {
				message = at.Message
				if iteration == 1 && slices.Contains(w.jobs, "m1/0") {
					t.Error("m1 was submitted without a budget")
				}
				update[Status](t, env, UpdateSet, nil, Settings{Budget: &config.Budget{USD: 100}})
			}
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if !strings.Contains(message, "$4.0000 of $4 (train m0 $2.0000, train myx $2.0000). Raise it") {
		t.Errorf("message %q", message)
	}
}
