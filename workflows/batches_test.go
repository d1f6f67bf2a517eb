package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/stage"
)

// Delivery finds the Batch API at every provider.
func (f *fakeRuns) Delivery(in activities.DeliveryInput) (string, error) {
	if in.Provider == "" || in.Model == "" || in.Wish != config.DeliveryAuto {
		return "", activities.NewTrouble("setting", "unexpected question", "")
	}
	if in.Within > 0 && in.Within < 24*time.Hour {
		return config.DeliveryLive, nil
	}
	return config.DeliveryBatch, nil
}

func TestDeliveryIsChosenPerStage(t *testing.T) {
	t.Parallel()
	w := newWorld(6, 1)
	s := spec()
	s.Augment.Delivery, s.Rate.Delivery = config.DeliveryBatch, config.DeliveryAuto
	got := map[string]string{}
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		w.mu.Lock()
		got[work.Task] = work.Delivery
		w.mu.Unlock()
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	if _, err := w.play(t, s, nil); err != nil {
		t.Fatal(err)
	}
	if got[stage.TaskBacktranslate] != config.DeliveryBatch || got[stage.TaskRate] != config.DeliveryBatch || got[stage.TaskCalibrate] == config.DeliveryBatch {
		t.Errorf("deliveries are %v", got)
	}
}

func (f *fakeStages) OpenBatches(_ context.Context, work stage.Work) ([]int, error) {
	return []int{1, 3}, nil
}

func (f *fakeStages) WithdrawBatches(_ context.Context, in activities.WithdrawInput) error {
	if !slices.Equal(in.Partitions, []int{1, 3}) {
		return activities.NewTrouble("setting", "other partitions", "")
	}
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.withdraw != nil {
		return f.w.withdraw(in)
	}
	f.w.withdrawn = append(f.w.withdrawn, in.Work.Output)
	return nil
}

// A cancelled run leaves no batches at the endpoint, whatever it was doing, and says so where it cannot help it.
func TestCancelTakesBatchesBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		delivery string
		pause    bool
		refused  error
		want     []string
		warns    bool
	}{
		"running":         {delivery: config.DeliveryBatch, want: []string{"runs/demo/00/candidates"}},
		"auto":            {delivery: config.DeliveryAuto, want: []string{"runs/demo/00/candidates"}},
		"paused":          {delivery: config.DeliveryBatch, pause: true, want: []string{"runs/demo/00/candidates"}},
		"live":            {delivery: config.DeliveryLive},
		"not to be taken": {delivery: config.DeliveryBatch, refused: activities.NewTrouble("auth", "the key is gone", "give one"), warns: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(2, 5)
			s := spec()
			s.Augment.Delivery = c.delivery
			if c.refused != nil {
				w.withdraw = func(activities.WithdrawInput) error { return c.refused }
			}
			var env *testsuite.TestWorkflowEnvironment
			w.ask = func(stage.Work) (activities.PartitionResult, error) {
				if !c.pause {
					env.CancelWorkflow()
				}
				return activities.PartitionResult{}, errors.New("a batch is at the endpoint") // as one that is handed back
			}
			_, err := w.play(t, s, func(e *testsuite.TestWorkflowEnvironment, _ int) {
				env = e
				if c.pause {
					e.RegisterDelayedCallback(func() {
						var after Status
						update(t, e, UpdatePause, &after)
					}, time.Hour)
					e.RegisterDelayedCallback(e.CancelWorkflow, 2*time.Hour)
				}
			})
			if !temporal.IsCanceledError(err) {
				t.Fatalf("ended with %v", err)
			}
			if !slices.Equal(w.withdrawn, c.want) {
				t.Errorf("taken back: %v", w.withdrawn)
			}
			var last Status
			if err := json.Unmarshal(w.records["demo/"+RecordStatus], &last); err != nil {
				t.Fatal(err)
			}
			warned := len(last.Warnings) == 1 && strings.Contains(last.Warnings[0], "the key is gone") && strings.Contains(last.Warnings[0], "provider p")
			if last.Phase != PhaseCancelled || warned != c.warns || len(last.Warnings) > 1 {
				t.Errorf("%s, warnings %q", last.Phase, last.Warnings)
			}
		})
	}
}

func TestDeadlinesBelongToTheirStage(t *testing.T) {
	t.Parallel()
	w := newWorld(2, 1)
	s := spec()
	s.Augment.Delivery, s.Augment.Deadline = config.DeliveryAuto, config.Duration(time.Hour)
	s.Rate.Delivery, s.Rate.Deadline = config.DeliveryAuto, config.Duration(48*time.Hour)
	var mu sync.Mutex
	got := map[string]stage.Work{}
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		mu.Lock()
		got[work.Output] = work
		mu.Unlock()
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	status, err := w.play(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key, output, delivery string
		within                time.Duration
	}{
		{"00 augment", "runs/demo/00/candidates", config.DeliveryLive, time.Hour},
		{"01 rate", "runs/demo/01/ratings", config.DeliveryBatch, 48 * time.Hour},
		{"02 rate", "runs/demo/02/ratings", config.DeliveryBatch, 48 * time.Hour},
	} {
		var began time.Time
		for _, st := range status.Stages {
			if st.Key == c.key {
				began = st.StartedAt
			}
		}
		work := got[c.output]
		if began.IsZero() || work.Delivery != c.delivery || work.Within != c.within || !work.Until.Equal(began.Add(c.within)) {
			t.Errorf("%s began %s: %+v", c.key, began, work)
		}
	}
}
