package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// histories sums up workflow histories.
type histories struct {
	Executions int            `json:"executions"`
	Longest    map[string]int `json:"longest"` // events of the longest execution, by workflow type
	Events     map[string]int `json:"events"`  // of all executions, by workflow type
	Largest    int            `json:"largest_bytes"`
	Partitions int            `json:"partitions"`               // that activities worked on
	Each       float64        `json:"events_per_partition"`     // of Stage and Range together
	Payload    int            `json:"largest_event_bytes"`      // a payload may have 2 MiB
	Limit      bool           `json:"all_under_4096_events"`    // of every execution
	Names      []string       `json:"workflow_types,omitempty"` // seen
}

// partitionActivities are those of one partition each.
var partitionActivities = []string{"AskPartition", "SelectPartition", "MergePartition", "DropPartition"}

// walkHistories reads a workflow, all its executions and all their children.
func walkHistories(ctx context.Context, c client.Client, id string) (histories, error) {
	h := histories{Longest: map[string]int{}, Events: map[string]int{}}
	described, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return h, fmt.Errorf("read history of %s: %w", id, err)
	}
	if err := h.walk(ctx, c, id, described.GetWorkflowExecutionInfo().GetFirstRunId()); err != nil {
		return h, err
	}
	h.Limit = true
	for _, n := range h.Longest {
		h.Limit = h.Limit && n < 4096
	}
	h.Names = slices.Sorted(maps.Keys(h.Events))
	if h.Partitions > 0 {
		h.Each = float64(h.Events["Stage"]+h.Events["Range"]) / float64(h.Partitions)
	}
	return h, nil
}

func (h *histories) walk(ctx context.Context, c client.Client, id, runID string) error {
	for runID != "" {
		events := c.GetWorkflowHistory(ctx, id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		n, bytes, kind, next := 0, 0, "", ""
		type execution struct{ id, run string }
		var children []execution
		for events.HasNext() {
			e, err := events.Next()
			if err != nil {
				return fmt.Errorf("read history of %s: %w", id, err)
			}
			n++
			bytes += e.Size()
			h.Payload = max(h.Payload, e.Size())
			if a := e.GetWorkflowExecutionStartedEventAttributes(); a != nil {
				kind = a.GetWorkflowType().GetName()
			}
			if a := e.GetActivityTaskScheduledEventAttributes(); a != nil && slices.Contains(partitionActivities, a.GetActivityType().GetName()) {
				h.Partitions++
			}
			if a := e.GetChildWorkflowExecutionStartedEventAttributes(); a != nil {
				children = append(children, execution{a.GetWorkflowExecution().GetWorkflowId(), a.GetWorkflowExecution().GetRunId()})
			}
			if a := e.GetWorkflowExecutionContinuedAsNewEventAttributes(); a != nil {
				next = a.GetNewExecutionRunId()
			}
		}
		h.Executions++
		h.Events[kind] += n
		h.Longest[kind] = max(h.Longest[kind], n)
		h.Largest = max(h.Largest, bytes)
		for _, child := range children {
			if err := h.walk(ctx, c, child.id, child.run); err != nil {
				return err
			}
		}
		runID = next
	}
	return nil
}

func (h *histories) print(w io.Writer) {
	fmt.Fprintf(w, "  history events   %.2f a partition (%d partitions), %d executions; longest:", h.Each, h.Partitions, h.Executions)
	for _, kind := range slices.Sorted(maps.Keys(h.Longest)) {
		fmt.Fprintf(w, " %s %d", kind, h.Longest[kind])
	}
	fmt.Fprintf(w, "\n  history bytes    largest execution %d, largest event %d\n", h.Largest, h.Payload)
}
