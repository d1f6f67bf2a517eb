package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/report"
)

// gate waits until a person opens the gate, if the spec names it.
func (r *run) gate(ctx workflow.Context, step, gate, what string) error {
	if !slices.Contains(r.in.Spec.Approve, gate) {
		return nil
	}
	key := r.key(step)
	r.gates[key] = what
	r.changed(ctx)
	if err := r.save(ctx); err != nil {
		return err
	}
	return workflow.Await(ctx, func() bool { _, waits := r.gates[key]; return !waits })
}

// finishScore writes the report and closes the run.
func (r *scoreRun) finishScore(ctx workflow.Context, ratings dataset.Ref) error {
	r.phase = PhaseCompleted
	s := r.status()
	known := report.Input{
		Run: r.name, Phase: s.Phase, StartedAt: s.StartedAt, At: workflow.Now(ctx), EndedAt: workflow.Now(ctx), Threshold: r.threshold(),
		Spent: s.Spent, InDoubt: s.InDoubt, SpecDigest: r.in.Digest, Warnings: s.Warnings,
		Rounds: []report.Round{{Ratings: ratings, Threshold: r.threshold(), Judge: r.scoring(ratings).Model}},
	}
	for _, st := range s.Stages {
		known.Stages = append(known.Stages, report.Stage{
			Name: st.Name, Iteration: st.Iteration, State: st.State, Unit: st.Unit, Done: st.Done, Rejected: st.Rejected,
			Reused: st.Reused, Usage: st.Usage, StartedAt: st.StartedAt, EndedAt: st.EndedAt,
		})
	}
	var runs *activities.Runs
	bulkCPU := bulk(ctx, QueueName(r.in.Queue, RoleCPU), "write report")
	in := activities.ReportInput{Known: known, Spec: r.in.Spec, Score: &r.spec}
	if err := workflow.ExecuteActivity(bulkCPU, runs.WriteReport, in).Get(ctx, &r.st.Report); err != nil {
		return err
	}
	return r.close(ctx)
}
