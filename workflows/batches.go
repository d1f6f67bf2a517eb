package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/stage"
)

// batchWindow is how many partitions of a stage are in work when their questions travel in batches, which take hours: as many
// as make one wait of all, up to half a million questions at 4,096 rows a partition. A capped budget is shared among them.
const batchWindow = 128

// wish returns how the spec wants a stage's questions to travel.
func (r *run) wish(work stage.Work) string {
	switch {
	case work.Delivery != "": // the few questions of a calibration are not worth a day
		return work.Delivery
	case work.Task == stage.TaskBacktranslate, work.Task == stage.TaskRespond:
		return r.in.Spec.Augment.Delivery
	case work.Task == stage.TaskRate:
		return r.in.Spec.Rate.Delivery
	}
	return ""
}

// within returns the deadline of a stage, from its beginning; 0: none.
func (r *run) within(work stage.Work) time.Duration {
	switch {
	case work.Within != 0 || work.Delivery != "":
		return work.Within
	case work.Task == stage.TaskBacktranslate, work.Task == stage.TaskRespond:
		return autoDeadline(r.in.Spec.Augment.Sampling)
	case work.Task == stage.TaskRate:
		return autoDeadline(r.in.Spec.Rate.Sampling)
	}
	return 0
}

// autoDeadline is for delivery auto alone: who says batch wants batches.
func autoDeadline(s config.Sampling) time.Duration {
	if s.Delivery != config.DeliveryAuto {
		return 0
	}
	return time.Duration(s.Deadline)
}

// delivery returns how a stage's questions travel: the spec's own word, or what auto means for the provider.
func (r *run) delivery(ctx workflow.Context, work stage.Work) (string, error) {
	wish := r.wish(work)
	switch wish {
	case "", config.DeliveryLive:
		return "", nil
	case config.DeliveryAuto:
		var runs *activities.Runs
		in := activities.DeliveryInput{Wish: wish, Provider: work.Model.Provider, Model: work.Model.Name, Within: work.Within}
		err := workflow.ExecuteActivity(short(ctx, QueueName(r.in.Queue, RoleControl), "live or batch"), runs.Delivery, in).Get(ctx, &wish)
		return wish, err
	}
	return wish, nil
}
