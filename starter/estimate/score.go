package estimate

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
)

// responseTokens is assumed of an answer to a prompt, where the dataset does not bring the answers.
const responseTokens = 400

// CountPrompts counts the prompts of a generate-and-score recipe, with their answers where the dataset brings them.
func CountPrompts(ctx context.Context, input Input, load config.Load, answered bool) (Counted, error) {
	return prompts(ctx, input, load, answered, 0)
}

// HavePrompts reads until the source has shown a prompt. Errors: FieldsError.
func HavePrompts(ctx context.Context, input Input, load config.Load, answered bool) (Counted, error) {
	return prompts(ctx, input, load, answered, 1)
}

func prompts(ctx context.Context, input Input, load config.Load, answered bool, most int64) (Counted, error) {
	options := corpus.PromptOptions{Format: input.Source.Format, Instruction: load.Instruction, System: load.System, Limit: load.NumExamples}
	if answered {
		options.Output, options.Model, options.Pairs = load.Generation, load.GenerationModel, true
	}
	out, err := countSome(ctx, []Input{input}, func(ctx context.Context, c *counter, _ config.Source, f intake.File) error {
		for item, err := range intake.Prompts(ctx, f, options) {
			if err != nil {
				return err
			}
			switch {
			case item.Prompt != nil:
				c.add(item.Prompt.System+item.Prompt.Instruction, "")
			case item.Response != nil:
				c.add(item.Response.System+item.Response.Instruction, item.Response.Output)
			default:
				c.reject(item.Reject)
			}
			if c.enough() {
				return errEnough
			}
		}
		return nil
	}, corpus.SuggestPrompts(answered), most)
	var fields *FieldsError
	if errors.As(err, &fields) {
		fields.Under = "load"
	}
	if n := load.NumExamples; n > 0 {
		out.Rows = min(out.Rows, n)
	}
	return out, err
}

// ScorePrompts are the tokens that the templates add to the texts put into them.
type ScorePrompts struct{ Respond, Score float64 }

// MakeScore plans a generate-and-score recipe over the given prompts.
func MakeScore(spec config.Score, worker config.Worker, prompts Texts, overhead ScorePrompts) Plan {
	p := planner{run: config.Run{Name: spec.Name, Budget: spec.Budget}, worker: worker}
	p.plan = Plan{Run: spec.Name, Seeds: prompts}
	say := func(format string, args ...any) {
		p.plan.Assumptions = append(p.plan.Assumptions, fmt.Sprintf(format, args...))
	}
	rows, answer := prompts.Rows, prompts.Output
	models := spec.ModelsAsked()
	if g := spec.Generate; g != nil {
		rows *= int64(max(1, g.NumGenerations))
		answer = math.Min(responseTokens, float64(g.MaxTokens))
		s := g.Sampling
		s.InFlight = g.Calls()
		p.ask("generate", 0, models[0], s, rows, unreadableOther, overhead.Respond+prompts.Instruction, answer)
		say("an answer has %.0f tokens; at most it has generate.max_tokens, %d, which the line below counts with", answer, g.MaxTokens)
	}
	s := spec.Score.Sampling
	s.InFlight = spec.Score.Calls()
	p.ask("score", 0, models[len(models)-1], s, rows*int64(max(1, spec.Score.Samples)), unreadableRatings, overhead.Score+prompts.Instruction+answer,
		math.Min(ratingTokens, float64(s.MaxTokens)))
	p.total()
	if prompts.Rows == 0 {
		p.warn("no prompt was found: check load in the spec")
	}
	p.plan.Assumptions = append(p.plan.Assumptions, p.assumed...)
	say("a reason with its score has %d tokens; %.0f %% of them cannot be read and are asked again", ratingTokens, unreadableRatings*100)
	say("tokens are counted with o200k; other tokenizers differ by some 20 %%")
	say("an answer takes %.1f s and a second for each %d tokens", firstToken, tokensPerSecond)
	say("duplicates and rejected rows cost nothing and are not taken off; nor are cached prompts and answers paid for before")
	return p.plan
}
