package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/workflows"
)

// RefusedError says that the run did not take an update, in the run's own words.
type RefusedError struct{ Run, Update, Message string }

// Error returns the run's words.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("run %s refuses %s: %s", e.Run, e.Update, e.Message)
}

// Update sends one of the updates of package workflows with its payload, or nil where it has none, and returns the status
// after it. Errors: ErrNotFound, RefusedError, UnreachableError.
func (c *Client) Update(ctx context.Context, run, name string, payload any) (workflows.Status, error) {
	call, cancel := context.WithTimeout(ctx, updateCall)
	defer cancel()
	options := client.UpdateWorkflowOptions{WorkflowID: run, UpdateName: name, WaitForStage: client.WorkflowUpdateStageCompleted}
	if payload != nil {
		options.Args = []any{payload}
	}
	queue := workflows.QueueName(c.Queue, workflows.RoleControl)
	if c.Slow != nil {
		slow := time.AfterFunc(slowAfter, func() {
			c.Slow(fmt.Sprintf("no worker has answered on %s yet; waiting for up to %s", queue, updateCall))
		})
		defer slow.Stop()
	}
	var status workflows.Status
	handle, err := c.Temporal.UpdateWorkflow(call, options)
	if err == nil {
		err = handle.Get(call, &status)
	}
	if err == nil {
		return status, nil
	}
	if ctx.Err() != nil {
		return status, ctx.Err()
	}
	var refused *temporal.ApplicationError
	if errors.As(err, &refused) {
		return status, &RefusedError{Run: run, Update: name, Message: refused.Message()}
	}
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	if call.Err() != nil || errors.As(err, &late) {
		return status, &UnreachableError{
			What: "a worker", Err: fmt.Errorf("none answered on %s within %v", queue, updateCall),
			Try: "start a worker with the same settings; what was asked for is still done then, unless the run has ended",
		}
	}
	return status, c.ended(ctx, run, c.temporalError(run, err))
}

// Cancel asks a run to end. It is fine to ask twice. Calls in flight finish, what was made stays.
func (c *Client) Cancel(ctx context.Context, run string) error {
	call, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	described, err := c.Temporal.DescribeWorkflowExecution(call, run, "")
	switch {
	case err != nil:
	case described.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		err = serviceerror.NewNotFound("the workflow has ended") // a server takes requests to cancel it all the same
	default:
		err = c.Temporal.CancelWorkflow(call, run, "")
	}
	if err = c.temporalError(run, err); err == nil {
		return nil
	}
	return c.ended(ctx, run, err)
}

// ended turns an error about a run that Temporal does not know, or not as open, into one that says how the run ended.
func (c *Client) ended(ctx context.Context, run string, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	seen, statusErr := c.Status(ctx, run)
	switch {
	case statusErr != nil:
		return statusErr
	case seen.Ended():
		return &ConflictError{What: fmt.Sprintf("run %s has ended: %s", run, seen.Phase), Try: fmt.Sprintf("starter fork %s --from ITERATION, or start under another name", run)}
	default:
		return &ConflictError{What: fmt.Sprintf("run %s is recorded and not in Temporal", run), Try: seen.again() + "; it goes on where it was"}
	}
}

// Preflight finds out whether Temporal and the bucket can be used. The warnings say what would keep a run from going on.
func (c *Client) Preflight(ctx context.Context) (warnings []string, err error) {
	call, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	if _, err := c.Temporal.CheckHealth(call, &client.CheckHealthRequest{}); err != nil {
		return nil, c.reach(err)
	}
	queue := workflows.QueueName(c.Queue, workflows.RoleControl)
	described, err := c.Temporal.DescribeTaskQueue(call, queue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	switch {
	case err != nil:
		return nil, c.reach(err)
	case len(described.GetPollers()) == 0:
		warnings = append(warnings, fmt.Sprintf("no worker is polling %s; the run waits until one does. Try: worker -config %s", queue, cmp.Or(c.Settings, "worker.yaml")))
	}
	bucket, cancelBucket := context.WithTimeout(ctx, objectCall)
	defer cancelBucket()
	if err := c.Store.Check(bucket); err != nil {
		return warnings, &UnreachableError{What: "s3://" + c.Store.Bucket(), Err: err, Try: "check store in the worker's settings, and that its keys are exported"}
	}
	return warnings, nil
}

// reach is temporalError where any error means that Temporal cannot be used.
func (c *Client) reach(err error) error {
	err = c.temporalError("", err)
	if isUnreachable(err) || errors.Is(err, context.Canceled) {
		return err
	}
	return &UnreachableError{What: "Temporal at " + c.Address, Err: err, Try: "check temporal in the worker's settings, or TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE"}
}
