// Package stage does one task over one partition: every row is asked about once, paid for once, and accounted for.
//
// The answers already in the ledger are taken from there; what is missing is asked through a sliding window of calls; rows
// are made from the ledger's entries alone, so the partition's bytes do not depend on how bumpy the way was.
package stage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
	"github.com/selfalign/selfalign/internal/prompt"
)

// NoCap in a field of a Budget bounds nothing.
const NoCap = -1

// Why a partition is handed back unfinished. All that was answered is in the ledger.
const (
	StopBudget    = "budget"    // the next call could have crossed the budget
	StopCancelled = "cancelled" // the context ended; calls in flight were finished first
)

// DefaultInFlight is how many calls of a partition are in flight when Work does not say.
const DefaultInFlight = 64

// Work is a task over one partition.
type Work struct {
	Task       string           `json:"task"` // one of Tasks
	Run        string           `json:"run"`  // for logs
	Input      dataset.Ref      `json:"input"`
	Output     string           `json:"output"`    // folder of the dataset that is made; who pays, in the ledger
	Partition  int              `json:"partition"` // of input and output alike
	Model      dataset.ModelRef `json:"model"`
	Sampling   Sampling         `json:"sampling"`
	Samples    int              `json:"samples"`            // answers wanted to each question; 0: 1
	Attempts   int              `json:"attempts"`           // times that a question is asked until its answer can be read; 0: 1
	Prompt     string           `json:"prompt"`             // text of the user's template; "" is the embedded one
	Method     string           `json:"method,omitempty"`   // how a rating is taken: MethodText, also when empty, MethodLogProbs or MethodJSON
	Rubric     string           `json:"rubric,omitempty"`   // of the embedded rating template: RubricPoints, also when empty, or RubricAdditive
	Iteration  int              `json:"iteration"`          // goes into the rows
	KeepCut    bool             `json:"keep_cut,omitempty"` // TaskRespond: an answer that ends at max_tokens is one
	InFlight   int              `json:"in_flight"`          // its share of calls in flight, see seats.go; 0: DefaultInFlight
	Budget     Budget           `json:"budget"`
	Delivery   string           `json:"delivery,omitempty"`   // how questions reach the endpoint; "" is DeliveryLive
	Evaluation string           `json:"evaluation,omitempty"` // backtranslate: key of the evaluation sets that instructions share nothing with; "": any may stay
	Within     time.Duration    `json:"within,omitempty"`     // deadline of the whole stage, from its beginning; 0: none
	Until      time.Time        `json:"until,omitzero"`       // the same as a moment: what no batch would bring by then is asked live

	chat string // digest of the chat template that questions are rendered with; "": none
}

// The ways in which questions reach an endpoint. Answers are the same ones in the ledger, whichever way they came.
const (
	DeliveryLive  = "live"  // one call each, at once
	DeliveryBatch = "batch" // many in a file, through the Batch API: within 24 hours, at a lower price
	DeliveryAuto  = "auto"  // batch where the provider has the Batch API, is cheaper there, and the deadline leaves time; else live
)

// Sampling is how the model is asked.
type Sampling struct {
	Temperature float64 `json:"temperature"`
	TopP        float64 `json:"top_p"`
	MaxTokens   int     `json:"max_tokens"` // of an answer; at least 1
}

// Budget bounds what may be paid for a partition, over all attempts at it and with what is in doubt. A field of NoCap
// bounds nothing; the zero value allows no call at all.
type Budget struct {
	Calls        int64 `json:"calls"`
	Tokens       int64 `json:"tokens"` // of prompts and answers together
	MicroUSD     int64 `json:"micro_usd"`
	RequirePrice bool  `json:"require_price,omitempty"` // refuse to ask a model of unknown price; so does a cap on money
}

// Unlimited is a budget without caps.
func Unlimited() Budget { return Budget{Calls: NoCap, Tokens: NoCap, MicroUSD: NoCap} }

// Result is what became of a partition in one attempt.
type Result struct {
	Receipt dataset.Receipt `json:"receipt"`        // set when Done
	Done    bool            `json:"done"`           // the partition stands
	Stop    string          `json:"stop,omitempty"` // why it does not, when there is no error
	Asked   int64           `json:"asked"`          // calls made by this attempt
	Spent   dataset.Usage   `json:"spent"`          // by all attempts at this partition
	InDoubt dataset.Usage   `json:"in_doubt"`       // what they may have been billed besides
}

// Progress is how far an attempt has come. It stays under 1 KB of JSON.
type Progress struct {
	Partition int              `json:"partition"`
	Rows      int64            `json:"rows"`  // dealt with, rejected ones included
	Total     int64            `json:"total"` // 0 until the input is read
	Reused    int64            `json:"reused"`
	Rejected  int64            `json:"rejected"`
	Asked     int64            `json:"asked"` // calls that ended
	InFlight  int64            `json:"in_flight"`
	Paid      ledger.Spending  `json:"paid"` // by all attempts at this partition; calls in flight are in doubt
	Histogram map[string]int64 `json:"histogram,omitempty"`
	Waiting   string           `json:"waiting,omitempty"` // what the attempt waits for, if anything is wrong
}

// Deps is what a stage works with.
type Deps struct {
	Store  *blob.Store
	Models *llm.Pool
	Log    *slog.Logger // nil: silent

	// Templates are those of the providers' tokenizers. nil: none has one.
	Templates *Templates

	// BatchWait is how long an attempt waits for a batch that it has sent. Then it hands the partition back with a
	// retryable *Error of llm.ClassYield; the batch goes on, and another attempt finds it. 0: for as long as it takes.
	BatchWait time.Duration
	// BatchPoll is the longest time between two looks at a batch. 0: 30 s.
	BatchPoll time.Duration

	// Evaluation returns the evaluation sets that are listed under a key. Errors are told as they are. nil where no work names any.
	Evaluation func(ctx context.Context, key string) (EvaluationSets, error)

	batchSizes batch.Sizes // tests cut sooner
	render     func([]llm.Message) (string, error)
	post       *post // nil: questions are asked live
}

// EvaluationSets are texts that training data must not hold.
type EvaluationSets struct {
	Names []string
	Find  func(text string) (sets []string, detail string) // those that a text shares an n-gram with, and how a reject says so
}

// Count returns a count of each set, from 0: that nothing was found is worth knowing.
func (s EvaluationSets) Count() map[string]int64 {
	count := make(map[string]int64, len(s.Names))
	for _, name := range s.Names {
		count[name] = 0
	}
	return count
}

// Run does the work, unless the output stands: then its receipt is returned at once. progress, which may be nil, is called
// about every second from one goroutine and must not block.
//
// A partition is handed back without an error when its budget is used up and when ctx ends (Result.Stop says which; calls in
// flight are finished first, for at most 30 seconds). Errors of type *Error say what a person or a scheduler can do. In every
// case all answers are in the ledger when Run returns, and Result says what was paid.
func Run(ctx context.Context, d Deps, w Work, progress func(Progress)) (Result, error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	t, err := w.check()
	if err != nil {
		return Result{}, &Error{Class: ClassSetting, Err: err, Way: "correct the run's spec"}
	}
	receipt, err := dataset.ReadReceipt(ctx, d.Store, w.Output, w.Partition)
	if err == nil {
		return standing(receipt), nil
	}
	if !errors.Is(err, blob.ErrNotFound) {
		return stopped(ctx, Result{}, err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := w.settleChat(ctx, &d); err != nil {
		return stopped(ctx, Result{}, err)
	}
	if byPost, err := w.byPost(d); err != nil {
		return Result{}, err
	} else if byPost {
		return runByPost(ctx, d, w, t, progress)
	}
	r, err := t.run(ctx, d, w, progress)
	for errors.Is(err, errOut) {
		if r, err = takeHome(ctx, d, w, t, progress); r.Stop == "" && err == nil {
			r, err = t.run(ctx, d, w, progress)
		}
	}
	return r, err
}

func standing(r dataset.Receipt) Result {
	return Result{Receipt: r, Done: true, Spent: r.Usage, InDoubt: r.InDoubt}
}

// stopped turns an error into a result where it only says that the context ended.
func stopped(ctx context.Context, r Result, err error) (Result, error) {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		r.Stop = StopCancelled
		return r, nil
	}
	return r, err
}

// check fills in defaults and returns the task.
func (w *Work) check() (runner, error) {
	t, ok := w.runner()
	switch {
	case !ok:
		return nil, fmt.Errorf("unknown task %q (known: %s)", w.Task, strings.Join(Tasks(), ", "))
	case w.Input.IsZero() || w.Output == "":
		return nil, errors.New("input and output must be named")
	case w.Partition < 0 || w.Partition >= w.Input.Partitions():
		return nil, fmt.Errorf("partition %d: the input has %d", w.Partition, w.Input.Partitions())
	case w.Model.Name == "":
		return nil, errors.New("model must be named")
	case w.Sampling.MaxTokens < 1:
		return nil, fmt.Errorf("max_tokens must be at least 1 (got %d)", w.Sampling.MaxTokens)
	case !slices.Contains([]string{"", DeliveryLive, DeliveryBatch, DeliveryAuto}, w.Delivery):
		return nil, fmt.Errorf("delivery must be live, batch or auto (got %q)", w.Delivery)
	case w.Samples < 0 || w.Samples > 1000 || w.Attempts < 0 || w.Attempts > 1000 || w.InFlight < 0:
		return nil, fmt.Errorf("samples, attempts and in_flight must be from 0 to 1000 (got %d, %d, %d)", w.Samples, w.Attempts, w.InFlight)
	}
	if err := w.plainMethod(t); err != nil {
		return nil, err
	}
	if w.Task == TaskCompare && (w.Samples == 0 || w.Samples%2 != 0) {
		return nil, fmt.Errorf("compare needs an even number of samples, each order as often as the other (got %d)", w.Samples)
	}
	w.Samples, w.Attempts = max(1, w.Samples), max(1, w.Attempts)
	if w.InFlight == 0 {
		w.InFlight = DefaultInFlight
	}
	return t, nil
}

// template returns the template that the work asks with.
func (w *Work) template(embedded string) (prompt.Template, error) {
	if w.Prompt == "" {
		return prompt.Embedded(embedded)
	}
	name := w.Task
	if name == TaskCalibrate {
		name = TaskRate // whose template it tries out
	}
	return prompt.Parse(name, w.Prompt)
}

// revision names the model's weights. A model that was not trained here is known by name only, and the same name at
// another provider may be another model.
func (w *Work) revision() string {
	m := w.Model
	if m.Revision == "" || m.Revision == m.Name {
		return m.Provider + "/" + m.Name
	}
	return m.Revision
}

// way is all that decides an answer but the row.
type way struct {
	Task     string   `json:"task"`
	Template string   `json:"template"`
	Revision string   `json:"revision"`
	Sampling Sampling `json:"sampling"`
	Method   string   `json:"method,omitempty"` // decides what comes beside the text, or its form
	Schema   string   `json:"schema,omitempty"`
	Chat     string   `json:"chat,omitempty"` // digest of the chat template, where it is applied here
}

// way may be asked of work that was not checked.
func (w Work) way() way {
	digest := ""
	if t, ok := w.runner(); ok {
		_ = w.plainMethod(t) // an unknown method asks nothing
		if tmpl, err := w.template(t.embedded(&w)); err == nil {
			digest = tmpl.Digest
		} else { // a template that cannot be read asks nothing
			sum := sha256.Sum256([]byte(w.Prompt))
			digest = hex.EncodeToString(sum[:])
		}
	}
	out := way{Task: w.Task, Template: digest, Revision: w.revision(), Sampling: w.Sampling, Method: w.Method, Chat: w.chat}
	if w.Method == MethodJSON {
		out.Schema = prompt.RatingSchema
	}
	return out
}

func digestOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Scope returns the ledger's scope of the work: task, template, model revision and sampling.
func Scope(w Work) string { return digestOf(w.way()) }

// Fingerprint names all that decides what becomes of a row: the scope, and how often it is asked.
func Fingerprint(w Work) string {
	return digestOf(struct {
		Way      way  `json:"way"`
		Samples  int  `json:"samples"`
		Attempts int  `json:"attempts"`
		KeepCut  bool `json:"keep_cut,omitempty"`
	}{w.way(), max(1, w.Samples), max(1, w.Attempts), w.KeepCut})
}

// Paid returns what all attempts at a partition have paid so far, and what is in doubt. It claims nothing.
func Paid(ctx context.Context, st *blob.Store, w Work) (ledger.Spending, error) {
	return ledger.Paid(ctx, st, Scope(w), w.Input.Bits, w.Partition, w.Output)
}

// OpenPartitions returns the partitions of the work's input for which its run has batches at the endpoint.
func OpenPartitions(ctx context.Context, st *blob.Store, w Work) ([]int, error) {
	return ledger.OpenShelves(ctx, st, Scope(w), w.Input.Bits, w.Output)
}
