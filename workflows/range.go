package workflows

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
)

// RangeInput is a part of a stage: the partitions [From, To).
type RangeInput struct {
	Run     string          `json:"run"`
	Stage   string          `json:"stage"` // key of the stage in the run's status
	Queue   string          `json:"queue"` // prefix of the task queues
	Work    activities.Work `json:"work"`
	From    int             `json:"from"`
	To      int             `json:"to"`
	Window  int             `json:"window"`  // partitions in work at once
	Signals int             `json:"signals"` // progress signals to send, at most
	Purse   Purse           `json:"purse"`   // what the run may spend in this range in all
	// LastWord has the range signal its last progress too: one of several ends long before the stage whose result tells it.
	LastWord bool `json:"last_word,omitempty"`

	Carried *RangeCarry `json:"carried,omitempty"`
}

// RangeCarry is what a range takes over continue-as-new.
type RangeCarry struct {
	Next     int                          `json:"next"`
	Again    []int                        `json:"again,omitempty"`  // handed back for want of budget
	Window   int                          `json:"window,omitempty"` // 1 once the budget is nearly used up
	Standing []int                        `json:"standing"`
	Partial  []activities.PartialSpending `json:"partial"`
	Progress RangeProgress                `json:"progress"`
	Before   activities.Spending          `json:"before"`
}

// RangeResult is what became of a range.
type RangeResult struct {
	Summary  dataset.RangeSummary `json:"summary"` // set when Stop is empty
	Stop     string               `json:"stop,omitempty"`
	Trouble  *activities.Trouble  `json:"trouble,omitempty"` // set when Stop is activities.StopBlocked
	Progress RangeProgress        `json:"progress"`
}

// RangeView is the answer of a Range to QueryProgress.
type RangeView struct {
	Progress RangeProgress                `json:"progress"`
	InWork   []activities.PartialSpending `json:"in_work"` // the partitions in work, and what Progress holds of each
}

// RangeProgress adds up what a range has done. It is also the payload of SignalProgress.
type RangeProgress struct {
	Stage     string              `json:"stage"`
	From      int                 `json:"from"`
	Done      int64               `json:"done"` // input rows dealt with
	Rejected  int64               `json:"rejected"`
	Reused    int64               `json:"reused"`
	Paid      activities.Spending `json:"paid"` // by finished and unfinished partitions alike
	Histogram map[string]int64    `json:"histogram,omitempty"`
	Answers   dataset.Answers     `json:"answers,omitzero"`
}

func (p *RangeProgress) add(r dataset.RangeSummary) {
	p.Done += r.Input
	p.Rejected += r.Rejected
	p.Reused += r.Reused
	p.Answers = p.Answers.Add(r.Answers)
	p.Histogram = addHistograms(p.Histogram, r.Histogram)
}

// told is progress as it is sent away: what is counted later does not change it.
func (p RangeProgress) told() RangeProgress {
	p.Histogram = maps.Clone(p.Histogram)
	return p
}

func addHistograms(to, from map[string]int64) map[string]int64 {
	for _, score := range workflow.DeterministicKeys(from) {
		if to == nil {
			to = map[string]int64{}
		}
		to[score] += from[score]
	}
	return to
}

// Range works on the partitions of a range through a bounded window and commits a range manifest to S3. Partitions that
// stand already are not touched. When it is cancelled, partitions in work finish their calls in flight and are handed
// back, and the result says so: a range that stopped is started again with the same input.
func Range(ctx workflow.Context, in RangeInput) (RangeResult, error) {
	r := &rangeRun{in: in, window: in.Window, working: map[int]bool{}, standing: map[int]bool{}, partial: map[int]activities.Spending{}}
	if err := workflow.SetQueryHandler(ctx, QueryProgress, func() (RangeView, error) { return r.view(), nil }); err != nil {
		return RangeResult{}, fmt.Errorf("serve query %s: %w", QueryProgress, err)
	}
	if in.Carried == nil {
		whole, err := r.survey(ctx)
		if err != nil || whole != nil {
			return value(whole), err
		}
	} else {
		r.next, r.acc, r.again = in.Carried.Next, in.Carried.Progress, in.Carried.Again
		r.window = cmp.Or(in.Carried.Window, in.Window)
		r.remember(in.Carried.Standing, in.Carried.Partial)
	}
	if err := r.work(ctx); err != nil {
		return RangeResult{}, err
	}
	out := RangeResult{Stop: r.stop, Progress: r.acc, Trouble: r.trouble}
	if r.stop != "" {
		return out, nil
	}
	if r.next < in.To || len(r.again) > 0 {
		return RangeResult{}, r.continueAsNew(ctx)
	}
	if in.LastWord {
		workflow.SignalExternalWorkflow(ctx, in.Run, "", SignalProgress, r.acc.told())
	}
	var sets *activities.Sets
	commit := activities.CommitRangeInput{Dir: in.Work.Output(), From: in.From, To: in.To}
	err := workflow.ExecuteActivity(short(ctx, QueueName(in.Queue, RoleControl), "commit range"), sets.CommitRange, commit).
		Get(ctx, &out.Summary)
	return out, err
}

func value(r *RangeResult) RangeResult {
	if r == nil {
		return RangeResult{}
	}
	return *r
}

// rangeRun is the state of a range in work.
type rangeRun struct {
	in       RangeInput
	next     int
	window   int
	inWork   int
	working  map[int]bool // the partitions in work
	granted  Purse        // what partitions in work may still spend
	acc      RangeProgress
	standing map[int]bool
	partial  map[int]activities.Spending // what unfinished attempts paid; it is in acc
	again    []int                       // handed back for want of budget
	stop     string
	failure  error
	trouble  *activities.Trouble
	finished int
	signals  int
}

func (r *rangeRun) view() RangeView {
	out := RangeView{Progress: r.acc}
	for _, p := range workflow.DeterministicKeys(r.working) {
		out.InWork = append(out.InWork, activities.PartialSpending{Partition: p, Spending: r.partial[p]})
	}
	return out
}

func (r *rangeRun) remember(standing []int, partial []activities.PartialSpending) {
	for _, p := range standing {
		r.standing[p] = true
	}
	for _, p := range partial {
		r.partial[p.Partition] = p.Spending
	}
}

// survey asks what stands of the range from an earlier beginning. It returns a result when all of it does.
func (r *rangeRun) survey(ctx workflow.Context) (*RangeResult, error) {
	r.next = r.in.From
	r.acc = RangeProgress{Stage: r.in.Stage, From: r.in.From}
	var sets *activities.Sets
	var found activities.RangeSurvey
	in := activities.SurveyInput{Work: r.in.Work, From: r.in.From, To: r.in.To}
	ctx = short(ctx, QueueName(r.in.Queue, RoleControl), "look what stands")
	if err := workflow.ExecuteActivity(ctx, sets.SurveyRange, in).Get(ctx, &found); err != nil {
		return nil, err
	}
	r.acc.add(found.Standing)
	r.acc.Paid = activities.Spending{Spent: found.Standing.Usage, InDoubt: found.Standing.InDoubt}
	for _, p := range found.Partial {
		r.acc.Paid = r.acc.Paid.Add(p.Spending)
	}
	if found.Committed {
		if r.in.LastWord {
			workflow.SignalExternalWorkflow(ctx, r.in.Run, "", SignalProgress, r.acc.told())
		}
		return &RangeResult{Summary: found.Standing, Progress: r.acc}, nil
	}
	r.remember(found.Partitions, found.Partial)
	if len(found.Partitions) > 0 {
		workflow.SignalExternalWorkflow(ctx, r.in.Run, "", SignalProgress, r.acc.told())
	}
	return nil, nil
}

// work keeps the window full until every partition is dealt with, something stops the range, or the history is long.
func (r *rangeRun) work(ctx workflow.Context) error {
	selector := workflow.NewSelector(ctx)
	for {
		for r.mayStart(ctx) && r.startNext(ctx, selector) {
		}
		if r.inWork == 0 {
			break
		}
		selector.Select(ctx)
	}
	if r.failure != nil && !temporal.IsCanceledError(r.failure) {
		t, known := activities.TroubleOf(r.failure)
		if !known {
			return r.failure
		}
		r.stop, r.trouble = activities.StopBlocked, &t
		return nil
	}
	if r.failure != nil || ctx.Err() != nil {
		r.stop = activities.StopCancelled
	}
	return nil
}

func (r *rangeRun) mayStart(ctx workflow.Context) bool {
	return r.stop == "" && r.failure == nil && ctx.Err() == nil && r.inWork < r.window &&
		!workflow.GetInfo(ctx).GetContinueAsNewSuggested()
}

// startNext starts one partition and reports whether there may be another to start.
func (r *rangeRun) startNext(ctx workflow.Context, selector workflow.Selector) bool {
	for r.standing[r.next] && r.next < r.in.To {
		r.next++
	}
	if len(r.again) == 0 && r.next == r.in.To {
		return false
	}
	share, ok := r.left().share(r.window - r.inWork)
	if !ok {
		if r.inWork == 0 {
			r.stop = activities.StopBudget
		}
		return false
	}
	var p int
	if len(r.again) > 0 {
		p, r.again = r.again[0], r.again[1:]
	} else {
		p = r.next
		r.next++
	}
	r.inWork++
	r.working[p] = true
	r.granted = r.granted.plus(share)
	selector.AddFuture(r.start(ctx, p, share), func(f workflow.Future) {
		r.inWork--
		delete(r.working, p)
		r.granted = r.granted.minus(share)
		var result activities.PartitionResult
		if err := f.Get(ctx, &result); err != nil {
			if r.failure == nil {
				r.failure = err
			}
			return
		}
		r.settle(ctx, p, result)
	})
	return true
}

// settle accounts for one attempt at a partition.
func (r *rangeRun) settle(ctx workflow.Context, p int, result activities.PartitionResult) {
	r.acc.Paid = r.acc.Paid.Minus(r.partial[p]).Add(result.Spending)
	r.partial[p] = result.Spending
	switch {
	case result.Done:
		r.acc.add(activities.SummaryOf(result.Receipt))
		r.finished++
		r.report(ctx)
	case result.Stop != activities.StopBudget:
		r.stop = result.Stop
	case r.window > 1:
		r.window = 1 // the budget is nearly used up: partitions go on one after another, each with all that is left
		r.again = append(r.again, p)
	case r.inWork > 0:
		r.again = append(r.again, p) // was started with a share only
	default:
		r.again = append(r.again, p)
		r.stop = activities.StopBudget
	}
}

// left returns what may still be given to partitions.
func (r *rangeRun) left() Purse {
	return r.in.Purse.less(r.acc.Paid.Spent).less(r.acc.Paid.InDoubt).minus(r.granted)
}

func (r *rangeRun) start(ctx workflow.Context, p int, share Purse) workflow.Future {
	summary := fmt.Sprintf("%s %05d", r.in.Stage, p)
	work := r.in.Work
	cpu := onPartition(ctx, QueueName(r.in.Queue, RoleCPU), summary)
	switch {
	case work.Ask != nil:
		var stages *activities.Stages
		ask := *work.Ask
		ask.Partition = p
		ask.Budget = share.budget(r.partial[p])
		return workflow.ExecuteActivity(onPartition(ctx, QueueName(r.in.Queue, RoleLLM), summary), stages.AskPartition, ask)
	case work.Select != nil:
		var sets *activities.Sets
		sel := *work.Select
		sel.Partition = p
		return workflow.ExecuteActivity(cpu, sets.SelectPartition, sel)
	case work.Keep != nil:
		var sets *activities.Sets
		keep := *work.Keep
		keep.Partition = p
		return workflow.ExecuteActivity(cpu, sets.KeepPartition, keep)
	case work.Merge != nil:
		var sources *activities.Sources
		merge := *work.Merge
		merge.Partition = p
		return workflow.ExecuteActivity(cpu, sources.MergePartition, merge)
	case work.Drop != nil:
		var near *activities.NearDuplicates
		drop := *work.Drop
		drop.Partition = p
		return workflow.ExecuteActivity(cpu, near.DropPartition, drop)
	}
	future, settable := workflow.NewFuture(ctx)
	settable.SetError(temporal.NewNonRetryableApplicationError("stage without work", activities.ErrTypeBlocked, nil))
	return future
}

// report signals progress to the run, at most as often as the range may. The last word is the range's result.
func (r *rangeRun) report(ctx workflow.Context) {
	all := r.in.To - r.in.From
	due := r.finished * r.in.Signals / max(1, all)
	if due <= r.signals || r.finished == all {
		return
	}
	r.signals = due
	workflow.SignalExternalWorkflow(ctx, r.in.Run, "", SignalProgress, r.acc.told())
}

func (r *rangeRun) continueAsNew(ctx workflow.Context) error {
	carry := &RangeCarry{Next: r.next, Progress: r.acc, Again: r.again, Window: r.window}
	for p := r.in.From; p < r.in.To; p++ {
		if p < r.next && !slices.Contains(r.again, p) {
			continue // dealt with
		}
		if r.standing[p] {
			carry.Standing = append(carry.Standing, p)
		}
		if paid, ok := r.partial[p]; ok {
			carry.Partial = append(carry.Partial, activities.PartialSpending{Partition: p, Spending: paid})
		}
	}
	in := r.in
	in.Carried = carry
	return workflow.NewContinueAsNewError(ctx, Range, in)
}
