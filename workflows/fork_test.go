package workflows

import (
	"slices"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// A run with a fixed judge has no M0; a fork of it that rates for itself trains one first.
func TestForkOfADistilledRunTrainsItsOwnJudge(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	in := SelfTrainInput{Spec: spec(), Digest: "spec", Queue: "selfalign", Resume: &State{
		Iteration: 1, Seeds: dataset.Ref{Dir: "seeds", Rows: 5}, Segments: dataset.Ref{Dir: "segments", Rows: 10, Bits: 1},
		Candidates: dataset.Ref{Dir: "candidates", Rows: 10, Bits: 1},
		Base:       dataset.Ref{Dir: "base", Rows: 5, Digest: "base"}, Training: dataset.Ref{Dir: "base", Rows: 5, Digest: "base"},
	}}
	in.Spec.Iterations = 1
	env := w.env(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "demo"})
	env.ExecuteWorkflow(SelfTrain, in)
	var status Status
	if err := env.GetWorkflowResult(&status); err != nil {
		t.Fatal(err)
	}
	if want := []string{"m0/0", "m1/0"}; !slices.Equal(w.jobs, want) || status.Sets[0].Judge.Name != "ft-m0" {
		t.Errorf("jobs %v, judge %v; want %v and M0", w.jobs, status.Sets[0].Judge, want)
	}
	w = newWorld(1, 5)
	in.Spec.Rate.Judge = &config.Judge{Provider: "p", Model: "gpt-4"}
	env = w.env(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "demo"})
	env.ExecuteWorkflow(SelfTrain, in)
	if want := []string{"m1/0"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs %v, want %v with a fixed judge", w.jobs, want)
	}
}
