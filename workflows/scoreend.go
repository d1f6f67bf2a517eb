package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/report"
)

// ScoreReport is what is known of a generate-and-score run for its report; ratings: zero while it has none.
func ScoreReport(s Status, spec config.Score, digest string, ratings dataset.Ref, made report.Recipe, at time.Time) activities.ReportInput {
	known := report.Input{
		Run: s.Run, Phase: s.Phase, Message: s.Message, StartedAt: s.StartedAt, At: at, Threshold: spec.Keep.MinScore,
		Spent: s.Spent, InDoubt: s.InDoubt, SpecDigest: digest, Warnings: s.Warnings, Recipe: &made,
	}
	if !ratings.IsZero() {
		judge := dataset.ModelRef{Provider: spec.Score.Provider, Name: spec.Score.Model, Revision: spec.Score.Model}
		known.Rounds = []report.Round{{Ratings: ratings, Selected: made.Kept.Rows, Threshold: spec.Keep.MinScore, Judge: judge}}
	}
	known.Stages = stagesKnown(s)
	return activities.ReportInput{Known: known, Spec: scoreAsRun(spec), Score: &spec}
}

// finishScore writes the report and closes the run.
func (r *scoreRun) finishScore(ctx workflow.Context, ratings dataset.Ref) error {
	r.phase = PhaseCompleted
	spec := r.spec
	spec.Keep.MinScore = r.threshold()
	var made report.Recipe
	for _, ref := range r.st.Results {
		made.Add(ref)
	}
	in := ScoreReport(r.status(), spec, r.in.Digest, ratings, made, workflow.Now(ctx))
	in.Score, in.Known.EndedAt = &r.spec, workflow.Now(ctx)
	var runs *activities.Runs
	bulkCPU := bulk(ctx, QueueName(r.in.Queue, RoleCPU), "write report")
	if err := workflow.ExecuteActivity(bulkCPU, runs.WriteReport, in).Get(ctx, &r.st.Report); err != nil {
		return err
	}
	return r.close(ctx)
}
