package stage

import (
	"encoding/json"
	"math"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/prompt"
)

var (
	rate      = ratingTask(TaskRate)
	calibrate = ratingTask(TaskCalibrate)
)

// verdict is a rating as one answer gives it.
type verdict struct {
	prompt.Rating
	fromText bool // the score's token was wanted and not found
}

func ratingTask(name string) *task[dataset.Candidate, dataset.Rating, verdict] {
	return ratingOf(name, func(c dataset.Candidate) dataset.Candidate { return c })
}

// ratingOf is a rating of rows that can be seen as candidates.
func ratingOf[In dataset.Row](name string, as func(In) dataset.Candidate) *task[In, dataset.Rating, verdict] {
	return &task[In, dataset.Rating, verdict]{
		name:   name,
		prompt: ratingTemplate,
		ways:   []string{MethodLogProbs, MethodJSON},
		vars: func(in In) prompt.Vars {
			c := as(in)
			return prompt.Vars{Instruction: c.Instruction, Output: c.Output}
		},
		read:   readVerdict,
		row:    func(in In, answers []verdict, w made) dataset.Rating { return rated(as(in), answers, w) },
		score:  func(r dataset.Rating) float64 { return r.Score },
		makeDo: func(v verdict) bool { return v.fromText },
		reject: func(in In, _ int) dataset.Reject {
			c := as(in)
			return dataset.Reject{
				ID: c.ID, Instruction: c.Instruction, Text: c.Output, Source: c.Source, Document: c.Document, Offset: c.Offset,
			}
		},
	}
}

// ratingTemplate is the embedded template of the rubric, in the form that the method wants its answers in.
func ratingTemplate(w *Work) string {
	switch {
	case w.Rubric == RubricAdditive && w.Method == MethodJSON:
		return prompt.RateAddJSON
	case w.Rubric == RubricAdditive:
		return prompt.RateAdditive
	case w.Method == MethodJSON:
		return prompt.RateJSON
	}
	return prompt.Rate
}

// readVerdict takes the rating out of an answer. The score's probabilities, where they are wanted, refine what the text says and
// never make up for it: an answer without a readable score is none.
func readVerdict(w *Work, e *ledger.Entry) (verdict, error) {
	if w.Method == MethodJSON {
		r, err := prompt.ParseRatingJSON(e.Text)
		return verdict{Rating: r}, err
	}
	r, err := prompt.ParseRating(e.Text)
	if err != nil || w.Method != MethodLogProbs {
		return verdict{Rating: r}, err
	}
	var tokens []prompt.Token
	if len(e.LogProbs) > 0 && json.Unmarshal(e.LogProbs, &tokens) == nil {
		if score, ok := prompt.ExpectedScore(tokens, r.Score); ok {
			r.Score = score
			return verdict{Rating: r}, nil
		}
	}
	return verdict{r, true}, nil
}

// rated averages the ratings of a pair. The reason is that of the rating nearest the mean, the first of several.
func rated(c dataset.Candidate, answers []verdict, w made) dataset.Rating {
	r := dataset.Rating{
		ID: c.ID, Instruction: c.Instruction, Output: c.Output,
		Iteration: int32(w.iteration), Judge: w.revision, JudgePrompt: w.template, Generator: c.Generator, Prompt: c.Prompt,
		Source: c.Source, Document: c.Document, Offset: c.Offset,
	}
	for _, a := range answers {
		r.Scores = append(r.Scores, a.Score)
		r.Score += a.Score
	}
	r.Score = min(max(r.Score/float64(len(answers)), 1), 5)
	nearest := math.Inf(1)
	for _, a := range answers {
		if far := math.Abs(a.Score - r.Score); far < nearest {
			nearest, r.Reason = far, a.Reason
		}
	}
	return r
}
