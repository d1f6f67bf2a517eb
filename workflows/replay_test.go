package workflows

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"
)

// Histories of real runs of landed code, recorded by
//
//	go test ./endtoend -run 'TestUndisturbed|TestSteered' -record NAME
//
// A change of a workflow that fails here would break open runs: it belongs behind workflow.GetVersion. Old histories stay as
// long as runs begun with that code may be open; new ones are recorded beside them.
const histories = "testdata/histories"

// machine finds what tells of the machine that a history was recorded on.
var machine = regexp.MustCompile(`/(?:home|root|tmp|var|Users)/|[0-9]+@[a-z0-9]`)

func TestReplay(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob(filepath.Join(histories, "*.json*"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, path := range found {
		h := readHistory(t, path)
		started := h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
		kinds[started.GetWorkflowType().GetName()]++
		if plain, err := proto.Marshal(h); err != nil || machine.Match(plain) {
			t.Errorf("%s names the machine that it was recorded on: %q, %v", path, machine.Find(plain), err)
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			replayer := newReplayer(t)
			err := replayer.ReplayWorkflowHistoryWithOptions(nil, h, worker.ReplayWorkflowHistoryOptions{
				OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, kind := range []string{TypeSelfTrain, TypeIngest, TypeStage, TypeRange, TypeFinetune, TypeEvaluate} {
		if kinds[kind] == 0 {
			t.Errorf("no history of %s in %s", kind, histories)
		}
	}
	if kinds[TypeSelfTrain] < 4 {
		t.Errorf("%d histories of %s, want those of an undisturbed run and of a steered one", kinds[TypeSelfTrain], TypeSelfTrain)
	}
}

func newReplayer(t *testing.T) worker.WorkflowReplayer {
	t.Helper()
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{DisableDeadlockDetection: true})
	if err != nil {
		t.Fatal(err)
	}
	Register(replayer)
	return replayer
}

// TestReplayNotices makes sure that the replays above can fail.
func TestReplayNotices(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob(filepath.Join(histories, "*-undisturbed-*-select.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no history to change: %v", err)
	}
	h := readHistory(t, found[0])
	for _, event := range h.GetEvents() {
		if scheduled := event.GetActivityTaskScheduledEventAttributes(); scheduled != nil {
			scheduled.ActivityType.Name = "Another"
			break
		}
	}
	replayer := newReplayer(t)
	if err := replayer.ReplayWorkflowHistory(nil, h); err == nil {
		t.Error("another activity than the code's passed for the code's")
	}
}

func readHistory(t *testing.T, path string) *historypb.History {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := io.Reader(f)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	h, err := client.HistoryFromJSON(r, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if len(h.GetEvents()) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return h
}
