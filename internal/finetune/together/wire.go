package together

import (
	"fmt"
	"math"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
)

// create is the body of POST /fine-tunes.
type create struct {
	TrainingFile   string     `json:"training_file"`
	ValidationFile string     `json:"validation_file,omitempty"`
	Model          string     `json:"model"`
	Packing        bool       `json:"packing"` // false: packed sequences would make another batch size
	Epochs         int        `json:"n_epochs"`
	Checkpoints    int        `json:"n_checkpoints"`
	Evals          int        `json:"n_evals"`
	BatchSize      any        `json:"batch_size"` // a number, or "max"
	LearningRate   float64    `json:"learning_rate,omitempty"`
	Scheduler      *scheduler `json:"lr_scheduler,omitempty"`
	WarmupRatio    float64    `json:"warmup_ratio"`
	WeightDecay    float64    `json:"weight_decay"`
	RandomSeed     int64      `json:"random_seed"`
	Suffix         string     `json:"suffix"`
	Method         method     `json:"training_method"`
	Type           kind       `json:"training_type"`
}

type scheduler struct {
	Type string `json:"lr_scheduler_type"`
	Args struct {
		MinRatio float64 `json:"min_lr_ratio"`
	} `json:"lr_scheduler_args"`
}

type method struct {
	Method        string `json:"method"`
	TrainOnInputs any    `json:"train_on_inputs"` // false, or "auto" in answers
}

type kind struct {
	Type    string  `json:"type"` // Full or Lora
	Rank    int     `json:"lora_r,omitempty"`
	Alpha   int     `json:"lora_alpha,omitempty"`
	Dropout float64 `json:"lora_dropout,omitempty"`
	Modules string  `json:"lora_trainable_modules,omitempty"`
}

// Bounds of the service.
const (
	maxEpochs       = 20
	maxSuffix       = 40
	cancelRequested = "cancel_requested"
)

func (b *Backend) createOf(job finetune.Job) create {
	h := job.Hyper
	c := create{
		Model: job.BaseModel, Epochs: epochsOf(h, job.Examples), Checkpoints: 1, BatchSize: "max", LearningRate: h.LearningRate,
		WeightDecay: h.WeightDecay, RandomSeed: int64(uint64(job.Seed) % (math.MaxInt32 + 1)), Suffix: job.Label(maxSuffix),
		Method: method{Method: "sft", TrainOnInputs: false}, Type: kind{Type: "Full"},
	}
	if h.BatchSize > 0 {
		c.BatchSize = h.BatchSize
	}
	if h.LearningRate > 0 && h.LearningRateEnd > 0 {
		c.Scheduler = &scheduler{Type: "linear"}
		c.Scheduler.Args.MinRatio = h.LearningRateEnd / h.LearningRate
	}
	if b.cfg.LoRA > 0 {
		c.Type = kind{Type: "Lora", Rank: b.cfg.LoRA, Alpha: 2 * b.cfg.LoRA, Dropout: h.Dropout, Modules: "all-linear"}
	}
	return c
}

// epochsOf returns the whole number of passes nearest to the recipe.
func epochsOf(h finetune.Hyper, examples int64) int {
	return min(max(int(math.Round(h.Passes(examples))), 1), maxEpochs)
}

// wireJob is a job as the service tells it, less what is not needed.
type wireJob struct {
	ID             string     `json:"id"`
	Status         string     `json:"status"`
	CreatedAt      string     `json:"created_at"`
	Model          string     `json:"model"`
	OutputName     string     `json:"model_output_name"`
	Suffix         string     `json:"suffix"`
	TrainingFile   string     `json:"training_file"`
	ValidationFile string     `json:"validation_file"`
	Epochs         int        `json:"n_epochs"`
	Scheduler      *scheduler `json:"lr_scheduler"`
	Type           *kind      `json:"training_type"`
	Tokens         int64      `json:"token_count"`
	TotalPrice     int64      `json:"total_price"`
	Events         []event    `json:"events"`
}

// Ident implements rest.Identified.
func (j wireJob) Ident() string { return j.ID }

// isFor reports whether the job was submitted under the key: by its suffix, or by the name of its result.
func (j *wireJob) isFor(job finetune.Job) bool {
	digest := job.Digest()
	return strings.HasSuffix(j.Suffix, digest) || j.Suffix == "" && strings.Contains(j.OutputName, "-"+digest+"-")
}

// notExpressed lists what of the recipe the API has no words for.
func (j *wireJob) notExpressed() []string {
	out := []string{fmt.Sprintf("steps: whole passes over the data (%d) instead of steps", j.Epochs)}
	if j.Type == nil || j.Type.Type != "Lora" {
		out = append(out, "dropout: the service has it for adapters only")
	}
	return out
}

func stateOf(status string) (state finetune.State, unknown string) {
	switch status {
	case "completed":
		return finetune.StateSucceeded, ""
	case "error", "failed", "user_error":
		return finetune.StateFailed, ""
	case "cancelled":
		return finetune.StateCancelled, ""
	case "running", "compressing", "uploading", cancelRequested:
		return finetune.StateRunning, ""
	case "pending", "queued":
		return finetune.StateQueued, ""
	}
	if status == "" {
		status = "(none)"
	}
	return finetune.StateRunning, status
}

// event is something that happened to a job.
type event struct {
	CreatedAt string `json:"created_at"`
	Level     string `json:"level"`
	Message   string `json:"message"`
	Type      string `json:"type"`
	Step      int    `json:"step"`
	Steps     int    `json:"total_steps"`
}

// Ident implements rest.Identified; events have no cursor.
func (event) Ident() string { return "" }

// progress fills in the furthest step and returns the newest words: those of an error before those of anything else.
func progress(st *finetune.Status, events []event) (words string) {
	failure := ""
	newest, newestFailure := "", ""
	for _, e := range events {
		if e.Step > st.Step && e.Step < math.MaxInt32 {
			st.Step = e.Step
		}
		if e.Steps > st.Steps && e.Steps < math.MaxInt32 {
			st.Steps = e.Steps
		}
		if e.Message == "" {
			continue
		}
		if e.CreatedAt >= newest {
			newest, words = e.CreatedAt, e.Message
		}
		failed := strings.HasSuffix(strings.ToLower(e.Level), "error") || strings.EqualFold(e.Type, "job_error") || strings.EqualFold(e.Type, "billing_limit")
		if failed && e.CreatedAt >= newestFailure {
			newestFailure, failure = e.CreatedAt, e.Message
		}
	}
	if failure != "" {
		return failure
	}
	return words
}
