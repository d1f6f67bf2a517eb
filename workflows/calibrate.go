package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/stage"
)

// changeCalibrate is the version marker of trying judges out. Runs begun before go on without it.
const changeCalibrate = "calibrate"

const (
	// changeOneTraining marks runs with a budget in dollars that train M0 before Myx, and not beside it.
	changeOneTraining = "one training at a time"
	// changeReady marks stages that deploy a model that was taken down before they ask it.
	changeReady = "deploy before asking"
)

// trial is a judge that was tried out.
type trial struct {
	iteration int
	in        activities.MeasureInput
	result    *eval.Calibration // nil until it was measured
}

// tryJudge has the iteration's judge rate seed pairs and shuffled ones, in the way in which it is about to rate all of A.
// It pays from the run's budget like any stage. Without calibration, or seeds enough for it, there is no trial.
func (r *run) tryJudge(ctx workflow.Context, rating stage.Work) error {
	pairs := r.in.Spec.Rate.Calibration.Pairs
	if pairs <= 0 || workflow.GetVersion(ctx, changeCalibrate, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	var sets *activities.Sets
	in := activities.CalibrationInput{
		Seeds: r.st.Seeds, Pairs: pairs, Output: r.dir(r.st.Iteration, "calibration"), Run: r.name, Spec: r.in.Digest,
		Iteration: r.st.Iteration,
	}
	var made dataset.Ref
	control := short(ctx, QueueName(r.in.Queue, RoleControl), "pair seeds for calibration")
	if err := workflow.ExecuteActivity(control, sets.PairCalibration, in).Get(ctx, &made); err != nil || made.IsZero() {
		return err
	}
	work := rating
	work.Delivery = stage.DeliveryLive // few calls, that all the others wait for
	work.Task, work.Input, work.Output = stage.TaskCalibrate, made, r.dir(r.st.Iteration, "calibration-ratings")
	ratings, err := r.ask(ctx, "calibrate", work, dataset.KindRatings)
	if err != nil {
		return err
	}
	r.trial = &trial{iteration: r.st.Iteration, in: activities.MeasureInput{Pairs: made, Ratings: ratings, OnTraining: !r.fixedJudge() && r.st.Held < pairs}}
	_, err = r.measured(ctx)
	return err
}

// measured returns how the judge did at the threshold that is in force now; nil when it was not tried out.
func (r *run) measured(ctx workflow.Context) (*eval.Calibration, error) {
	t := r.trial
	if t == nil {
		return nil, nil //nolint:nilnil // no trial is no error
	}
	if t.in.Threshold != r.threshold() {
		var sets *activities.Sets
		t.in.Threshold = r.threshold()
		control := short(ctx, QueueName(r.in.Queue, RoleControl), "measure the judge")
		result := &eval.Calibration{}
		if err := workflow.ExecuteActivity(control, sets.MeasureCalibration, t.in).Get(ctx, result); err != nil {
			return nil, err
		}
		t.result = result
		r.changed(ctx)
	}
	return t.result, nil
}
