package runs_test

import (
	"strings"
	"testing"
	"time"

	activitypb "go.temporal.io/api/activity/v1"
	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/selfalign/selfalign/workflows"
)

// A step that no worker can take is told, with the worker that is wanted.
func TestWatchTellsMissingWorkers(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		queue string
		since time.Duration
		want  string // "" nothing
	}{
		"nobody":             {"-train-gpu7", time.Minute, "-train-gpu7. Try: worker -queues train on the machine gpu7"},
		"nobody for a role":  {"-llm", time.Minute, "-llm. Try: worker -queues llm"},
		"it began just now":  {"-train-gpu7", time.Second, ""},
		"somebody is at it":  {"-cpu", time.Minute, ""},
		"no queue was named": {"", time.Minute, ""},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			client, f := setup(t)
			if _, err := client.Start(t.Context(), spec("a"), nil); err != nil {
				t.Fatal(err)
			}
			f.status["a"] = workflows.Status{Run: "a", Phase: workflows.PhaseRunning, Stages: []workflows.StageStatus{
				{Key: "01 train m1", State: workflows.StageRunning, WorkflowID: "a/01 train m1"},
			}}
			queue := c.queue
			if queue != "" {
				queue = client.Queue + queue
			}
			f.polled = map[string]bool{client.Queue + "-cpu": true}
			f.pending = map[string][]*workflowpb.PendingActivityInfo{"a/01 train m1": {{
				State: enumspb.PENDING_ACTIVITY_STATE_SCHEDULED, ScheduledTime: timestamppb.New(time.Now().Add(-c.since)),
				ActivityOptions: &activitypb.ActivityOptions{TaskQueue: &taskqueuepb.TaskQueue{Name: queue}},
			}}}
			seen, err := client.Watch(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			told := strings.Join(seen.Holdups, ";")
			if (told == "") != (c.want == "") || !strings.Contains(told, c.want) || c.want != "" && !strings.HasPrefix(told, "01 train m1: waiting for a worker on queue ") {
				t.Errorf("%q, want %q", told, c.want)
			}
		})
	}
}
