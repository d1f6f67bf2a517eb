package runs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/workflows"
)

// liveCall bounds the looks behind one status. What does not answer in time is left out.
const liveCall = 2 * time.Second

// Watch is Status with the newest word of what is at work. Between the signals that a run gets, its stages are asked, and
// partitions tell in their heartbeats how far they are and what they wait for. Errors: as Status.
func (c *Client) Watch(ctx context.Context, run string) (Seen, error) {
	seen, err := c.Status(ctx, run)
	if err != nil || !seen.Live {
		return seen, err
	}
	ctx, cancel := context.WithTimeout(ctx, liveCall)
	defer cancel()
	var wg sync.WaitGroup
	holdups := make([]string, len(seen.Stages))
	for i := range seen.Stages {
		s := &seen.Stages[i]
		switch {
		case s.State != workflows.StageRunning:
		case s.WorkflowID != "":
			wg.Go(func() { holdups[i] = c.look(ctx, s) })
		default:
			wg.Go(func() { holdups[i] = c.lookAtRun(ctx, run) })
		}
	}
	wg.Wait()
	for i, why := range holdups {
		if why != "" {
			seen.Holdups = append(seen.Holdups, fmt.Sprintf("%s: %s", seen.Stages[i].Key, why))
		}
	}
	seen.Spent, seen.InDoubt = dataset.Usage{}, dataset.Usage{}
	for _, s := range seen.Stages {
		seen.Spent, seen.InDoubt = seen.Spent.Add(s.Usage), seen.InDoubt.Add(s.InDoubt)
	}
	return seen, nil
}

// lookAtRun says what holds up a step that the run's own workflow does.
func (c *Client) lookAtRun(ctx context.Context, run string) string {
	described, err := c.Temporal.DescribeWorkflowExecution(ctx, run, "")
	if err != nil {
		return ""
	}
	if holdup := c.unserved(ctx, described); holdup != "" {
		return holdup
	}
	return failing(described)
}

// look brings the progress of a stage up to date and says what holds it up. Where the stage cannot be asked, it stays as it
// was told.
func (c *Client) look(ctx context.Context, s *workflows.StageStatus) (holdup string) {
	at, whole, part := s.WorkflowID, workflows.StageView{}, workflows.RangeView{}
	dataset := c.ask(ctx, at, &whole)
	if dataset && whole.Range != "" {
		at = whole.Range
		dataset = c.ask(ctx, at, &part)
	}
	described, err := c.Temporal.DescribeWorkflowExecution(ctx, at, "")
	if err != nil {
		return ""
	}
	if holdup = c.unserved(ctx, described); holdup == "" {
		holdup = failing(described)
	}
	if !dataset || at == s.WorkflowID {
		return holdup // a step of another kind, or between two ranges
	}
	sum := whole.Ended
	sum.Join(part.Progress)
	paid := map[int]activities.Spending{} // what Progress holds of each partition in work
	for _, p := range part.InWork {
		paid[p.Partition] = p.Spending
	}
	for _, a := range described.GetPendingActivities() {
		var p stage.Progress
		if converter.GetDefaultDataConverter().FromPayloads(a.GetHeartbeatDetails(), &p) != nil {
			continue // no task that asks, or one that has told nothing
		}
		before, ok := paid[p.Partition]
		if !ok {
			continue // ended since
		}
		sum.Join(workflows.RangeProgress{Done: p.Rows, Rejected: p.Rejected, Reused: p.Reused, Histogram: p.Histogram})
		// Calls in flight are in doubt only if their worker dies.
		sum.Paid.Spent = sum.Paid.Spent.Minus(before.Spent).Add(p.Paid.Spent)
		if p.Waiting != "" && p.Total > 0 { // while it reads its input it is not held up
			holdup = "waits: " + p.Waiting
		}
	}
	if sum.Done < s.Done || sum.Paid.Spent.Calls < s.Usage.Calls {
		return holdup // the stage went on in between
	}
	s.Done, s.Rejected, s.Reused, s.Histogram = sum.Done, sum.Rejected, sum.Reused, sum.Histogram
	s.Usage, s.InDoubt = sum.Paid.Spent, sum.Paid.InDoubt
	return holdup
}

func (c *Client) ask(ctx context.Context, workflow string, into any) bool {
	value, err := c.Temporal.QueryWorkflow(ctx, workflow, "", workflows.QueryProgress)
	return err == nil && value.Get(into) == nil
}

// failing says what keeps activities of a workflow from going on, though they are tried again by themselves; "" if nothing.
func failing(described *workflowservice.DescribeWorkflowExecutionResponse) string {
	for _, a := range described.GetPendingActivities() {
		failure := a.GetLastFailure()
		if failure == nil || failure.GetApplicationFailureInfo().GetType() == activities.ErrTypeTraining {
			continue
		}
		return "tries again: " + failure.GetMessage()
	}
	return ""
}
