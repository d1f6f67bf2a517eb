package endtoend

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/workflows"
)

// execution is one workflow execution with its history.
type execution struct {
	id, runID, kind string
	history         *historypb.History
}

// payloads is about how many bytes of payloads the history holds.
func (e execution) payloads() int { return proto.Size(e.history) }

// ending says how the execution ended, and with what word if it stopped.
func (e execution) ending() string {
	last := e.history.GetEvents()[len(e.history.GetEvents())-1]
	out := last.GetEventType().String()
	for _, p := range last.GetWorkflowExecutionCompletedEventAttributes().GetResult().GetPayloads() {
		out += stopWord.FindString(string(p.GetData()))
	}
	return out
}

// executions returns the executions of the run, in the order in which they were started: every execution of the run itself,
// and of all children.
func (l *lab) executions(id string) []execution {
	t := l.t
	t.Helper()
	described, err := l.client.Temporal.DescribeWorkflowExecution(t.Context(), id, "")
	require.NoError(t, err)
	return l.walk(id, described.GetWorkflowExecutionInfo().GetFirstRunId())
}

func (l *lab) walk(id, runID string) (out []execution) {
	t := l.t
	t.Helper()
	for runID != "" {
		e := execution{id: id, runID: runID, history: &historypb.History{}}
		events := l.client.Temporal.GetWorkflowHistory(t.Context(), id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			require.NoError(t, err)
			e.history.Events = append(e.history.Events, event)
		}
		require.NotEmpty(t, e.history.Events)
		e.kind = e.history.Events[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()
		out, runID = append(out, e), ""
		for _, event := range e.history.Events {
			if a := event.GetChildWorkflowExecutionStartedEventAttributes(); a != nil {
				out = append(out, l.walk(a.GetWorkflowExecution().GetWorkflowId(), a.GetWorkflowExecution().GetRunId())...)
			}
			if a := event.GetWorkflowExecutionContinuedAsNewEventAttributes(); a != nil {
				runID = a.GetNewExecutionRunId()
			}
		}
	}
	return out
}

// histories are kept packed when they are longer than this.
const packAbove = 100 << 10

// record writes histories for the replay test, if that was asked for.
func record(t *testing.T, scenario string, all []execution) {
	t.Helper()
	if *recording == "" {
		return
	}
	scenario = *recording + "-" + scenario
	root, err := gobuild.Root()
	require.NoError(t, err)
	dir := filepath.Join(root, "workflows", "testdata", "histories")
	old, err := filepath.Glob(filepath.Join(dir, scenario+"-*"))
	require.NoError(t, err)
	for _, path := range old {
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	host, err := os.Hostname()
	require.NoError(t, err)
	seen := map[string]bool{}
	for i, e := range all {
		if e.kind != workflows.TypeSelfTrain {
			shape := digits.ReplaceAllString(e.id, "") + e.ending()
			if seen[shape] {
				continue // one of each is enough
			}
			seen[shape] = true
		}
		body := portable(t, e.history)
		read, err := client.HistoryFromJSON(bytes.NewReader(body), client.HistoryJSONOptions{})
		require.NoError(t, err)
		plain, err := proto.Marshal(read) // payloads are not readable in JSON
		require.NoError(t, err)
		for _, word := range []string{host, root, os.TempDir(), "E2E_"} {
			require.NotContains(t, string(body)+string(plain), word, "history of %s", e.id)
		}
		path := filepath.Join(dir, fmt.Sprintf("%s-%02d-%s.json", scenario, i, fileName(e.id)))
		if len(body) > packAbove {
			path, body = path+".gz", pack(t, body)
		}
		require.NoError(t, os.WriteFile(path, body, 0o644))
	}
}

var (
	odd    = regexp.MustCompile(`[^a-z0-9]+`)
	digits = regexp.MustCompile(`[0-9]+`)

	stopWord = regexp.MustCompile(`"stop":"[a-z]+"`)
)

func fileName(id string) string { return strings.Trim(odd.ReplaceAllString(id, "-"), "-") }

func pack(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// portable is a history as compact JSON that names no machine: who worked on it, and on which queue of its own, is left out.
func portable(t *testing.T, h *historypb.History) []byte {
	t.Helper()
	text, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(h)
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(text, &tree))
	scrub(tree)
	body, err := json.Marshal(tree)
	require.NoError(t, err)
	return append(body, '\n')
}

func scrub(node any) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			scrub(child)
		}
	case map[string]any:
		for name, child := range node {
			switch name {
			case "identity", "lastWorkerIdentity", "stickyTaskQueue":
				node[name] = "somebody"
			case "workerVersion", "binaryChecksum", "meteringMetadata", "sdkMetadata":
				if name != "sdkMetadata" { // the flags in it decide how a history is replayed
					delete(node, name)
				}
			case "taskQueue":
				if queue, ok := child.(map[string]any); ok && queue["kind"] == "TASK_QUEUE_KIND_STICKY" {
					queue["name"] = "sticky"
				}
				scrub(child)
			default:
				scrub(child)
			}
		}
	}
}
