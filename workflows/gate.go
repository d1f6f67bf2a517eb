package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

// GateRound is the gate after an iteration, where a person decides whether a model that is not better ends the run.
const GateRound = "round"

// Rules by which a run ends.
const (
	EndedIterations = "iterations"   // all were done
	EndedConverged  = "converged"    // the training set did not change
	EndedPlateau    = "plateau"      // the newest model is not better than the one before
	EndedRollback   = "rollback"     // the same, and the one before is the result
	EndedStable     = "similarity"   // the curated set hardly changed
	EndedYield      = "min_selected" // too few rows were selected
	EndedBudget     = "budget"       // it is used up, and the spec says to end then
	EndedRefused    = "refused"      // a person ended it at the gate of a round
)

// Ending says why a run ended before its last iteration.
type Ending struct {
	Rule   string `json:"rule"`
	Reason string `json:"reason"`
}

// errEnded unwinds a run that ends early and well; run.st.Ending says why.
var errEnded = errors.New("the run ends early")

func (r *run) end(rule, format string, args ...any) error {
	r.st.Ending = &Ending{Rule: rule, Reason: fmt.Sprintf(format, args...)}
	return errEnded
}

// holdOut decides which seeds are held out for the gate.
func (r *run) holdOut(ctx workflow.Context) error {
	g := r.in.Spec.Gate
	if g == nil || r.st.HeldTo != "" {
		return nil
	}
	return r.step(ctx, "hold out seeds", "seeds", func(ctx workflow.Context, _ int) (string, error) {
		var evals *activities.Evals
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), "hold out seeds")
		err := workflow.ExecuteActivity(ctx, evals.HoldOut, activities.HoldOutInput{Seeds: r.st.Seeds, N: g.Holdout}).Get(ctx, &r.st.HeldTo)
		if err == nil {
			r.st.Held = g.Holdout
			r.stage(r.key("hold out seeds")).Done = int64(g.Holdout)
		}
		return "", err
	})
}

// drift compares the curated set of this iteration with that of the one before.
func (r *run) drift(ctx workflow.Context, training dataset.Ref) (*eval.Drift, error) {
	stop := r.in.Spec.Stop
	if r.st.Iteration < 2 || !(r.in.Drift || (stop != nil && stop.Similarity > 0)) {
		return nil, nil //nolint:nilnil // nothing to compare is no error
	}
	var evals *activities.Evals
	in := activities.DriftInput{
		Before: r.st.Training, After: training, From: r.st.Iteration - 1, To: r.st.Iteration,
		Key: fmt.Sprintf("runs/%s/%02d/drift.json", r.name, r.st.Iteration),
	}
	out := &eval.Drift{}
	err := workflow.ExecuteActivity(bulk(ctx, QueueName(r.in.Queue, RoleCPU), "compare curated sets"), evals.CompareSets, in).Get(ctx, out)
	return out, err
}

// enough applies the stop rules that are about the curated set, before a model is trained on it.
func (r *run) enough(set IterationSummary) error {
	stop := r.in.Spec.Stop
	switch {
	case stop == nil:
	case set.Selected < stop.MinSelected:
		return r.end(EndedYield, "%d rows were selected, fewer than stop.min_selected, which is %d", set.Selected, stop.MinSelected)
	case stop.Similarity > 0 && set.Drift != nil && set.Drift.Jaccard >= stop.Similarity:
		return r.end(EndedStable, "the curated set has a Jaccard similarity of %.3f with that of iteration %d (%d rows stayed, %d came in, %d went out); stop.similarity is %g",
			set.Drift.Jaccard, set.Drift.From, set.Drift.Kept, set.Drift.In, set.Drift.Out, stop.Similarity)
	}
	return nil
}

// modelOf returns Mt, if it was trained.
func (r *run) modelOf(t int) (dataset.ModelRef, bool) {
	i := len(r.st.Models) - 1 - (r.st.Iteration - t)
	if t < 0 || t > r.st.Iteration || i < 0 || i >= len(r.st.Models) {
		return dataset.ModelRef{}, false
	}
	return r.st.Models[i], true
}

func (r *run) iterationSide(t int, tags string) (side, bool) {
	m, ok := r.modelOf(t)
	return side{label: "M" + strconv.Itoa(t), model: m, tags: tags}, ok
}

// judgeSide is who compares: the contest's judge, the fixed judge of the run, or the older of both models.
func (r *run) judgeSide(how config.Contest, older side) (judge side, self bool) {
	for _, j := range []*config.Judge{how.Judge, r.in.Spec.Rate.Judge} {
		if j != nil {
			return side{label: j.Provider + "/" + j.Model, model: dataset.ModelRef{Provider: j.Provider, Name: j.Model, Revision: j.Model}}, false
		}
	}
	return older, true
}

// evaluated evaluates the newest model as the spec says, and keeps the results with its set.
func (r *run) evaluated(ctx workflow.Context) error {
	e := r.in.Spec.Evaluate
	if e == nil {
		return nil
	}
	t := r.st.Iteration
	set := &r.st.Sets[len(r.st.Sets)-1]
	if len(e.Prompts) > 0 || len(e.Outputs) > 0 {
		model, _ := r.iterationSide(t, e.Tags)
		c := contest{
			name: "eval", dir: fmt.Sprintf("runs/%s/%02d/eval", r.name, t), model: model, how: e.Contest,
			prompts: activities.PromptsInput{Sources: e.Prompts, Limit: e.Limit},
		}
		known := true
		switch e.Against {
		case config.AgainstOutputs:
			c.baseline = side{label: "outputs", outputs: e.Outputs, tags: e.Tags}
		case config.AgainstPrevious:
			c.baseline, known = r.iterationSide(t-1, e.Tags)
		default:
			against, err := strconv.Atoi(e.Against)
			c.baseline, known = r.iterationSide(against, e.Tags)
			known = known && err == nil && against != t
		}
		if known {
			older := c.baseline
			if len(older.outputs) > 0 {
				older = model
			}
			c.judge, c.self = r.judgeSide(e.Contest, older)
			result, err := r.contest(ctx, c)
			if err != nil {
				return err
			}
			set.Evaluation = &result
		}
	}
	return nil
}

// judged measures the iteration's judge on the labelled set, in the way in which it rates A.
func (r *run) judged(ctx workflow.Context, rating stage.Work) (*eval.Judged, error) {
	e := r.in.Spec.Evaluate
	if e == nil || len(e.Labelled) == 0 {
		return nil, nil //nolint:nilnil // no labelled set is no error
	}
	var evals *activities.Evals
	var pairs dataset.Ref
	dir := fmt.Sprintf("runs/%s/%02d/labelled", r.name, r.st.Iteration)
	err := r.step(ctx, "labelled pairs", "pairs", func(ctx workflow.Context, _ int) (string, error) {
		in := activities.LabelledInput{Sources: e.Labelled, Output: dir, About: activities.About{Run: r.name, Spec: r.in.Digest, Iteration: r.st.Iteration}}
		err := workflow.ExecuteActivity(bulk(ctx, QueueName(r.in.Queue, RoleCPU), "labelled pairs"), evals.WriteLabelled, in).Get(ctx, &pairs)
		s := r.stage(r.key("labelled pairs"))
		s.Done, s.Rejected = pairs.Rows+pairs.Rejected, pairs.Rejected
		return "", err
	})
	if err != nil {
		return nil, err
	}
	work := rating
	work.Delivery = stage.DeliveryLive
	work.Task, work.Input, work.Output = stage.TaskCalibrate, pairs, r.dir(r.st.Iteration, "labelled-ratings")
	ratings, err := r.ask(ctx, "rate labelled", work, dataset.KindRatings)
	if err != nil {
		return nil, err
	}
	out := &eval.Judged{}
	in := activities.SelectionInput{
		Pairs: pairs, Ratings: ratings, Before: r.st.Labelled, Threshold: r.threshold(),
		Known: eval.Judged{Iteration: r.st.Iteration, Judge: work.Model.Revision, Key: dir + "/result.json"},
	}
	r.st.Labelled = ratings
	err = workflow.ExecuteActivity(bulk(ctx, QueueName(r.in.Queue, RoleCPU), "measure the selection"), evals.MeasureSelection, in).Get(ctx, out)
	return out, err
}

// passGate compares the newest model with the one before on the seeds that were held out, and does what the policy says.
func (r *run) passGate(ctx workflow.Context) error {
	g := r.in.Spec.Gate
	if g == nil {
		return nil
	}
	t := r.st.Iteration
	model, _ := r.iterationSide(t, g.Tags)
	baseline, ok := r.iterationSide(t-1, g.Tags)
	if !ok {
		return nil
	}
	judge, self := r.judgeSide(g.Contest, baseline)
	result, err := r.contest(ctx, contest{
		name: "gate", dir: fmt.Sprintf("runs/%s/%02d/gate", r.name, t), model: model, baseline: baseline, judge: judge, self: self, how: g.Contest,
		prompts: activities.PromptsInput{Seeds: r.st.Seeds, Limit: min(r.st.Held, g.Limit)},
	})
	if err != nil {
		return err
	}
	v := eval.Decide(g.Policy, result)
	r.st.Sets[len(r.st.Sets)-1].Gate = &v
	r.changed(ctx)
	switch v.Decision {
	case eval.End:
		return r.end(EndedPlateau, "%s", v.Reason)
	case eval.RollBack:
		r.st.Result = baseline.model
		return r.end(EndedRollback, "%s", v.Reason)
	case eval.AskFor:
		if t >= r.iterations() {
			return nil // it ends here anyway
		}
		refused, err := r.waitAtGate(ctx, "gate", v.Reason)
		if err != nil {
			return err
		}
		if refused {
			return r.end(EndedRefused, "a person ended it at the gate: %s", v.Reason)
		}
	}
	return nil
}

// comparedLater reports whether later models are compared with this one.
func (r *run) comparedLater(s Serving) bool {
	e := r.in.Spec.Evaluate
	if e == nil || len(e.Prompts) == 0 {
		return false
	}
	t, err := strconv.Atoi(e.Against)
	m, ok := r.modelOf(t)
	return err == nil && ok && s.Model == m
}

// result is the model that the run gives: the newest, unless a gate rolled it back.
func (r *run) result() *dataset.ModelRef {
	switch n := len(r.st.Models); {
	case r.st.Result != (dataset.ModelRef{}):
		return &r.st.Result
	case n > 0:
		return &slices.Clone(r.st.Models)[n-1]
	}
	return nil
}
