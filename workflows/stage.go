package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
)

// StageInput is one task over one dataset.
type StageInput struct {
	Run      string           `json:"run"`
	Stage    string           `json:"stage"` // key of the stage in the run's status
	Queue    string           `json:"queue"`
	Work     activities.Work  `json:"work"`
	Bits     int              `json:"bits"`     // the output has 2^Bits partitions
	Window   int              `json:"window"`   // partitions in work at once
	Purse    Purse            `json:"purse"`    // what the stage may spend in all
	Manifest dataset.Manifest `json:"manifest"` // kind, parents, fingerprint, model, iteration, run and spec
}

// StageResult is what became of a stage.
type StageResult struct {
	Dataset  dataset.Ref         `json:"dataset"` // set when Stop is empty
	Stop     string              `json:"stop,omitempty"`
	Trouble  *activities.Trouble `json:"trouble,omitempty"` // set when Stop is StopBlocked
	Progress RangeProgress       `json:"progress"`          // of all ranges
	Ranges   []RangeProgress     `json:"ranges,omitempty"`  // each of them, when Stop is set
}

// StageView is the answer of a Stage to QueryProgress.
type StageView struct {
	Ended RangeProgress `json:"ended"`           // of the ranges that ended
	Range string        `json:"range,omitempty"` // workflow id of the range in work
}

// Stage does one task over all partitions of a dataset, range by range, and commits the dataset. A stage that stopped is
// started again with the same input: what stands is adopted.
func Stage(ctx workflow.Context, in StageInput) (StageResult, error) {
	var sets *activities.Sets
	control := short(ctx, QueueName(in.Queue, RoleControl), "look what stands")
	var found activities.FoundDataset
	if err := workflow.ExecuteActivity(control, sets.FindDataset, in.Work.Output()).Get(ctx, &found); err != nil {
		return StageResult{}, err
	}
	out := StageResult{Progress: RangeProgress{Stage: in.Stage}}
	var inWork string
	err := workflow.SetQueryHandler(ctx, QueryProgress, func() (StageView, error) { return StageView{out.Progress, inWork}, nil })
	if err != nil {
		return out, fmt.Errorf("serve query %s: %w", QueryProgress, err)
	}
	if found.Found {
		out.Dataset = found.Dataset
		out.Progress.addAll(found.Totals)
		return out, nil
	}
	partitions := 1 << in.Bits
	ranges := (partitions + partitionsInRange - 1) / partitionsInRange
	commit := activities.CommitDatasetInput{Work: in.Work, Manifest: in.Manifest}
	commit.Manifest.Bits = in.Bits
	purse := in.Purse
	var each []RangeProgress
	for i := range ranges {
		from := i * partitionsInRange
		part := RangeInput{
			Run: in.Run, Stage: in.Stage, Queue: in.Queue, Work: in.Work,
			From: from, To: min(from+partitionsInRange, partitions),
			Window: in.Window, Signals: min(20, max(1, signalsOfStage/ranges)), Purse: purse, LastWord: ranges > 1,
		}
		id := fmt.Sprintf("%s/%05d", workflow.GetInfo(ctx).WorkflowExecution.ID, from)
		inWork = id
		rangeCtx := child(ctx, id, fmt.Sprintf("%s, partitions %d to %d", in.Stage, part.From, part.To-1))
		var result RangeResult
		if err := workflow.ExecuteChildWorkflow(rangeCtx, Range, part).Get(ctx, &result); err != nil {
			return out, err
		}
		purse = purse.less(result.Progress.Paid.Spent).less(result.Progress.Paid.InDoubt)
		inWork = ""
		out.Progress.Join(result.Progress)
		each = append(each, result.Progress)
		if result.Stop != "" {
			out.Stop, out.Trouble, out.Ranges = result.Stop, result.Trouble, each
			return out, nil
		}
		commit.Ranges = append(commit.Ranges, result.Summary)
	}
	control = short(ctx, QueueName(in.Queue, RoleControl), "commit dataset")
	err = workflow.ExecuteActivity(control, sets.CommitDataset, commit).Get(ctx, &out.Dataset)
	return out, err
}

func (p *RangeProgress) addAll(r dataset.RangeSummary) {
	p.add(r)
	p.Paid = p.Paid.Add(activities.Spending{Spent: r.Usage, InDoubt: r.InDoubt})
}

// Join adds what other partitions did.
func (p *RangeProgress) Join(q RangeProgress) {
	p.Done += q.Done
	p.Rejected += q.Rejected
	p.Reused += q.Reused
	p.Paid = p.Paid.Add(q.Paid)
	p.Answers = p.Answers.Add(q.Answers)
	p.Histogram = addHistograms(p.Histogram, q.Histogram)
}
