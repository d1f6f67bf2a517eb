package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// card answers one question about the run.
type card struct {
	Question, Value, Class string
	Lines                  []string
}

// cards answer what came in, what came out, what it cost and whether it is better.
func cards(d Data) []card {
	if d.Recipe != nil {
		return []card{wasRead(d), wasKept(d), itCost(d)}
	}
	return []card{cameIn(d), cameOut(d), itCost(d), isBetter(d)}
}

func cameIn(d Data) card {
	c := card{Question: "What came in", Value: plural(d.Segments.Rows, "segment", "segments")}
	if d.Segments.IsZero() {
		c.Value = "–"
	}
	for _, f := range d.Funnels {
		if f.Set == stepSegments {
			c.Lines = append(c.Lines, "of "+plural(f.Total.Documents, "document", "documents")+" from "+plural(int64(len(f.Sources)+f.Omitted), "source", "sources"))
		}
	}
	c.Lines = append(c.Lines, plural(d.Seeds.Rows, "seed pair", "seed pairs"))
	if n := d.Seeds.Rejected + d.Segments.Rejected; n > 0 {
		c.Lines = append(c.Lines, num(n)+" pieces turned away")
	}
	return c
}

func cameOut(d Data) card {
	rows, selected, model := final(d)
	c := card{Question: "What came out", Value: "–", Lines: []string{"no training set yet"}}
	if rows > 0 {
		c.Value, c.Lines = plural(rows, "pair", "pairs"), []string{"the training set of " + model}
		if n := len(d.Histograms); n > 0 && selected > 0 {
			h := d.Histograms[n-1]
			c.Lines = append(c.Lines, fmt.Sprintf("%s selected, %s of what was rated", num(selected), percentOf(float64(selected)/float64(max(h.Rows, 1)))))
		}
	}
	if d.Iterations > 0 {
		c.Lines = append(c.Lines, fmt.Sprintf("%d of %d iterations, kept from score %g", len(d.Histograms), d.Iterations, d.Threshold))
	}
	return c
}

func wasRead(d Data) card {
	r := d.Recipe
	c := card{Question: "What came in", Value: "–"}
	switch {
	case r.Prompts.IsZero():
	case r.Prompts.Kind == dataset.KindResponses:
		c.Value = plural(r.Prompts.Rows, "answer", "answers")
	default:
		c.Value = plural(r.Prompts.Rows, "prompt", "prompts")
	}
	if r.Prompts.Rejected > 0 {
		c.Lines = append(c.Lines, num(r.Prompts.Rejected)+" records turned away")
	}
	return c
}

func wasKept(d Data) card {
	r := d.Recipe
	c := card{Question: "What came out", Value: "–", Lines: []string{"nothing yet"}}
	if !r.Kept.IsZero() {
		c.Value, c.Lines = plural(r.Kept.Rows, "row", "rows"), nil
	} else if !r.Answers.IsZero() {
		c.Lines = nil
	}
	if !r.Answers.IsZero() && r.Prompts.Kind != dataset.KindResponses {
		line := plural(r.Answers.Rows, "answer", "answers")
		if r.Answers.Rejected > 0 {
			line += ", " + num(r.Answers.Rejected) + " rejected"
		}
		c.Lines = append(c.Lines, line)
	}
	if len(d.Rounds) > 0 {
		c.Lines = append(c.Lines, num(d.Rounds[0].Ratings.Rows)+" scored")
	}
	return c
}

func itCost(d Data) card {
	c := card{Question: "What it cost", Value: costKnown(d), Lines: []string{
		plural(d.Spent.Calls, "call", "calls") + ", " + compact(d.Spent.PromptTokens+d.Spent.CompletionTokens) + " tokens",
	}}
	if d.Recipe == nil {
		c.Lines = append(c.Lines, trainingCost(d.Trainings))
	}
	if c.Value == "unknown" {
		c.Lines[0] += " without a known price"
	}
	if t := took(d.StartedAt, endOf(d)); t != "–" {
		c.Lines = append(c.Lines, t+" from the start")
	}
	return c
}

// costKnown is what is known of a run's cost. Trainings that nobody priced are said to be missing from it.
func costKnown(d Data) string {
	calls := cost(d.Spent)
	if d.Spent.Calls == 0 && len(d.Trainings) > 0 { // every answer was there already
		calls = usd(d.Spent.MicroUSD)
	}
	unpriced := slices.ContainsFunc(d.Trainings, func(t Training) bool { return !t.CostKnown })
	switch {
	case !unpriced || calls == "–" || calls == "unknown":
		return calls
	case d.Spent.MicroUSD == 0 && d.Spent.UnknownPrice == 0:
		return calls + " for calls"
	}
	return "≥ " + strings.TrimPrefix(calls, "≥ ")
}

func isBetter(d Data) card {
	c := card{Question: "Is it better?", Value: "not measured", Class: "open"}
	if r := newestResult(d); r != nil {
		c.Value, c.Class = rate(r.Rate)+" win rate", verdict(r.WinRate)
		word := map[string]string{"good": "better", "bad": "worse", "open": "no difference that is certain"}[c.Class]
		c.Lines = append(c.Lines, fmt.Sprintf("%s against %s: %s", r.Model, r.Baseline, word),
			fmt.Sprintf("95 %% interval %s to %s, n %s", rate(r.Low), rate(r.High), num(r.N)))
		if r.Consistent < 0.5 {
			c.Lines = append(c.Lines, "the judge said the same in both orders only in "+percentOf(r.Consistent))
		}
	} else {
		c.Lines = append(c.Lines, "no evaluation was done")
	}
	if rounds := tried(d); len(rounds) > 0 {
		last := rounds[len(rounds)-1]
		c.Lines = append(c.Lines, fmt.Sprintf("judge of iteration %d: AUC %.2f", last.Iteration, last.Calibration.AUC))
	}
	return c
}

// newestResult is the win rate of the newest iteration, else what was asked for last.
func newestResult(d Data) *eval.Result {
	var best *eval.Result
	for i := range d.Evidence.WinRates {
		if r := &d.Evidence.WinRates[i]; r.N > 0 && (best == nil || r.Iteration >= best.Iteration) {
			best = r
		}
	}
	return best
}

// verdict says whether a win rate is above or below one half for certain.
func verdict(w eval.WinRate) string {
	switch {
	case w.N == 0 || w.Even():
		return "open"
	case w.Rate > 0.5:
		return "good"
	}
	return "bad"
}

func rate(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }

func spread(s eval.Share) string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Value, s.Low, s.High) }

// round is one line of the table of iterations; what is not known is a dash.
type round struct {
	Iteration                                                              int
	Judge, Rated, Mean, Selected, Share, Overlap, Training, Model, WinRate string
}

func iterations(d Data) (out []round) {
	for _, r := range d.Rounds {
		if r.Iteration == 0 && r.Training.IsZero() {
			continue
		}
		line := round{Iteration: r.Iteration, Judge: "–", Rated: "–", Mean: "–", Selected: "–", Share: "–", Overlap: "–", Training: dash(r.Training.Rows), Model: orDash(r.Model.Name), WinRate: "–"}
		for _, h := range d.Histograms {
			if h.Iteration == r.Iteration && !r.Ratings.IsZero() {
				line.Judge, line.Rated, line.Mean = judgeName(d, h.Judge), num(h.Rows), fmt.Sprintf("%.2f", h.Mean)
				if !r.Training.IsZero() {
					line.Selected, line.Share = num(r.Selected), percentOf(float64(r.Selected)/float64(max(h.Rows, 1)))
				}
			}
		}
		for _, c := range d.Changes {
			if c.To == r.Iteration {
				line.Overlap = fmt.Sprintf("%.2f", c.Jaccard)
			}
		}
		for _, x := range d.Evidence.Drift {
			if x.To == r.Iteration {
				line.Overlap = fmt.Sprintf("%.2f", x.Jaccard)
			}
		}
		for _, w := range d.Evidence.WinRates {
			if w.Iteration == r.Iteration && r.Iteration > 0 && w.N > 0 {
				line.WinRate = rate(w.Rate)
			}
		}
		out = append(out, line)
	}
	return out
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// funnelStep is one stop on the way from documents to rows.
type funnelStep struct {
	Name        string
	Count, Most int64
	Lost        string // what was lost since the stop before
}

func funnelSteps(f Funnel) []funnelStep {
	t := f.Total
	whole, later := sum(t.Whole), sum(f.Later)
	var steps []funnelStep
	rows := "segments"
	if f.Set == stepSeeds {
		rows = "seed pairs"
		steps = []funnelStep{{Name: "records", Count: t.Documents}, {Name: "readable pairs", Count: t.Segments, Lost: lost(t.Whole, t.Rejected)}}
	} else {
		steps = []funnelStep{{Name: "documents", Count: t.Documents}}
		if whole > 0 {
			steps = append(steps, funnelStep{Name: "documents cut", Count: t.Documents - whole, Lost: lost(t.Whole)})
		}
		steps = append(steps, funnelStep{Name: "pieces", Count: t.Pieces}, funnelStep{Name: "clean pieces", Count: t.Segments, Lost: lost(t.Rejected)})
	}
	if later > 0 || f.Rows != t.Segments {
		steps = append(steps, funnelStep{Name: rows, Count: f.Rows, Lost: lost(f.Later)})
	}
	var most int64
	for _, s := range steps {
		most = max(most, s.Count)
	}
	for i := range steps {
		steps[i].Most = most
	}
	return steps
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

const maxLost = 6 // reasons named in a line

// lost names reasons with their counts, the commonest first.
func lost(counts ...map[string]int64) string {
	all := map[string]int64{}
	for _, c := range counts {
		for reason, n := range c {
			all[reason] += n
		}
	}
	reasons := slices.SortedFunc(maps.Keys(all), func(x, y string) int {
		if d := all[y] - all[x]; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(x, y)
	})
	var parts []string
	var rest int64
	for i, r := range reasons {
		if i >= maxLost {
			rest += all[r]
			continue
		}
		parts = append(parts, "− "+num(all[r])+" "+clip(words(r), 40))
	}
	if rest > 0 {
		parts = append(parts, "− "+num(rest)+" for other reasons")
	}
	return strings.Join(parts, "  ")
}

func reasonsOf(t dataset.Tally) string { return lost(t.Whole, t.Rejected) }

// heldOut is how often an evaluation set was found, in each step that looked for it.
type heldOut struct {
	Set   string
	Found []int64 // by step; -1: it was not looked for there
}

// contamination returns the steps that looked for evaluation sets and what each found: a row that is found in two sets counts for
// both. Without steps nothing was looked for.
func contamination(d Data) (steps []string, sets []heldOut) {
	var counts []map[string]int64
	names := map[string]bool{}
	take := func(step string, count map[string]int64) {
		if len(count) == 0 {
			return
		}
		steps, counts = append(steps, step), append(counts, count)
		for name := range count {
			names[name] = true
		}
	}
	for _, f := range d.Funnels {
		take(f.Set, f.Total.Contaminated)
	}
	for _, f := range d.Flow {
		if f.Name == stepCandidates || sum(f.Contaminated) > 0 { // selections look again, in vain but for forks
			take(f.Name, f.Contaminated)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if len(sets) == maxSources {
			break
		}
		row := heldOut{Set: clip(name, 80)}
		for _, count := range counts {
			n, looked := count[name]
			if !looked {
				n = -1
			}
			row.Found = append(row.Found, n)
		}
		sets = append(sets, row)
	}
	return steps, sets
}

// heldOutTable is contamination for the page.
func heldOutTable(d Data) (t struct {
	Steps []string
	Sets  []heldOut
},
) {
	t.Steps, t.Sets = contamination(d)
	return t
}

// looked writes a count that is -1 where nobody counted.
func looked(n int64) string {
	if n < 0 {
		return "–"
	}
	return num(n)
}

// masked says what was masked in segments.
func masked(f Funnel) string { return countsOf("Masked: ", f.Total.Masked) }

func countsOf(what string, counts map[string]int64) string {
	if len(counts) == 0 {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if len(parts) == maxReasons {
			break
		}
		parts = append(parts, clip(k, 80)+" "+num(counts[k]))
	}
	return what + strings.Join(parts, ", ") + "."
}

// sourceName is a source as people know it: an uploaded one by the beginning of its digest.
func sourceName(s string) string {
	_, digest, ok := strings.Cut(s, "/uploads/")
	if !ok {
		return s
	}
	digest, name, _ := strings.Cut(digest, "/")
	if name == "" { // a folder that was uploaded before folders kept their names
		name = "folder"
	}
	return name + " (uploaded, " + short(digest) + ")"
}

func moments(m dataset.Moments) string { return length(lengthOf(m), m.N) }

// driftShare is a part of the union of two selections, as a width.
func driftShare(n int64, d eval.Drift) string { return ratio(float64(n), float64(d.Kept+d.In+d.Out)) }
