package runs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/workflows"
)

// launch records the input of a workflow under its id and starts the workflow. It is idempotent: what stands under the id is
// started if it was recorded and not started (a crash in between, or a lost Temporal), and is told of otherwise. clash says why
// what stands is not what is wanted. The summary and the digest of the spec are what the Temporal UI shows.
func launch[T any](ctx context.Context, c *Client, id, workflowType string, in T, digest string, summary func(T) string, clash func(standing T) error) (Started, error) {
	body, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return Started{}, fmt.Errorf("start %s: %w", id, err)
	}
	call, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	err = c.Store.PutIfAbsent(call, recordKey(id), body)
	fresh := err == nil
	switch {
	case errors.Is(err, blob.ErrExists):
		var standing T
		if err := c.getJSON(ctx, recordKey(id), &standing); err != nil {
			return Started{}, err
		}
		if err := clash(standing); err != nil {
			return Started{}, err
		}
		in = standing
		var status workflows.Status
		if err := c.getJSON(ctx, statusKey(id), &status); err == nil && (Seen{Status: status}).Ended() {
			return Started{Run: id, Phase: status.Phase}, nil
		}
	case err != nil:
		return Started{}, c.storeError(err)
	}
	call, cancel = context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err = c.Temporal.ExecuteWorkflow(call, client.StartWorkflowOptions{
		ID:        id,
		TaskQueue: workflows.QueueName(c.Queue, workflows.RoleControl),
		// Ended from outside (terminated, failed) may start again; completed may not.
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            summary(in),
		Memo:                                     map[string]any{"spec": digest},
	}, workflowType, in)
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case errors.As(err, &already):
		seen, err := c.Status(ctx, id)
		if err != nil && !isUnreachable(err) {
			return Started{}, err
		}
		return Started{Run: id, Phase: cmp.Or(seen.Phase, workflows.PhaseRunning)}, nil
	case err != nil:
		if err = c.temporalError(id, err); isUnreachable(err) {
			return Started{}, fmt.Errorf("%s is recorded, not started; start it again when Temporal is back: %w", id, err)
		}
		return Started{}, fmt.Errorf("start %s: %w", id, err)
	}
	return Started{Run: id, New: fresh, Begun: true, Phase: PhaseStarting}, nil
}
