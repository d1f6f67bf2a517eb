package workflows

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"
)

// details renders a run as the markdown that the Temporal UI shows: a table of iterations and stages, score histograms,
// cost, and what the run waits for.
func details(s Status, now time.Time) string {
	var b strings.Builder
	if s.Recipe == "" {
		fmt.Fprintf(&b, "**%s** · iteration %d of %d · %s", s.Phase, s.Iteration, s.Iterations, money(s))
	} else {
		fmt.Fprintf(&b, "**%s** · %s · %s", s.Phase, s.Recipe, money(s))
	}
	if s.Report != "" {
		fmt.Fprintf(&b, " · report `%s`", s.Report)
	}
	b.WriteString("\n\n")
	if s.Message != "" {
		fmt.Fprintf(&b, "> %s\n\n", cell(s.Message))
	}
	b.WriteString("| t | step | state | done | rejected | reused | calls | cost | time left |\n|--|--|--|--:|--:|--:|--:|--:|--:|\n")
	for _, st := range s.Stages {
		done := strconv.FormatInt(st.Done, 10)
		if st.Unit == "checks" { // they are done or they are not
			done = ""
		}
		if st.Total > 0 {
			done = fmt.Sprintf("%d/%d\u00a0%s", st.Done, st.Total, st.Unit) // in one line, where the UI leaves little room
		}
		cost := ""
		if st.Usage.MicroUSD > 0 {
			cost = fmt.Sprintf("$%.4f", float64(st.Usage.MicroUSD)/1e6)
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s | %s | %s | %s |\n", st.Iteration, st.Name, st.State, done,
			some(st.Rejected), some(st.Reused), some(st.Usage.Calls), cost, timeLeft(st, now))
	}
	for _, set := range s.Sets {
		fmt.Fprintf(&b, "\nIteration %d: **%d** selected; scores %s\n", set.Iteration, set.Selected, histogram(set.Histogram))
		if set.Calibration != nil {
			fmt.Fprintf(&b, "\nIts judge: %s\n", judgeLine(*set.Calibration))
		}
		for _, line := range set.Lines() {
			fmt.Fprintf(&b, "\n%s\n", cell(line))
		}
	}
	if n := len(s.Sets); s.Calibration != nil && (n == 0 || s.Sets[n-1].Iteration != s.Iteration) {
		fmt.Fprintf(&b, "\nThe judge of iteration %d: %s\n", s.Iteration, judgeLine(*s.Calibration))
	}
	for _, p := range s.Pushed {
		fmt.Fprintf(&b, "\nPushed to %s\n", cell(p.Address))
	}
	for _, line := range s.ResultLines() {
		fmt.Fprintf(&b, "\n**%s**\n", cell(line))
	}
	for _, w := range s.Warnings {
		fmt.Fprintf(&b, "\n⚠ %s\n", cell(w))
	}
	return b.String()
}

// some writes a number, and nothing for none, so that what is there can be seen.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func money(s Status) string {
	text := fmt.Sprintf("%d calls · $%.4f", s.Spent.Calls, float64(s.Spent.MicroUSD)/1e6)
	if s.Spent.UnknownPrice > 0 {
		text += fmt.Sprintf(" + %d calls of unknown price", s.Spent.UnknownPrice)
	}
	if s.Unpriced > 0 {
		text += fmt.Sprintf(" + trainings of unknown cost: %d", s.Unpriced)
	}
	if s.InDoubt.Calls > 0 {
		text += fmt.Sprintf(" (+ %d in doubt)", s.InDoubt.Calls)
	}
	return text
}

func timeLeft(s StageStatus, now time.Time) string {
	since, done := s.StartedAt, s.Done
	if !s.ResumedAt.IsZero() {
		since, done = s.ResumedAt, s.Done-s.Before // the time before, and that of the stop, tell nothing of its speed
	}
	if s.State != StageRunning || done <= 0 || s.Total <= s.Done {
		return ""
	}
	left := now.Sub(since).Seconds() / float64(done) * float64(s.Total-s.Done)
	return (time.Duration(math.Round(left)) * time.Second).String()
}

// histogram writes scores and their rows, lowest score first.
func histogram(h map[string]int64) string {
	scores := workflow.DeterministicKeys(h)
	slices.SortFunc(scores, func(a, b string) int {
		x, _ := strconv.ParseFloat(a, 64)
		y, _ := strconv.ParseFloat(b, 64)
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, 0, len(scores))
	for _, score := range scores {
		parts = append(parts, fmt.Sprintf("%s: %d", score, h[score]))
	}
	return strings.Join(parts, " · ")
}

// cell keeps foreign text from breaking out of its line.
func cell(s string) string {
	return strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;").Replace(s)
}
