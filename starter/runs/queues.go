package runs

import (
	"context"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/selfalign/selfalign/workflows"
)

// worthASearch is how long an activity waits for a worker before it is asked whether there is any.
const worthASearch = 5 * time.Second

// unserved says which queue an activity of the workflow waits on without any worker to take it; "" if none.
func (c *Client) unserved(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) string {
	asked := map[string]bool{}
	for _, a := range described.GetPendingActivities() {
		queue := a.GetActivityOptions().GetTaskQueue().GetName()
		waits := a.GetState() == enumspb.PENDING_ACTIVITY_STATE_SCHEDULED && time.Since(a.GetScheduledTime().AsTime()) > worthASearch
		if !waits || queue == "" || asked[queue] {
			continue
		}
		asked[queue] = true
		told, err := c.Temporal.DescribeTaskQueue(ctx, queue, enumspb.TASK_QUEUE_TYPE_ACTIVITY)
		if err == nil && len(told.GetPollers()) == 0 {
			return fmt.Sprintf("waiting for a worker on queue %s. Try: %s", queue, c.whoServes(queue))
		}
	}
	return ""
}

// whoServes says which worker takes from a queue.
func (c *Client) whoServes(queue string) string {
	for _, role := range []string{workflows.RoleControl, workflows.RoleLLM, workflows.RoleCPU, workflows.RoleTrain} {
		name := workflows.QueueName(c.Queue, role)
		if queue == name {
			return "worker -queues " + role
		}
		if host, ok := strings.CutPrefix(queue, name+"-"); ok {
			return "worker -queues " + role + " on the machine " + host + ", which trains or serves there"
		}
	}
	return "start one"
}
