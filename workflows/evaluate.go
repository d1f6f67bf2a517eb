package workflows

import (
	"cmp"
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// RecipeEvaluate is what Status.Recipe says of an evaluation.
const RecipeEvaluate = "evaluate"

// EvaluateInput starts an evaluation. Its workflow id is EvaluationID. Iterations that the spec names are resolved to models.
type EvaluateInput struct {
	Spec     config.Evaluation `json:"evaluation"` // complete: sources in S3
	Digest   string            `json:"digest"`
	Queue    string            `json:"queue"`
	Model    NamedModel        `json:"model"` // zero where the spec gives outputs
	Baseline NamedModel        `json:"baseline"`
	Judge    NamedModel        `json:"judge"`
	Seeds    dataset.Ref       `json:"seeds,omitzero"`     // of the run, where their instructions are the prompts
	Training dataset.Ref       `json:"training,omitzero"`  // the curated set that scaling cuts
	Trains   config.Model      `json:"trains,omitzero"`    // how scaling trains: as the run did
	Withdraw bool              `json:"withdraw,omitempty"` // as in SelfTrainInput
	// Serving are the models of runs that answer only while they are deployed, as their runs knew them. Those that do not answer are
	// deployed again, and taken down at the end.
	Serving []Serving `json:"serving,omitempty"`
	// Preflight has everything looked at before anything is spent; false in evaluations begun before there was that.
	Preflight bool `json:"preflight,omitempty"`
}

// NamedModel is a model and what people call it.
type NamedModel struct {
	Label string           `json:"label"`
	Model dataset.ModelRef `json:"model"`
	// Run is the run that trained it, "" where none did.
	Run string `json:"run,omitempty"`
}

// EvaluationID is the workflow id of an evaluation; its records lie under runs/<id>/.
func EvaluationID(e config.Evaluation) string {
	if e.Run == "" {
		return "eval/" + e.Name
	}
	return e.Run + "/eval/" + e.Name
}

// Evaluate compares a model with a baseline on a prompt set, or models trained on nested parts of a curated set. It answers to the
// updates and queries of a run.
func Evaluate(ctx workflow.Context, in EvaluateInput) (Status, error) {
	host := SelfTrainInput{
		Spec:   config.Run{Name: workflow.GetInfo(ctx).WorkflowExecution.ID, Budget: in.Spec.Budget, Model: in.Trains},
		Digest: in.Digest, Queue: in.Queue, Withdraw: in.Withdraw,
	}
	r, ctx, err := newRun(ctx, host)
	if err != nil {
		return Status{}, err
	}
	r.recipe, r.st.Serving, r.borrows = RecipeEvaluate, in.Serving, in.Preflight
	err = r.evaluate(ctx, in)
	switch {
	case ctx.Err() != nil:
		return r.cancelled(ctx)
	case err != nil:
		r.retireLent(ctx)
		return r.status(), err
	}
	r.phase = PhaseCompleted
	r.retireLent(ctx)
	if err := r.close(ctx); err != nil {
		return r.status(), err
	}
	return r.status(), nil
}

func (r *run) evaluate(ctx workflow.Context, in EvaluateInput) error {
	if in.Preflight {
		if err := r.tryEvaluation(ctx, in); err != nil {
			return err
		}
	}
	if in.Spec.Scaling != nil {
		return r.scale(ctx, in)
	}
	result, err := r.contest(ctx, r.asked(in, "eval", "runs/"+r.name))
	if err == nil {
		r.evaluation = &result
	}
	return err
}

// tryEvaluation looks whether all that is asked answers, deploys what runs have taken down, and has the judge compare two answers.
func (r *run) tryEvaluation(ctx workflow.Context, in EvaluateInput) error {
	return r.step(ctx, "preflight", "checks", func(ctx workflow.Context, _ int) (string, error) {
		var runs *activities.Runs
		check := activities.EvaluationCheck{Spec: in.Spec, Judge: in.Judge.Model}
		if in.Spec.Scaling != nil {
			check.Trains = in.Trains
		}
		var lent []dataset.ModelRef
		for _, m := range []dataset.ModelRef{in.Model.Model, in.Baseline.Model, in.Judge.Model} {
			switch {
			case m == (dataset.ModelRef{}) || slices.Contains(check.Models, m) || slices.Contains(lent, m):
			case r.served(m, func(*Serving) {}):
				lent = append(lent, m)
			default:
				check.Models = append(check.Models, m)
			}
		}
		quick := short(ctx, QueueName(r.in.Queue, RoleControl), "preflight")
		if err := workflow.ExecuteActivity(quick, runs.PreflightEvaluation, check).Get(ctx, nil); err != nil {
			return "", err
		}
		for _, m := range lent {
			m = r.placeOf(m)
			if err := r.ready(ctx, r.key("preflight"), &m); err != nil {
				return "", err
			}
		}
		check.Judge = r.placeOf(check.Judge)
		return "", workflow.ExecuteActivity(quick, runs.TryJudge, check).Get(ctx, nil)
	})
}

// retireLent takes down the models of runs that this evaluation deployed again.
func (r *run) retireLent(ctx workflow.Context) {
	r.retire(ctx, func(s Serving) bool { return s.Deploy.Submit.Run == r.name && r.in.Spec.Model.Keep == config.KeepAll })
}

// asked is the contest that a spec asks for.
func (r *run) asked(in EvaluateInput, name, dir string) contest {
	s := in.Spec
	c := contest{
		name: name, dir: dir,
		prompts:  activities.PromptsInput{Sources: s.Prompts, Limit: s.Limit},
		model:    sideOf(in.Model, s.Model, s.Tags),
		baseline: sideOf(in.Baseline, s.Baseline, s.Tags),
		judge:    side{label: in.Judge.Label, model: in.Judge.Model},
		how:      config.Contest{Tags: s.Tags, Limit: s.Limit, Answers: s.Answers, Compare: s.Compare},
	}
	if s.SeedPrompts {
		c.prompts.Seeds = in.Seeds
	}
	if j := in.Judge; j.Run != "" {
		c.self = j.Run == in.Model.Run || j.Run == in.Baseline.Run
	}
	if j := in.Judge.Model; j != (dataset.ModelRef{}) && (j == in.Model.Model || j == in.Baseline.Model) {
		c.self = true
	}
	return c
}

func sideOf(m NamedModel, s config.Side, tags string) side {
	label := m.Label
	if len(s.Outputs) > 0 {
		label = cmp.Or(label, "outputs")
	}
	if s.Tags != "" && s.Tags != tags { // the ablation compares a model with itself
		label += " (tags " + s.Tags + ")"
	}
	return side{label: label, model: m.Model, outputs: s.Outputs, tags: cmp.Or(s.Tags, tags)}
}

// scale trains a model on each part of a curated set, evaluates it, and fits the line. Each part is an iteration of its own, so
// that its models have names of their own.
func (r *run) scale(ctx workflow.Context, in EvaluateInput) error {
	var evals *activities.Evals
	known := eval.Scaled{Name: in.Spec.Name, Iteration: in.Spec.Scaling.Iteration, Key: "runs/" + r.name + "/scaling.json"}
	var points []eval.Point
	for i, size := range in.Spec.Scaling.Sizes {
		r.st.Iteration = i + 1
		name, dir := fmt.Sprintf("s%d", size), fmt.Sprintf("runs/%s/%02d", r.name, i+1)
		var part dataset.Ref
		err := r.step(ctx, "take "+name, "rows", func(ctx workflow.Context, _ int) (string, error) {
			take := activities.SubsetInput{
				Training: in.Training, Rows: int64(size), Output: dir + "/training",
				About: activities.About{Run: r.name, Spec: r.in.Digest, Iteration: i + 1},
			}
			err := workflow.ExecuteActivity(bulk(ctx, QueueName(r.in.Queue, RoleCPU), "take "+name), evals.TakeSubset, take).Get(ctx, &part)
			r.stage(r.key("take " + name)).Done = part.Rows
			return "", err
		})
		if err != nil {
			return err
		}
		model, err := r.finetune(ctx, name, part, false)
		if err != nil {
			return err
		}
		sized := in
		sized.Model = NamedModel{Label: fmt.Sprintf("N=%d", size), Model: model, Run: in.Spec.Run}
		result, err := r.contest(ctx, r.asked(sized, "eval", dir+"/eval"))
		if err != nil {
			return err
		}
		if r.in.Spec.Model.Keep != config.KeepAll {
			r.retire(ctx, func(s Serving) bool { return s.Deploy.Submit.Run != r.name }) // nobody asks it again
		}
		known.Results = append(known.Results, result)
		points = append(points, eval.Point{N: int64(size), Rate: result.Rate})
	}
	return r.step(ctx, "fit", "points", func(ctx workflow.Context, _ int) (string, error) {
		out := &eval.Scaled{}
		fit := activities.FitInput{Points: points, Known: known}
		err := workflow.ExecuteActivity(short(ctx, QueueName(r.in.Queue, RoleControl), "fit"), evals.FitScaling, fit).Get(ctx, out)
		if err == nil {
			r.scaling = out
		}
		return "", err
	})
}
