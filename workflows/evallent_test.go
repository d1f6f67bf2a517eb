package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
)

// lent is an evaluation of two models of run demo that have to be deployed, M2 by M1, judged by M2.
func lent(down bool) EvaluateInput {
	in := evaluation()
	in.Preflight = true
	for i, m := range []*NamedModel{&in.Model, &in.Baseline} {
		name := []string{"m2", "m1"}[i]
		m.Model = dataset.ModelRef{Provider: "p", Name: "demo/" + name, Revision: "demo/" + name}
		in.Serving = append(in.Serving, Serving{
			Model: m.Model, Queue: "selfalign-control", Down: down,
			Deploy: activities.DeployInput{Submit: activities.SubmitInput{Run: "demo", Name: name}},
		})
	}
	in.Judge = in.Model
	return in
}

// What a run has taken down is deployed again before it is asked, at its new place too, and taken down after; what stands stays.
func TestEvaluateDeploysWhatItsRunTookDown(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{"p", "slot-2"} {
		w, s := newWorld(0, 10), &fakeServer{provider: provider}
		w.answersFrom(s)
		in := lent(true)
		status, err := w.evaluate(t, in, nil)
		if err != nil || status.Phase != PhaseCompleted {
			t.Fatalf("%s: %s, %v", status.Phase, status.Message, err)
		}
		if want := []string{"demo/m2", "demo/m1"}; !slices.Equal(s.deploys, want) || len(s.loaded) != 0 {
			t.Errorf("deployed %v, want %v; left %v", s.deploys, want, s.loaded)
		}
	}
	w, s := newWorld(0, 10), &fakeServer{loaded: []string{"demo/m2"}} // the run's newest, and M1 was taken down after we looked
	w.answersFrom(s)
	if _, err := w.evaluate(t, lent(false), nil); err != nil || !slices.Equal(s.deploys, []string{"demo/m1"}) || !slices.Equal(s.loaded, []string{"demo/m2"}) {
		t.Errorf("deployed %v, left %v, %v", s.deploys, s.loaded, err)
	}
}

// A run takes both models down between any two answers: the evaluation deploys them again by itself.
func TestEvaluateOutlivesItsRun(t *testing.T) {
	t.Parallel()
	w, s := newWorld(0, 10), &fakeServer{loaded: []string{"demo/m1", "demo/m2"}}
	w.serves = s
	asked := 0
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		w.mu.Lock()
		asked++
		if asked == 1 || asked == 4 {
			s.lose("demo/m1")
			s.lose("demo/m2")
		}
		w.mu.Unlock()
		if !s.has(work.Model.Name) {
			return activities.PartitionResult{}, activities.NewTrouble(troubleNoModel, "no model "+work.Model.Name, "")
		}
		return w.done(work.Output, work.Partition, 10, 10, 10), nil
	}
	status, err := w.evaluate(t, lent(false), nil)
	if err != nil || status.Phase != PhaseCompleted || len(s.loaded) != 0 {
		t.Errorf("%s: %s, %v; left %v", status.Phase, status.Message, err, s.loaded)
	}
}

// A judge that cannot be read, and a model that does not answer, are told before anything is spent; retry looks again.
func TestEvaluationIsTriedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	in := evaluation()
	in.Preflight, in.Spec.Judge = true, config.Side{Provider: "p", Model: "judge"}
	mute := true
	w.tryJudge = func(judge dataset.ModelRef) error {
		if judge.Name != "judge" {
			t.Errorf("tried %v", judge)
		}
		if mute {
			return activities.NewTrouble("judge", "no verdict could be read", "take another judge")
		}
		return nil
	}
	status, err := w.evaluate(t, in, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			value, err := env.QueryWorkflow(QueryStatus)
			var now Status
			if err != nil || value.Get(&now) != nil || now.Phase != PhaseBlocked || !strings.Contains(now.Message, "no verdict could be read") {
				t.Errorf("%s: %s, %v", now.Phase, now.Message, err)
			}
			if w.asked > 0 {
				t.Error("it asked before it tried")
			}
			mute = false
			update[Status](t, env, UpdateRetry, nil)
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted || w.asked != 3 {
		t.Errorf("%s, %v; asked %d", status.Phase, err, w.asked)
	}
	var names []string
	for _, m := range w.checks[0].Models {
		names = append(names, m.Name)
	}
	if want := []string{"ft-M2", "ft-M1", "judge"}; !slices.Equal(names, want) {
		t.Errorf("looked at %v, want %v", names, want)
	}
}
