package stage

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/prompt"
)

// The tasks.
const (
	TaskBacktranslate = "backtranslate" // Segment → Candidate: the instruction that the segment answers
	TaskRate          = "rate"          // Candidate or Response → Rating: how well the segment answers the instruction
	TaskCalibrate     = "calibrate"     // TaskRate over pairs known to be good or bad, on a shelf of the ledger of its own
	TaskRespond       = "respond"       // Prompt → Response: an answer; each sample becomes a row
	TaskCompare       = "compare"       // Comparison → Judgement: which of two outputs is better, asked in both orders
)

// runner is a task over rows of some type.
type runner interface {
	run(ctx context.Context, d Deps, w Work, progress func(Progress)) (Result, error)
	embedded(w *Work) string
	methods() []string
}

var tasks = map[string]runner{
	TaskBacktranslate: backtranslate,
	TaskRate:          rate,
	TaskCalibrate:     calibrate,
	TaskRespond:       respond,
	TaskCompare:       compare,
}

// runner returns the task, as it is done over rows of the input's kind.
func (w *Work) runner() (runner, bool) {
	if w.Task == TaskRate && w.Input.Kind == dataset.KindResponses {
		return rateResponses, true
	}
	t, ok := tasks[w.Task]
	return t, ok
}

// Tasks returns the names of the tasks in order.
func Tasks() []string { return slices.Sorted(maps.Keys(tasks)) }

// task is what differs between tasks: rows of In become rows of Out through answers that are read as Value.
type task[In, Out dataset.Row, Value any] struct {
	name    string
	prompt  func(w *Work) string                          // embedded template
	ways    []string                                      // methods beside the plain one
	vars    func(In) prompt.Vars                          // what the template sees of a row
	sampled func(in In, sample int) prompt.Vars           // instead of vars, where samples, counted from 1, are asked in different ways
	read    func(w *Work, e *ledger.Entry) (Value, error) // of an answer; errors are in reasons
	row     func(in In, answers []Value, w made) Out      // of all samples together; answers: at least one
	each    func(in In, sample int, v Value, w made) Out  // instead of row: each sample, counted from 1, is a row of its own
	score   func(Out) float64                             // nil: rows have none
	written func(Out) string                              // text of the model's that evaluation sets must not hold; nil: none
	makeDo  func(Value) bool                              // the value is second best; nil: none is
	reject  func(in In, sample int) dataset.Reject        // fills in what the row was; sample counts where each is set
}

// made is what goes into a row beside its answers.
type made struct {
	revision  string // of the model
	template  string // as name@version-digest
	iteration int
}

var backtranslate = &task[dataset.Segment, dataset.Candidate, string]{
	name:   TaskBacktranslate,
	prompt: func(*Work) string { return prompt.Backtranslate },
	vars:   func(s dataset.Segment) prompt.Vars { return prompt.Vars{Output: s.Text} },
	read:   func(_ *Work, e *ledger.Entry) (string, error) { return prompt.ParseInstruction(e.Text) },
	row: func(s dataset.Segment, answers []string, w made) dataset.Candidate {
		return dataset.Candidate{
			ID: s.ID, Instruction: answers[0], Output: s.Text, Source: s.Source, Document: s.Document, Offset: s.Offset,
			Generator: w.revision, Prompt: w.template,
		}
	},
	written: func(c dataset.Candidate) string { return c.Instruction },
	reject: func(s dataset.Segment, _ int) dataset.Reject {
		return dataset.Reject{ID: s.ID, Text: s.Text, Source: s.Source, Document: s.Document, Offset: s.Offset}
	},
}

func (t *task[In, Out, Value]) embedded(w *Work) string { return t.prompt(w) }

func (t *task[In, Out, Value]) methods() []string { return t.ways }

// errCut says that an answer ended at max_tokens: of an instruction the end is missing, and of a rating perhaps a decimal.
var errCut = errors.New("the answer was cut at max_tokens")

// reasons are the words under which rejects are counted.
var reasons = []struct {
	err  error
	word string
}{
	{errCut, "answer_cut"},
	{prompt.ErrNoScore, "no_score"},
	{prompt.ErrOutOfRange, "score_out_of_range"},
	{prompt.ErrNoVerdict, "no_verdict"},
	{prompt.ErrUnclear, "verdict_unclear"},
	{prompt.ErrAmbiguous, "score_ambiguous"},
	{prompt.ErrNotNumber, "score_not_a_number"},
	{prompt.ErrTooLong, "answer_too_long"},
	{prompt.ErrEmpty, "answer_empty"},
	{prompt.ErrRefusal, "refusal"},
	{prompt.ErrEcho, "answer_echoes_prompt"},
}

func reasonOf(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "answer_unreadable"
}

// finishLength is the finish reason of an answer that was cut.
const finishLength = "length"
