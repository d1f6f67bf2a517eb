package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/neardup"
)

// NearDuplicatesInput is a search for near-duplicates in one dataset.
type NearDuplicatesInput struct {
	Queue string                         `json:"queue"`
	Plan  activities.NearDuplicatesInput `json:"plan"`
	// Window is how many tasks are in work at once.
	Window int `json:"window,omitempty"`

	Carried *NearDuplicatesCarry `json:"carried,omitempty"`
}

// NearDuplicatesCarry is what a search takes over continue-as-new.
type NearDuplicatesCarry struct {
	Job    neardup.Job    `json:"job"`
	Step   int            `json:"step"` // of neardup.Steps
	Next   int            `json:"next"` // task of the step
	Counts neardup.Counts `json:"counts"`
}

// NearDuplicatesResult is a search that is done.
type NearDuplicatesResult struct {
	Job    neardup.Job    `json:"job"`
	Counts neardup.Counts `json:"counts"` // of the steps that this search did: those of an earlier beginning are not among them
}

// NearDuplicates does the steps of a search, the tasks of each through a bounded window.
func NearDuplicates(ctx workflow.Context, in NearDuplicatesInput) (NearDuplicatesResult, error) {
	var near *activities.NearDuplicates
	at := in.Carried
	if at == nil {
		var plan activities.PlannedSearch
		control := short(ctx, QueueName(in.Queue, RoleControl), "plan the search")
		if err := workflow.ExecuteActivity(control, near.PlanNearDuplicates, in.Plan).Get(ctx, &plan); err != nil {
			return NearDuplicatesResult{}, err
		}
		at = &NearDuplicatesCarry{Job: plan.Job, Step: plan.Done}
	}
	for steps := neardup.Steps(); at.Step < len(steps); at.Step++ {
		step := steps[at.Step]
		more, err := searchStep(ctx, in, at, step)
		if err != nil {
			return NearDuplicatesResult{}, err
		}
		if more {
			in.Carried = at
			return NearDuplicatesResult{}, workflow.NewContinueAsNewError(ctx, NearDuplicates, in)
		}
		var counts neardup.Counts
		control := short(ctx, QueueName(in.Queue, RoleControl), "gather "+string(step))
		if err := workflow.ExecuteActivity(control, near.GatherRuns, activities.SearchTask{Job: at.Job, Step: step}).Get(ctx, &counts); err != nil {
			return NearDuplicatesResult{}, err
		}
		at.Counts = at.Counts.Add(counts)
		at.Next = 0
	}
	return NearDuplicatesResult{Job: at.Job, Counts: at.Counts}, nil
}

// searchStep does the tasks of a step from at.Next on. It reports whether some are left since the history is long.
func searchStep(ctx workflow.Context, in NearDuplicatesInput, at *NearDuplicatesCarry, step neardup.Step) (more bool, err error) {
	var near *activities.NearDuplicates
	tasks, inWork := at.Job.Tasks(step), 0
	selector := workflow.NewSelector(ctx)
	for {
		for err == nil && inWork < cmp.Or(in.Window, cpuWindow) && at.Next < tasks && !workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			task := activities.SearchTask{Job: at.Job, Step: step, Task: at.Next}
			cpu := onPartition(ctx, QueueName(in.Queue, RoleCPU), fmt.Sprintf("%s %d/%d", step, at.Next+1, tasks))
			at.Next++
			inWork++
			selector.AddFuture(workflow.ExecuteActivity(cpu, near.SearchNearDuplicates, task), func(f workflow.Future) {
				inWork--
				if failure := f.Get(ctx, nil); failure != nil && err == nil {
					err = failure
				}
			})
		}
		if inWork == 0 {
			return at.Next < tasks, err
		}
		selector.Select(ctx)
	}
}

// dropNearDuplicates makes the dataset of in from a merged one. merge is the stage that made that.
func dropNearDuplicates(ctx workflow.Context, in IngestInput, merge StageInput, merged dataset.Ref) (StageResult, error) {
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	search := NearDuplicatesInput{
		Queue: in.Queue, Plan: activities.NearDuplicatesInput{Input: merged, Dir: in.Dir, Rules: in.NearDuplicates}, Window: tasksInWork(in.Data),
	}
	var found NearDuplicatesResult
	err := workflow.ExecuteChildWorkflow(child(ctx, id+"/near-duplicates", "near-duplicates"), NearDuplicates, search).Get(ctx, &found)
	if err != nil {
		return StageResult{}, err
	}
	stage := merge
	stage.Bits = merged.Bits
	stage.Work = activities.Work{Drop: &activities.DropWork{Job: found.Job, Output: in.Dir}}
	var out StageResult
	err = workflow.ExecuteChildWorkflow(child(ctx, id+"/drop", "drop near-duplicates"), Stage, stage).Get(ctx, &out)
	return out, err
}
