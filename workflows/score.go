package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/publish"
	"github.com/selfalign/selfalign/internal/stage"
)

// TypeScore is the type name of the generate-and-score recipe.
const TypeScore = "Score"

// RecipeScore is what Status.Recipe says of it.
const RecipeScore = "score"

// ScoreInput starts a run of the generate-and-score recipe. Its workflow id is the run's name.
type ScoreInput struct {
	Spec     config.Score `json:"score"` // complete: defaults filled in, sources in S3 or on the Hub, prompts inlined
	Digest   string       `json:"digest"`
	Queue    string       `json:"queue"`
	Search   bool         `json:"search"`
	Withdraw bool         `json:"withdraw,omitempty"` // as in SelfTrainInput
	// Some has the run wait for a person where a step kept no row; false in runs begun before there was that.
	Some bool `json:"some,omitempty"`
}

// scoreRun is the recipe in work: the machinery of a run, over a spec of its own.
type scoreRun struct {
	*run
	spec config.Score
	some bool // of ScoreInput
}

// Score is the generate-and-score recipe: load prompts, generate answers, score them, keep some, push them. Steps are those of
// SelfTrain: they pause, wait for a budget or a person, and go on where they were.
func Score(ctx workflow.Context, in ScoreInput) (Status, error) {
	base, ctx, err := newRun(ctx, SelfTrainInput{Spec: scoreAsRun(in.Spec), Digest: in.Digest, Queue: in.Queue, Search: in.Search, Withdraw: in.Withdraw})
	if err != nil {
		return Status{}, err
	}
	base.recipe = RecipeScore
	r := &scoreRun{run: base, spec: in.Spec, some: in.Some}
	err = r.steps(ctx)
	switch {
	case ctx.Err() != nil:
		return r.cancelled(ctx)
	case err != nil:
		return r.status(), err
	}
	return r.status(), nil
}

// scoreAsRun puts what the machinery of a run asks for where it looks: budget, gates, calls in flight.
func scoreAsRun(s config.Score) config.Run {
	run := config.Run{
		Name: s.Name, Budget: s.Budget, Approve: s.Approve, Data: s.Data,
		Rate:   config.Rate{Judge: &config.Judge{Provider: s.Score.Provider, Model: s.Score.Model}, Samples: s.Score.Samples, Sampling: s.Score.Sampling},
		Curate: config.Curate{Threshold: s.Keep.MinScore},
	}
	run.Rate.InFlight = s.Score.Calls()
	if s.Generate != nil {
		run.Augment.Sampling = s.Generate.Sampling
		run.Augment.InFlight = s.Generate.Calls()
	}
	return run
}

func (r *scoreRun) steps(ctx workflow.Context) error {
	err := r.step(ctx, "preflight", "checks", func(ctx workflow.Context, _ int) (string, error) {
		var runs *activities.Runs
		ctx = short(ctx, QueueName(r.in.Queue, RoleControl), "preflight")
		return "", workflow.ExecuteActivity(ctx, runs.PreflightScore, r.spec).Get(ctx, nil)
	})
	if err != nil {
		return err
	}
	var prompts dataset.Ref
	kind := dataset.KindPrompts
	if r.spec.Generate == nil {
		kind = dataset.KindResponses
	}
	if err := r.loadPrompts(ctx, kind, &prompts); err != nil {
		return err
	}
	responses := prompts
	if r.spec.Generate != nil {
		if responses, err = r.ask(ctx, "generate", r.generating(prompts), dataset.KindResponses); err != nil {
			return err
		}
		if err := r.needsRows(ctx, "generate", responses, "all %d answers were rejected",
			"see why in the rejected rows of starter pull "+r.name+" --set responses; where answers were cut (answer_cut), "+
				"a higher generate.max_tokens or generate.keep_truncated: true helps; then start a new run"); err != nil {
			return err
		}
	}
	ratings, err := r.ask(ctx, "score", r.scoring(responses), dataset.KindRatings)
	if err != nil {
		return err
	}
	if err := r.needsRows(ctx, "score", ratings, "none of %d answers got a score",
		"see why in the rejected rows of starter pull "+r.name+" --set ratings, then start a new run with another score.model or score.method; "+
			"answers are not paid for again"); err != nil {
		return err
	}
	leaves, err := r.keep(ctx, responses, ratings)
	if err != nil {
		return err
	}
	if r.spec.Push.Leaves() {
		if err := r.needsRows(ctx, "keep", leaves[0].Dataset, "none of %d scored answers was kept, so there is nothing to push",
			"start a new run with a lower keep.min_score; nothing is paid for again"); err != nil {
			return err
		}
	}
	r.st.Results = append([]dataset.Ref{prompts, responses, ratings}, refsOf(leaves)...)
	if err := r.publish(ctx, r.spec.Push, leaves, activities.PushInput{Facts: ScoreFacts(r.spec, r.st.Results), Spec: &r.spec}); err != nil {
		return err
	}
	return r.finishScore(ctx, ratings)
}

// needsRows waits for a person where a step kept no row: what comes after would be spent, or published, for nothing.
func (r *scoreRun) needsRows(ctx workflow.Context, step string, made dataset.Ref, what, way string) error {
	if !r.some || made.Rows > 0 {
		return nil
	}
	return r.step(ctx, step, "rows", func(workflow.Context, int) (string, error) {
		return "", activities.NewTrouble("rows", fmt.Sprintf(what, made.Rejected), way)
	})
}

func refsOf(leaves []publish.Leaf) []dataset.Ref {
	var out []dataset.Ref
	for _, l := range leaves {
		if !slices.Contains(out, l.Dataset) {
			out = append(out, l.Dataset)
		}
	}
	return out
}

func (r *scoreRun) loadPrompts(ctx workflow.Context, kind dataset.Kind, to *dataset.Ref) error {
	l := r.spec.Load
	read := &corpus.PromptOptions{Instruction: l.Instruction, System: l.System, Limit: l.NumExamples}
	if kind == dataset.KindResponses {
		read.Output, read.Model, read.Pairs = l.Generation, l.GenerationModel, true
	} else {
		read.Default = r.spec.Generate.System
	}
	in := IngestInput{
		Run: r.name, Stage: r.key("load"), Queue: r.in.Queue, Kind: kind, Data: r.spec.Data, Dir: r.dir(0, kind), Spec: r.in.Digest,
		Sources: []config.Source{{Path: l.Path, Format: l.Format, Language: "any", Config: l.Config, Split: l.Split, Revision: l.Revision}}, Prompts: read,
	}
	return r.step(ctx, "load", "rows", func(ctx workflow.Context, _ int) (string, error) {
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

func (r *scoreRun) generating(prompts dataset.Ref) stage.Work {
	g := r.spec.Generate
	return stage.Work{
		Task: stage.TaskRespond, Run: r.name, Input: prompts, Output: r.dir(0, dataset.KindResponses),
		Model:    dataset.ModelRef{Provider: g.Provider, Name: g.Model, Revision: g.Model},
		Sampling: sampling(g.Sampling), Samples: g.NumGenerations, Attempts: g.Attempts, Prompt: r.spec.Prompts.Respond, KeepCut: g.KeepTruncated,
	}
}

func (r *scoreRun) scoring(responses dataset.Ref) stage.Work {
	s := r.spec.Score
	return stage.Work{
		Task: stage.TaskRate, Run: r.name, Input: responses, Output: r.dir(0, dataset.KindRatings),
		Model:    dataset.ModelRef{Provider: s.Provider, Name: s.Model, Revision: s.Model},
		Sampling: sampling(s.Sampling), Samples: s.Samples, Attempts: s.Attempts, Method: s.Method, Rubric: s.Rubric, Prompt: r.spec.Prompts.Score,
	}
}

// keep makes the datasets of all leaves.
func (r *scoreRun) keep(ctx workflow.Context, responses, ratings dataset.Ref) ([]publish.Leaf, error) {
	k := r.spec.Keep
	base := activities.KeepWork{
		Responses: responses, Ratings: ratings, Scorer: r.spec.Score.Model, Bits: responses.Bits,
	}
	if g := r.spec.Generate; g != nil {
		base.Author = g.Model
	}
	var leaves []publish.Leaf
	add := func(step, folder, configName string, kind dataset.Kind, columns []string, change func(*activities.KeepWork)) error {
		w := base
		w.Kind, w.Output = kind, fmt.Sprintf("runs/%s/00/%s", r.name, folder)
		change(&w)
		ref, err := r.keepOne(ctx, step, w)
		leaves = append(leaves, publish.Leaf{Config: configName, Default: len(leaves) == 0, Dataset: ref, Columns: columns, Test: k.Test})
		return err
	}
	err := add("keep", string(dataset.KindCurated), "default", dataset.KindCurated, k.Columns, func(w *activities.KeepWork) {
		w.Best, w.MinScore = activities.KeepBest(k), r.threshold()
	})
	if err == nil && k.Preferences {
		err = add("preferences", string(dataset.KindPreferences), "preferences", dataset.KindPreferences, nil, func(w *activities.KeepWork) { w.MinGap = k.MinGap })
	}
	if err == nil && k.Scored {
		err = add("scored", "scored", "scored", dataset.KindCurated, nil, func(*activities.KeepWork) {})
	}
	return leaves, err
}

func (r *scoreRun) keepOne(ctx workflow.Context, step string, work activities.KeepWork) (dataset.Ref, error) {
	in := StageInput{
		Run: r.name, Stage: r.key(step), Queue: r.in.Queue, Work: activities.Work{Keep: &work}, Bits: work.Bits, Window: tasksInWork(r.in.Spec.Data),
		Manifest: dataset.Manifest{Kind: work.Kind, Run: r.name, Spec: r.in.Digest, Parents: []dataset.Ref{work.Responses, work.Ratings}},
	}
	if work.Kind == dataset.KindCurated {
		in.Manifest.Input = work.Ratings.Rows
	}
	var made dataset.Ref
	err := r.step(ctx, step, "rows", func(ctx workflow.Context, _ int) (string, error) {
		r.expect(in.Stage, in.Manifest.Input)
		out, err := r.runChild(ctx, in.Stage, Stage, in)
		made = out.Dataset
		return out.Stop, err
	})
	return made, err
}
