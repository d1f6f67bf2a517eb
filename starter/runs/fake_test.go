package runs_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/mock"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"google.golang.org/grpc"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// temporal is the part of Temporal that runs need: executions by id, each with a status that a worker would tell.
type temporal struct {
	*mocks.Client
	mu         sync.Mutex
	polled     map[string]bool // queues that a worker serves; nil: all, by pollers workers
	executions map[string]enumspb.WorkflowExecutionStatus
	inputs     map[string]workflows.SelfTrainInput
	starts     int
	status     map[string]workflows.Status // told to queries; absent: no worker answers
	update     func(name string, args []any) (workflows.Status, error)
	cancelled  []string
	down       error
	pollers    int
	attributes map[string]enumspb.IndexedValueType
	progress   map[string]any // told by child workflows
	pending    map[string][]*workflowpb.PendingActivityInfo
}

func newTemporal() *temporal {
	return &temporal{
		Client: &mocks.Client{}, executions: map[string]enumspb.WorkflowExecutionStatus{}, pollers: 1,
		inputs: map[string]workflows.SelfTrainInput{}, status: map[string]workflows.Status{},
	}
}

func (f *temporal) Close() {}

func (f *temporal) CheckHealth(context.Context, *client.CheckHealthRequest) (*client.CheckHealthResponse, error) {
	return &client.CheckHealthResponse{}, f.down
}

func (f *temporal) DescribeTaskQueue(_ context.Context, queue string, _ enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	if f.polled != nil && !f.polled[queue] {
		return &workflowservice.DescribeTaskQueueResponse{}, f.down
	}
	return &workflowservice.DescribeTaskQueueResponse{Pollers: make([]*taskqueuepb.PollerInfo, f.pollers)}, f.down
}

func (f *temporal) OperatorService() operatorservice.OperatorServiceClient { return operators{f: f} }

// operators knows the search attributes of the namespace.
type operators struct {
	operatorservice.OperatorServiceClient
	f *temporal
}

func (o operators) ListSearchAttributes(
	_ context.Context, in *operatorservice.ListSearchAttributesRequest, _ ...grpc.CallOption,
) (*operatorservice.ListSearchAttributesResponse, error) {
	if in.GetNamespace() != "default" {
		return nil, serviceerror.NewNamespaceNotFound(in.GetNamespace())
	}
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: o.f.attributes}, o.f.down
}

func (f *temporal) ExecuteWorkflow(_ context.Context, o client.StartWorkflowOptions, _ any, args ...any) (client.WorkflowRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	switch f.executions[o.ID] {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return nil, serviceerror.NewWorkflowExecutionAlreadyStarted("already started", "", "")
	}
	f.executions[o.ID] = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	f.inputs[o.ID] = args[0].(workflows.SelfTrainInput)
	f.starts++
	return &mocks.WorkflowRun{}, nil
}

func (f *temporal) QueryWorkflow(_ context.Context, id, _, query string, _ ...any) (converter.EncodedValue, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if view, ok := f.progress[id]; ok && query == workflows.QueryProgress {
		payloads, err := converter.GetDefaultDataConverter().ToPayloads(view)
		return client.NewValue(payloads), err
	}
	if f.down != nil {
		return nil, f.down
	}
	if _, ok := f.executions[id]; !ok {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	status, ok := f.status[id]
	if !ok {
		return nil, serviceerror.NewFailedPrecondition("no poller seen for task queue recently")
	}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(status)
	return client.NewValue(payloads), err
}

func (f *temporal) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	status, ok := f.executions[id]
	if pending := f.pending[id]; pending != nil {
		return &workflowservice.DescribeWorkflowExecutionResponse{PendingActivities: pending}, nil
	}
	if !ok {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status}}, nil
}

func (f *temporal) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &workflowservice.ListWorkflowExecutionsResponse{}
	for id, status := range f.executions {
		out.Executions = append(out.Executions, &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id}, Status: status})
	}
	return out, f.down
}

func (f *temporal) CancelWorkflow(_ context.Context, id, _ string) error {
	if f.executions[id] != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return serviceerror.NewNotFound("workflow execution already completed")
	}
	f.cancelled = append(f.cancelled, id)
	return f.down
}

func (f *temporal) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	if f.executions[o.WorkflowID] != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	status, err := f.update(o.UpdateName, o.Args)
	handle := &mocks.WorkflowUpdateHandle{}
	handle.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		*args.Get(1).(*workflows.Status) = status
	}).Return(err)
	return handle, nil
}

var errDown = serviceerror.NewUnavailable("connection refused")

// setup returns a client over a fresh bucket and a fake Temporal.
func setup(t *testing.T) (*runs.Client, *temporal) {
	t.Helper()
	f := newTemporal()
	return &runs.Client{Store: s3test.Store(t), Temporal: f, Address: "fake:7233", Namespace: "default", Queue: "q"}, f
}

// spec returns a complete spec.
func spec(name string) config.Run {
	r := config.DefaultRun()
	r.Name = name
	r.Seeds = []config.Source{{Path: "s3://b/seeds.jsonl", Format: "pairs"}}
	r.Documents = []config.Source{{Path: "s3://b/pages/", Format: "auto"}}
	r.Model = config.Model{Base: "base", Trainer: "t"}
	return r
}

func keys(t *testing.T, st *blob.Store, prefix string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	if err := st.List(t.Context(), prefix, func(i blob.Info) error { out[i.Key] = i.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func isUnreachable(err error) bool {
	var u *runs.UnreachableError
	return errors.As(err, &u)
}

func isConflict(err error) bool {
	var c *runs.ConflictError
	return errors.As(err, &c)
}
