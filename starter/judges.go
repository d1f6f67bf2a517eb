package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/starter/screen"
)

type judgesCmd struct {
	settings
	A string `arg:"" help:"An evaluation (run/eval/name, or run/02/eval of an iteration), or ratings (run@iteration)."`
	B string `arg:"" help:"Another of the same kind."`
	asJSON
}

// Help teaches by example.
func (judgesCmd) Help() string {
	return `
Tells how far two judges agree about what both judged: raw agreement, Cohen's kappa (0 is chance, 1 is always), which of both says what, where they contradict themselves when the order is turned, and examples. Evaluate twice, each time with another judge: the answers are asked for once.

Examples:

    starter eval my-run --prompts alpaca_eval.json --judge openai/gpt-4.1 --name by-gpt
    starter eval my-run --prompts alpaca_eval.json --judge 2 --name by-m2
    starter eval judges my-run/eval/by-gpt my-run/eval/by-m2
    starter eval judges my-run@1 my-run@2
`
}

// Run is the command.
func (c *judgesCmd) Run(a *app) error {
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	out, err := client.Judges(a.ctx, c.A, c.B)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.print(out)
	}
	return a.printJudges(out)
}

func (a *app) printJudges(j eval.Judges) error {
	a.say("A  %s", screen.Clean(j.A))
	a.say("B  %s\n", screen.Clean(j.B))
	if j.N == 0 {
		a.say("no item was judged by both; %d by one alone, or with other answers", j.Alone)
		return nil
	}
	a.say("agreement      %.1f %% of %d (%.1f %% by chance)", 100*j.Agreed, j.N, 100*j.Expected)
	a.say("Cohen's kappa  %.2f", j.Kappa)
	if s := j.Selected; s != nil {
		a.say("on selecting   %.1f %%, kappa %.2f", 100*s.Agreed, s.Kappa)
		a.say("mean score     A %.2f, B %.2f", j.MeanA, j.MeanB)
		if j.Order != nil {
			a.say("same order     %.1f %% of pairs of rows", 100**j.Order)
		}
	} else {
		a.say("contradicting themselves in the other order: A %d, B %d, both %d", j.ContradictsA, j.ContradictsB, j.ContradictsBoth)
	}
	if j.Alone > 0 {
		a.say("judged by one alone, or with other answers: %d", j.Alone)
	}
	a.say("")
	table := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "A \\ B\t%s\t\n", strings.Join(j.Words, "\t"))
	for i, word := range j.Words {
		fmt.Fprintf(table, "%s\t", word)
		for _, n := range j.Table[i] {
			fmt.Fprintf(table, "%s\t", dash(n))
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for i, o := range j.Examples {
		if i == 0 {
			a.say("\nwhere they differ:")
		}
		text := []rune(screen.Clean(strings.Join(strings.Fields(o.Instruction), " ")))
		if len(text) > 54 {
			text = append(text[:53], '…')
		}
		a.say("  A %-8s  B %-8s  %s", o.A, o.B, string(text))
	}
	return nil
}
