package workflows

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
)

// asking is a range of n partitions of ten rows, of a stage that asks.
func asking(n, window int, purse Purse) RangeInput {
	work := stage.Work{Task: stage.TaskRate, Output: "runs/demo/01/ratings", Input: dataset.Ref{Dir: "in", Rows: int64(10 * n)}}
	return RangeInput{
		Run: "demo", Stage: "01 rate", Queue: "selfalign", Work: activities.Work{Ask: &work}, To: n, Window: window, Signals: 20, Purse: purse,
	}
}

// alone returns an environment for a workflow without its run, and what is signalled to that.
func (w *world) alone(t *testing.T) (*testsuite.TestWorkflowEnvironment, *[]RangeProgress) {
	t.Helper()
	env, told := w.env(t), &[]RangeProgress{}
	env.OnSignalExternalWorkflow(mock.Anything, "demo", "", SignalProgress, mock.Anything).Return(
		func(_, _, _, _ string, p any) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			*told = append(*told, p.(RangeProgress)) //nolint:forcetypeassert // what ranges send
			return nil
		})
	return env, told
}

// A partition that came back for want of budget lies behind the cursor: a fresh execution must not lose it.
func TestFreshExecutionKeepsPartitionsHandedBack(t *testing.T) {
	t.Parallel()
	w := newWorld(2, 10)
	env, _ := w.alone(t)
	env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) { // in the loop that reads it
		env.SetContinueAsNewSuggested(info.ActivityType.Name == "AskPartition")
	})
	refused := false
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Partition == 0 && !refused {
			refused = true
			return activities.PartitionResult{Stop: activities.StopBudget, Spending: activities.Spending{Spent: dataset.Usage{Calls: 4}}}, nil
		}
		return w.done(work.Output, work.Partition, 10, 10, 10), nil
	}
	purse := Purse{Calls: Amount{Capped: true, Left: 100}}
	env.ExecuteWorkflow(Range, asking(4, 2, purse))
	var next *workflow.ContinueAsNewError
	if err := env.GetWorkflowError(); !errors.As(err, &next) {
		t.Fatalf("ended with %v, want a fresh execution", err)
	}
	var in RangeInput
	if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
		t.Fatal(err)
	}
	if c := in.Carried; !slices.Equal(c.Again, []int{0}) || c.Window != 1 || len(c.Partial) != 1 || c.Partial[0].Spent.Calls != 4 {
		t.Errorf("carried %+v", c)
	}
	env, _ = w.alone(t)
	env.ExecuteWorkflow(Range, in)
	var out RangeResult
	if err := env.GetWorkflowResult(&out); err != nil {
		t.Fatal(err)
	}
	if out.Summary.Input != 40 || out.Progress.Done != 40 || out.Progress.Paid.Spent.Calls != 40 {
		t.Errorf("%d rows committed, %d done for %d calls; want 40 each", out.Summary.Input, out.Progress.Done, out.Progress.Paid.Spent.Calls)
	}
}
