package openai

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// wireJob is a fine-tuning job as the API tells it, less what is not needed.
type wireJob struct {
	ID              string      `json:"id"`
	Model           string      `json:"model"`
	CreatedAt       int64       `json:"created_at"`
	FineTunedModel  string      `json:"fine_tuned_model"`
	Status          string      `json:"status"`
	TrainingFile    string      `json:"training_file"`
	ValidationFile  string      `json:"validation_file"`
	TrainedTokens   int64       `json:"trained_tokens"`
	Suffix          string      `json:"suffix"`
	UserSuffix      string      `json:"user_provided_suffix"`
	Seed            *int64      `json:"seed"`
	Metadata        texts       `json:"metadata"`
	Error           *rest.Fault `json:"error"`
	Hyperparameters wireHyper   `json:"hyperparameters"`
	Method          *wireMethod `json:"method"`
}

// wireHyper keeps what is sent or read as it is: a provider may answer "auto" in place of a number.
type wireHyper struct {
	Epochs    any `json:"n_epochs,omitempty"`
	BatchSize any `json:"batch_size,omitempty"`
}

type wireMethod struct {
	Type       string `json:"type"`
	Supervised struct {
		Hyperparameters wireHyper `json:"hyperparameters"`
	} `json:"supervised"`
}

// texts is an object of strings; whatever else a provider puts there reads as empty.
type texts map[string]string

func (m *texts) UnmarshalJSON(b []byte) error {
	var fields map[string]any
	if json.Unmarshal(b, &fields) != nil {
		return nil //nolint:nilerr // reads as empty
	}
	*m = texts{}
	for k, v := range fields {
		if s, ok := v.(string); ok {
			(*m)[k] = s
		}
	}
	return nil
}

type wireCreate struct {
	Model          string            `json:"model"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile string            `json:"validation_file,omitempty"`
	Suffix         string            `json:"suffix,omitempty"`
	Seed           int64             `json:"seed"`
	Metadata       map[string]string `json:"metadata"`
	Method         wireMethod        `json:"method"`
}

// Bounds that OpenAI states for its hyperparameters.
const (
	maxEpochs = 50
	maxBatch  = 256
	maxSuffix = 40
	maxSeed   = math.MaxInt32
)

func wireCreateOf(job finetune.Job, file trainfile.IDs) wireCreate {
	c := wireCreate{
		Model: job.BaseModel, TrainingFile: file.Training, ValidationFile: file.Validation, Suffix: job.Label(maxSuffix), Seed: seedOf(job.Seed),
		Metadata: map[string]string{MetadataKey: job.Key}, Method: wireMethod{Type: "supervised"},
	}
	h := &c.Method.Supervised.Hyperparameters
	if n := epochsOf(job.Hyper, job.Examples); n > 0 {
		h.Epochs = n
	}
	if n := min(job.Hyper.BatchSize, maxBatch); n > 0 {
		h.BatchSize = n
	}
	return c
}

// epochsOf returns the whole number of passes nearest to the recipe, or 0 when the recipe leaves it open.
func epochsOf(h finetune.Hyper, examples int64) int {
	passes := h.Passes(examples)
	if passes <= 0 {
		return 0
	}
	return min(max(int(math.Round(passes)), 1), maxEpochs)
}

// seedOf folds a seed into the range that providers take.
func seedOf(seed int64) int64 {
	if seed >= 0 && seed <= maxSeed {
		return seed
	}
	return int64(uint64(seed) % maxSeed)
}

// isFor reports whether the job was submitted under the key of want. Metadata decide where they are kept; else the
// training file, which is made for one key, or the suffix, which carries its digest.
func (j *wireJob) isFor(want finetune.Job, file string) bool {
	if key, ok := j.Metadata[MetadataKey]; ok {
		return key == want.Key
	}
	if file != "" && j.TrainingFile == file {
		return true
	}
	suffix := want.Label(maxSuffix)
	return j.Suffix == suffix || j.UserSuffix == suffix || strings.Contains(j.FineTunedModel, ":"+suffix+":")
}

// digest returns that of the key under which the job was submitted, "" where nothing tells.
func (j *wireJob) digest() string {
	if key, ok := j.Metadata[MetadataKey]; ok {
		return finetune.Job{Key: key}.Digest()
	}
	return finetune.DigestIn(max(j.Suffix, j.UserSuffix))
}

// stateOf maps a provider's state. What is not known runs.
func stateOf(status string) (state finetune.State, unknown string) {
	switch status {
	case "succeeded":
		return finetune.StateSucceeded, ""
	case "failed":
		return finetune.StateFailed, ""
	case "cancelled", "canceled":
		return finetune.StateCancelled, ""
	case "running":
		return finetune.StateRunning, ""
	case "queued", "validating_files", "pending", "created":
		return finetune.StateQueued, ""
	}
	if status == "" {
		status = "(none)"
	}
	return finetune.StateRunning, status
}

// notExpressed lists what of the recipe the API has no words for. The job itself tells what was sent, so that any
// process can answer.
func (b *Backend) notExpressed(j wireJob) []string {
	h := j.Hyperparameters
	if j.Method != nil && j.Method.Supervised.Hyperparameters != (wireHyper{}) {
		h = j.Method.Supervised.Hyperparameters
	}
	passes := "whole passes over the data instead of steps"
	if n, ok := h.Epochs.(float64); ok {
		passes = "whole passes over the data (" + strconv.FormatFloat(n, 'f', -1, 64) + ") instead of steps"
	}
	return []string{
		"steps: " + passes,
		"learning_rate, learning_rate_end: the provider chooses its own rate and schedule",
		"weight_decay: the provider chooses",
		"dropout: the provider chooses",
	}
}

type wireEvent struct {
	ID        string          `json:"id"`
	CreatedAt int64           `json:"created_at"`
	Level     string          `json:"level"`
	Message   string          `json:"message"`
	Type      string          `json:"type"`
	Data      json.RawMessage `json:"data"`
}

type wireMetrics struct {
	Step       float64 `json:"step"`
	TotalSteps float64 `json:"total_steps"`
	TrainLoss  float64 `json:"train_loss"`
}

var stepWords = regexp.MustCompile(`(?i)step (\d{1,9})(?:/(\d{1,9}))?:.*?(?:training |train )?loss[=: ]+([0-9][0-9.eE+-]{0,20})`)

// progress fills in step, steps and loss from the furthest event and returns the newest words: those of an error
// before those of anything else.
func progress(st *finetune.Status, events []wireEvent) (words string) {
	var newest, newestErr int64 = -1, -1
	var failure string
	for _, e := range events {
		if e.Message != "" && e.CreatedAt > newest {
			newest, words = e.CreatedAt, e.Message
		}
		if e.Level == "error" && e.Message != "" && e.CreatedAt > newestErr {
			newestErr, failure = e.CreatedAt, e.Message
		}
		var m wireMetrics
		if len(e.Data) == 0 || json.Unmarshal(e.Data, &m) != nil || m.Step <= 0 {
			parts := stepWords.FindStringSubmatch(e.Message)
			if parts == nil {
				continue
			}
			m.Step, _ = strconv.ParseFloat(parts[1], 64)
			m.TotalSteps, _ = strconv.ParseFloat(parts[2], 64)
			m.TrainLoss, _ = strconv.ParseFloat(parts[3], 64)
		}
		if m.Step > math.MaxInt32 || m.TotalSteps > math.MaxInt32 {
			continue
		}
		if int(m.Step) >= st.Step {
			st.Step = int(m.Step)
			if m.TrainLoss > 0 && !math.IsInf(m.TrainLoss, 0) {
				st.Loss = m.TrainLoss
			}
		}
		st.Steps = max(st.Steps, int(m.TotalSteps))
	}
	if failure != "" {
		return failure
	}
	return words
}
