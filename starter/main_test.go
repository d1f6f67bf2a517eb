package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/mock"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"starter": main})
}

// The scripts run the command line itself: help, bad input and what cannot be reached, with messages and exit codes.
func TestScripts(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": exitCode},
	})
}

// exitCode runs starter and wants an exit code: code 2 plan -f x.yaml
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	var out, errs bytes.Buffer
	want, args := args[0], args[1:]
	for i, a := range args { // paths are relative to the script's folder
		if strings.HasSuffix(a, ".yaml") && !filepath.IsAbs(a) {
			args[i] = ts.MkAbs(a)
		}
	}
	got := run(context.Background(), args, strings.NewReader(""), &out, &errs)
	ts.Logf("%s%s", out.String(), errs.String())
	if g := string(rune('0' + got)); g != want {
		ts.Fatalf("exit code %s, want %s", g, want)
	}
}

// page is a text that makes a segment.
const page = `In the second sentence the author writes about wind, and about what it does to the drops on their way.
Then there is a third, in which the light is broken by them and a bow stands over the fields for a while.
Nobody in the village had seen so many colours at once, though the old people spoke of a day like that.
It is said that a bow of this kind can be heard, if the listener is patient and does not breathe too loudly.
The children ran to where it touched the ground and found a gate, a bicycle and the neighbour's grey cat.
By then the sun had gone behind the hill, and with it all that there was to see of the matter.
`

// bench is a command line over a real bucket and a mocked Temporal.
func bench(t *testing.T, temporal *mocks.Client) func(args ...string) (int, string, string) {
	t.Helper()
	return benchOn(t, temporal, s3test.Store(t))
}

func benchOn(t *testing.T, temporal *mocks.Client, store *blob.Store) func(args ...string) (int, string, string) {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { temporal.AssertExpectations(t) })
	for name, body := range map[string]string{
		"worker.yaml": "store: {bucket: b}\nproviders: {p: {url: 'http://127.0.0.1:1/v1'}}\ntrainers: {t: {backend: openai, provider: p}}\nservers: {t: {backend: openai, provider: p}}\n",
		"run.yaml":    "name: demo\nseeds: [{path: seeds.jsonl}]\ndocuments: [{path: pages}]\nmodel: {base: b, trainer: t}\n",
		"seeds.jsonl": "{\"instruction\":\"Say hi\",\"output\":\"Hi.\"}\n", "pages/a.txt": page,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(args ...string) (int, string, string) {
		for i, a := range args {
			args[i] = strings.ReplaceAll(a, "$DIR", dir)
		}
		var out, errs bytes.Buffer
		a := &app{ctx: t.Context(), in: strings.NewReader(""), out: &out, err: &errs, connect: func(_ context.Context, w config.Worker) (*runs.Client, error) {
			return &runs.Client{Store: store, Temporal: temporal, Address: "mock:7233", Namespace: "default", Queue: w.Temporal.Queue, UI: "http://ui"}, nil
		}}
		if args[0] != "version" {
			args = append(args, "-w", filepath.Join(dir, "worker.yaml"))
		}
		return a.run(args), out.String(), errs.String()
	}
}

func value(t *testing.T, status workflows.Status) converter.EncodedValue {
	t.Helper()
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(status)
	if err != nil {
		t.Fatal(err)
	}
	return client.NewValue(payloads)
}

// A fork without a spec of its own takes the recorded one, inlined prompts and all.
func TestFork(t *testing.T) {
	t.Parallel()
	m := mocked()
	m.On("CheckHealth", mock.Anything, mock.Anything).Return(&client.CheckHealthResponse{}, nil)
	m.On("DescribeTaskQueue", mock.Anything, mock.Anything, mock.Anything).Return(&workflowservice.DescribeTaskQueueResponse{}, nil)
	m.On("OperatorService").Return(operators{})
	const template = "Rate:\n\t<x> \"{{.Output}}\" ü\n"
	m.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.MatchedBy(func(in workflows.SelfTrainInput) bool {
		return in.Spec.Name == "demo-k4" && in.Spec.Curate.Threshold == 4 && in.Spec.Prompts.Rate == template &&
			in.Spec.Model.Hyper.LearningRate == 1e-7 && in.Spec.Rate.Judge == nil && in.Resume.Iteration == 2
	})).Return(&mocks.WorkflowRun{}, nil).Once()
	store := s3test.Store(t)
	starter := benchOn(t, m, store)
	parent := config.DefaultRun()
	parent.Name, parent.Model = "demo", config.Model{Base: "b", Trainer: "t", Hyper: config.Hyper{LearningRate: 1e-7}}
	parent.Seeds, parent.Documents = []config.Source{{Path: "s3://b/s", Format: "auto"}}, []config.Source{{Path: "s3://b/d/", Format: "auto"}}
	parent.Prompts.Rate = template
	for key, v := range map[string]any{"runs/demo/run.json": workflows.SelfTrainInput{Spec: parent}, "runs/demo/state/02.json": workflows.State{Iteration: 2}} {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), key, body); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, errs := starter("fork", "demo", "--from", "2", "--name", "demo-k4", "--set", "curate.threshold=4"); code != 0 || !strings.Contains(out, "run demo-k4 is started") {
		t.Errorf("fork: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := starter("fork", "demo", "--from", "2", "--name", "x", "--set", "curate.threshold=9"); code != exitUsage || !strings.Contains(errs, "curate.threshold: must be from 1 to 5 (got 9)") {
		t.Errorf("impossible value: %d\n%s%s", code, out, errs)
	}
}

// operators is a Temporal that does not tell its search attributes.
type operators struct {
	operatorservice.OperatorServiceClient
}

func (operators) ListSearchAttributes(
	context.Context, *operatorservice.ListSearchAttributesRequest, ...grpc.CallOption,
) (*operatorservice.ListSearchAttributesResponse, error) {
	return nil, errors.New("not here")
}

func mocked() *mocks.Client {
	m := &mocks.Client{}
	m.On("Close").Return()
	return m
}

func TestStart(t *testing.T) {
	t.Parallel()
	m := mocked()
	m.On("CheckHealth", mock.Anything, mock.Anything).Return(&client.CheckHealthResponse{}, nil)
	m.On("DescribeTaskQueue", mock.Anything, "selfalign-control", enumspb.TASK_QUEUE_TYPE_WORKFLOW).Return(&workflowservice.DescribeTaskQueueResponse{}, nil)
	m.On("OperatorService").Return(operators{})
	m.On("ExecuteWorkflow", mock.Anything, mock.MatchedBy(func(o client.StartWorkflowOptions) bool {
		return o.ID == "demo" && o.TaskQueue == "selfalign-control"
	}), workflows.TypeSelfTrain, mock.MatchedBy(func(in workflows.SelfTrainInput) bool {
		return strings.HasPrefix(in.Spec.Seeds[0].Path, "s3://") && strings.HasSuffix(in.Spec.Documents[0].Path, "/") && in.Digest == config.Digest(in.Spec)
	})).Return(&mocks.WorkflowRun{}, nil).Once()
	starter := bench(t, m)
	code, out, errs := starter("start", "-f", "$DIR/run.yaml")
	if code != 0 || !strings.Contains(out, "run demo is started") || !strings.Contains(out, "http://ui/namespaces/default/workflows/demo") {
		t.Errorf("start: %d\n%s%s", code, out, errs)
	}
	if !strings.Contains(errs, "warning: no worker is polling selfalign-control") {
		t.Errorf("no warning about the missing worker:\n%s", errs)
	}
	m.On("ExecuteWorkflow", mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil, serviceerror.NewWorkflowExecutionAlreadyStarted("", "", ""))
	m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, workflows.Status{Run: "demo", Phase: workflows.PhasePaused}), nil)
	if code, out, errs = starter("start", "-f", "$DIR/run.yaml", "--json"); code != 0 || !strings.Contains(out, `"phase": "paused"`) || !strings.Contains(out, `"new": false`) {
		t.Errorf("again: %d\n%s%s", code, out, errs)
	}
	if code, out, errs = starter("start", "-f", "$DIR/run.yaml", "--set", "iterations=3"); code != exitUsage || !strings.Contains(errs, "another spec (other: iterations). Try: --name") {
		t.Errorf("another spec: %d\n%s%s", code, out, errs)
	}
}

func TestWatchEndsWithThePhase(t *testing.T) {
	t.Parallel()
	for phase, want := range map[string]int{
		workflows.PhaseCompleted: exitOK, workflows.PhaseConverged: exitOK, workflows.PhaseCancelled: exitCancelled,
		workflows.PhaseBlocked: exitWaiting, workflows.PhaseApproval: exitWaiting,
	} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			m := mocked()
			running := workflows.Status{Run: "demo", Phase: workflows.PhaseRunning, Iterations: 2}
			last := running
			last.Phase, last.Message = phase, "a message"
			m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, running), nil).Once()
			m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, last), nil)
			code, out, errs := bench(t, m)("watch", "demo", "--json")
			if code != want {
				t.Errorf("exit code %d, want %d\n%s%s", code, want, out, errs)
			}
			lines := strings.Split(strings.TrimSpace(out), "\n")
			var seen runs.Seen
			if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &seen) != nil || seen.Phase != phase || !seen.Live {
				t.Errorf("lines are %q", lines)
			}
		})
	}
}

// A worker dies right after an approval: what the record in S3 says of the gate is old, and watching goes on.
func TestWatchDoesNotTrustAnOldRecord(t *testing.T) {
	t.Parallel()
	m := mocked()
	old := workflows.Status{Run: "demo", Phase: workflows.PhaseApproval}
	m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(nil, serviceerror.NewFailedPrecondition("no poller seen")).Times(4)
	m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, workflows.Status{Run: "demo", Phase: workflows.PhaseCompleted}), nil)
	m.On("DescribeWorkflowExecution", mock.Anything, "demo", "").Return(&workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}, nil)
	raw, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	store := s3test.Store(t)
	if err := store.Put(t.Context(), "runs/demo/status.json", raw); err != nil {
		t.Fatal(err)
	}
	code, out, errs := benchOn(t, m, store)("watch", "demo")
	if code != exitOK || !strings.Contains(out, "no worker answers") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestSteering(t *testing.T) {
	t.Parallel()
	m := mocked()
	budget := config.Budget{USD: 5, Calls: 100}
	m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, workflows.Status{Run: "demo", Phase: workflows.PhaseBlocked, Budget: budget}), nil)
	m.On("UpdateWorkflow", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		o := args.Get(1).(client.UpdateWorkflowOptions) //nolint:forcetypeassert // see its signature
		if o.UpdateName != workflows.UpdateSet {
			return
		}
		set := o.Args[0].(workflows.Settings) //nolint:forcetypeassert // see api.go
		if *set.Budget != (config.Budget{USD: 50, Calls: 100}) || *set.Threshold != 4 || set.InFlight != nil {
			t.Errorf("set %+v with budget %+v", set, set.Budget)
		}
	}).Return(func(context.Context, client.UpdateWorkflowOptions) client.WorkflowUpdateHandle {
		h := &mocks.WorkflowUpdateHandle{}
		h.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
			*args.Get(1).(*workflows.Status) = workflows.Status{Run: "demo", Phase: workflows.PhaseRunning} //nolint:forcetypeassert // see its signature
		}).Return(nil)
		return h
	}, nil)
	m.On("DescribeWorkflowExecution", mock.Anything, "demo", "").Return(&workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}, nil)
	m.On("CancelWorkflow", mock.Anything, "demo", "").Return(nil)
	starter := bench(t, m)
	for _, args := range [][]string{
		{"pause", "demo"},
		{"resume", "demo"},
		{"retry", "demo"},
		{"approve", "demo"},
		{"set", "demo", "--usd", "50", "--threshold", "4"},
		{"set", "demo", "--budget", "50", "--threshold", "4"},
		{"set", "demo", "--budget", "usd=$50,calls=100", "--threshold", "4"},
		{"set", "demo", "--budget", "$50", "--budget", "calls=1e2", "--threshold", "4"},
	} {
		if code, out, errs := starter(args...); code != 0 || !strings.Contains(out, "it is running now") {
			t.Errorf("%v: %d\n%s%s", args, code, out, errs)
		}
	}
	if code, out, errs := starter("set", "demo", "--budget", "50", "--threshold", "4"); code != 0 || !strings.Contains(out, "set the budget to $50.00, the threshold to 4;") {
		t.Errorf("set: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := starter("status", "demo"); code != exitWaiting || !strings.HasPrefix(out, "demo blocked") || !strings.Contains(errs, "starter watch demo -w ") {
		t.Errorf("status: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := starter("cancel", "demo"); code != 0 || !strings.Contains(out, "was asked to end") {
		t.Errorf("cancel: %d\n%s%s", code, out, errs)
	}
	for _, args := range [][]string{
		{"set", "demo"},
		{"set", "demo", "--usd=-1"},
		{"set", "demo", "--threshold", "7"},
		{"set", "demo", "--budget", "0"},
		{"set", "demo", "--budget", "much"},
		{"set", "demo", "--budget", "eur=5"},
		{"set", "demo", "--budget", "calls=1.5"},
		{"set", "demo", "--budget", "calls=$5"},
		{"set", "demo", "--budget=-5"},
		{"set", "demo", "--budget", "5", "--usd", "6"},
		{"set", "demo", "--budget", "NaN"},
	} {
		if code, out, errs := starter(args...); code != exitUsage {
			t.Errorf("%v: %d\n%s%s", args, code, out, errs)
		}
	}
}

// Resuming a run that is not paused changes nothing, and is no mistake.
func TestResumeTwice(t *testing.T) {
	t.Parallel()
	m := mocked()
	m.On("QueryWorkflow", mock.Anything, "demo", "", workflows.QueryStatus).Return(value(t, workflows.Status{Run: "demo", Phase: workflows.PhaseRunning}), nil)
	m.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(func(context.Context, client.UpdateWorkflowOptions) client.WorkflowUpdateHandle {
		h := &mocks.WorkflowUpdateHandle{}
		h.On("Get", mock.Anything, mock.Anything).Return(temporal.NewApplicationError(workflows.NotPaused, "refused"))
		return h
	}, nil)
	starter := bench(t, m)
	if code, out, errs := starter("resume", "demo"); code != 0 || !strings.Contains(out, "there is nothing to resume; it is running now") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs := starter("resume", "demo", "--json"); code != 0 || !strings.Contains(out, `"phase": "running"`) {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

// The list as JSON is an array with a record a line, without what fills pages.
func TestListJSON(t *testing.T) {
	t.Parallel()
	m := mocked()
	m.On("ListWorkflow", mock.Anything, mock.Anything).Return(&workflowservice.ListWorkflowExecutionsResponse{}, nil)
	store := s3test.Store(t)
	for _, id := range []string{"a", "a/eval/x"} {
		body, err := json.Marshal(workflows.Status{Run: id, Phase: workflows.PhaseCompleted, Stages: make([]workflows.StageStatus, 9)})
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), "runs/"+id+"/status.json", body); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := benchOn(t, m, store)("list", "--json")
	var got []map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got) != 2 || got[1]["run"] != "a/eval/x" || got[0]["stages"] != nil {
		t.Errorf("%d, %v\n%s%s", code, err, out, errs)
	}
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 2 {
		t.Errorf("%d lines\n%s", len(lines), out)
	}
	if code, out, errs = bench(t, m)("list", "--json"); code != 0 || out != "[]\n" {
		t.Errorf("no runs: %d\n%s%s", code, out, errs)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	m := mocked()
	gone := serviceerror.NewNotFound("workflow not found")
	m.On("QueryWorkflow", mock.Anything, "nobody", "", workflows.QueryStatus).Return(nil, gone)
	m.On("DescribeWorkflowExecution", mock.Anything, "nobody", "").Return(nil, gone)
	m.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil, gone)
	m.On("ListWorkflow", mock.Anything, mock.Anything).Return(&workflowservice.ListWorkflowExecutionsResponse{}, nil)
	m.On("CheckHealth", mock.Anything, mock.Anything).Return(nil, serviceerror.NewUnavailable("connection refused"))
	starter := bench(t, m)
	for _, args := range [][]string{{"watch", "nobody"}, {"pause", "nobody"}, {"cancel", "nobody"}, {"report", "nobody"}, {"pull", "nobody"}, {"fork", "nobody", "--from", "1", "--name", "x"}} {
		if code, out, errs := starter(args...); code != exitNotFound || !strings.Contains(errs, "not found") {
			t.Errorf("%v: %d\n%s%s", args, code, out, errs)
		}
	}
	if code, out, errs := starter("list"); code != 0 || !strings.HasPrefix(out, "no runs in s3://") {
		t.Errorf("list: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := starter("start", "-f", "$DIR/run.yaml"); code != exitUnreachable || !strings.Contains(errs, "cannot reach Temporal at mock:7233") {
		t.Errorf("start: %d\n%s%s", code, out, errs)
	}
}
