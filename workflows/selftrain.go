package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
)

// SelfTrain is a run: the method of the paper, one execution an iteration, continued as new with references and counters.
// Iteration 0 ingests, trains the backward model and M0, and writes the instructions A; iteration t rates all of A with
// M(t-1) (or the fixed judge), selects A_k, and trains Mt from the base model on D ∪ A_k.
func SelfTrain(ctx workflow.Context, in SelfTrainInput) (Status, error) {
	r, ctx, err := newRun(ctx, in)
	if err != nil {
		return Status{}, err
	}
	err = r.iterate(ctx)
	if errors.Is(err, errEnded) && ctx.Err() == nil {
		err = r.finish(ctx, PhaseCompleted)
	}
	switch {
	case workflow.IsContinueAsNewError(err):
		return Status{}, err
	case ctx.Err() != nil:
		return r.cancelled(ctx)
	case err != nil:
		r.retireLast(ctx)
		return r.status(), err
	}
	return r.status(), nil
}

func (r *run) iterate(ctx workflow.Context) error {
	if r.st.Iteration == 0 {
		if err := r.begin(ctx); err != nil {
			return err
		}
		return r.nextIteration(ctx)
	}
	converged, err := r.improve(ctx)
	if err != nil {
		return err
	}
	switch {
	case converged:
		return r.finish(ctx, PhaseConverged)
	case r.st.Iteration >= r.iterations():
		return r.finish(ctx, PhaseCompleted)
	}
	return r.nextIteration(ctx)
}

// begin is iteration 0: everything that is made once.
func (r *run) begin(ctx workflow.Context) error {
	if err := r.preflight(ctx); err != nil {
		return err
	}
	if err := r.ingest(ctx); err != nil {
		return err
	}
	if err := r.holdOut(ctx); err != nil {
		return err
	}
	base, err := r.selectTraining(ctx, 0, dataset.Ref{})
	if err != nil {
		return err
	}
	r.st.Base, r.st.Training = base, base
	// M0 is trained while A is written. With a fixed judge nobody asks M0, so it is not paid for.
	m0 := r.parallel(ctx, func(ctx workflow.Context) error {
		if !r.in.Spec.NeedsM0() {
			return nil
		}
		model, err := r.finetune(ctx, "m0", base, false)
		if err == nil {
			r.st.Models = append(r.st.Models, model)
		}
		return err
	})
	// What a training costs is known at its end: with a budget in dollars two at once could each spend all of it.
	if r.budget().USD > 0 && r.in.Spec.NeedsM0() && workflow.GetVersion(ctx, changeOneTraining, workflow.DefaultVersion, 1) == 1 {
		if err := m0.Get(ctx, nil); err != nil {
			return err
		}
	}
	err = r.augment(ctx, base)
	if err2 := m0.Get(ctx, nil); err == nil {
		err = err2
	}
	return err
}

// improve is iteration t ≥ 1. It reports whether the training set came out as the one before.
func (r *run) improve(ctx workflow.Context) (converged bool, err error) {
	t := r.st.Iteration
	if r.in.Spec.NeedsM0() && len(r.st.Models) == 0 { // forked from a run that had a fixed judge, and so no M0
		m0, err := r.finetune(ctx, "m0", r.st.Base, false)
		if err != nil {
			return false, err
		}
		r.st.Models = append(r.st.Models, m0)
	}
	if t > 1 && r.in.Spec.AugmentMode() == config.AugmentEach {
		if err := r.augment(ctx, r.st.Training); err != nil {
			return false, err
		}
	}
	work := r.rating()
	if err := r.tryJudge(ctx, work); err != nil {
		return false, err
	}
	labelled, err := r.judged(ctx, work)
	if err != nil {
		return false, err
	}
	ratings, err := r.ask(ctx, "rate", work, dataset.KindRatings)
	if err != nil {
		return false, err
	}
	threshold := r.threshold() // it may be set anew while this one is applied
	training, err := r.selectTraining(ctx, t, ratings)
	if err != nil {
		return false, err
	}
	calibration, err := r.measured(ctx)
	if err != nil {
		return false, err
	}
	set := IterationSummary{
		Iteration: t, Ratings: ratings, Training: training, Judge: work.Model, Threshold: threshold, Calibration: calibration, Labelled: labelled,
		Selected: training.Rows - r.st.Seeds.Rows + int64(r.st.Held), Histogram: r.stage(r.key("rate")).Histogram,
	}
	if training.Digest == r.st.Training.Digest {
		r.st.Sets = append(r.st.Sets, set)
		return true, nil
	}
	if set.Drift, err = r.drift(ctx, training); err != nil {
		return false, err
	}
	if err := r.enough(set); err != nil {
		r.st.Sets = append(r.st.Sets, set)
		return false, err
	}
	set.Model, err = r.finetune(ctx, fmt.Sprintf("m%d", t), training, false)
	if err != nil {
		return false, err
	}
	r.st.Training = training
	r.st.Models = append(r.st.Models, set.Model)
	r.st.Sets = append(r.st.Sets, set)
	if err := r.evaluated(ctx); err != nil {
		return false, err
	}
	return false, r.passGate(ctx)
}

func (r *run) preflight(ctx workflow.Context) error {
	return r.step(ctx, "preflight", "checks", func(ctx workflow.Context, _ int) (string, error) {
		var runs *activities.Runs
		ctx = short(ctx, QueueName(r.in.Queue, RoleControl), "preflight")
		return "", workflow.ExecuteActivity(ctx, runs.Preflight, r.in.Spec).Get(ctx, nil)
	})
}

// ingest makes the datasets of seeds and segments.
func (r *run) ingest(ctx workflow.Context) error {
	seeds := r.parallel(ctx, func(ctx workflow.Context) error {
		return r.ingestKind(ctx, dataset.KindSeeds, r.in.Spec.Seeds, &r.st.Seeds)
	})
	err := r.ingestKind(ctx, dataset.KindSegments, r.in.Spec.Documents, &r.st.Segments)
	if err2 := seeds.Get(ctx, nil); err == nil {
		err = err2
	}
	return err
}

func (r *run) ingestKind(ctx workflow.Context, kind dataset.Kind, sources []config.Source, to *dataset.Ref) error {
	if !to.IsZero() {
		return nil // taken over from the run that this one was forked from
	}
	in := IngestInput{
		Run: r.name, Stage: r.key("ingest " + string(kind)), Queue: r.in.Queue, Kind: kind, Sources: sources,
		Segments: r.in.Spec.Segments, NearDuplicates: r.in.Spec.NearDuplicates, Data: r.in.Spec.Data, Dir: r.dir(0, kind), Spec: r.in.Digest,
	}
	if kind == dataset.KindSegments && r.in.Spec.Decontaminate.On() {
		if in.Decontaminate = r.in.Spec.Decontaminate; in.Decontaminate.Seeds {
			in.Seeds = r.in.Spec.Seeds
		}
	}
	return r.step(ctx, "ingest "+string(kind), "rows", func(ctx workflow.Context, _ int) (string, error) {
		out, err := r.runChild(ctx, in.Stage, Ingest, in)
		if err != nil || out.Stop != "" {
			return out.Stop, err
		}
		if out.Dataset.Rows == 0 {
			return "", emptyDataset(kind, out.Dataset)
		}
		*to = out.Dataset
		return "", nil
	})
}

// augment trains the backward model on the reversed training set and has it write an instruction for every segment.
func (r *run) augment(ctx workflow.Context, training dataset.Ref) error {
	backward, err := r.finetune(ctx, "myx", training, true)
	if err != nil {
		return err
	}
	r.st.Backward = backward
	a := r.in.Spec.Augment
	work := stage.Work{
		Task: stage.TaskBacktranslate, Run: r.name, Input: r.st.Segments, Output: r.dir(r.st.Iteration, dataset.KindCandidates),
		Model: backward, Sampling: sampling(a.Sampling), Samples: 1, Attempts: a.Attempts,
		Prompt: r.in.Spec.Prompts.Backtranslate, Iteration: r.st.Iteration,
	}
	if r.in.Clean {
		work.Evaluation = r.cleanOf(work.Output).Key
	}
	candidates, err := r.ask(ctx, "augment", work, dataset.KindCandidates)
	if err != nil {
		return err
	}
	r.st.Candidates = candidates
	r.retireBackward(ctx)
	return nil
}

// rating is how every pair of A is rated: by the model of the iteration before, as the paper does, or by the fixed judge.
func (r *run) rating() stage.Work {
	a := r.in.Spec.Rate
	var judge dataset.ModelRef
	if j := a.Judge; j != nil {
		judge = dataset.ModelRef{Provider: j.Provider, Name: j.Model, Revision: j.Model}
	} else {
		judge = r.st.Models[len(r.st.Models)-1]
	}
	return stage.Work{
		Task: stage.TaskRate, Run: r.name, Input: r.st.Candidates, Output: r.dir(r.st.Iteration, dataset.KindRatings),
		Model: judge, Sampling: sampling(a.Sampling), Samples: a.Samples, Attempts: a.Attempts, Method: a.Method, Rubric: a.Rubric,
		Prompt: r.in.Spec.Prompts.Rate, Iteration: r.st.Iteration,
	}
}

// ask runs a stage of model calls. It is started again when it was paused, when it ran out of budget, and when another
// number of calls in flight was set; what stands is adopted.
func (r *run) ask(ctx workflow.Context, name string, work stage.Work, kind dataset.Kind) (dataset.Ref, error) {
	var made dataset.Ref
	wanted, delivery := work.InFlight, work.Delivery
	r.asking[r.key(name)] = true
	key, posts := r.key(name), r.in.Withdraw && r.posts(work)
	if posts {
		r.posting++
		defer func() { r.posting-- }()
	}
	err := r.step(ctx, name, "rows", func(ctx workflow.Context, _ int) (string, error) {
		window, each := windowFor(r.inFlight(work.Task, wanted))
		work.InFlight, work.Delivery = each, delivery
		if work.Within = r.within(work); work.Within > 0 {
			work.Until = r.stage(key).StartedAt.Add(work.Within)
		}
		var err error
		if work.Delivery, err = r.delivery(ctx, work); err != nil {
			return "", err
		}
		if work.Delivery == config.DeliveryBatch {
			window = batchWindow // they wait at the endpoint, not in the worker
		}
		work.Model = r.placeOf(work.Model)
		if err := r.ready(ctx, r.key(name), &work.Model); err != nil {
			return "", err
		}
		if work.Evaluation != "" {
			if err := r.pin(ctx, r.cleanOf(work.Output)); err != nil {
				return "", err
			}
		}
		model := work.Model
		in := StageInput{
			Run: r.name, Stage: r.key(name), Queue: r.in.Queue, Work: activities.Work{Ask: &work}, Bits: work.Input.Bits,
			Window: window, Purse: r.purse(r.key(name)),
			Manifest: dataset.Manifest{
				Kind: kind, Run: r.name, Spec: r.in.Digest, Iteration: r.st.Iteration,
				Parents: []dataset.Ref{work.Input}, Model: &model, Input: work.Input.Rows,
			},
		}
		if work.Task == stage.TaskRespond { // each answer is a row
			in.Manifest.Input *= int64(max(1, work.Samples))
		}
		r.expect(in.Stage, in.Manifest.Input)
		var out StageResult
		for again := true; again; {
			out, err = r.runChild(ctx, in.Stage, Stage, in)
			if again = err != nil; again {
				again, err = r.revive(ctx, in.Stage, &work.Model, err)
				model = work.Model
			}
		}
		made = out.Dataset
		return out.Stop, err
	})
	if posts && ctx.Err() != nil {
		r.withdraw(ctx, key, work)
	}
	return made, err
}

// selectTraining writes D ∪ A_k. Without ratings it is D.
func (r *run) selectTraining(ctx workflow.Context, t int, ratings dataset.Ref) (dataset.Ref, error) {
	bits := r.st.Segments.Bits
	work := activities.SelectWork{
		Seeds: r.st.Seeds, Ratings: ratings, Threshold: r.threshold(), Iteration: t,
		MaxInstructionChars: r.in.Spec.Curate.MaxInstructionChars, InstructionWords: r.in.Spec.Curate.InstructionWords,
		Output: r.dir(t, dataset.KindTraining), Bits: bits, HeldTo: r.st.HeldTo,
	}
	clean := r.cleanOf(work.Output)
	if !ratings.IsZero() {
		work.Evaluation = clean.Key
	}
	parents := []dataset.Ref{r.st.Seeds}
	if !ratings.IsZero() {
		parents = append(parents, ratings)
	}
	input := r.st.Seeds.Rows + ratings.Rows
	in := StageInput{
		Run: r.name, Stage: r.key("select"), Queue: r.in.Queue, Work: activities.Work{Select: &work}, Bits: bits, Window: tasksInWork(r.in.Spec.Data),
		Manifest: dataset.Manifest{Kind: dataset.KindTraining, Run: r.name, Spec: r.in.Digest, Iteration: t, Parents: parents, Input: input},
	}
	var made dataset.Ref
	err := r.step(ctx, "select", "rows", func(ctx workflow.Context, _ int) (string, error) {
		r.expect(in.Stage, input)
		if work.Evaluation != "" {
			if err := r.pin(ctx, clean); err != nil {
				return "", err
			}
		}
		out, err := r.runChild(ctx, in.Stage, Stage, in)
		made = out.Dataset
		return out.Stop, err
	})
	return made, err
}

// cleanOf names what the instructions of a dataset must not share an n-gram with; without a key that is nothing.
func (r *run) cleanOf(dir string) activities.EvaluationInput {
	d := r.in.Spec.Decontaminate
	if !d.On() || !d.Instructions {
		return activities.EvaluationInput{}
	}
	clean := activities.EvaluationInput{Key: dir + "/evaluation.json", Decontaminate: d}
	if d.Seeds {
		clean.Seeds = r.in.Spec.Seeds
	}
	return clean
}

// pin writes down which files the evaluation sets are.
func (r *run) pin(ctx workflow.Context, clean activities.EvaluationInput) error {
	var sources *activities.Sources
	list := bulk(ctx, QueueName(r.in.Queue, RoleCPU), "list evaluation sets")
	return workflow.ExecuteActivity(list, sources.PinEvaluation, clean).Get(ctx, nil)
}

// finetune trains one model from the base model and waits until it answers. A job that failed is submitted anew after a
// person said retry.
func (r *run) finetune(ctx workflow.Context, name string, training dataset.Ref, reversed bool) (dataset.ModelRef, error) {
	step := "train " + name
	if _, err := r.gate(ctx, step, GateFinetune, fmt.Sprintf("%s on %d examples", name, training.Rows)); err != nil {
		return dataset.ModelRef{}, err
	}
	var out FinetuneResult
	err := r.patientStep(ctx, step, "steps", func(ctx workflow.Context, attempt int) (string, error) {
		spent := r.stage(r.key(step)).Usage // by jobs that failed
		left := r.purse(r.key(step)).less(spent).MicroUSD
		if left.Capped && left.Left <= 0 {
			return activities.StopBudget, nil
		}
		in := FinetuneInput{
			Run: r.name, Stage: r.key(step), Queue: r.in.Queue, Iteration: r.st.Iteration, Name: name, Training: training,
			Reversed: reversed, Prompt: r.in.Spec.Prompts.Backtranslate, Model: r.in.Spec.Model, Attempt: attempt, Told: true, Withdraw: true,
		}
		if left.Capped {
			in.MaxMicroUSD = &left.Left
		}
		r.stage(in.Stage).WorkflowID = r.childID(in.Stage)
		ctx = child(ctx, r.childID(in.Stage), step)
		if err := workflow.ExecuteChildWorkflow(ctx, Finetune, in).Get(ctx, &out); err != nil {
			if t, known := activities.TroubleOf(err); known {
				r.stage(in.Stage).Usage = spent.Add(dataset.Usage{MicroUSD: t.SpentMicroUSD})
			}
			return "", err
		}
		r.serving(out.Serving) // at once: a run that is being cancelled looks no further
		s := r.stage(in.Stage)
		s.Done, s.Total, s.Loss = int64(out.Training.Steps), int64(out.Training.Steps), out.Training.Loss
		s.Usage = spent.Add(dataset.Usage{MicroUSD: out.Training.CostMicroUSD})
		return "", nil
	})
	if err == nil {
		r.st.Trainings = append(r.st.Trainings, out.Training)
	}
	return out.Model, err
}

func sampling(s config.Sampling) stage.Sampling {
	return stage.Sampling{Temperature: s.Temperature, TopP: s.TopP, MaxTokens: s.MaxTokens}
}

// mostInFlight is how many calls one partition has in flight at most. Fewer, larger partitions in work take less memory.
const mostInFlight = 340

// windowFor splits the calls in flight wanted into partitions in work and calls in flight in each. Two partitions at
// least overlap, so that the tail of one does not leave the endpoint idle.
func windowFor(inFlight int) (partitions, each int) {
	partitions = max(min(2, inFlight), (inFlight+mostInFlight-1)/mostInFlight)
	return partitions, max(1, (inFlight+partitions-1)/partitions)
}

// PartitionsFor returns how many partitions must be in work at once to have so many calls in flight.
func PartitionsFor(inFlight int) int {
	partitions, _ := windowFor(inFlight)
	return partitions
}
