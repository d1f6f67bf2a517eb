package report

import (
	"fmt"
	"strings"
)

// figures puts the figures of two reports side by side. What neither has is left out.
func figures(a, b Data) (out []Figure) {
	add := func(name, x, y string) {
		if blank := func(s string) bool { return s == "" || s == "–" }; !blank(x) || !blank(y) {
			out = append(out, Figure{name, x, y})
		}
	}
	both := func(name string, of func(Data) string) { add(name, of(a), of(b)) }
	both("phase", func(d Data) string { return d.Phase })
	both("time", func(d Data) string { return took(d.StartedAt, endOf(d)) })
	both("base model", func(d Data) string { return d.Base })
	both("seed pairs", func(d Data) string { return dash(d.Seeds.Rows) })
	both("segments", func(d Data) string { return dash(d.Segments.Rows) })
	both("instructions written", func(d Data) string { return dash(d.Candidates.Rows) })
	both("threshold", func(d Data) string { return fmt.Sprintf("%g", d.Threshold) })
	both("model calls", func(d Data) string { return dash(d.Spent.Calls) })
	both("tokens", func(d Data) string { return dash(d.Spent.PromptTokens + d.Spent.CompletionTokens) })
	both("cost of calls", func(d Data) string { return cost(d.Spent) })
	both("cost of training", func(d Data) string { return strings.TrimPrefix(trainingCost(d.Trainings), "training: ") })
	linesA, linesB := iterations(a), iterations(b)
	for t := range 1 + max(len(a.Rounds), len(b.Rounds)) {
		x, y := lineOf(linesA, t), lineOf(linesB, t)
		name := fmt.Sprintf("iteration %d: ", t)
		add(name+"rated", x.Rated, y.Rated)
		add(name+"mean score", x.Mean, y.Mean)
		add(name+"selected", x.Selected, y.Selected)
		add(name+"training set", x.Training, y.Training)
		add(name+"judge's AUC", aucOf(a, t), aucOf(b, t))
		add(name+"win rate", x.WinRate, y.WinRate)
	}
	for i, name := range []string{"newest A4", "newest A5"} {
		setA, setB := setOf(a, i), setOf(b, i)
		add(name+": pairs", setA[0], setB[0])
		add(name+": instruction, characters", setA[1], setB[1])
		add(name+": output, characters", setA[2], setB[2])
	}
	for i := range max(len(a.Variety), len(b.Variety)) {
		x, y := varietyOf(a, i), varietyOf(b, i)
		add("different verb–object pairs: "+[]string{"seeds", "curated"}[min(i, 1)], x[0], y[0])
		add("near-duplicate instructions: "+[]string{"seeds", "curated"}[min(i, 1)], x[1], y[1])
	}
	for _, r := range a.Evidence.WinRates {
		for _, s := range b.Evidence.WinRates {
			if r.Iteration == 0 && s.Iteration == 0 && r.Name == s.Name {
				add("win rate, "+clip(r.Name, 60), rate(r.Rate), rate(s.Rate))
			}
		}
	}
	return out
}

func lineOf(lines []round, t int) round {
	for _, l := range lines {
		if l.Iteration == t {
			return l
		}
	}
	return round{}
}

func aucOf(d Data, t int) string {
	for _, r := range tried(d) {
		if r.Iteration == t {
			return fmt.Sprintf("%.2f", r.Calibration.AUC)
		}
	}
	return ""
}

// setOf gives rows and lengths of the newest A4 (0) or A5 (1).
func setOf(d Data, i int) (out [3]string) {
	for _, s := range d.Sets {
		if s.Paper == []*Paper{paperA4, paperA5}[i] || s.Paper != nil && s.Paper.Rows == []*Paper{paperA4, paperA5}[i].Rows {
			out = [3]string{num(s.Rows), length(s.Instruction, s.Rows), length(s.Output, s.Rows)}
		}
	}
	return out
}

func varietyOf(d Data, i int) (out [2]string) {
	if i < len(d.Variety) {
		v := d.Variety[i]
		out = [2]string{num(int64(v.Distinct)), percentOf(float64(v.NearDuplicates) / float64(max(v.Looked, 1)))}
	}
	return out
}
