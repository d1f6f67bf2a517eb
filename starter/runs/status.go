package runs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/workflows"
)

// PhaseFailed is the phase of a run whose workflow ended without an end of its own: terminated by hand, or timed out.
const PhaseFailed = "failed"

// PhaseStarting is the phase of a run that has a record and said nothing yet.
const PhaseStarting = "starting"

// Seen is a run's status and how it came to be known.
type Seen struct {
	workflows.Status
	Live bool   `json:"live"`           // told by the workflow itself, else read from the record in S3
	Note string `json:"note,omitempty"` // why it is not live, and what to do
	// Holdups say what running stages wait for, by themselves; Watch finds them.
	Holdups []string `json:"holdups,omitempty"`
}

// Ended reports whether the run will never do anything again.
func (s Seen) Ended() bool {
	switch s.Phase {
	case workflows.PhaseCompleted, workflows.PhaseConverged, workflows.PhaseCancelled, PhaseFailed:
		return true
	default:
		return false
	}
}

// Waiting reports whether the run waits for a person.
func (s Seen) Waiting() bool {
	return s.Phase == workflows.PhaseBlocked || s.Phase == workflows.PhaseApproval
}

// Status tells how a run is: by asking its workflow, else, where Temporal or its workers do not answer or have forgotten the
// run, from the record in S3. Errors: ErrNotFound, UnreachableError.
func (c *Client) Status(ctx context.Context, run string) (Seen, error) {
	live, liveErr := c.query(ctx, run)
	if liveErr == nil {
		return Seen{Status: live, Live: true}, nil
	}
	if ctx.Err() != nil {
		return Seen{}, ctx.Err()
	}
	seen := Seen{}
	err := c.getJSON(ctx, statusKey(run), &seen.Status)
	if errors.Is(err, ErrNotFound) {
		seen.Status, err = c.recorded(ctx, run)
	}
	if err != nil {
		if errors.Is(err, ErrNotFound) && !errors.Is(liveErr, ErrNotFound) && isUnreachable(liveErr) {
			return Seen{}, liveErr
		}
		return Seen{}, err
	}
	c.explain(ctx, run, liveErr, &seen)
	return seen, nil
}

func isUnreachable(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u)
}

// query asks the workflow.
func (c *Client) query(ctx context.Context, run string) (workflows.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	var status workflows.Status
	value, err := c.Temporal.QueryWorkflow(ctx, run, "", workflows.QueryStatus)
	if err != nil {
		return status, c.temporalError(run, err)
	}
	if err := value.Get(&status); err != nil {
		return status, fmt.Errorf("read status of run %s: %w", run, err)
	}
	return status, nil
}

// recorded is the status of a run that has said nothing yet.
func (c *Client) recorded(ctx context.Context, run string) (workflows.Status, error) {
	var in struct {
		workflows.SelfTrainInput
		Score      *config.Score      `json:"score"`
		Evaluation *config.Evaluation `json:"evaluation"`
	}
	if err := c.getJSON(ctx, recordKey(run), &in); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("run %s: %w in %s. Try: starter list", run, ErrNotFound, c.Store.URI("runs"))
		}
		return workflows.Status{}, err
	}
	if in.Evaluation != nil {
		return workflows.Status{Run: run, Phase: PhaseStarting, Budget: in.Evaluation.Budget, Recipe: workflows.RecipeEvaluate}, nil
	}
	if in.Score != nil {
		return workflows.Status{Run: run, Phase: PhaseStarting, Budget: in.Score.Budget, Recipe: workflows.RecipeScore}, nil
	}
	return workflows.Status{Run: run, Phase: PhaseStarting, Iterations: in.Spec.Iterations, Budget: in.Spec.Budget}, nil
}

// explain says why a status was not told by the workflow itself.
func (c *Client) explain(ctx context.Context, run string, liveErr error, seen *Seen) {
	if seen.Ended() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	describe, err := c.Temporal.DescribeWorkflowExecution(ctx, run, "")
	err = c.temporalError(run, err)
	switch {
	case errors.Is(err, ErrNotFound):
		seen.Note = "Temporal has no such run. Try: starter start with the same spec; it goes on where it was"
	case err != nil:
		seen.Note = "from the record in S3, as Temporal does not answer: " + err.Error()
	default:
		switch describe.GetWorkflowExecutionInfo().GetStatus() {
		case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
			seen.Note = fmt.Sprintf("from the record in S3: no worker answers on %s. Try: start one", workflows.QueueName(c.Queue, workflows.RoleControl))
			if liveErr != nil && !isUnreachable(liveErr) {
				seen.Note += " (" + liveErr.Error() + ")"
			}
		case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
			seen.Phase = workflows.PhaseCancelled
		case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
			seen.Phase = workflows.PhaseCompleted
		default:
			seen.Phase = PhaseFailed
			seen.Note = "the workflow was ended from outside. Try: starter start with the same spec; it goes on where it was"
		}
	}
}

// List returns all runs in the bucket, the newest first. Where Temporal does not answer, what S3 knows is returned together
// with the UnreachableError.
func (c *Client) List(ctx context.Context) ([]Seen, error) {
	call, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	dirs, err := c.Store.Prefixes(call, "runs")
	if err != nil {
		return nil, c.storeError(err)
	}
	open, temporalErr := c.executions(ctx)
	out := make([]Seen, len(dirs))
	errs := make([]error, len(dirs))
	var silent atomic.Bool // no worker answers: the records have to do
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, dir := range dirs {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			out[i], errs[i] = c.listed(ctx, lastPart(dir), open, temporalErr == nil)
			if errs[i] == nil && open[out[i].Run] == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING && !silent.Load() {
				if live, err := c.query(ctx, out[i].Run); err == nil {
					out[i] = Seen{Status: live, Live: true}
				} else {
					silent.Store(true)
				}
			}
		})
	}
	wg.Wait()
	kept := out[:0]
	for i, s := range out {
		if errors.Is(errs[i], ErrNotFound) { // a folder that is no run
			continue
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
		kept = append(kept, s)
	}
	slices.SortFunc(kept, func(a, b Seen) int {
		return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.Run, b.Run))
	})
	return kept, temporalErr
}

func lastPart(dir string) string {
	for i := len(dir) - 2; i >= 0; i-- {
		if dir[i] == '/' {
			return trimSlash(dir[i+1:])
		}
	}
	return trimSlash(dir)
}

func trimSlash(s string) string {
	if n := len(s); n > 0 && s[n-1] == '/' {
		return s[:n-1]
	}
	return s
}

func (c *Client) listed(ctx context.Context, run string, open map[string]enumspb.WorkflowExecutionStatus, known bool) (Seen, error) {
	seen := Seen{}
	err := c.getJSON(ctx, statusKey(run), &seen.Status)
	if errors.Is(err, ErrNotFound) {
		seen.Status, err = c.recorded(ctx, run)
	}
	if err != nil || seen.Ended() || !known {
		return seen, err
	}
	switch status, ok := open[run]; {
	case !ok:
		seen.Note = "Temporal has no such run. Try: starter start with the same spec"
	case status == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, status == enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, status == enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		seen.Phase, seen.Note = PhaseFailed, "the workflow was ended from outside. Try: starter start with the same spec"
	case status == enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		seen.Phase = workflows.PhaseCancelled
	case status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		seen.Phase = workflows.PhaseCompleted // the record is older than the end
	}
	return seen, nil
}

// executions returns the newest execution status of every run that Temporal knows.
func (c *Client) executions(ctx context.Context) (map[string]enumspb.WorkflowExecutionStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	out, began := map[string]enumspb.WorkflowExecutionStatus{}, map[string]time.Time{}
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.Namespace, PageSize: 1000, Query: "WorkflowType IN ('" + workflows.TypeSelfTrain + "', '" + workflows.TypeScore + "')",
	}
	for range 100 { // 100,000 executions are enough for a list that a person reads
		page, err := c.Temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, c.temporalError("", err)
		}
		for _, e := range page.GetExecutions() {
			id, start := e.GetExecution().GetWorkflowId(), e.GetStartTime().AsTime()
			if prev, ok := began[id]; !ok || start.After(prev) {
				began[id], out[id] = start, e.GetStatus()
			}
		}
		if len(page.GetNextPageToken()) == 0 {
			break
		}
		request.NextPageToken = page.GetNextPageToken()
	}
	return out, nil
}
