package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

// side is one of the two that are compared: a model, or outputs that are there already.
type side struct {
	label   string // what people call it
	model   dataset.ModelRef
	outputs []config.Source // instead of a model
	tags    string
}

// contest is one evaluation: what is asked, of whom, and who judges.
type contest struct {
	name     string // begins the names of its steps
	dir      string // folder of all that it makes
	prompts  activities.PromptsInput
	model    side
	baseline side
	judge    side
	how      config.Contest
	self     bool // the judge is one of both, or comes from the same run
}

// contest has both sides answer, the judge compare, and returns the result. Every step is a stage of the run: it pays from its
// budget, pauses with it, and is found again under its name, so that repeating it costs nothing.
func (r *run) contest(ctx workflow.Context, c contest) (eval.Result, error) {
	about := activities.About{Run: r.name, Spec: r.in.Digest, Iteration: r.st.Iteration}
	model, baseline := dataset.Ref{}, dataset.Ref{}
	var prompts, others dataset.Ref
	var evals *activities.Evals
	err := r.step(ctx, c.name+" prompts", "prompts", func(ctx workflow.Context, _ int) (string, error) {
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), c.name+" prompts")
		for _, s := range []struct {
			sources []config.Source
			to      *dataset.Ref
			dir     string
		}{{c.model.outputs, &model, "outputs"}, {c.baseline.outputs, &baseline, "baseline-outputs"}} {
			if len(s.sources) == 0 {
				continue
			}
			in := activities.OutputsInput{Sources: s.sources, Output: c.dir + "/" + s.dir, About: about}
			if err := workflow.ExecuteActivity(ctx, evals.ImportOutputs, in).Get(ctx, s.to); err != nil {
				return "", err
			}
		}
		in := c.prompts
		in.Tags, in.About = c.model.tags, about
		if len(in.Sources) == 0 && in.Seeds.IsZero() {
			in.Outputs = baseline
		}
		in.Output = c.dir + "/prompts-" + in.Tags
		if err := workflow.ExecuteActivity(ctx, evals.WritePrompts, in).Get(ctx, &prompts); err != nil {
			return "", err
		}
		others = prompts
		if in.Tags != c.baseline.tags && len(c.baseline.outputs) == 0 {
			in.Tags = c.baseline.tags
			in.Output = c.dir + "/prompts-" + in.Tags
			if err := workflow.ExecuteActivity(ctx, evals.WritePrompts, in).Get(ctx, &others); err != nil {
				return "", err
			}
		}
		r.expect(r.key(c.name+" prompts"), prompts.Rows)
		r.stage(r.key(c.name + " prompts")).Done = prompts.Rows
		return "", nil
	})
	if err != nil {
		return eval.Result{}, err
	}
	if model.IsZero() {
		if model, err = r.answers(ctx, c, "answers", c.model.model, prompts); err != nil {
			return eval.Result{}, err
		}
	}
	if baseline.IsZero() {
		if baseline, err = r.answers(ctx, c, "baseline", c.baseline.model, others); err != nil {
			return eval.Result{}, err
		}
	}
	var pairs dataset.Ref
	err = r.step(ctx, c.name+" pairs", "prompts", func(ctx workflow.Context, _ int) (string, error) {
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), c.name+" pairs")
		in := activities.PairInput{Prompts: prompts, Model: model, Baseline: baseline, Output: c.dir + "/comparisons", About: about}
		err := workflow.ExecuteActivity(ctx, evals.PairOutputs, in).Get(ctx, &pairs)
		s := r.stage(r.key(c.name + " pairs"))
		s.Done, s.Rejected = pairs.Rows+pairs.Rejected, pairs.Rejected
		return "", err
	})
	if err != nil {
		return eval.Result{}, err
	}
	work := r.asks(stage.TaskCompare, c.how.Compare, c.judge.model, pairs, c.dir+"/judgements")
	work.Samples = 2 // both orders
	judgements, err := r.ask(ctx, c.name+" judge", work, dataset.KindJudgements)
	if err != nil {
		return eval.Result{}, err
	}
	known := eval.Result{
		Name: c.name, Iteration: r.st.Iteration, Model: c.model.label, Baseline: c.baseline.label, Judge: c.judge.label,
		ModelRevision: c.model.model.Revision, BaselineRevision: c.baseline.model.Revision, JudgeRevision: c.judge.model.Revision,
		SelfJudged: c.self, Tags: c.model.tags, Outcomes: c.dir + "/outcomes", Key: c.dir + "/result.json",
	}
	if c.baseline.tags != c.model.tags && len(c.baseline.outputs) == 0 {
		known.Tags += "/" + c.baseline.tags
	}
	var out eval.Result
	err = r.step(ctx, c.name+" result", "prompts", func(ctx workflow.Context, _ int) (string, error) {
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), c.name+" result")
		in := activities.ContestInput{Comparisons: pairs, Judgements: judgements, Known: known, About: about}
		err := workflow.ExecuteActivity(ctx, evals.MeasureContest, in).Get(ctx, &out)
		s := r.stage(r.key(c.name + " result"))
		s.Done, s.Detail = out.Prompts, ResultLine(out)
		return "", err
	})
	return out, err
}

// answers has a model answer prompts.
func (r *run) answers(ctx workflow.Context, c contest, name string, model dataset.ModelRef, prompts dataset.Ref) (dataset.Ref, error) {
	work := r.asks(stage.TaskRespond, c.how.Answers, model, prompts, c.dir+"/"+name)
	return r.ask(ctx, c.name+" "+name, work, dataset.KindResponses)
}

// asks is a stage of an evaluation.
func (r *run) asks(task string, s config.Sampling, model dataset.ModelRef, input dataset.Ref, output string) stage.Work {
	return stage.Work{
		Task: task, Run: r.name, Input: input, Output: output, Model: model, Sampling: sampling(s), Samples: 1, Attempts: s.Attempts,
		InFlight: s.InFlight, Delivery: s.Delivery, Within: autoDeadline(s), Iteration: r.st.Iteration,
	}
}

// ResultLine tells an evaluation in a line.
func ResultLine(e eval.Result) string {
	if e.N == 0 {
		return fmt.Sprintf("%s against %s: nothing could be compared", e.Model, e.Baseline)
	}
	text := fmt.Sprintf("%s wins %.1f %% against %s (95 %% interval %.1f to %.1f; %d won, %d drawn, %d lost; judge %s)",
		e.Model, 100*e.Rate, e.Baseline, 100*e.Low, 100*e.High, e.Wins, e.Draws, e.Losses, cmp.Or(e.Judge, e.JudgeRevision))
	if l := e.LengthControlled; l != nil {
		text += fmt.Sprintf("; %.1f %% at equal length", 100*l.Rate)
	}
	if e.SelfJudged {
		text += "; self-judged"
	}
	return text
}

// Lines tell what was measured of an iteration, a line each: the gate, the evaluation, the labelled set, the drift.
func (s IterationSummary) Lines() (out []string) {
	if g := s.Gate; g != nil {
		out = append(out, "gate: "+g.Reason)
	}
	if s.Evaluation != nil {
		out = append(out, "evaluation: "+ResultLine(*s.Evaluation))
	}
	if l := s.Labelled; l != nil {
		out = append(out, fmt.Sprintf("labelled set: precision %.2f (%.2f to %.2f), recall %.2f (%.2f to %.2f), F1 %.2f at ≥ %g; %d of %d pairs rated",
			l.Precision.Value, l.Precision.Low, l.Precision.High, l.Recall.Value, l.Recall.Low, l.Recall.High, l.F1.Value, l.Threshold, l.Rated, l.N))
	}
	if d := s.Drift; d != nil {
		out = append(out, fmt.Sprintf("curated set against iteration %d: %d rows stayed, %d came in, %d went out (Jaccard %.3f)", d.From, d.Kept, d.In, d.Out, d.Jaccard))
	}
	return out
}

// ResultLines tell what an Evaluate workflow came to.
func (s Status) ResultLines() (out []string) {
	if s.Evaluation != nil {
		out = append(out, ResultLine(*s.Evaluation))
	}
	if f := s.Scaling; f != nil {
		for _, e := range f.Results {
			out = append(out, ResultLine(e))
		}
		line := fmt.Sprintf("win rate = %.2f ln N %+.1f percentage points: %.2f for each doubling", f.Alpha, f.C, f.PerDoubling)
		if f.Known {
			line += fmt.Sprintf(" (95 %% interval of α %.2f to %.2f, R² %.2f)", f.Low, f.High, f.R2)
		}
		out = append(out, line)
	}
	return out
}
