package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/starter/estimate"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

type planCmd struct {
	specFile
	settings
	asJSON
}

// Help teaches by example.
func (planCmd) Help() string {
	return `
Reads the sources (a fair sample of large ones), cuts them into segments, counts tokens and multiplies. Asks no model, writes nothing, needs neither Temporal nor a worker. Prices come from the worker's settings; an unknown price is said to be unknown.

Examples:

    starter plan -f run.yaml -w worker.yaml
    starter plan -f score.yaml -w worker.yaml
    starter plan -f run.yaml --set rate.samples=3 --json | jq .total
`
}

// Run is the command.
func (c *planCmd) Run(a *app) error {
	if isScore(c.File) {
		return c.planScore(a)
	}
	spec, worker, err := c.specFile.load(c.settings)
	if err != nil {
		return err
	}
	if err := checkPrompts(spec.Prompts, c.dir()); err != nil {
		return err
	}
	if err := checkSources(spec, c.dir()); err != nil {
		return err
	}
	seedInputs, err := inputs(a.ctx, spec.Seeds, c.dir(), worker)
	if err != nil {
		return err
	}
	documentInputs, err := inputs(a.ctx, spec.Documents, c.dir(), worker)
	if err != nil {
		return err
	}
	seeds, err := estimate.Seeds(a.ctx, seedInputs)
	if err != nil {
		return err
	}
	documents, err := estimate.Documents(a.ctx, documentInputs, spec.Segments)
	if err != nil {
		return err
	}
	overhead, err := promptTokens(spec.Prompts, c.dir())
	if err != nil {
		return err
	}
	sets, err := evaluationSets(a.ctx, spec, c.dir(), worker)
	if err != nil {
		return err
	}
	plan := estimate.Make(spec, worker, seeds.Texts, documents.Texts, overhead, sets)
	for _, part := range []struct {
		what string
		estimate.Counted
	}{{"seeds", seeds}, {"documents", documents}} {
		if part.ReadShare < 1 {
			plan.Assumptions = append([]string{fmt.Sprintf("%.1f %% of the bytes of %s were read, the rest is extrapolated", part.ReadShare*100, part.what)}, plan.Assumptions...)
		}
	}
	for _, e := range append(seeds.Empty, documents.Empty...) {
		plan.Warnings = append(plan.Warnings, e.Error())
	}
	if c.JSON {
		return a.print(struct {
			estimate.Plan
			SeedsRead     estimate.Counted `json:"seeds_read"`
			DocumentsRead estimate.Counted `json:"documents_read"`
		}{plan, seeds, documents})
	}
	return a.printPlan(plan, seeds, documents)
}

func (a *app) printPlan(plan estimate.Plan, seeds, documents estimate.Counted) error {
	a.say("plan of %s (nothing was asked or spent)\n", plan.Run)
	a.say("seeds      %s pairs in %s, %.0f + %.0f tokens each; %s rejected", screen.Count(seeds.Rows), plural(int64(seeds.Files), "file"), seeds.Instruction, seeds.Output, plural(seeds.Rejected, "record"))
	a.say("documents  %s segments in %s, %s, %.0f tokens each; %s rejected\n", screen.Count(documents.Rows), plural(int64(documents.Files), "file"), screen.Bytes(documents.Bytes), documents.Output, plural(documents.Rejected, "piece"))
	return a.printStages(plan)
}

func (a *app) printStages(plan estimate.Plan) error {
	table := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "it\tstage\trows\tcalls\ttokens in\ttokens out\ttrained on\tcost\ttime\t")
	for _, s := range plan.Stages {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", s.Iteration, s.Name, screen.Count(s.Rows), dash(s.Calls), dash(s.PromptTokens),
			dash(s.CompletionTokens), dash(s.TrainedTokens), dollars(s.Cost), seconds(s.Seconds))
	}
	for _, t := range []struct {
		name string
		estimate.Total
	}{{"expected", plan.Total}, {"at most", plan.AtMost}} {
		cost := fmt.Sprintf("$%.2f", t.Cost)
		if t.Unknown {
			cost = "unknown"
			if t.Cost > 0 {
				cost = fmt.Sprintf("$%.2f + ?", t.Cost)
			}
		}
		span := ""
		if t.Seconds > 0 {
			span = seconds(&t.Seconds)
		}
		fmt.Fprintf(table, "\t%s\t\t%s\t%s\t%s\t%s\t%s\t%s\t\n", t.name, dash(t.Calls), dash(t.PromptTokens), dash(t.CompletionTokens), dash(t.TrainedTokens), cost, span)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	a.say("\nassumed:")
	for _, s := range plan.Assumptions {
		a.say("  - %s", s)
	}
	for _, w := range plan.Warnings {
		a.warn("warning: %s", w)
	}
	return nil
}

func dash(n int64) string {
	if n == 0 {
		return "-"
	}
	return screen.Count(n)
}

func dollars(usd *float64) string {
	switch {
	case usd == nil:
		return "unknown"
	case *usd == 0:
		return "-"
	default:
		return fmt.Sprintf("$%.2f", *usd)
	}
}

func seconds(s *float64) string {
	if s == nil {
		return "?"
	}
	return screen.Span(time.Duration(*s * float64(time.Second)))
}

// promptTokens counts what the templates add to the texts put into them.
func promptTokens(p config.Prompts, dir string) (estimate.Prompts, error) {
	texts, err := runs.InlinePrompts(p, dir)
	if err != nil {
		return estimate.Prompts{}, err
	}
	out := estimate.Prompts{}
	if out.Backtranslate, err = templateTokens("backtranslate", texts.Backtranslate); err != nil {
		return out, err
	}
	if out.Rate, err = templateTokens("rate", texts.Rate); err != nil {
		return out, err
	}
	if out.Respond, err = templateTokens(prompt.Respond, ""); err != nil {
		return out, err
	}
	out.Compare, err = templateTokens(prompt.Compare, "")
	return out, err
}

// evaluationSets counts what evaluate of a spec names.
func evaluationSets(ctx context.Context, spec config.Run, dir string, w config.Worker) (out estimate.Sets, err error) {
	e := spec.Evaluate
	if e == nil {
		return out, nil
	}
	for _, set := range []struct {
		sources []config.Source
		to      *estimate.Texts
	}{{e.Prompts, &out.Prompts}, {e.Outputs, &out.Outputs}, {e.Labelled, &out.Labelled}} {
		files, err := inputs(ctx, set.sources, dir, w)
		if err != nil {
			return out, err
		}
		counted, err := estimate.Exercises(ctx, files)
		if err != nil {
			return out, err
		}
		*set.to = counted.Texts
	}
	return out, nil
}

// templateTokens counts what a template, embedded or the user's own, adds to the texts put into it.
func templateTokens(name, text string) (float64, error) {
	template, err := prompt.Embedded(name)
	if text != "" {
		template, err = prompt.Parse(name, text)
	}
	if err != nil {
		return 0, fmt.Errorf("plan: %w", err)
	}
	messages, err := template.Render(prompt.Vars{Instruction: "x", Output: "x", System: prompt.InferenceSystem(), First: "x", Second: "x"})
	if err != nil {
		return 0, fmt.Errorf("plan: %w", err)
	}
	tokens := 0.0
	for _, m := range messages {
		tokens += estimate.Tokens(m.Content) + 4 // the marks around a message
	}
	return tokens, nil
}

// inputs lists the files of sources, wherever they are.
func inputs(ctx context.Context, sources []config.Source, dir string, w config.Worker) ([]estimate.Input, error) {
	var out []estimate.Input
	for _, s := range sources {
		files, format, err := filesOf(ctx, s, dir, w)
		if err != nil {
			return nil, err
		}
		in := estimate.Input{Source: s}
		in.Source.Format = format
		for _, f := range files {
			if f.Wrong == "" {
				in.Files = append(in.Files, estimate.File{Name: f.Name, Size: f.size, Open: f.Stream, At: f.At, Explain: f.Explain})
			}
		}
		out = append(out, in)
	}
	return out, nil
}
