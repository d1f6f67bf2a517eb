package estimate

import (
	"context"
	"math"
	"strconv"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
)

// Exercises counts the records of prompts, outputs or labelled sets of an evaluation.
func Exercises(ctx context.Context, inputs []Input) (Counted, error) {
	return countSome(ctx, inputs, func(ctx context.Context, c *counter, s config.Source, f intake.File) error {
		options := intake.ExerciseOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Label: s.Label}
		for x, err := range intake.Exercises(ctx, f, options) {
			if err != nil {
				return err
			}
			if x.Instruction == "" {
				c.reject(nil)
				continue
			}
			c.add(x.Instruction, x.Output)
		}
		return nil
	}, corpus.SuggestPairs, 0)
}

// labelled has the judge of an iteration rate the labelled set.
func (p *planner) labelled(t int) {
	set := p.sets.Labelled
	if set.Rows == 0 {
		return
	}
	s := p.run.Rate.Sampling
	asked := config.ModelsAsked(p.run, p.worker)
	p.ask("rate labelled", t, asked[len(asked)-1], s, set.Rows*int64(max(1, p.run.Rate.Samples)), unreadableRatings,
		p.prompt.Rate+set.Instruction+set.Output, math.Min(ratingTokens, float64(s.MaxTokens)))
}

// evaluate compares Mt as the spec says. Answers that a model gave before are found in the ledger.
func (p *planner) evaluate(t int) {
	e := p.run.Evaluate
	if e == nil || len(e.Prompts)+len(e.Outputs) == 0 {
		return
	}
	prompts := p.sets.Prompts
	if len(e.Prompts) == 0 {
		prompts = p.sets.Outputs
	}
	first := false // the baseline answers for the first time
	other := p.answer
	switch against, err := strconv.Atoi(e.Against); {
	case e.Against == config.AgainstOutputs:
		other = p.sets.Outputs.Output
	case e.Against == config.AgainstPrevious:
		first = t == 1
	case err != nil || against >= t:
		return
	default:
		first = t == against+1
	}
	p.contest("eval", t, e.Contest, prompts, first, other)
}

// gate compares Mt with the model before on the seeds that are held out.
func (p *planner) gate(t int, seeds Texts) {
	g := p.run.Gate
	if g == nil {
		return
	}
	seeds.Rows = min(seeds.Rows, int64(g.Holdout))
	p.contest("gate", t, g.Contest, seeds, t == 1, p.answer)
}

// contest has Mt answer, its baseline too where it does for the first time, and the judge compare in both orders.
func (p *planner) contest(name string, t int, c config.Contest, prompts Texts, baseline bool, other float64) {
	rows := min(prompts.Rows, int64(c.Limit))
	trained := config.ModelsAsked(p.run, p.worker)[0]
	answer := math.Min(p.answer, float64(c.Answers.MaxTokens))
	p.ask(name+" answers", t, trained, c.Answers, rows, unreadableOther, p.prompt.Respond+prompts.Instruction, answer)
	if baseline {
		p.ask(name+" baseline", t, trained, c.Answers, rows, unreadableOther, p.prompt.Respond+prompts.Instruction, answer)
	}
	judge := trained
	for _, j := range []*config.Judge{p.run.Rate.Judge, c.Judge} { // the contest's own goes first
		if j != nil {
			judge = config.Asked{Provider: j.Provider, Model: j.Model}
		}
	}
	p.ask(name+" judge", t, judge, c.Compare, 2*rows, unreadableOther, p.prompt.Compare+prompts.Instruction+answer+other,
		math.Min(ratingTokens, float64(c.Compare.MaxTokens)))
}
