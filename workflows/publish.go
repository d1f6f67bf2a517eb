package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/publish"
)

// changeRefusedPush marks runs that end well where a person refuses to publish what they made.
const changeRefusedPush = "a refused push ends well"

// publish writes the files of the leaves, and sends them where the spec says, after a person agreed where it wants that; where the
// person refuses they stay in the bucket. push has the facts for the card.
func (r *run) publish(ctx workflow.Context, to config.Push, leaves []publish.Leaf, push activities.PushInput) error {
	var publishing *activities.Publishing
	in := activities.ExportLeavesInput{Dir: fmt.Sprintf("runs/%s/export", r.name), Leaves: leaves, JSONL: to.JSONL}
	push.Dir = in.Dir
	if to.Hub != nil {
		push.To = *to.Hub
	}
	err := r.step(ctx, "export", "files", func(ctx workflow.Context, _ int) (string, error) {
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), "export")
		var made activities.ExportedLeaves
		if err := workflow.ExecuteActivity(ctx, publishing.ExportLeaves, in).Get(ctx, &made); err != nil {
			return "", err
		}
		s := r.stage(r.key("export"))
		s.Done = int64(made.Files)
		return "", workflow.ExecuteActivity(ctx, publishing.WriteCard, push).Get(ctx, nil)
	})
	if err != nil || !to.Leaves() {
		return err
	}
	refused, err := r.gate(ctx, "push", config.GatePublish, strings.Join(targets(to), " and "))
	if err != nil {
		return err
	}
	if refused {
		r.unsent = fmt.Sprintf("not published to %s: refused at the gate. To publish after all: starter push %s --repo OWNER/NAME", strings.Join(targets(to), " and "), r.name)
		return nil
	}
	if to.S3 != "" {
		err := r.send(ctx, "push s3", publishing.CopyExport, activities.CopyInput{Dir: in.Dir, To: to.S3})
		if err != nil {
			return err
		}
	}
	if to.Hub == nil {
		return nil
	}
	return r.send(ctx, "push hub", publishing.PushHub, push)
}

// targets says in words where results go.
func targets(to config.Push) []string {
	var out []string
	if to.S3 != "" {
		out = append(out, to.S3)
	}
	if h := to.Hub; h != nil {
		visibility := "private"
		if h.Public {
			visibility = "public"
		}
		out = append(out, fmt.Sprintf("the %s dataset %s", visibility, h.Repo))
	}
	return out
}

// send is a patient step: what is under way is not broken off by a pause.
func (r *run) send(ctx workflow.Context, step string, activity, input any) error {
	return r.patientStep(ctx, step, "pushes", func(ctx workflow.Context, _ int) (string, error) {
		ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), step)
		var done activities.Published
		if err := workflow.ExecuteActivity(ctx, activity, input).Get(ctx, &done); err != nil {
			return "", err
		}
		r.st.Pushed = append(r.st.Pushed, done)
		s := r.stage(r.key(step))
		s.Done, s.Total, s.Detail = 1, 1, done.Address
		return "", nil
	})
}

// publishSets publishes the training sets of a self-training run at its end, where the spec says so: each iteration's as a config,
// the newest the one that is loaded by default.
func (r *run) publishSets(ctx workflow.Context) error {
	to := r.in.Spec.Publish
	if to == nil || len(r.st.Sets) == 0 {
		return nil
	}
	var leaves []publish.Leaf
	for i, set := range r.st.Sets {
		if i > 0 && set.Training.Digest == r.st.Sets[i-1].Training.Digest {
			continue // it converged
		}
		leaves = append(leaves, publish.Leaf{Config: fmt.Sprintf("iteration-%d", set.Iteration), Dataset: set.Training})
	}
	leaves[len(leaves)-1].Default = true
	facts := TrainFacts(r.name, r.in.Spec, r.st.Sets, r.fixedJudge(), r.st.Seeds, r.st.Segments, r.st.Candidates)
	facts.Title = r.name
	facts.About += " Each config holds the training set of one iteration: the seeds and the pairs that were selected for it, as the column `origin` tells."
	if h := to.Hub; h != nil {
		facts.License, facts.Languages = h.License, h.Languages
		facts.Sources = append(facts.Sources, h.Sources...)
	}
	return r.publish(ctx, *to, leaves, activities.PushInput{Facts: facts, Run: &r.in.Spec})
}

// TrainFacts are what the card of a self-training run says beyond its manifests, of the given iterations: at least one. parents are
// what they were made from. The title is left to the caller.
func TrainFacts(run string, spec config.Run, sets []IterationSummary, distilled bool, parents ...dataset.Ref) publish.Facts {
	newest := sets[len(sets)-1]
	f := publish.Facts{
		Run: run, Distilled: distilled, Scores: newest.Ratings,
		About: "Instructions written by a backward model for human-written texts, rated and selected: " +
			"[Self-Alignment with Instruction Backtranslation](https://arxiv.org/abs/2308.06259).",
		Method: []string{
			"Documents were cut into segments, the future outputs.",
			fmt.Sprintf("A backward model, trained from %s on the reversed seeds, wrote an instruction for each segment.", spec.Model.Base),
		},
		Sources: []string{"Seeds and documents: as the spec below names them; their licences go with the texts."},
	}
	for _, ref := range parents {
		if !ref.IsZero() {
			f.Steps = append(f.Steps, publish.Step{Name: string(ref.Kind), Dataset: ref})
		}
	}
	for _, s := range sets {
		which := ""
		if len(sets) > 1 {
			which = fmt.Sprintf(" %d", s.Iteration)
		}
		f.Method = append(f.Method, fmt.Sprintf("%s rated each pair from 1 to 5; pairs with %g or more were selected%s.", s.Judge.Name, s.Threshold, ofIteration(which)))
		f.Models = append(f.Models, hub.CardModel{Role: "judge" + which, Name: s.Judge.Name, Revision: s.Judge.Revision})
		f.Steps = append(f.Steps, publish.Step{Name: "rate" + which, Dataset: s.Ratings}, publish.Step{Name: "select" + which, Dataset: s.Training})
	}
	return f
}

func ofIteration(which string) string {
	if which == "" {
		return ""
	}
	return " in iteration" + which
}
