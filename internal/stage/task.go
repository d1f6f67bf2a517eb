package stage

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/prompt"
)

// The tasks.
const (
	TaskBacktranslate = "backtranslate" // Segment → Candidate: the instruction that the segment answers
	TaskRate          = "rate"          // Candidate → Rating: how well the segment answers the instruction
)

// runner is a task over rows of some type.
type runner interface {
	run(ctx context.Context, d Deps, w Work, progress func(Progress)) (Result, error)
	embedded() string
}

var tasks = map[string]runner{
	TaskBacktranslate: backtranslate,
	TaskRate:          rate,
}

// Tasks returns the names of the tasks in order.
func Tasks() []string { return slices.Sorted(maps.Keys(tasks)) }

// task is what differs between tasks: rows of In become rows of Out through answers that are read as Value.
type task[In, Out dataset.Row, Value any] struct {
	name   string
	prompt string                                   // embedded template
	vars   func(In) prompt.Vars                     // what the template sees of a row
	read   func(answer string) (Value, error)       // errors are in reasons
	whole  bool                                     // an answer cut at max_tokens cannot be used
	row    func(in In, answers []Value, w made) Out // answers: at least one
	score  func(Out) float64                        // nil: rows have none
	reject func(In) dataset.Reject                  // fills in what the row was
}

// made is what goes into a row beside its answers.
type made struct {
	revision  string // of the model
	template  string // as name@version-digest
	iteration int
}

var backtranslate = &task[dataset.Segment, dataset.Candidate, string]{
	name:   TaskBacktranslate,
	prompt: prompt.Backtranslate,
	vars:   func(s dataset.Segment) prompt.Vars { return prompt.Vars{Output: s.Text} },
	read:   prompt.ParseInstruction,
	whole:  true,
	row: func(s dataset.Segment, answers []string, w made) dataset.Candidate {
		return dataset.Candidate{
			ID: s.ID, Instruction: answers[0], Output: s.Text, Source: s.Source, Document: s.Document, Offset: s.Offset,
			Generator: w.revision, Prompt: w.template,
		}
	},
	reject: func(s dataset.Segment) dataset.Reject {
		return dataset.Reject{ID: s.ID, Text: s.Text, Source: s.Source, Document: s.Document, Offset: s.Offset}
	},
}

var rate = &task[dataset.Candidate, dataset.Rating, prompt.Rating]{
	name:   TaskRate,
	prompt: prompt.Rate,
	vars: func(c dataset.Candidate) prompt.Vars {
		return prompt.Vars{Instruction: c.Instruction, Output: c.Output}
	},
	read: prompt.ParseRating,
	row: func(c dataset.Candidate, answers []prompt.Rating, w made) dataset.Rating {
		r := dataset.Rating{
			ID: c.ID, Instruction: c.Instruction, Output: c.Output, Reason: answers[0].Reason,
			Iteration: int32(w.iteration), Judge: w.revision, JudgePrompt: w.template, Generator: c.Generator, Prompt: c.Prompt,
			Source: c.Source, Document: c.Document, Offset: c.Offset,
		}
		for _, a := range answers {
			r.Scores = append(r.Scores, a.Score)
			r.Score += a.Score
		}
		r.Score /= float64(len(answers))
		return r
	},
	score: func(r dataset.Rating) float64 { return r.Score },
	reject: func(c dataset.Candidate) dataset.Reject {
		return dataset.Reject{
			ID: c.ID, Instruction: c.Instruction, Text: c.Output, Source: c.Source, Document: c.Document, Offset: c.Offset,
		}
	},
}

func (t *task[In, Out, Value]) embedded() string { return t.prompt }

// errCut says that an answer of a task that needs whole ones ended at max_tokens.
var errCut = errors.New("the answer was cut at max_tokens")

// reasons are the words under which rejects are counted.
var reasons = []struct {
	err  error
	word string
}{
	{errCut, "answer_cut"},
	{prompt.ErrNoScore, "no_score"},
	{prompt.ErrOutOfRange, "score_out_of_range"},
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
