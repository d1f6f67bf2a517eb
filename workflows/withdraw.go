package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/stage"
)

// withdraw takes back what a stage of a cancelled run has at the endpoint's Batch API, and keeps what was answered. What cannot
// be taken back in time is told as a warning.
func (r *run) withdraw(ctx workflow.Context, key string, work stage.Work) {
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	var stages *activities.Stages
	queue := QueueName(r.in.Queue, RoleLLM)
	in := activities.WithdrawInput{Work: work}
	err := workflow.ExecuteActivity(parting(ctx, queue, "look for batches"), stages.OpenBatches, work).Get(ctx, &in.Partitions)
	if err == nil && len(in.Partitions) > 0 {
		r.stage(key).Detail = fmt.Sprintf("cancelling batches of %d partitions at provider %s", len(in.Partitions), work.Model.Provider)
		r.changed(ctx)
		err = workflow.ExecuteActivity(withdrawing(ctx, queue, "cancel batches"), stages.WithdrawBatches, in).Get(ctx, nil)
		r.stage(key).Detail = ""
		r.recount(ctx, key, work)
	}
	if err != nil {
		workflow.GetLogger(ctx).Warn("cancel batches", "stage", key, "error", err)
		reason := err.Error()
		if t, known := activities.TroubleOf(err); known {
			reason = t.Message
		}
		r.unreturned = append(r.unreturned, fmt.Sprintf(
			"%s: batches at provider %s could not all be cancelled and may still be paid for (their metadata have selfalign_key): %s", key, work.Model.Provider, reason))
	}
}

// recount sums up anew what a stage came to.
func (r *run) recount(ctx workflow.Context, key string, work stage.Work) {
	var sets *activities.Sets
	ask := activities.Work{Ask: &work}
	control := short(ctx, QueueName(r.in.Queue, RoleControl), "look what stands")
	sums := map[int]RangeProgress{}
	for from := 0; from < work.Input.Partitions(); from += partitionsInRange {
		var found activities.RangeSurvey
		in := activities.SurveyInput{Work: ask, From: from, To: min(from+partitionsInRange, work.Input.Partitions())}
		if err := workflow.ExecuteActivity(control, sets.SurveyRange, in).Get(ctx, &found); err != nil {
			workflow.GetLogger(ctx).Warn("sum up a stage", "stage", key, "error", err)
			return
		}
		p := RangeProgress{Stage: key, From: from}
		p.addAll(found.Standing)
		for _, part := range found.Partial {
			p.Paid = p.Paid.Add(part.Spending)
		}
		sums[from] = p
	}
	r.ranges[key] = sums
	r.sumRanges(ctx, key)
}

// posts reports whether a stage's questions may travel in batches.
func (r *run) posts(work stage.Work) bool {
	switch r.wish(work) {
	case config.DeliveryBatch, config.DeliveryAuto:
		return true
	}
	return false
}
