package workflows

import (
	"cmp"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/config"
)

// How long things may take. A dead worker is noticed after heartbeatTimeout; a pause or cancel reaches a partition
// within the worker's heartbeat throttle of 4 s.
const (
	heartbeatTimeout  = 30 * time.Second
	partitionTimeout  = 24 * time.Hour // one attempt at one partition
	shortTimeout      = 5 * time.Minute
	partingTimeout    = 5 * time.Minute     // all attempts at a clean-up
	withdrawTimeout   = 20 * time.Minute    // all attempts at cancelling batches, for which a provider may take ten minutes
	waitForWorker     = 30 * 24 * time.Hour // a stage waits this long for a worker of its role
	trainingTimeout   = 60 * 24 * time.Hour
	firstRetry        = time.Second
	slowestRetry      = time.Minute
	partitionsInRange = 500
	signalsOfStage    = 40 // progress signals that one stage sends to its run, over all its ranges
	cpuWindow         = 4  // partitions of merging and selecting in work at once, where a run does not say
)

// tasksInWork returns how many tasks of ingest and selection are handed out at once.
func tasksInWork(d config.Data) int { return cmp.Or(d.TasksInWork, cpuWindow) }

// patient retries for as long as it takes: lost S3, full disks and dead endpoints are waited out. What needs a person is
// an application error that is not retryable.
func patient() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{
		InitialInterval:    firstRetry,
		BackoffCoefficient: 2,
		MaximumInterval:    slowestRetry,
	}
}

// onPartition suits activities that work on one partition for minutes, heartbeat, and finish what is in flight when
// asked to stop.
func onPartition(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    partitionTimeout,
		ScheduleToStartTimeout: waitForWorker,
		HeartbeatTimeout:       heartbeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy:            patient(),
		Summary:                summary,
	})
}

// short suits activities that read and write a few objects, or ask an outside service once. They heartbeat, so that a dead
// worker does not hold the run up for as long as a slow service may.
func short(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:           queue,
		StartToCloseTimeout: shortTimeout,
		HeartbeatTimeout:    heartbeatTimeout,
		RetryPolicy:         patient(),
		Summary:             summary,
	})
}

// bulk suits activities that stream a whole dataset, such as the export of a training file. They heartbeat.
func bulk(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    partitionTimeout,
		ScheduleToStartTimeout: waitForWorker,
		HeartbeatTimeout:       2 * heartbeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy:            patient(),
		Summary:                summary,
	})
}

// polled suits the one activity that looks at a fine-tuning job. The server retries it at the trainer's own pace without
// a growing history, since every answer "still at work" is an error with its own delay.
func polled(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    shortTimeout,
		ScheduleToCloseTimeout: trainingTimeout,
		HeartbeatTimeout:       heartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    firstRetry,
			BackoffCoefficient: 1.5,
			MaximumInterval:    slowestRetry,
		},
		Summary: summary,
	})
}

// parting suits the clean-up of what a run leaves outside. It is tried for a while only, since the run waits for it.
func parting(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		StartToCloseTimeout:    partingTimeout,
		ScheduleToCloseTimeout: partingTimeout,
		HeartbeatTimeout:       heartbeatTimeout,
		RetryPolicy:            patient(),
		Summary:                summary,
	})
}

// withdrawing suits the cancelling of batches. The server retries it while the endpoint is at it.
func withdrawing(ctx workflow.Context, queue, summary string) workflow.Context {
	ctx = parting(ctx, queue, summary)
	return workflow.WithScheduleToCloseTimeout(ctx, withdrawTimeout)
}

// child suits the child workflows of a run. Cancelling reaches them, and they finish their clean-up before the parent goes on.
// They are found in the UI under the run and the iteration of their parent.
func child(ctx workflow.Context, id, summary string) workflow.Context {
	var found []temporal.SearchAttributeUpdate
	have := workflow.GetTypedSearchAttributes(ctx)
	if name, ok := have.GetKeyword(AttributeRun); ok {
		found = append(found, AttributeRun.ValueSet(name))
	}
	if iteration, ok := have.GetInt64(AttributeIteration); ok {
		found = append(found, AttributeIteration.ValueSet(iteration))
	}
	return workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         summary,
		TypedSearchAttributes: temporal.NewSearchAttributes(found...),
	})
}
