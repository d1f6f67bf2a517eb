package runs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	failurepb "go.temporal.io/api/failure/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/workflows"
)

// beating is an activity in work that last told p.
func beating(t *testing.T, p stage.Progress) *workflowpb.PendingActivityInfo {
	t.Helper()
	details, err := converter.GetDefaultDataConverter().ToPayloads(p)
	if err != nil {
		t.Fatal(err)
	}
	return &workflowpb.PendingActivityInfo{HeartbeatDetails: details, Attempt: 1}
}

func failed(kind, message string) *workflowpb.PendingActivityInfo {
	return &workflowpb.PendingActivityInfo{Attempt: 3, LastFailure: &failurepb.Failure{
		Message: message, FailureInfo: &failurepb.Failure_ApplicationFailureInfo{ApplicationFailureInfo: &failurepb.ApplicationFailureInfo{Type: kind}},
	}}
}

func calls(n int64) activities.Spending { return activities.Spending{Spent: dataset.Usage{Calls: n}} }

// What ended ranges, ended partitions and partitions in work did is put together, each once.
func TestWatchAddsWhatIsInWork(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	f.status["a"] = workflows.Status{
		Run: "a", Phase: workflows.PhaseRunning, Spent: dataset.Usage{Calls: 140},
		Stages: []workflows.StageStatus{
			{Key: "00 augment", State: workflows.StageDone, Usage: dataset.Usage{Calls: 100}, WorkflowID: "a/00 augment"},
			{Key: "01 rate", State: workflows.StageRunning, Total: 100, Done: 30, Usage: dataset.Usage{Calls: 40}, WorkflowID: "a/01 rate"},
		},
	}
	f.progress = map[string]any{
		"a/01 rate": workflows.StageView{Ended: workflows.RangeProgress{Done: 20, Paid: calls(20), Histogram: map[string]int64{"5": 20}}, Range: "a/01 rate/00500"},
		"a/01 rate/00500": workflows.RangeView{
			Progress: workflows.RangeProgress{Done: 15, Paid: calls(25), Histogram: map[string]int64{"4": 15}}, // 10 of them for partition 7, before
			InWork:   []activities.PartialSpending{{Partition: 7, Spending: calls(10)}, {Partition: 8}},
		},
	}
	f.pending = map[string][]*workflowpb.PendingActivityInfo{"a/01 rate/00500": {
		beating(t, stage.Progress{Partition: 7, Total: 20, Rows: 12, Rejected: 2, Paid: calls(14), Histogram: map[string]int64{"4": 10}}),
		beating(t, stage.Progress{Partition: 8, Total: 20, Rows: 3, Reused: 3, Waiting: "provider p answers nothing"}),
		beating(t, stage.Progress{Partition: 6, Total: 20, Rows: 20, Paid: calls(20)}), // ended in between
	}}
	seen, err := c.Watch(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	want := workflows.StageStatus{
		Key: "01 rate", State: workflows.StageRunning, Total: 100, Done: 50, Rejected: 2, Reused: 3, Usage: dataset.Usage{Calls: 49},
		Histogram: map[string]int64{"4": 25, "5": 20}, WorkflowID: "a/01 rate",
	}
	if d := cmp.Diff(want, seen.Stages[1]); d != "" {
		t.Error(d)
	}
	if seen.Spent.Calls != 149 {
		t.Errorf("spent %d calls, want 149", seen.Spent.Calls)
	}
	if len(seen.Holdups) != 1 || seen.Holdups[0] != "01 rate: waits: provider p answers nothing" {
		t.Errorf("held up by %q", seen.Holdups)
	}
}

func TestWatchTellsWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	c, f := setup(t)
	if _, err := c.Start(t.Context(), spec("a"), nil); err != nil {
		t.Fatal(err)
	}
	f.status["a"] = workflows.Status{Run: "a", Phase: workflows.PhaseRunning, Stages: []workflows.StageStatus{
		{Key: "00 ingest seeds", State: workflows.StageRunning, WorkflowID: "a/00 ingest seeds"},
		{Key: "00 train m0", State: workflows.StageRunning, WorkflowID: "a/00 train m0"},
		{Key: "00 select", State: workflows.StageRunning, WorkflowID: "gone"},
	}}
	f.pending = map[string][]*workflowpb.PendingActivityInfo{
		"a/00 ingest seeds": {failed("", "stream s3://b/x: connection refused")},
		"a/00 train m0":     {failed(activities.ErrTypeTraining, "still running: step 3 of 9")},
	}
	seen, err := c.Watch(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen.Holdups, "|"); got != "00 ingest seeds: tries again: stream s3://b/x: connection refused" {
		t.Errorf("held up by %q", got)
	}
}
