// Package estimate tells what a run would ask, cost and take, and spends nothing.
package estimate

import (
	"fmt"
	"math"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/llm/batch"
)

// What is assumed where nothing better is known. Each is told beside the figures.
const (
	instructionTokens = 80   // a generated instruction; the paper's have 352 characters on average
	ratingTokens      = 200  // a brief reasoning and a score
	unreadableRatings = 0.12 // share of ratings that cannot be read and are asked again (published: 88 % valid)
	unreadableOther   = 0.02
	firstToken        = 0.6 // seconds until an answer begins
	tokensPerSecond   = 60  // of one answer, after that
	shareAbove45      = 41821.0 / 502133
	shareAbove4       = 195043.0 / 502133
)

// Texts are rows with their mean lengths in tokens. Seeds have both texts, segments an output only.
type Texts struct {
	Rows        int64   `json:"rows"`
	Instruction float64 `json:"instruction_tokens"`
	Output      float64 `json:"output_tokens"`
}

// Prompts are the tokens that a template adds to the texts put into it.
type Prompts struct {
	Backtranslate, Rate, Respond, Compare float64
}

// Sets are the files of a spec's evaluate.
type Sets struct {
	Prompts, Outputs, Labelled Texts
}

// Stage is one step of the plan. Cost and Seconds are nil where they are not known.
type Stage struct {
	Name             string   `json:"name"`
	Iteration        int      `json:"iteration"`
	Rows             int64    `json:"rows"`
	Calls            int64    `json:"calls"`
	PromptTokens     int64    `json:"prompt_tokens"`
	CompletionTokens int64    `json:"completion_tokens"`
	TrainedTokens    int64    `json:"trained_tokens"`
	Cost             *float64 `json:"usd"`
	Seconds          *float64 `json:"seconds"`
	Batch            bool     `json:"batch,omitempty"` // through the Batch API, at its price, within 24 hours
	worst            amount
}

// amount is what a budget limits.
type amount struct {
	calls, tokens int64
	cost          *float64
}

// Total adds up stages. Cost is what is known of it; Unknown says that it is not all. Seconds leave training out.
type Total struct {
	Calls            int64   `json:"calls"`
	PromptTokens     int64   `json:"prompt_tokens"`
	CompletionTokens int64   `json:"completion_tokens"`
	TrainedTokens    int64   `json:"trained_tokens"`
	Cost             float64 `json:"usd"`
	Unknown          bool    `json:"usd_incomplete"`
	Seconds          float64 `json:"seconds"`
}

// Plan is what a run is expected to do, and what it would ask at the very most, with every answer as long as it may be and
// every row asked as often as it may be.
type Plan struct {
	Run         string   `json:"run"`
	Mode        string   `json:"augment"` // once or each
	Seeds       Texts    `json:"seeds"`
	Segments    Texts    `json:"segments"`
	Stages      []Stage  `json:"stages"`
	Total       Total    `json:"total"`
	AtMost      Total    `json:"at_most"`
	Assumptions []string `json:"assumptions"`
	Warnings    []string `json:"warnings"`
}

// planner carries what all stages need.
type planner struct {
	run    config.Run
	worker config.Worker
	prompt Prompts
	sets   Sets
	answer float64 // tokens of a model's answer to a prompt: as long as the seeds' outputs
	plan   Plan

	assumed []string
}

// Make plans a run over the given texts.
func Make(run config.Run, worker config.Worker, seeds, segments Texts, prompt Prompts, sets Sets) Plan {
	p := planner{run: run, worker: worker, prompt: prompt, sets: sets}
	p.plan = Plan{Run: run.Name, Mode: run.AugmentMode(), Seeds: seeds, Segments: segments}
	selected := int64(math.Round(float64(segments.Rows) * selectedShare(run.Curate.Threshold)))
	pair := Texts{Rows: selected, Instruction: instructionTokens, Output: segments.Output}

	p.answer = seeds.Output
	rated := seeds // calibration takes those that are held out too
	if g := run.Gate; g != nil {
		seeds.Rows = max(0, seeds.Rows-int64(g.Holdout))
	}
	p.train("train myx", 0, seeds, Texts{})
	p.augment(0, segments)
	if run.NeedsM0() {
		p.train("train m0", 0, seeds, Texts{})
	}
	for t := 1; t <= run.Iterations; t++ {
		if t > 1 && p.plan.Mode == config.AugmentEach {
			p.train("train myx", t, seeds, pair)
			p.augment(t, segments)
		}
		p.calibrate(t, rated)
		p.labelled(t)
		p.rate(t, segments)
		p.train(fmt.Sprintf("train m%d", t), t, seeds, pair)
		p.evaluate(t)
		p.gate(t, rated)
	}
	p.total()
	if p.plan.Segments.Rows == 0 {
		p.warn("no segment was found: check documents and segments in the spec")
	}
	if p.plan.Seeds.Rows == 0 {
		p.warn("no seed pair was found: check seeds in the spec")
	}
	p.assume()
	return p.plan
}

// selectedShare is the share of candidates that the paper's second iteration selected at this threshold.
func selectedShare(threshold float64) float64 {
	switch {
	case threshold >= 4.5:
		return shareAbove45
	case threshold >= 4:
		return shareAbove4
	default:
		return 1
	}
}

func (p *planner) augment(t int, segments Texts) {
	s := p.run.Augment.Sampling
	p.ask("augment", t, config.ModelsAsked(p.run, p.worker)[0], s, segments.Rows, unreadableOther,
		p.prompt.Backtranslate+segments.Output, math.Min(instructionTokens, float64(s.MaxTokens)))
}

func (p *planner) rate(t int, segments Texts) {
	s := p.run.Rate.Sampling
	asked := config.ModelsAsked(p.run, p.worker)
	p.ask("rate", t, asked[len(asked)-1], s, segments.Rows*int64(max(1, p.run.Rate.Samples)), unreadableRatings,
		p.prompt.Rate+instructionTokens+segments.Output, math.Min(ratingTokens, float64(s.MaxTokens)))
}

// calibrate tries the judge out on seed pairs, and on as many shuffled ones.
func (p *planner) calibrate(t int, seeds Texts) {
	pairs := min(int64(p.run.Rate.Calibration.Pairs), seeds.Rows)
	if pairs < 2 {
		return
	}
	s := p.run.Rate.Sampling
	asked := config.ModelsAsked(p.run, p.worker)
	p.ask("calibrate", t, asked[len(asked)-1], s, 2*pairs*int64(max(1, p.run.Rate.Samples)), unreadableRatings,
		p.prompt.Rate+seeds.Instruction+seeds.Output, math.Min(ratingTokens, float64(s.MaxTokens)))
}

// ask adds a stage of rows × calls to a model.
func (p *planner) ask(name string, t int, model config.Asked, s config.Sampling, rows int64, again, prompt, answer float64) {
	tries := 1.0
	for i, share := 1, again; i < s.Attempts; i, share = i+1, share*again {
		tries += share
	}
	calls := int64(math.Ceil(float64(rows) * tries))
	provider := p.worker.Providers[model.Provider]
	price, known := provider.PriceOfTrained(model.Model)
	byBatch := s.ByBatch(provider, model.Model)
	if byBatch {
		price.Input, price.Output = price.Input*(1-provider.BatchDiscount), price.Output*(1-provider.BatchDiscount)
	}
	stage := Stage{
		Name: name, Iteration: t, Rows: rows, Calls: calls,
		PromptTokens: int64(float64(calls) * prompt), CompletionTokens: int64(float64(calls) * answer), Batch: byBatch,
	}
	most := rows * int64(s.Attempts)
	stage.worst = amount{calls: most, tokens: int64(float64(most) * (prompt + float64(s.MaxTokens)))}
	if known {
		stage.Cost = cost(price, float64(calls), prompt, answer)
		stage.worst.cost = cost(price, float64(most), prompt, float64(s.MaxTokens))
	} else if calls > 0 {
		p.warn(fmt.Sprintf("no price for model %s at provider %s, so its cost is not known", model.Model, model.Provider))
	}
	seconds := p.seconds(provider, s, float64(calls), prompt, answer)
	if byBatch {
		seconds = batch.Window.Seconds()
		p.batches(model.Provider, provider.BatchDiscount)
	}
	stage.Seconds = &seconds
	p.plan.Stages = append(p.plan.Stages, stage)
}

// batches notes what is assumed of a provider's Batch API.
func (p *planner) batches(provider string, discount float64) {
	text := fmt.Sprintf("provider %s takes %.0f %% off in batches and answers them within 24 hours, which is the time shown; what is asked again takes another batch, or is asked live when it is little", provider, 100*discount)
	p.assumed = appendOnce(p.assumed, text)
}

// cost is in US dollars, without discounts for cached prompts.
func cost(price config.Price, calls, prompt, answer float64) *float64 {
	usd := calls * (prompt*price.Input + answer*price.Output) / 1e6
	return &usd
}

// seconds is the longest of what the calls in flight, the request rate and the token rate allow.
func (p *planner) seconds(provider config.Provider, s config.Sampling, calls, prompt, answer float64) float64 {
	flight := float64(max(1, s.InFlight))
	if limit := provider.Limits.InFlight * max(1, provider.Limits.Workers); limit > 0 {
		flight = math.Min(flight, float64(limit))
	}
	latency := firstToken + answer/tokensPerSecond
	out := math.Ceil(calls/flight) * latency
	if r := provider.Limits.RequestsPerMinute; r > 0 {
		out = math.Max(out, calls/r*60)
	}
	if r := provider.Limits.TokensPerMinute; r > 0 {
		out = math.Max(out, calls*(prompt+answer)/r*60)
	}
	return out
}

func (p *planner) warn(text string) {
	p.plan.Warnings = appendOnce(p.plan.Warnings, text)
}

func (p *planner) total() {
	sum, most := &p.plan.Total, &p.plan.AtMost
	for _, s := range p.plan.Stages {
		sum.Calls, sum.PromptTokens, sum.CompletionTokens = sum.Calls+s.Calls, sum.PromptTokens+s.PromptTokens, sum.CompletionTokens+s.CompletionTokens
		sum.TrainedTokens, most.TrainedTokens = sum.TrainedTokens+s.TrainedTokens, most.TrainedTokens+s.TrainedTokens
		most.Calls += s.worst.calls
		most.CompletionTokens += s.worst.tokens - promptOf(s)
		most.PromptTokens += promptOf(s)
		if s.Cost == nil {
			sum.Unknown, most.Unknown = true, true
		} else {
			sum.Cost, most.Cost = sum.Cost+*s.Cost, most.Cost+*s.worst.cost
		}
		if s.Seconds != nil {
			sum.Seconds += *s.Seconds
		}
	}
	b := p.run.Budget
	for _, c := range []struct {
		what        string
		limit, need float64
	}{
		{"calls", float64(b.Calls), float64(sum.Calls)},
		{"tokens", float64(b.Tokens), float64(sum.PromptTokens + sum.CompletionTokens)},
		{"usd", b.USD, sum.Cost},
	} {
		if c.limit > 0 && c.need > c.limit {
			p.warn(fmt.Sprintf("budget.%s is %.6g and about %.6g are expected: the run will stop before its end and wait for starter set", c.what, c.limit, c.need))
		}
	}
}

// promptOf returns the prompt tokens of a stage at the very most.
func promptOf(s Stage) int64 {
	if s.Calls == 0 {
		return 0
	}
	return int64(float64(s.PromptTokens) / float64(s.Calls) * float64(s.worst.calls))
}

func (p *planner) assume() {
	say := func(format string, args ...any) {
		p.plan.Assumptions = append(p.plan.Assumptions, fmt.Sprintf(format, args...))
	}
	p.plan.Assumptions = append(p.plan.Assumptions, p.assumed...)
	if n := p.run.NearDuplicates; n.On() {
		say("no segment is a near-duplicate (Jaccard similarity from %g): ingest drops those that are, and the run costs that much less", n.Threshold)
	}
	say("tokens are counted with o200k; other tokenizers differ by some 20 %%")
	say("an instruction has %d tokens, a rating %d; %.0f %% of ratings cannot be read and are asked again", instructionTokens, ratingTokens, unreadableRatings*100)
	say("%.1f %% of the candidates are selected at threshold %g, as in the paper", 100*selectedShare(p.run.Curate.Threshold), p.run.Curate.Threshold)
	if p.run.Gate != nil || p.sets.Prompts.Rows+p.sets.Outputs.Rows > 0 {
		say("evaluations are judged whole, in both orders, though equal and missing outputs ask nobody; an answer has %.0f tokens, as the seeds' outputs, a verdict %d", p.answer, ratingTokens)
	}
	say("an answer takes %.1f s and a second for each %d tokens; training time depends on the trainer and is counted only where its settings tell tokens_per_second", firstToken, tokensPerSecond)
	say("duplicates and rejected rows cost nothing and are not taken off; nor are cached prompts and answers paid for before")
}
