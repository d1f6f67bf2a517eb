package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

// run is one execution of SelfTrain: what it carries on (st) and what it waits for.
type run struct {
	in    SelfTrainInput
	name  string
	st    State
	phase string // set once there is nothing more to do than to write it down
	ended bool   // it is written down

	blocked map[string]activities.Trouble         // by stage key: waits for retry
	gates   map[string]string                     // by stage key: what waits for approval
	cancels map[string]workflow.CancelFunc        // by stage key: stops the stage so that it can be started again
	asking  map[string]bool                       // by stage key: it asks a model, under the budget and the calls in flight set
	ranges  map[string]map[int]RangeProgress      // by stage key and first partition
	abort   workflow.CancelFunc                   // ends the run as cancelled
	revived map[string]revival                    // by stage key: deployments of a model that its server had lost
	moved   map[dataset.ModelRef]dataset.ModelRef // where models that were deployed again answer now, by where they did
	borrows bool                                  // its models are those of runs that may take them down: it asks whether they answer
	trial   *trial                                // of this iteration's judge; nil: none
	updated time.Time
	recipe  string // "" is SelfTrain
	refused bool   // a person refused at the gate that was waited at last
	unsent  string // why results were not published, where a person refused that; "" otherwise

	posting    int      // stages at work whose questions may travel in batches
	unreturned []string // what of a cancelled run's batches is still at an endpoint

	evaluation *eval.Result // of an Evaluate workflow
	scaling    *eval.Scaled
}

func newRun(ctx workflow.Context, in SelfTrainInput) (*run, workflow.Context, error) {
	r := &run{
		in: in, name: workflow.GetInfo(ctx).WorkflowExecution.ID,
		blocked: map[string]activities.Trouble{}, gates: map[string]string{},
		cancels: map[string]workflow.CancelFunc{}, ranges: map[string]map[int]RangeProgress{},
		asking: map[string]bool{}, revived: map[string]revival{},
	}
	if in.Resume != nil {
		r.st = *in.Resume
	}
	if r.st.StartedAt.IsZero() {
		r.st.StartedAt = workflow.Now(ctx)
	}
	ctx, r.abort = workflow.WithCancel(ctx)
	r.listen(ctx)
	if err := r.serve(ctx); err != nil {
		return nil, nil, err
	}
	r.changed(ctx)
	return r, ctx, nil
}

// Settings that updates may have changed.

func (r *run) iterations() int {
	if n := r.st.Settings.Iterations; n != nil {
		return *n
	}
	return r.in.Spec.Iterations
}

func (r *run) threshold() float64 {
	if k := r.st.Settings.Threshold; k != nil {
		return *k
	}
	return r.in.Spec.Curate.Threshold
}

func (r *run) budget() config.Budget {
	if b := r.st.Settings.Budget; b != nil {
		return *b
	}
	return r.in.Spec.Budget
}

func (r *run) inFlight(task string, wanted int) int {
	if n := r.st.Settings.InFlight; n != nil {
		return *n
	}
	if wanted > 0 {
		return wanted
	}
	if task == stage.TaskRate || task == stage.TaskCalibrate {
		return r.in.Spec.Rate.InFlight
	}
	return r.in.Spec.Augment.InFlight
}

func (r *run) fixedJudge() bool { return r.in.Spec.Rate.Judge != nil }

// Names. Everything a run makes has a name that follows from the run, the iteration and the step, so that whatever was
// made before a crash is found again.

func (r *run) key(step string) string { return fmt.Sprintf("%02d %s", r.st.Iteration, step) }

func (r *run) dir(t int, kind dataset.Kind) string {
	return fmt.Sprintf("runs/%s/%02d/%s", r.name, t, kind)
}

func (r *run) childID(key string) string { return r.name + "/" + key }

// purse returns what the stage may spend in all: the budget less what every other stage spent.
func (r *run) purse(key string) Purse {
	p := newPurse(r.budget())
	for _, s := range r.st.Stages {
		if s.Key != key {
			p = p.less(s.Usage).less(s.InDoubt)
		}
	}
	return p
}

// step does one stage of the run until it is done: stopped by a pause it waits for resume, in trouble it waits for retry,
// and then it starts again; everything it made stands. attempt counts the fine-tuning jobs that failed.
func (r *run) step(ctx workflow.Context, name, unit string, f func(ctx workflow.Context, attempt int) (stop string, err error)) error {
	return r.repeat(ctx, name, unit, true, f)
}

// patientStep is a step that a pause leaves alone, since stopping it would throw away work that is paid for.
func (r *run) patientStep(ctx workflow.Context, name, unit string, f func(ctx workflow.Context, attempt int) (stop string, err error)) error {
	return r.repeat(ctx, name, unit, false, f)
}

func (r *run) repeat(
	ctx workflow.Context, name, unit string, stoppable bool, f func(ctx workflow.Context, attempt int) (string, error),
) error {
	key := r.key(name)
	failedJobs := 0
	for {
		if err := r.whilePaused(ctx); err != nil {
			return err
		}
		r.stageBegins(ctx, key, name, unit)
		inner, cancel := workflow.WithCancel(ctx)
		if stoppable {
			r.cancels[key] = cancel
		}
		stop, err := f(inner, failedJobs)
		stopped := inner.Err() != nil
		delete(r.cancels, key)
		cancel()
		switch {
		case ctx.Err() != nil:
			r.stageEnds(ctx, key, StageStopped)
			return ctx.Err()
		case err == nil && stop == "":
			r.stageEnds(ctx, key, StageDone)
			return r.save(ctx)
		case stopped || stop == activities.StopCancelled:
			r.stageWaits(ctx, key)
			continue // paused, or to go on under other settings
		}
		trouble, again := r.trouble(stop, err)
		if trouble.Class == troubleBudget && r.in.Spec.Stop != nil && r.in.Spec.Stop.Budget {
			r.stageEnds(ctx, key, StageStopped)
			return r.end(EndedBudget, "%s", trouble.Message)
		}
		if again {
			failedJobs++
		}
		if err := r.waitForRetry(ctx, key, trouble); err != nil {
			return err
		}
	}
}

// trouble says what is to be told, and whether a retry needs a new fine-tuning job.
func (r *run) trouble(stop string, err error) (activities.Trouble, bool) {
	if err == nil && stop == activities.StopBudget {
		b := r.budget()
		return activities.Trouble{
			Class:   troubleBudget,
			Message: "the budget is used up: " + describeBudget(r.spent(), b) + describeStages(r.st.Stages, b),
			Way:     fmt.Sprintf("raise it and the run goes on where it stopped: starter set %s %s", r.name, raise(b)),
		}, false
	}
	t, known := activities.TroubleOf(err)
	if !known {
		t = activities.Trouble{Class: "unknown", Message: err.Error(), Way: "look at the error in the Temporal UI"}
	}
	return t, activities.IsTrainerFailure(err)
}

func (r *run) waitForRetry(ctx workflow.Context, key string, t activities.Trouble) error {
	r.blocked[key] = t
	r.stageWaits(ctx, key)
	r.changed(ctx)
	if err := r.save(ctx); err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { _, waits := r.blocked[key]; return !waits })
}

func (r *run) whilePaused(ctx workflow.Context) error {
	if !r.st.Paused {
		return nil
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { return !r.st.Paused })
}

// gate waits for a person at a gate, if the spec names it.
func (r *run) gate(ctx workflow.Context, step, gate, what string) (refused bool, err error) {
	if !slices.Contains(r.in.Spec.Approve, gate) {
		return false, nil
	}
	return r.waitAtGate(ctx, step, what)
}

// waitAtGate waits until a person decides. A refusal that cancels the run is an error.
func (r *run) waitAtGate(ctx workflow.Context, step, what string) (refused bool, err error) {
	key := r.key(step)
	r.gates[key], r.refused = what, false
	r.changed(ctx)
	if err := r.save(ctx); err != nil {
		return false, err
	}
	err = workflow.Await(ctx, func() bool { _, waits := r.gates[key]; return !waits })
	return r.refused, err
}

// parallel does f beside what follows. The future is ready when f is done.
func (r *run) parallel(ctx workflow.Context, f func(workflow.Context) error) workflow.Future {
	future, settable := workflow.NewFuture(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) { settable.Set(nil, f(ctx)) })
	return future
}

// runChild runs a child workflow that works on datasets and keeps its last word as the stage's progress.
func (r *run) runChild(ctx workflow.Context, key string, childWorkflow, input any) (StageResult, error) {
	id := r.childID(key)
	r.stage(key).WorkflowID = id
	var out StageResult
	err := workflow.ExecuteChildWorkflow(child(ctx, id, key), childWorkflow, input).Get(ctx, &out)
	if err != nil {
		return out, err
	}
	r.ranges[key] = map[int]RangeProgress{0: out.Progress}
	if len(out.Ranges) > 0 { // it stopped: those that stand will not tell again when it goes on
		clear(r.ranges[key])
		for _, p := range out.Ranges {
			r.ranges[key][p.From] = p
		}
	}
	r.sumRanges(ctx, key)
	if t := out.Trouble; t != nil {
		return out, activities.NewTrouble(t.Class, t.Message, t.Way)
	}
	return out, nil
}
