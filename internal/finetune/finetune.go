// Package finetune has models trained by somebody else and awaits them: one key never pays for two trainings.
package finetune

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxKey is the longest key of a job, in bytes. Providers keep it as a value of their metadata.
const MaxKey = 512

// Job is one training to be done: always from the base model, on one file of chat examples.
type Job struct {
	// Key names the job. Whoever submits the same key again means the same job. 1 to MaxKey bytes.
	Key string `json:"key"`
	// BaseModel is the model's name at the trainer.
	BaseModel string `json:"base_model"`
	// Suffix is a hint for the name of the result; backends shorten it and replace what they cannot express.
	Suffix string `json:"suffix"`
	// Training is the blob key of the training file: JSON lines {"messages": [{"role", "content"}, …]} in which
	// the last message is the assistant's. The object is never changed.
	Training string `json:"training"`
	// Examples is how many lines the training file has; 0 when unknown.
	Examples int64 `json:"examples"`
	// Validation is the blob key of a file of the same shape that is not trained on; "" for none.
	Validation string `json:"validation,omitempty"`
	// MaxMicroUSD is the most that the training may cost; nil for no bound. A backend that can tell the price before
	// it spends anything refuses a dearer job with ClassBudget; the others cannot keep it.
	MaxMicroUSD *int64 `json:"-"`
	// Callback is an address that wakes whoever waits for the job; "" for none. Only trainers that know of callbacks
	// are told.
	Callback string `json:"-"`
	Hyper    Hyper  `json:"hyperparameters"`
	Seed     int64  `json:"seed"`
	// Artifacts is the blob prefix, without a slash at its end, under which a backend leaves its results.
	// Two jobs never share one. Backends whose results stay at the provider ignore it.
	Artifacts string `json:"artifacts"`
}

// Validate reports what is missing in the job, as a permanent Error.
func (j Job) Validate() error {
	var wrong []string
	switch {
	case j.Key == "":
		wrong = append(wrong, "no key")
	case len(j.Key) > MaxKey:
		wrong = append(wrong, fmt.Sprintf("the key has %d bytes, %d are allowed", len(j.Key), MaxKey))
	case !utf8.ValidString(j.Key):
		wrong = append(wrong, "the key is not UTF-8")
	}
	if j.BaseModel == "" {
		wrong = append(wrong, "no base model")
	}
	if j.Training == "" {
		wrong = append(wrong, "no training file")
	}
	if len(wrong) == 0 {
		return nil
	}
	return &Error{Class: ClassPermanent, Code: "invalid_job", Message: strings.Join(wrong, "; ")}
}

// Name returns a name for the job that is safe as a file name, a label and a part of a URL: what is readable of
// the key, then 12 hexadecimal characters of its digest. Equal keys have equal names, others have others.
func (j Job) Name() string { return NameOf(j.Key) }

// DigestSize is how long the digest of a key is in names, in bytes.
const DigestSize = 12

// Digest returns the end of Job.Name that stands for the key alone: DigestSize hexadecimal characters.
func (j Job) Digest() string { return DigestIn(j.Name()) }

// DigestIn returns the digest at the end of a name or label; what is shorter is no such name.
func DigestIn(name string) string { return name[max(0, len(name)-DigestSize):] }

// Label returns what is readable of the job's suffix and the digest of its key, in at most most bytes: by it a job is found
// again at services that keep no metadata.
func (j Job) Label(most int) string {
	digest := j.Digest()
	readable := NameOf(j.Suffix)
	readable = strings.Trim(readable[:max(0, len(readable)-len(digest))], "-")
	readable = strings.Trim(readable[:min(len(readable), most-len(digest)-1)], "-")
	if readable == "" {
		return digest
	}
	return readable + "-" + digest
}

// NameOf returns the name of the job with this key. See Job.Name.
func NameOf(key string) string {
	const readable = 48
	var b strings.Builder
	for _, r := range strings.ToLower(key) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= readable {
			break
		}
	}
	sum := sha256.Sum256([]byte(key))
	digest := hex.EncodeToString(sum[:6])
	if slug := strings.Trim(b.String(), "-"); slug != "" {
		return slug + "-" + digest
	}
	return digest
}

// State is how far a job has come.
type State string

// The states of a job. Only the last three are terminal.
const (
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCancelled State = "cancelled"
)

// Terminal reports whether a job in this state stays in it.
func (s State) Terminal() bool {
	return s == StateSucceeded || s == StateFailed || s == StateCancelled
}

// Status is a job at a glance.
type Status struct {
	State State `json:"state"`
	// UnknownState is what the trainer said when it said something that is not understood. State is then
	// StateRunning: what is not understood never ends a job.
	UnknownState string `json:"unknown_state,omitempty"`
	Step         int    `json:"step"`  // training steps done; 0 when unknown
	Steps        int    `json:"steps"` // training steps in all; 0 when unknown
	// Loss is the newest training loss; 0 when unknown.
	Loss float64 `json:"loss,omitempty"`
	// Model is the result's name at the provider, once the job has succeeded.
	Model string `json:"model,omitempty"`
	// Artifact is the blob prefix that holds the results, complete once the job has succeeded; empty where they
	// stay at the provider.
	Artifact string `json:"artifact,omitempty"`
	// Message is the trainer's last word: of progress, or of why it failed. At most MaxMessage bytes.
	Message       string `json:"message,omitempty"`
	TrainedTokens int64  `json:"trained_tokens,omitempty"`
	CostMicroUSD  int64  `json:"cost_micro_usd,omitempty"` // meaningful when CostKnown
	CostKnown     bool   `json:"cost_known"`
	// NotExpressed lists what the recipe asks for and this backend cannot say, for manifest and report.
	NotExpressed []string `json:"not_expressed,omitempty"`
}

// MaxMessage bounds a trainer's words, in bytes, in Status.Message and Error.Message.
const MaxMessage = 4096

// Backend trains models. Implementations are safe for concurrent use and keep nothing in memory that they could
// not find again: a fresh value over the same outside world goes on where another one died.
//
// Implementations retry what passes by itself, for a bounded time; callers need not do so within one call.
// All errors are *Error or wrap a context's error.
type Backend interface {
	// Submit has the job trained and returns its id. It is idempotent by Key: while a job with this key stands at
	// the trainer, in whatever state, its id is returned and nothing is started or changed, also when the process
	// that submitted it died before it could note the id. To train again after a failure, use another key.
	Submit(ctx context.Context, job Job) (id string, err error)
	// Poll tells how the job is. It changes nothing that another Poll would not, and may be called at any time,
	// from any process that the backend's configuration reaches. An id that the trainer does not know is an
	// Error of ClassNotFound; a job that failed is no error but a Status.
	Poll(ctx context.Context, id string) (Status, error)
	// Cancel stops the job. It is idempotent, and no error for a job that has ended already. When it returns nil,
	// the job has ended or is about to: Poll tells StateCancelled in the end, unless the job ended first.
	Cancel(ctx context.Context, id string) error
}

// Cleaner is a Backend that can take away what a job leaves behind: uploaded training files, checkpoints.
type Cleaner interface {
	// Clean removes what nobody needs once the job has ended: not the result, and after a failure not what helps to
	// find its cause. It is idempotent, does nothing while the job runs, and the job stands under its key as before:
	// Poll and Submit answer the same.
	Clean(ctx context.Context, id string) error
}

// Class says what a caller can do about an error. It is a plain word, so that it survives being sent.
type Class string

// Classes of errors.
const (
	ClassPermanent Class = "permanent" // the request is wrong: again would fail again
	ClassAuth      Class = "auth"      // the key is missing, refused or may not do this: a person must act
	ClassQuota     Class = "quota"     // money or quota is used up: a person must act
	ClassPassing   Class = "passing"   // a bounded number of retries did not help: try again later
	ClassNotFound  Class = "not_found" // the trainer does not know this job
	ClassBudget    Class = "budget"    // the job would cost more than Job.MaxMicroUSD: nothing was started
)

// Error is what went wrong at a trainer, in its own words, without keys.
type Error struct {
	Class   Class
	Status  int    // HTTP status; 0 where there was none
	Code    string // the trainer's own code, where it has one
	Message string // at most MaxMessage bytes
	// RetryAfter is how many seconds the trainer asked to be left alone; 0 when it did not say.
	RetryAfter int
	Err        error // what caused it, where it was not the trainer
}

// Error returns the message with its code and status.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Class))
	if e.Status != 0 {
		fmt.Fprintf(&b, ", status %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(", " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the *Error in err's chain, or "" when there is none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// Clip shortens a trainer's words to MaxMessage bytes, keeping their end, where the reason usually stands. Bytes
// that are not UTF-8 and control characters other than tabs and line ends are replaced.
func Clip(words string) string {
	words = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || (r < ' ' && r != '\n' && r != '\t') || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(words, "\uFFFD"))
	words = strings.TrimSpace(words)
	if len(words) <= MaxMessage {
		return words
	}
	words = words[len(words)-MaxMessage+len("…"):]
	for len(words) > 0 && !utf8.RuneStart(words[0]) {
		words = words[1:]
	}
	return "…" + words
}
