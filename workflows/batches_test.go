package workflows

import (
	"testing"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/stage"
)

// Delivery finds the Batch API at every provider.
func (f *fakeRuns) Delivery(in activities.DeliveryInput) (string, error) {
	if in.Provider == "" || in.Wish != config.DeliveryAuto {
		return "", activities.NewTrouble("setting", "unexpected question", "")
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
