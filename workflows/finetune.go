package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/report"
)

// FinetuneInput is one model to be trained from the base model and put to work.
type FinetuneInput struct {
	Run       string       `json:"run"`
	Stage     string       `json:"stage"` // key of the stage in the run's status
	Queue     string       `json:"queue"`
	Iteration int          `json:"iteration"`
	Name      string       `json:"name"` // m0, m1 … or myx
	Training  dataset.Ref  `json:"training"`
	Reversed  bool         `json:"reversed"` // output → instruction, for the backward model
	Prompt    string       `json:"prompt"`   // the backtranslate template; empty is the embedded one
	Model     config.Model `json:"model"`
	Attempt   int          `json:"attempt"` // a failed job is submitted again under another attempt
	// Told has the workflow tell its run which workers it waits for. Runs begun before went without.
	Told bool `json:"told,omitempty"`
	// MaxMicroUSD is what is left of the budget; nil: no budget in dollars.
	MaxMicroUSD *int64 `json:"max_micro_usd,omitempty"`
	// Withdraw has a cancelled workflow look for a job whose submission was cut off. Runs begun before went without.
	Withdraw bool `json:"withdraw,omitempty"`
}

// FinetuneResult is the trained model, ready to answer.
type FinetuneResult struct {
	Model    dataset.ModelRef `json:"model"`
	Training report.Training  `json:"training"`
	// Serving is what was deployed, where it has to be torn down; nil where the model answers by itself.
	Serving *Serving `json:"serving,omitempty"`
}

// TrainProgress is the payload of SignalTraining.
type TrainProgress struct {
	Stage string  `json:"stage"`
	Step  int     `json:"step"`
	Steps int     `json:"steps"`
	Loss  float64 `json:"loss"`
	State string  `json:"state"`
	Queue string  `json:"queue,omitempty"` // whose workers do it
}

// Finetune exports a training set, submits the job, waits for as long as it takes, and deploys the model. A cancelled
// workflow cancels the job.
func Finetune(ctx workflow.Context, in FinetuneInput) (FinetuneResult, error) {
	var sets *activities.Sets
	var trainers *activities.Trainers
	var exported activities.Exported
	export := activities.ExportInput{
		Training: in.Training, Reversed: in.Reversed, Prompt: in.Prompt, Share: in.Model.Validation,
		Key: fmt.Sprintf("runs/%s/%02d/train/%s.jsonl", in.Run, in.Iteration, in.Name),
	}
	cpu := bulk(ctx, QueueName(in.Queue, RoleCPU), "export "+in.Name)
	if err := workflow.ExecuteActivity(cpu, sets.ExportTraining, export).Get(ctx, &exported); err != nil {
		return FinetuneResult{}, err
	}
	submit := activities.SubmitInput{
		Run: in.Run, Name: in.Name, Iteration: in.Iteration, Reversed: in.Reversed, Attempt: in.Attempt,
		Model: in.Model, Exported: exported, MaxMicroUSD: in.MaxMicroUSD,
	}
	var job activities.TrainingJob
	// A submission that is on its way is waited for: its job would train on, with nobody to cancel it.
	train := workflow.WithWaitForCancellation(short(ctx, QueueName(in.Queue, RoleTrain), "submit "+in.Name), true)
	if err := workflow.ExecuteActivity(train, trainers.SubmitFinetune, submit).Get(ctx, &job); err != nil {
		// Its worker died, and it is not tried again once it is cancelled.
		if died := new(temporal.TimeoutError); in.Withdraw && ctx.Err() != nil && errors.As(err, &died) {
			withdraw(ctx, in, submit)
		}
		return FinetuneResult{}, err
	}
	in.tell(ctx, TrainProgress{State: "submitted", Queue: job.Queue})
	status, err := await(ctx, in, job)
	if err != nil {
		if ctx.Err() != nil {
			cleanup, done := workflow.NewDisconnectedContext(ctx)
			defer done()
			cleanup = lookedAfter(short(cleanup, job.Queue, "cancel "+in.Name), job)
			if err := workflow.ExecuteActivity(cleanup, trainers.CancelFinetune, job).Get(cleanup, nil); err != nil {
				workflow.GetLogger(ctx).Warn("cancel fine-tuning job", "job", job.ID, "error", err)
			}
		}
		return FinetuneResult{}, err
	}
	out := FinetuneResult{Training: report.Training{
		Model: in.Name, Name: status.Model, Examples: exported.Examples, Steps: status.Steps, Loss: status.Loss,
		CostMicroUSD: status.CostMicroUSD, CostKnown: status.CostKnown, NotExpressed: status.NotExpressed,
	}}
	serving := &Serving{Deploy: activities.DeployInput{Submit: submit, Status: status}, Queue: job.ServeQueue}
	if serving.Queue == "" { // it answers by itself, or this is a run of older workers
		control := short(ctx, QueueName(in.Queue, RoleControl), "deploy "+in.Name)
		err = workflow.ExecuteActivity(control, trainers.DeployModel, serving.Deploy).Get(ctx, &out.Model)
		return out, err
	}
	in.tell(ctx, TrainProgress{Step: status.Steps, Steps: status.Steps, Loss: status.Loss, State: "deploying", Queue: serving.Queue})
	if err := serving.deploy(ctx); err != nil {
		// Nobody else knows of what may be half loaded.
		parting, done := workflow.NewDisconnectedContext(ctx)
		defer done()
		if err := serving.tearDown(parting); err != nil {
			workflow.GetLogger(ctx).Warn("tear down a model that could not be deployed", "model", in.Name, "error", err)
		}
		return out, err
	}
	out.Model, out.Serving = serving.Model, serving
	return out, nil
}

// withdraw stops a job that a worker may have submitted and not lived to tell of: submitting it again finds it. Where there was
// none it makes one, which is stopped at once; either is better than one that trains with nobody to stop it.
func withdraw(ctx workflow.Context, in FinetuneInput, submit activities.SubmitInput) {
	var trainers *activities.Trainers
	var job activities.TrainingJob
	parting, done := workflow.NewDisconnectedContext(ctx)
	defer done()
	options := workflow.GetActivityOptions(short(parting, QueueName(in.Queue, RoleTrain), "look for "+in.Name))
	options.ScheduleToCloseTimeout = partingTimeout
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(parting, options), trainers.SubmitFinetune, submit).Get(parting, &job)
	if err == nil {
		err = workflow.ExecuteActivity(lookedAfter(short(parting, job.Queue, "cancel "+in.Name), job), trainers.CancelFinetune, job).Get(parting, nil)
	}
	if err != nil {
		workflow.GetLogger(ctx).Warn("look for a job whose submission was cut off", "model", in.Name, "error", err)
	}
}

// tell tells the run how far the training is, where the run wants to be told more than tenths.
func (in FinetuneInput) tell(ctx workflow.Context, p TrainProgress) {
	if in.Told {
		p.Stage = in.Stage
		workflow.SignalExternalWorkflow(ctx, in.Run, "", SignalTraining, p)
	}
}

// lookedAfter has what only the job's own machine can do fail once that was silent for too long. Other jobs are waited for.
func lookedAfter(ctx workflow.Context, job activities.TrainingJob) workflow.Context {
	options := workflow.GetActivityOptions(ctx)
	options.ScheduleToStartTimeout = job.HostTimeout
	return workflow.WithActivityOptions(ctx, options)
}

// maxEnded bounds how often SignalEnded cuts a wait short, and with it the history.
const maxEnded = 20

// await looks at the job until it ends. An answer "still at work" is an error that the server retries without history;
// only every tenth of the way comes back as a result, to be shown. SignalEnded has a fresh look begin at once.
func await(ctx workflow.Context, in FinetuneInput, job activities.TrainingJob) (activities.TrainingStatus, error) {
	var trainers *activities.Trainers
	poll := activities.PollInput{Job: job, Shown: -1}
	ended, woken := workflow.GetSignalChannel(ctx, SignalEnded), 0
	for {
		for ended.ReceiveAsync(nil) { //nolint:revive // the look that follows sees what was told before
		}
		var status activities.TrainingStatus
		looking, stop := workflow.WithCancel(lookedAfter(polled(ctx, job.Queue, "wait for "+in.Name), job))
		look := workflow.ExecuteActivity(looking, trainers.PollFinetune, poll)
		sel := workflow.NewSelector(ctx).AddFuture(look, func(workflow.Future) {})
		if woken < maxEnded {
			sel.AddReceive(ended, func(c workflow.ReceiveChannel, _ bool) {
				c.Receive(ctx, nil)
				woken++
				stop()
			})
		}
		sel.Select(ctx)
		err := look.Get(ctx, &status)
		if temporal.IsCanceledError(err) && ctx.Err() == nil {
			continue
		}
		stop()
		if late := new(temporal.TimeoutError); job.HostTimeout > 0 && errors.As(err, &late) && late.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START {
			silent := job.Silent()
			return status, activities.NewTrouble(silent.Class, silent.Message, silent.Way)
		}
		if err != nil || status.Done {
			return status, err
		}
		poll.Shown = status.Tenths()
		progress := TrainProgress{Stage: in.Stage, Step: status.Step, Steps: status.Steps, Loss: status.Loss, State: string(status.State)}
		workflow.SignalExternalWorkflow(ctx, in.Run, "", SignalTraining, progress)
		if err := workflow.Sleep(ctx, time.Second); err != nil {
			return status, err
		}
	}
}
