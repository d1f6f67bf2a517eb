package kubernetes

import (
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

// TestJobIsHeldToItsBudget has the cluster end a job when what it may cost is spent, which is told as the reason.
func TestJobIsHeldToItsBudget(t *testing.T) {
	t.Parallel()
	c, fresh, st := setup(t, "Job")
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "held", "endless", 12)
	left := int64(1_200_000) // two minutes at a cent a second
	job.MaxMicroUSD = &left
	b := fresh(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	j := c.jobs[id]
	if got := j.body["spec"].(map[string]any)["activeDeadlineSeconds"]; got != 120.0 {
		t.Errorf("activeDeadlineSeconds %v", got)
	}
	j.begun = time.Now().Add(-125 * time.Second)
	c.mu.Unlock()
	status := finetunetest.Await(t, b, id, finetunetest.Ended)
	if status.State != finetune.StateFailed || !strings.Contains(status.Message, "stopped after 2m0s, which is what the budget left") {
		t.Errorf("%+v", status)
	}
	if !status.CostKnown || status.CostMicroUSD < 1_250_000 || status.CostMicroUSD > 3_000_000 {
		t.Errorf("cost %d", status.CostMicroUSD)
	}
}

// TestTemplateMayBeStricter keeps a deadline of the template that comes before that of the budget, and tells no budget when it passes.
func TestTemplateMayBeStricter(t *testing.T) {
	t.Parallel()
	b := &Backend{kind: kinds["Job"]}
	for _, c := range []struct {
		own  any
		want any
		ours bool
	}{{nil, int64(120), true}, {60.0, 60.0, false}, {7200.0, int64(120), true}, {2e6, int64(120), true}} {
		spec, meta := map[string]any{}, map[string]any{}
		if c.own != nil {
			spec["activeDeadlineSeconds"] = c.own
		}
		b.hold(spec, meta, 2*time.Minute)
		if _, ours := child(meta, "annotations")[annotationLimit]; spec["activeDeadlineSeconds"] != c.want || ours != c.ours {
			t.Errorf("%v: %v, %v", c.own, spec, meta)
		}
	}
	spec := map[string]any{}
	(&Backend{kind: kinds["TrainJob"]}).hold(spec, map[string]any{}, time.Minute)
	if len(spec) != 0 {
		t.Errorf("a TrainJob has no such field: %v", spec)
	}
}
