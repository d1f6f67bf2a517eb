package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
)

// IngestInput turns sources into a dataset of segments or seeds.
type IngestInput struct {
	Run      string          `json:"run"`
	Stage    string          `json:"stage"`
	Queue    string          `json:"queue"`
	Kind     dataset.Kind    `json:"kind"` // segments or seeds
	Sources  []config.Source `json:"sources"`
	Segments config.Segments `json:"segments"`
	Data     config.Data     `json:"data"`
	Dir      string          `json:"dir"` // of the dataset
	Spec     string          `json:"spec"`
	// NearDuplicates says which segments are dropped since another says almost the same.
	NearDuplicates config.NearDuplicates `json:"near_duplicates,omitzero"`
	// Prompts says how prompts and responses are read.
	Prompts *corpus.PromptOptions `json:"prompts,omitempty"`

	Decontaminate config.Decontaminate `json:"decontaminate,omitzero"` // of segments
	Seeds         []config.Source      `json:"seeds,omitempty"`        // where segments are kept clean of them
}

// Ingest is a sort-based shuffle: map tasks read the sources and spill rows sorted by id, the number of partitions is
// fixed from their counts, and one merge a partition reads its part of every spill.
func Ingest(ctx workflow.Context, in IngestInput) (StageResult, error) {
	var sources *activities.Sources
	var sets *activities.Sets
	var found activities.FoundDataset
	control := short(ctx, QueueName(in.Queue, RoleControl), "look what stands")
	if err := workflow.ExecuteActivity(control, sets.FindDataset, in.Dir).Get(ctx, &found); err != nil {
		return StageResult{}, err
	}
	if found.Found {
		out := StageResult{Dataset: found.Dataset, Progress: RangeProgress{Stage: in.Stage}}
		out.Progress.addAll(found.Totals)
		return out, removeSpills(ctx, in)
	}
	var listing activities.Listing
	list := activities.ListInput{
		Kind: in.Kind, Sources: in.Sources, Dir: in.Dir, OneTask: in.Prompts != nil && in.Prompts.Limit > 0,
		Decontaminate: in.Decontaminate, Seeds: in.Seeds,
	}
	bulkCPU := bulk(ctx, QueueName(in.Queue, RoleCPU), "list sources")
	if err := workflow.ExecuteActivity(bulkCPU, sources.ListSources, list).Get(ctx, &listing); err != nil {
		return StageResult{}, err
	}
	if err := mapSources(ctx, in, listing); err != nil {
		return StageResult{}, err
	}
	var plan activities.MergePlan
	planned := activities.PlanInput{Dir: in.Dir, Tasks: listing.Tasks, Data: in.Data}
	control = short(ctx, QueueName(in.Queue, RoleControl), "count rows")
	if err := workflow.ExecuteActivity(control, sources.PlanPartitions, planned).Get(ctx, &plan); err != nil {
		return StageResult{}, err
	}
	near := in.Kind == dataset.KindSegments && in.NearDuplicates.On()
	merged := in.Dir
	if near {
		merged = activities.MergedDir(in.Dir)
	}
	stage := StageInput{
		Run: in.Run, Stage: in.Stage, Queue: in.Queue, Bits: plan.Bits, Window: tasksInWork(in.Data),
		Work:     activities.Work{Merge: &activities.MergeWork{Kind: in.Kind, Output: merged, Bits: plan.Bits, Plan: plan.Key}},
		Manifest: dataset.Manifest{Kind: in.Kind, Run: in.Run, Spec: in.Spec, Input: plan.Input, Origins: listing.Origins},
	}
	var out StageResult
	id := workflow.GetInfo(ctx).WorkflowExecution.ID + "/merge"
	if err := workflow.ExecuteChildWorkflow(child(ctx, id, "merge "+string(in.Kind)), Stage, stage).Get(ctx, &out); err != nil || out.Stop != "" {
		return out, err
	}
	if near {
		var err error
		if out, err = dropNearDuplicates(ctx, in, stage, out.Dataset); err != nil || out.Stop != "" {
			return out, err
		}
	}
	return out, removeSpills(ctx, in)
}

// removeSpills deletes what the shuffle left, now that the dataset stands.
func removeSpills(ctx workflow.Context, in IngestInput) error {
	var sources *activities.Sources
	control := short(ctx, QueueName(in.Queue, RoleControl), "remove spills")
	return workflow.ExecuteActivity(control, sources.RemoveSpills, in.Dir).Get(ctx, nil)
}

// mapSources runs the map tasks through a bounded window. There are at most 500 of them, however many files there are.
func mapSources(ctx workflow.Context, in IngestInput, listing activities.Listing) error {
	var sources *activities.Sources
	inWork, next := 0, 0
	var failure error
	selector := workflow.NewSelector(ctx)
	for {
		for failure == nil && inWork < tasksInWork(in.Data) && next < listing.Tasks {
			task := activities.MapInput{
				Kind: in.Kind, Dir: in.Dir, Task: next, Set: listing.Set, Segments: in.Segments, Prompts: in.Prompts, Decontaminate: in.Decontaminate.On(),
			}
			cpu := bulk(ctx, QueueName(in.Queue, RoleCPU), fmt.Sprintf("read sources %d/%d", next+1, listing.Tasks))
			next++
			inWork++
			selector.AddFuture(workflow.ExecuteActivity(cpu, sources.MapSources, task), func(f workflow.Future) {
				inWork--
				if err := f.Get(ctx, nil); err != nil && failure == nil {
					failure = err
				}
			})
		}
		if inWork == 0 {
			return failure
		}
		selector.Select(ctx)
	}
}
