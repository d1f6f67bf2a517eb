package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/report"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

// mostLabel is how many characters of a model's name a line of 80 columns has room for.
const mostLabel = 24

// printResults tells what an evaluation came to, in lines of at most 80 columns but for the address of the result.
func printResults(out io.Writer, client *runs.Client, seen runs.Seen) {
	key := ""
	switch {
	case seen.Scaling != nil:
		key = seen.Scaling.Key
		printScaling(out, *seen.Scaling)
	case seen.Evaluation != nil:
		key = seen.Evaluation.Key
		printResult(out, *seen.Evaluation)
	}
	fmt.Fprintf(out, "spent %s; result at\n%s\n", screen.Money(seen.Spent), client.Store.URI(key))
}

// printResult writes one evaluation, a figure a line.
func printResult(out io.Writer, r eval.Result) {
	fmt.Fprintf(out, "%s against %s\n", label(r.Model), label(r.Baseline))
	if r.N > 0 {
		fmt.Fprintf(out, "win rate      %.1f %%, 95 %% interval %.1f to %.1f, standard error %.2f\n", 100*r.Rate, 100*r.Low, 100*r.High, 100*r.StandardError)
	} else {
		fmt.Fprintln(out, "win rate      nothing could be compared")
	}
	if l := r.LengthControlled; l != nil {
		fmt.Fprintf(out, "equal length  %.1f %%, 95 %% interval %.1f to %.1f\n", 100*l.Rate, 100*l.Low, 100*l.High)
	}
	fmt.Fprintf(out, "of %-9s  %d won, %d drawn, %d lost", screen.Count(r.N), r.Wins, r.Draws, r.Losses)
	fmt.Fprintln(out)
	if r.Same+r.Missing > 0 {
		fmt.Fprintf(out, "of these      %d drawn as both said the same, %d lost without an output\n", r.Same, r.Missing)
	}
	if r.Orders.N > 0 {
		fmt.Fprintf(out, "both orders   agree in %.0f %%\n", 100*r.Consistent)
	}
	printJudging(out, r)
}

// printJudging says who judged, and what was left out.
func printJudging(out io.Writer, r eval.Result) {
	fmt.Fprintf(out, "judge         %s, tags %s, %s prompts\n", label(r.Judge), r.Tags, screen.Count(r.Prompts))
	if r.NoBaseline+r.Unjudged > 0 {
		fmt.Fprintf(out, "not counted   %d without a baseline's output, %d without a judgement\n", r.NoBaseline, r.Unjudged)
	}
	if r.SelfJudged {
		fmt.Fprintln(out, "The judge comes from the same run: it is not impartial.")
	}
}

// printScaling writes the win rate at each size, and the coefficients of the line beside the paper's.
func printScaling(out io.Writer, s eval.Scaled) {
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "MODEL\tWIN RATE\t95 % INTERVAL\tSTD ERROR\tWON\tDRAWN\tLOST\tEQUAL LENGTH\t")
	for _, r := range s.Results {
		equal := "-"
		if l := r.LengthControlled; l != nil {
			equal = fmt.Sprintf("%.1f %%", 100*l.Rate)
		}
		fmt.Fprintf(table, "%s\t%.1f %%\t%.1f to %.1f\t%.2f\t%d\t%d\t%d\t%s\t\n",
			label(r.Model), 100*r.Rate, 100*r.Low, 100*r.High, 100*r.StandardError, r.Wins, r.Draws, r.Losses, equal)
	}
	table.Flush() //nolint:errcheck // a terminal that is gone ends the program by a signal
	if len(s.Results) > 0 {
		fmt.Fprintf(out, "against       %s\n", label(s.Results[0].Baseline))
		printJudging(out, s.Results[0])
	}
	fmt.Fprintf(out, "\nwin rate = %.2f ln N %+.1f percentage points, R² %.2f: %.2f for each doubling\n", s.Alpha, s.C, s.R2, s.PerDoubling)
	between := "-"
	if s.Known {
		between = fmt.Sprintf("%.2f to %.2f", s.Low, s.High)
	}
	table = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(table, "DATA\tα\t95 %% INTERVAL\tα IN THE PAPER (7B)\n%s\t%.2f\t%s\t-\n", label(cmp.Or(s.Name, "this run")), s.Alpha, between)
	for _, p := range report.PaperScaling {
		fmt.Fprintf(table, "%s\t-\t-\t%.2f\n", p.Data, p.Alpha)
	}
	table.Flush() //nolint:errcheck // as above
	fmt.Fprintln(out, "The paper does not state the base of its logarithm; ours is natural.")
}

// label is a model's name on a terminal.
func label(name string) string {
	text := []rune(screen.Clean(name))
	if len(text) > mostLabel {
		text = append(text[:mostLabel-1], '…')
	}
	return string(text)
}
