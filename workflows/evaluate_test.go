package workflows

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

func evaluation() EvaluateInput {
	s := config.DefaultEvaluation()
	s.Name, s.Run = "mine", "demo"
	s.Prompts = []config.Source{{Path: "s3://b/prompts.json"}}
	named := func(label string) NamedModel {
		return NamedModel{Label: label, Model: dataset.ModelRef{Provider: "p", Name: "ft-" + label, Revision: label}, Run: "demo"}
	}
	return EvaluateInput{Spec: s, Digest: "d", Queue: "selfalign", Model: named("M2"), Baseline: named("M1"), Judge: NamedModel{Label: "p/judge", Model: dataset.ModelRef{Provider: "p", Name: "judge"}}}
}

func (w *world) evaluate(t *testing.T, in EvaluateInput, during func(env *testsuite.TestWorkflowEnvironment)) (Status, error) {
	t.Helper()
	env := w.env(t)
	if during != nil {
		during(env)
	}
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: EvaluationID(in.Spec)})
	env.ExecuteWorkflow(Evaluate, in)
	var status Status
	err := env.GetWorkflowError()
	if err == nil {
		err = env.GetWorkflowResult(&status)
	}
	return status, err
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	var asked []string
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		w.mu.Lock()
		asked = append(asked, work.Task+" "+work.Model.Name)
		w.mu.Unlock()
		return w.done(work.Output, work.Partition, 10, 10, 10), nil
	}
	status, err := w.evaluate(t, evaluation(), nil)
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s: %s, %v", status.Phase, status.Message, err)
	}
	if want := []string{"respond ft-M2", "respond ft-M1", "compare judge"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	e := status.Evaluation
	if e == nil || e.Model != "M2" || e.Baseline != "M1" || e.SelfJudged || e.Key != "runs/demo/eval/mine/result.json" {
		t.Fatalf("result %+v", e)
	}
	if lines := status.ResultLines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "M2 wins 50.0 % against M1") {
		t.Errorf("lines %q", lines)
	}
	if w.records["demo/eval/mine/status.json"] == nil {
		t.Error("no record of the status")
	}
	// Again, after everything that Temporal knew of it is gone: nothing is asked.
	before := w.asked
	if _, err := w.evaluate(t, evaluation(), nil); err != nil || w.asked != before {
		t.Errorf("asked %d partitions again, %v", w.asked-before, err)
	}
}

func TestEvaluateTagsAndOutputs(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	in := evaluation()
	in.Spec.Name, in.Baseline = "tags", in.Model
	in.Spec.Baseline.Tags = config.TagsNone
	in.Judge = in.Model
	status, err := w.evaluate(t, in, nil)
	if err != nil || status.Evaluation.Tags != "both/none" || !status.Evaluation.SelfJudged || !w.has("prompts-none") {
		t.Errorf("%+v, %v", status.Evaluation, err)
	}
	w = newWorld(0, 10)
	in = evaluation()
	in.Spec.Prompts, in.Baseline, in.Spec.Baseline.Outputs = nil, NamedModel{}, []config.Source{{Path: "s3://b/outputs.json"}}
	status, err = w.evaluate(t, in, nil)
	if err != nil || status.Evaluation.Baseline != "outputs" || !w.has("baseline-outputs") {
		t.Errorf("%+v, %v", status.Evaluation, err)
	}
}

func TestEvaluateStopsBeforeItsBudgetAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	in := evaluation()
	in.Spec.Budget.Calls = 15
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Budget.Calls < 10 {
			return activities.PartitionResult{Stop: activities.StopBudget}, nil
		}
		return w.done(work.Output, work.Partition, 10, 10, 10), nil
	}
	status, err := w.evaluate(t, in, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			value, err := env.QueryWorkflow(QueryStatus)
			var now Status
			if err != nil || value.Get(&now) != nil || now.Phase != PhaseBlocked || !strings.Contains(now.Message, "starter set demo/eval/mine --calls") {
				t.Errorf("%s: %s, %v", now.Phase, now.Message, err)
			}
			update[Status](t, env, UpdateSet, nil, Settings{Budget: &config.Budget{Calls: 100}})
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted || status.Spent.Calls != 30 {
		t.Errorf("%s with %d calls, %v", status.Phase, status.Spent.Calls, err)
	}
}

func TestScalingTrainsNestedPartsAndFits(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	rates := map[string]float64{"N=100": 0.30, "N=200": 0.35, "N=400": 0.40}
	w.rate = func(r eval.Result) float64 { return rates[r.Model] }
	in := evaluation()
	in.Spec.Scaling = &config.Scaling{Iteration: 1, Sizes: []int{100, 200, 400}}
	in.Training = dataset.Ref{Kind: dataset.KindTraining, Dir: "runs/demo/01/training", Rows: 500}
	in.Trains = config.Model{Base: "base", Trainer: "tuner", Server: "tuner"}
	status, err := w.evaluate(t, in, nil)
	if err != nil || status.Scaling == nil {
		t.Fatalf("%+v, %v", status, err)
	}
	if want := []string{"s100/0", "s200/0", "s400/0"}; !slices.Equal(w.jobs, want) {
		t.Errorf("jobs %v, want %v", w.jobs, want)
	}
	if s := status.Scaling; math.Abs(s.PerDoubling-5) > 1e-9 || len(s.Results) != 3 || s.Results[2].Model != "N=400" || s.LogBase != "e" {
		t.Errorf("scaling %+v", s)
	}
	if !w.has("demo/eval/mine/03/training") {
		t.Error("the third part is not where it belongs")
	}
}
