package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// wide is a result with names and counts as long as they come.
func wide(model string) eval.Result {
	return eval.Result{
		Model: model, Baseline: "openai/gpt-4.1-2025-04-14-and-more\x1b[31m", Judge: "anthropic/claude-of-a-long-name-20260101", SelfJudged: true, Tags: "augmented/none", Prompts: 20000,
		WinRate:    eval.WinRate{N: 19990, Wins: 9990, Draws: 5000, Losses: 5000, Missing: 1234, Rate: 0.62475, StandardError: 0.34, Low: 0.6181, High: 0.6314},
		NoBaseline: 1000, Unjudged: 1000, Same: 1111, Consistent: 1, Orders: eval.Agreement{N: 10}, LengthControlled: &eval.LengthControlled{Rate: 1, Low: 0.9, High: 1},
		Key: "runs/r/eval/e/result.json",
	}
}

// TestResultsFitATerminal prints evaluations of every kind within 80 columns.
func TestResultsFitATerminal(t *testing.T) {
	t.Parallel()
	one := wide("M2 of another-run-with-a-name (tags none)")
	bare := eval.Result{Model: "M2", Baseline: "M0", Judge: "M1", Tags: "both", Prompts: 3, Key: "runs/r/eval/e/result.json"}
	scaled := eval.Scaled{Name: "a-name-of-an-evaluation-as-long-as-they-come-in-our-specs", Key: "runs/r/eval/e/scaling.json"}
	for i := range 4 {
		scaled.Results = append(scaled.Results, wide(fmt.Sprintf("N=%d", 100_000<<i)))
		scaled.Points = append(scaled.Points, eval.Point{N: 100_000 << i, Rate: 0.5 + 0.03*float64(i*i)})
	}
	var err error
	scaled.Scaling, err = eval.FitScaling(scaled.Points)
	require.NoError(t, err)
	client := &runs.Client{Store: s3test.Store(t)}
	for name, c := range map[string]struct {
		status workflows.Status
		want   []string
	}{
		"one":     {workflows.Status{Evaluation: &one}, []string{"win rate      62.5 %, 95 % interval 61.8 to 63.1", "equal length  100.0 %", "9990 won, 5000 drawn, 5000 lost", "1111 drawn", "1234 lost", "not counted   1000 without", "tags augmented/none", "not impartial", "spent $1.50"}},
		"bare":    {workflows.Status{Evaluation: &bare}, []string{"M2 against M0", "nothing could be compared"}},
		"scaling": {workflows.Status{Scaling: &scaled}, []string{"N=800000", "for each doubling", "α IN THE PAPER (7B)", "6.95", "0.22", fmt.Sprintf("%.2f to %.2f", scaled.Low, scaled.High), "ours is natural"}},
	} {
		c.status.Spent = dataset.Usage{Calls: 9, MicroUSD: 1_500_000}
		var out bytes.Buffer
		printResults(&out, client, runs.Seen{Status: c.status})
		for _, want := range c.want {
			require.Contains(t, out.String(), want, name)
		}
		require.NotContains(t, out.String(), "\x1b")
		for line := range strings.Lines(out.String()) {
			if !strings.Contains(line, "://") {
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 80, "%s: %s", name, line)
			}
		}
	}
}
