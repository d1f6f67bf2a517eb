package temporaltest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const queue = "temporaltest"

var (
	runAttribute       = temporal.NewSearchAttributeKeyKeyword("SelfalignRun")
	stageAttribute     = temporal.NewSearchAttributeKeyKeyword("SelfalignStage")
	iterationAttribute = temporal.NewSearchAttributeKeyInt64("SelfalignIteration")
	modelAttribute     = temporal.NewSearchAttributeKeyKeyword("SelfalignModel")
)

// countTo uses what our workflows rely on: current details, typed search attributes, an update, activities.
func countTo(ctx workflow.Context, n int) (int, error) {
	going := false
	err := workflow.SetUpdateHandlerWithOptions(ctx, "go", func(workflow.Context) error { going = true; return nil },
		workflow.UpdateHandlerOptions{Validator: func(workflow.Context) error {
			if going {
				return errors.New("going already")
			}
			return nil
		}})
	if err != nil {
		return 0, err
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, runAttribute.ValueSet("r1"), stageAttribute.ValueSet("count"),
		iterationAttribute.ValueSet(7), modelAttribute.ValueSet("m")); err != nil {
		return 0, err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		Priority:            temporal.Priority{FairnessKey: "r1"},
	})
	total := 0
	for i := range n {
		if err := workflow.ExecuteActivity(ctx, plusOne, total).Get(ctx, &total); err != nil {
			return 0, err
		}
		workflow.SetCurrentDetails(ctx, "| done |\n|---|\n| "+strings.Repeat("x", i)+" |")
		if i == n/2 {
			if err := workflow.Await(ctx, func() bool { return going }); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func plusOne(_ context.Context, n int) (int, error) { return n + 1, nil }

func work(t *testing.T, s *Server) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Address, Logger: discard{}})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(countTo)
	w.RegisterActivity(plusOne)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	return c
}

func TestServerKeepsWorkflowsOverKill(t *testing.T) {
	t.Parallel()
	s := Start(t)
	c := work(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()

	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "w", TaskQueue: queue}, countTo, 20)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		d, err := c.DescribeWorkflowExecution(ctx, "w", "")
		return err == nil && d.WorkflowExecutionInfo.HistoryLength > 30
	}, 30*time.Second, 20*time.Millisecond)

	s.Kill(t)
	s.Restart(t)

	var handle client.WorkflowUpdateHandle
	require.Eventually(t, func() bool {
		handle, err = c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: "w", UpdateName: "go", UpdateID: "one", WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		return err == nil
	}, 30*time.Second, 100*time.Millisecond)
	require.NoError(t, handle.Get(ctx, nil))
	var total int
	require.NoError(t, run.Get(ctx, &total))
	require.Equal(t, 20, total)

	require.Eventually(t, func() bool {
		found, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: `SelfalignRun = "r1" AND SelfalignIteration = 7 AND SelfalignStage = "count" AND SelfalignModel = "m"`,
		})
		return err == nil && len(found.Executions) == 1 &&
			found.Executions[0].Status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}, 20*time.Second, 100*time.Millisecond)
	namespace, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
	require.NoError(t, err)
	require.Equal(t, 90*24*time.Hour, namespace.Config.WorkflowExecutionRetentionTtl.AsDuration())
}

type discard struct{}

func (discard) Debug(string, ...any) {}
func (discard) Info(string, ...any)  {}
func (discard) Warn(string, ...any)  {}
func (discard) Error(string, ...any) {}
