// Package workflows decides what happens next in a run, never how.
package workflows

import (
	"time"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/report"
)

// Roles of workers. A role's task queue is QueueName(prefix, role).
const (
	RoleControl = "control" // workflows and short activities that read and write S3
	RoleLLM     = "llm"     // partitions of model calls
	RoleCPU     = "cpu"     // ingest, selection, export
	RoleTrain   = "train"   // local trainers
)

// QueueName returns the task queue of a role, such as selfalign-llm.
func QueueName(prefix, role string) string { return prefix + "-" + role }

// Type names under which workflows are registered and started.
const (
	TypeSelfTrain = "SelfTrain"
	TypeIngest    = "Ingest"
	TypeStage     = "Stage"
	TypeRange     = "Range"
	TypeFinetune  = "Finetune"
	TypeEvaluate  = "Evaluate"

	TypeNearDuplicates = "NearDuplicates"
)

// Names of the updates and queries of a SelfTrain workflow, and their payloads.
const (
	// UpdatePause stops new work in at most 5 s. No payload; answers with a Status.
	UpdatePause = "pause"
	// UpdateResume goes on after a pause. No payload; answers with a Status.
	UpdateResume = "resume"
	// UpdateApprove opens the gate that the run waits at. Payload Approval; answers with a Status.
	UpdateApprove = "approve"
	// UpdateSet changes what may change in a running run. Payload Settings; answers with a Status.
	UpdateSet = "set"
	// UpdateRetry tries again what blocked the run. No payload; answers with a Status.
	UpdateRetry = "retry"
	// QueryStatus answers with a Status.
	QueryStatus = "status"
	// QueryProgress is answered by the Stage and Range workflows of a run, with a StageView and a RangeView.
	QueryProgress = "progress"
)

// Approval opens or refuses a gate.
type Approval struct {
	Gate   string `json:"gate"`   // "" is the gate that the run waits at
	Reject bool   `json:"reject"` // at a finetune gate it ends the run as cancelled, at the others with what it has
	By     string `json:"by"`
}

// Settings are the changes of UpdateSet; a nil field stays as it is.
type Settings struct {
	Budget     *config.Budget `json:"budget,omitempty"`
	InFlight   *int           `json:"in_flight,omitempty"`
	Threshold  *float64       `json:"threshold,omitempty"`  // for selections not made yet
	Iterations *int           `json:"iterations,omitempty"` // not below the current one
}

// SelfTrainInput starts a run. Its workflow id is the run's name.
type SelfTrainInput struct {
	Spec   config.Run `json:"spec"`            // complete: defaults filled in, sources in S3, prompts inlined
	Digest string     `json:"digest"`          // of the spec
	Queue  string     `json:"queue"`           // prefix of the task queues
	Search bool       `json:"search"`          // the namespace has the search attributes, so that they may be set
	Drift  bool       `json:"drift,omitempty"` // compares each curated set with the one before; false in runs begun before there was that
	// Withdraw cancels a cancelled run's batches at the endpoint; false in runs begun before there was that.
	Withdraw bool `json:"withdraw,omitempty"`
	// Clean keeps instructions that share text with an evaluation set out of A, before any is rated; false in runs begun before
	// there was that, where a selection does.
	Clean  bool   `json:"clean,omitempty"`
	Resume *State `json:"resume,omitempty"` // what earlier executions of this run, or the run it was forked from, reached
}

// State is what a run carries from one execution to the next: references and counters.
type State struct {
	Iteration  int                `json:"iteration"` // to be done next; 0 makes A and M0
	Seeds      dataset.Ref        `json:"seeds"`
	Segments   dataset.Ref        `json:"segments"`
	Candidates dataset.Ref        `json:"candidates"`
	Base       dataset.Ref        `json:"base"`     // D as a training set
	Training   dataset.Ref        `json:"training"` // what the newest model was trained on
	Models     []dataset.ModelRef `json:"models"`   // M0, M1, …
	Backward   dataset.ModelRef   `json:"backward"` // Myx
	Sets       []IterationSummary `json:"sets"`
	Trainings  []report.Training  `json:"trainings"`         // every fine-tuning job that ended well
	Serving    []Serving          `json:"serving,omitempty"` // models that were deployed and have to be torn down
	Settings   Settings           `json:"settings"`          // changes made by updates
	Paused     bool               `json:"paused"`
	Report     string             `json:"report,omitempty"` // s3:// address of the newest report
	StartedAt  time.Time          `json:"started_at"`
	Stages     []StageStatus      `json:"stages"`

	Results  []dataset.Ref          `json:"results,omitempty"` // of a recipe
	Pushed   []activities.Published `json:"pushed,omitempty"`
	HeldTo   string                 `json:"held_to,omitempty"` // seeds with ids up to this are held out for the gate
	Held     int                    `json:"held,omitempty"`    // so many
	Labelled dataset.Ref            `json:"labelled,omitzero"` // ratings of the labelled set by the newest judge
	Result   dataset.ModelRef       `json:"result,omitzero"`   // what a gate rolled back to
	Ending   *Ending                `json:"ending,omitempty"`  // why it ended early
}

// IterationSummary is what one iteration made.
type IterationSummary struct {
	Iteration int              `json:"iteration"`
	Ratings   dataset.Ref      `json:"ratings"`
	Training  dataset.Ref      `json:"training"`
	Selected  int64            `json:"selected"`  // rows of A_k
	Threshold float64          `json:"threshold"` // k
	Judge     dataset.ModelRef `json:"judge"`
	Model     dataset.ModelRef `json:"model"`
	Histogram map[string]int64 `json:"histogram"`
	// Calibration is how the judge did on pairs known to be good or bad; nil when it was not tried out.
	Calibration *eval.Calibration `json:"calibration,omitempty"`
	Labelled    *eval.Judged      `json:"labelled,omitempty"`   // its judge on the labelled set
	Drift       *eval.Drift       `json:"drift,omitempty"`      // against the curated set of the iteration before
	Evaluation  *eval.Result      `json:"evaluation,omitempty"` // of its model
	Gate        *eval.Verdict     `json:"gate,omitempty"`       // its model against the one before
}

// Phases of a run, as Status tells them.
const (
	PhaseRunning   = "running"
	PhasePaused    = "paused"
	PhaseBlocked   = "blocked"  // in trouble: Message says what to do, retry goes on
	PhaseApproval  = "approval" // waits for a person at a gate
	PhaseCompleted = "completed"
	PhaseConverged = "converged" // completed early: the training set did not change
	PhaseCancelled = "cancelled"
)

// Status is a run at a glance.
type Status struct {
	Run        string             `json:"run"`
	Phase      string             `json:"phase"`
	Message    string             `json:"message"` // what it waits for, and the way out
	Gate       string             `json:"gate,omitempty"`
	Iteration  int                `json:"iteration"`
	Iterations int                `json:"iterations"`
	StartedAt  time.Time          `json:"started_at"`
	UpdatedAt  time.Time          `json:"updated_at"`
	Stages     []StageStatus      `json:"stages"` // in the order in which they began
	Sets       []IterationSummary `json:"sets"`
	Spent      dataset.Usage      `json:"spent"`
	InDoubt    dataset.Usage      `json:"in_doubt"`
	// Unpriced is how many trainings have a cost that nobody told: they are not in Spent.
	Unpriced  int           `json:"unpriced,omitempty"`
	Budget    config.Budget `json:"budget"`
	Set       *Settings     `json:"set,omitempty"`    // what updates changed, in force in place of the spec's
	Report    string        `json:"report,omitempty"` // s3:// address of the newest report
	Distilled bool          `json:"distilled"`        // a fixed judge rated, not the model itself
	// Calibration is that of the current iteration, whose set is not there yet.
	Calibration *eval.Calibration `json:"calibration,omitempty"`
	// Warnings are what a person should look at, though the run goes on.
	Warnings []string `json:"warnings,omitempty"`
	// Recipe says which workflow it is, "" for SelfTrain.
	Recipe string `json:"recipe,omitempty"`
	// Results are the datasets that a recipe made, and Pushed says where they went.
	Results []dataset.Ref          `json:"results,omitempty"`
	Pushed  []activities.Published `json:"pushed,omitempty"`
	// EndedBy is the rule by which the run ended, such as EndedIterations or EndedPlateau; Message tells more where it ended early.
	EndedBy string `json:"ended_by,omitempty"`
	// Result is the model that the run gives, once it ended well.
	Result *dataset.ModelRef `json:"result,omitempty"`
	// Evaluation and Scaling are what an Evaluate workflow came to.
	Evaluation *eval.Result `json:"evaluation,omitempty"`
	Scaling    *eval.Scaled `json:"scaling,omitempty"`
	// Serving are the models that the run deployed and how to deploy them again, for evaluations.
	Serving []Serving `json:"serving,omitempty"`
}

// States of a stage.
const (
	StageRunning = "running"
	StageDone    = "done"
	StageStopped = "stopped"
)

// GateFinetune is the gate before every fine-tuning job.
const GateFinetune = "finetune"

// Signals that child workflows send to their run.
const (
	SignalProgress = "progress" // payload RangeProgress
	SignalTraining = "training" // payload TrainProgress
)

// SignalEnded tells a Finetune workflow to look at its job now, since it has ended. No payload.
const SignalEnded = "ended"

// StageStatus is the progress of one step of a run: ingest, a stage over a dataset, a fine-tuning job …
type StageStatus struct {
	Key        string           `json:"key"`  // iteration and name
	Name       string           `json:"name"` // ingest segments, train myx, augment, rate, select, train m1 …
	Iteration  int              `json:"iteration"`
	State      string           `json:"state"` // StageRunning, StageDone or StageStopped
	Unit       string           `json:"unit"`  // rows, documents or steps
	Done       int64            `json:"done"`
	Total      int64            `json:"total"`
	Rejected   int64            `json:"rejected"`
	Reused     int64            `json:"reused"` // rows answered from the ledger
	Usage      dataset.Usage    `json:"usage"`
	InDoubt    dataset.Usage    `json:"in_doubt"`
	Histogram  map[string]int64 `json:"histogram,omitempty"`
	Loss       float64          `json:"loss,omitempty"`
	Detail     string           `json:"detail,omitempty"`
	Answers    dataset.Answers  `json:"answers,omitzero"`      // of models, as they could be read
	WorkflowID string           `json:"workflow_id,omitempty"` // the child workflow that does it
	Queue      string           `json:"queue,omitempty"`       // whose workers do it, where it is not the usual one
	StartedAt  time.Time        `json:"started_at"`
	ResumedAt  time.Time        `json:"resumed_at,omitzero"` // when it went on after it had stopped
	Before     int64            `json:"before,omitempty"`    // done when it went on
	EndedAt    time.Time        `json:"ended_at"`
}
