package workflows

import (
	"encoding/json"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
)

// Search attributes of a run. They are set where the namespace has them.
var (
	AttributeRun       = temporal.NewSearchAttributeKeyKeyword("SelfalignRun")
	AttributeStage     = temporal.NewSearchAttributeKeyKeyword("SelfalignStage")
	AttributeIteration = temporal.NewSearchAttributeKeyInt64("SelfalignIteration")
	AttributeModel     = temporal.NewSearchAttributeKeyKeyword("SelfalignModel")
)

// Names of a run's records in S3, under runs/<run>/. They outlive Temporal's retention.
const (
	RecordRun    = "run.json"    // SelfTrainInput, written by whoever starts the run
	RecordStatus = "status.json" // the newest Status
	RecordState  = "state"       // state/<iteration>.json: the State in which an iteration begins
)

// save writes the status of the run to S3.
func (r *run) save(ctx workflow.Context) error {
	return r.record(ctx, RecordStatus, r.status())
}

func (r *run) record(ctx workflow.Context, name string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	var runs *activities.Runs
	in := activities.RecordInput{Run: r.name, Name: name, Body: body}
	return workflow.ExecuteActivity(short(ctx, QueueName(r.in.Queue, RoleControl), "record "+name), runs.SaveRecord, in).Get(ctx, nil)
}

// writeReport makes the HTML report of what stands so far.
func (r *run) writeReport(ctx workflow.Context) error {
	known := ReportInput(r.status(), r.st, r.in.Spec, r.in.Digest, workflow.Now(ctx))
	if r.phase != "" {
		known.EndedAt = known.At
	}
	var runs *activities.Runs
	ctx = bulk(ctx, QueueName(r.in.Queue, RoleCPU), "write report")
	in := activities.ReportInput{Known: known, Spec: r.in.Spec}
	return workflow.ExecuteActivity(ctx, runs.WriteReport, in).Get(ctx, &r.st.Report)
}

// nextIteration saves the state and goes on in a fresh execution.
func (r *run) nextIteration(ctx workflow.Context) error {
	r.retireOld(ctx)
	if r.st.Iteration > 0 {
		if err := r.writeReport(ctx); err != nil {
			return err
		}
	}
	r.st.Iteration++
	if err := r.record(ctx, fmt.Sprintf("%s/%02d.json", RecordState, r.st.Iteration), r.st); err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	next := r.in
	next.Resume = &r.st
	return workflow.NewContinueAsNewError(ctx, SelfTrain, next)
}

// finish closes a run that came to its end.
func (r *run) finish(ctx workflow.Context, phase string) error {
	if err := r.publishSets(ctx); err != nil {
		return err
	}
	r.phase = phase
	r.retireLast(ctx)
	if err := r.writeReport(ctx); err != nil {
		return err
	}
	return r.close(ctx)
}

// cancelled closes a run that was cancelled, or refused at a gate. What it made stays.
func (r *run) cancelled(ctx workflow.Context) (Status, error) {
	r.phase = PhaseCancelled
	ctx, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	if r.posting > 0 {
		r.changed(ctx)
		if err := workflow.Await(ctx, func() bool { return r.posting == 0 }); err != nil {
			workflow.GetLogger(ctx).Warn("wait for batches", "error", err)
		}
	}
	r.retireLast(ctx)
	if err := r.close(ctx); err != nil {
		workflow.GetLogger(ctx).Warn("record cancelled run", "error", err)
	}
	return r.status(), temporal.NewCanceledError("cancelled")
}

func (r *run) close(ctx workflow.Context) error {
	defer func() { r.ended = true }()
	r.changed(ctx)
	if err := r.save(ctx); err != nil {
		return err
	}
	s := r.status()
	summary := map[string]any{"phase": s.Phase, "iteration": s.Iteration, "spent": money(s)}
	if err := workflow.UpsertMemo(ctx, map[string]any{"selfalign": summary}); err != nil {
		return fmt.Errorf("memo: %w", err)
	}
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}

// tag sets the search attributes of the run.
func (r *run) tag(ctx workflow.Context, stageName string) {
	if !r.in.Search {
		return
	}
	attributes := []temporal.SearchAttributeUpdate{
		AttributeRun.ValueSet(r.name),
		AttributeStage.ValueSet(stageName),
		AttributeIteration.ValueSet(int64(r.st.Iteration)),
	}
	if n := len(r.st.Models); n > 0 {
		attributes = append(attributes, AttributeModel.ValueSet(r.st.Models[n-1].Name))
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, attributes...); err != nil {
		workflow.GetLogger(ctx).Warn("set search attributes", "error", err)
	}
}
