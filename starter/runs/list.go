package runs

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/selfalign/selfalign/workflows"
)

// evaluations is the folder of a run, and of the bucket's runs, under which evaluations asked for by themselves lie: see
// workflows.EvaluationID.
const evaluations = "eval"

// List returns all runs in the bucket, the newest first, each followed by the evaluations asked for of it, in the order in which they
// began. Where Temporal does not answer, what S3 knows is returned together with the UnreachableError.
func (c *Client) List(ctx context.Context) ([]Seen, error) {
	dirs, err := c.folders(ctx, "runs")
	if err != nil {
		return nil, err
	}
	open, temporalErr := c.executions(ctx)
	groups := make([][]Seen, len(dirs))
	errs := make([]error, len(dirs))
	var silent atomic.Bool // no worker answers: the records have to do
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, run := range dirs {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			groups[i], errs[i] = c.group(ctx, run, open, temporalErr == nil, &silent)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	groups = slices.DeleteFunc(groups, func(g []Seen) bool { return len(g) == 0 })
	slices.SortFunc(groups, func(a, b []Seen) int {
		return cmp.Or(b[0].StartedAt.Compare(a[0].StartedAt), cmp.Compare(a[0].Run, b[0].Run))
	})
	return slices.Concat(groups...), temporalErr
}

// Evaluations returns those asked for of a run, in the order in which they began, as their records have them.
func (c *Client) Evaluations(ctx context.Context, run string) ([]Seen, error) {
	group, err := c.group(ctx, run, nil, false, &atomic.Bool{})
	return slices.DeleteFunc(group, func(s Seen) bool { return s.Run == run }), err
}

// group returns a run and its evaluations; of a folder that is neither, nothing.
func (c *Client) group(
	ctx context.Context, run string, open map[string]enumspb.WorkflowExecutionStatus, known bool, silent *atomic.Bool,
) ([]Seen, error) {
	names, err := c.folders(ctx, path.Join("runs", run, evaluations))
	if err != nil {
		return nil, err
	}
	ids := []string{run}
	for _, name := range names {
		ids = append(ids, path.Join(run, evaluations, name))
	}
	if run == evaluations { // of no run at all
		if names, err = c.folders(ctx, path.Join("runs", run)); err != nil {
			return nil, err
		}
		for _, name := range names {
			ids = append(ids, path.Join(run, name))
		}
	}
	var out []Seen
	for _, id := range ids {
		seen, err := c.listed(ctx, id, open, known)
		if errors.Is(err, ErrNotFound) { // a folder that is no run
			continue
		}
		if err != nil {
			return nil, err
		}
		if open[id] == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING && !silent.Load() {
			if live, err := c.query(ctx, id); err == nil {
				seen = Seen{Status: live, Live: true}
			} else {
				silent.Store(true)
			}
		}
		out = append(out, seen)
	}
	slices.SortStableFunc(out, func(a, b Seen) int {
		if (a.Run == run) != (b.Run == run) { // the run comes first
			if a.Run == run {
				return -1
			}
			return 1
		}
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Run, b.Run))
	})
	return out, nil
}

// folders lists the names of the folders in a folder.
func (c *Client) folders(ctx context.Context, dir string) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	dirs, err := c.Store.Prefixes(call, dir)
	if err != nil {
		return nil, c.storeError(err)
	}
	for i, d := range dirs {
		dirs[i] = path.Base(d)
	}
	return dirs, nil
}

func (c *Client) listed(ctx context.Context, run string, open map[string]enumspb.WorkflowExecutionStatus, known bool) (Seen, error) {
	seen, err := c.saved(ctx, run)
	if err != nil || seen.Ended() || !known {
		return seen, err
	}
	switch status, ok := open[run]; {
	case !ok:
		seen.Note = "Temporal has no such run. Try: " + seen.again()
	case status == enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, status == enumspb.WORKFLOW_EXECUTION_STATUS_FAILED, status == enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		seen.Phase, seen.Note = PhaseFailed, "the workflow was ended from outside. Try: "+seen.again()
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
		Namespace: c.Namespace, PageSize: 1000, Query: "WorkflowType IN ('" + workflows.TypeSelfTrain + "', '" + workflows.TypeScore + "', '" + workflows.TypeEvaluate + "')",
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
