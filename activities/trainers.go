package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/llm"
)

// submitGrace is less than the time in which a dead worker is noticed: nothing heartbeats once an activity is cancelled.
const submitGrace = 20 * time.Second

// partingTime is how long a cancelled job may take to end: SageMaker gives the program two minutes and then uploads what is there.
const partingTime = 4 * time.Minute

// Trainer is a backend with the pace at which its jobs are looked at. Queue is where its jobs are looked after: a local
// trainer's on the machine it runs on, any other's on every worker that trains.
type Trainer struct {
	Backend finetune.Backend
	Poll    time.Duration
	Queue   string
	// Host is the machine that trains, where only it can look after its jobs, and HostTimeout how long it may be silent.
	Host        string
	HostTimeout time.Duration
}

// Trainers has models fine-tuned and put to work.
type Trainers struct {
	Trainers map[string]Trainer
	Servers  map[string]Server
	Models   *llm.Pool
	Store    *blob.Store // where manifests of models are written; nil: nowhere
	// Callback returns the address at which a trainer's news wake a workflow; nil: there is none.
	Callback func(trainer, workflow string) string
}

// SubmitInput is a fine-tuning job to be submitted.
type SubmitInput struct {
	Run       string       `json:"run"`
	Name      string       `json:"name"` // m0, m1 … or myx
	Iteration int          `json:"iteration"`
	Reversed  bool         `json:"reversed"`
	Attempt   int          `json:"attempt"`
	Model     config.Model `json:"model"`
	Exported  Exported     `json:"exported"`
	// MaxMicroUSD is what is left of the budget; nil: no budget in dollars.
	MaxMicroUSD *int64 `json:"max_micro_usd,omitempty"`
}

// TrainingJob is a job that was submitted.
type TrainingJob struct {
	ID      string `json:"id"`
	Trainer string `json:"trainer"`
	Queue   string `json:"queue"` // whose workers look after it
	// ServeQueue is whose workers deploy the model, where its server has something to give back afterwards.
	ServeQueue string `json:"serve_queue,omitempty"`
	// Host alone can look after the job; it may be silent for HostTimeout. "" and 0: any worker of the queue can, for ever.
	Host        string        `json:"host,omitempty"`
	HostTimeout time.Duration `json:"host_timeout,omitempty"`
	// Artifacts is the prefix of the job's results in the bucket.
	Artifacts string `json:"artifacts,omitempty"`
}

// Silent is the trouble of a job whose machine shows no worker.
func (j TrainingJob) Silent() Trouble {
	return Trouble{
		Class:   "trainer",
		Message: fmt.Sprintf("no worker on machine %s, which trains job %s of trainer %s, for %v", j.Host, j.ID, j.Trainer, j.HostTimeout),
		Way: fmt.Sprintf("start the worker of machine %s again, then retry: the job goes on where it is. If the machine is lost for good, delete %s/%s from the bucket, then retry: another machine with the role train begins anew",
			j.Host, j.Artifacts, command.ClaimFile),
	}
}

// TrainingStatus is how far a job has come.
type TrainingStatus struct {
	finetune.Status
	Done bool `json:"done"`
}

// Tenths returns how many tenths of the training are done.
func (s TrainingStatus) Tenths() int {
	if s.Steps == 0 {
		return 0
	}
	return 10 * s.Step / s.Steps
}

// PollInput asks how a job is doing.
type PollInput struct {
	Job   TrainingJob `json:"job"`
	Shown int         `json:"shown"` // tenths that were shown already; -1 for none
}

func (t *Trainers) trainer(name string) (Trainer, error) {
	trainer, ok := t.Trainers[name]
	if !ok {
		return Trainer{}, blocked("setting", fmt.Errorf("this worker knows no trainer %q", name),
			"add it under trainers in the worker's settings, restart the workers, then retry")
	}
	return trainer, nil
}

// SubmitFinetune submits a job, or finds it again when it was submitted before. Cancelled on its way it goes on for a
// while: a job that was made and not told of would train and cost with nobody to cancel it.
func (t *Trainers) SubmitFinetune(ctx context.Context, in SubmitInput) (TrainingJob, error) {
	defer newHeart(ctx).keep()()
	trainer, err := t.trainer(in.Model.Trainer)
	if err != nil {
		return TrainingJob{}, err
	}
	// The training file's digest is part of the key: other data under an old name is another job.
	key := fmt.Sprintf("%s/%02d/%s/%d/%.16s", in.Run, in.Iteration, in.Name, in.Attempt, revision(in)[len(in.Name)+1:])
	artifacts := fmt.Sprintf("runs/%s/%02d/train/%s-%d", in.Run, in.Iteration, in.Name, in.Attempt)
	callback := ""
	if t.Callback != nil {
		callback = t.Callback(in.Model.Trainer, activity.GetInfo(ctx).WorkflowExecution.ID)
	}
	ctx, done := outlive(ctx, submitGrace)
	defer done()
	id, err := trainer.Backend.Submit(ctx, finetune.Job{
		Key: key, BaseModel: in.Model.Base, Suffix: strings.ReplaceAll(in.Run, "/", "-") + "-" + in.Name, Training: in.Exported.Key, Validation: in.Exported.Validation,
		Examples: in.Exported.Examples, Hyper: hyper(in.Model.Hyper, in.Exported.Examples), Seed: in.Model.Hyper.Seed,
		Artifacts:   artifacts,
		MaxMicroUSD: in.MaxMicroUSD, Callback: callback,
	})
	if err != nil {
		return TrainingJob{}, tellTrainer(in.Model.Trainer, err)
	}
	job := TrainingJob{ID: id, Trainer: in.Model.Trainer, Queue: trainer.Queue}
	if trainer.HostTimeout > 0 {
		job.Host, job.HostTimeout, job.Artifacts = trainer.Host, trainer.HostTimeout, artifacts
	}
	if server, ok := t.Servers[serverName(in.Model)]; ok { // otherwise the deployment tells
		job.ServeQueue = server.Queue
	}
	return job, nil
}

// PollFinetune looks at a job once. Still at work it returns an error that the server retries after the trainer's pace,
// except when another tenth of the way is done, which is worth showing.
func (t *Trainers) PollFinetune(ctx context.Context, in PollInput) (TrainingStatus, error) {
	defer newHeart(ctx).keep()()
	trainer, err := t.trainer(in.Job.Trainer)
	if err != nil {
		return TrainingStatus{}, err
	}
	status, err := trainer.Backend.Poll(ctx, in.Job.ID)
	if err != nil {
		return TrainingStatus{}, tellTrainer(in.Job.Trainer, err)
	}
	out := TrainingStatus{Status: status}
	switch status.State {
	case finetune.StateSucceeded:
		out.Done = true
		t.clean(ctx, trainer, in.Job)
		return out, nil
	case finetune.StateFailed, finetune.StateCancelled:
		t.clean(ctx, trainer, in.Job)
		message := fmt.Sprintf("job %s of trainer %s %s: %s", in.Job.ID, in.Job.Trainer, status.State, status.Message)
		return out, temporal.NewApplicationErrorWithOptions(message, ErrTypeTrainerFailed, temporal.ApplicationErrorOptions{
			NonRetryable: true,
			Details:      []any{Trouble{Class: "trainer", Message: message, Way: "mend the cause at the trainer; retry submits a new job", SpentMicroUSD: status.CostMicroUSD}},
		})
	}
	if status.Steps > 0 && out.Tenths() > in.Shown {
		return out, nil
	}
	return out, temporal.NewApplicationErrorWithOptions(
		fmt.Sprintf("still %s: step %d of %d, loss %g", status.State, status.Step, status.Steps, status.Loss),
		ErrTypeTraining, temporal.ApplicationErrorOptions{NextRetryDelay: trainer.Poll, Category: temporal.ApplicationErrorCategoryBenign})
}

// CancelFinetune stops a job.
func (t *Trainers) CancelFinetune(ctx context.Context, job TrainingJob) error {
	defer newHeart(ctx).keep()()
	trainer, err := t.trainer(job.Trainer)
	if err != nil {
		return err
	}
	if err := trainer.Backend.Cancel(ctx, job.ID); err != nil {
		return tellTrainer(job.Trainer, err)
	}
	if _, ok := trainer.Backend.(finetune.Cleaner); !ok {
		return nil
	}
	// What it leaves can be taken away once it has ended, for which a while is waited.
	for deadline := time.Now().Add(partingTime); time.Now().Before(deadline); {
		status, err := trainer.Backend.Poll(ctx, job.ID)
		if err != nil || status.State.Terminal() {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	t.clean(ctx, trainer, job)
	return nil
}

// clean takes away what an ended job leaves at its trainer. What cannot be removed costs room, not the run: it is logged.
func (t *Trainers) clean(ctx context.Context, trainer Trainer, job TrainingJob) {
	cleaner, ok := trainer.Backend.(finetune.Cleaner)
	if !ok {
		return
	}
	if err := cleaner.Clean(ctx, job.ID); err != nil && activity.IsActivity(ctx) {
		activity.GetLogger(ctx).Warn("clean up after fine-tuning job", "job", job.ID, "trainer", job.Trainer, "error", err)
	}
}

// revision names what a model is: its base, its recipe and its training file.
func revision(in SubmitInput) string {
	about, err := json.Marshal(struct {
		Base  string
		Hyper config.Hyper
		File  string
	}{in.Model.Base, in.Model.Hyper, in.Exported.Digest})
	if err != nil {
		panic(err) // plain strings and numbers
	}
	sum := sha256.Sum256(about)
	return in.Name + "-" + hex.EncodeToString(sum[:8])
}

// hyper fills the paper's recipe for n examples in where the spec is silent.
func hyper(h config.Hyper, n int64) finetune.Hyper {
	out := finetune.PaperHyper(n)
	if h.BatchSize > 0 {
		out.BatchSize = h.BatchSize
	}
	if h.Epochs > 0 {
		out.Epochs, out.Steps = h.Epochs, 0
	}
	if h.Steps > 0 {
		out.Steps = h.Steps
	}
	if h.LearningRate > 0 {
		out.LearningRate = h.LearningRate
	}
	if h.LearningRateEnd > 0 {
		out.LearningRateEnd = h.LearningRateEnd
	}
	if h.WeightDecay > 0 {
		out.WeightDecay = h.WeightDecay
	}
	if h.Dropout > 0 {
		out.Dropout = h.Dropout
	}
	return out
}

// tellTrainer turns a trainer's error into one that the workflow understands.
func tellTrainer(name string, err error) error {
	switch finetune.ClassOf(err) {
	case finetune.ClassAuth:
		return blocked("auth", err, "give the workers a key that trainer "+name+" accepts, then retry")
	case finetune.ClassBudget:
		return blocked("budget", err, "raise the budget and the run goes on: starter set RUN --usd N")
	case finetune.ClassQuota:
		return blocked("quota", err, "raise the quota at trainer "+name+", then retry")
	case finetune.ClassPermanent, finetune.ClassNotFound:
		return blocked("trainer", err, "mend what trainer "+name+" objects to, then retry")
	}
	return err
}
