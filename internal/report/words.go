package report

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

// num writes a number with thousands apart.
func num(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// whole64 is an int or int64 as an int64.
func whole64(n any) int64 {
	if n, ok := n.(int); ok {
		return int64(n)
	}
	v, _ := n.(int64)
	return v
}

func dash(n int64) string {
	if n == 0 {
		return "–"
	}
	return num(n)
}

// compact writes a number in four characters or so.
func compact(n int64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if f := float64(n) / unit.size; f >= 0.9995 {
			digits := 1
			if f >= 99.95 {
				digits = 0
			}
			return strings.TrimSuffix(strconv.FormatFloat(f, 'f', digits, 64), ".0") + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func percentOf(share float64) string {
	switch {
	case math.IsNaN(share) || share <= 0:
		return "0 %"
	case share < 0.001:
		return "< 0.1 %"
	case share < 0.1:
		return strconv.FormatFloat(share*100, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(share*100, 'f', 0, 64) + " %"
}

// ratio is a width in percent for a style sheet.
func ratio(n, of float64) string {
	if of <= 0 || !(n > 0) {
		return "0"
	}
	return strconv.FormatFloat(min(n/of*100, 100), 'f', 2, 64)
}

func length(l Length, rows int64) string {
	if rows == 0 || l.Mean == 0 {
		return "–"
	}
	return num(int64(math.Round(l.Mean))) + " ± " + num(int64(math.Round(l.Std)))
}

func usd(micro int64) string {
	dollars := float64(micro) / 1e6
	switch {
	case micro == 0:
		return "$0"
	case micro > 0 && micro < 100:
		return "< $0.0001"
	case math.Abs(dollars) < 0.01:
		return "$" + strconv.FormatFloat(dollars, 'f', 4, 64)
	case math.Abs(dollars) < 1000:
		return "$" + strconv.FormatFloat(dollars, 'f', 2, 64)
	}
	return "$" + num(int64(math.Round(dollars)))
}

// cost never guesses: calls without a price are told apart.
func cost(u dataset.Usage) string {
	switch {
	case u.Calls == 0 && u.MicroUSD == 0:
		return "–"
	case u.UnknownPrice == 0:
		return usd(u.MicroUSD)
	case u.UnknownPrice >= u.Calls && u.MicroUSD == 0:
		return "unknown"
	}
	return "≥ " + usd(u.MicroUSD)
}

func budget(b Budget) string {
	var caps []string
	if b.USD > 0 {
		caps = append(caps, usd(int64(math.Round(b.USD*1e6))))
	}
	if b.Calls > 0 {
		caps = append(caps, num(b.Calls)+" calls")
	}
	if b.Tokens > 0 {
		caps = append(caps, num(b.Tokens)+" tokens")
	}
	if len(caps) == 0 {
		return "No budget was set."
	}
	return "Budget: " + strings.Join(caps, ", ") + "."
}

func when(t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return t.UTC().Format("2 January 2006, 15:04 UTC")
}

func took(from, to time.Time) string {
	if from.IsZero() || to.Before(from) {
		return "–"
	}
	d := to.Sub(from)
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < 2*time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + " s"
	case d < 2*time.Hour:
		return strconv.FormatFloat(d.Minutes(), 'f', 0, 64) + " min"
	case d < 48*time.Hour:
		return strconv.FormatFloat(d.Hours(), 'f', 1, 64) + " h"
	}
	return strconv.FormatFloat(d.Hours()/24, 'f', 1, 64) + " days"
}

func scores(s []float64) string {
	out := make([]string, len(s))
	for i, v := range s {
		out[i] = strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strings.Join(out, ", ")
}

// words turns a reason such as too_short into words.
func words(reason string) string { return strings.ReplaceAll(reason, "_", " ") }

func web(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

func notExpressed(trainings []Training) (out []string) {
	for _, t := range trainings {
		for _, w := range t.NotExpressed {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// final returns the newest training set and how many of its rows were selected from A.
func final(d Data) (rows, selected int64, model string) {
	for _, r := range d.Rounds {
		if !r.Training.IsZero() {
			rows, selected, model = r.Training.Rows, r.Selected, modelOf(r.Iteration)
		}
	}
	return rows, selected, model
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return num(n) + " " + many
}

// lede is the report in a sentence or two.
func lede(d Data) string {
	if d.Recipe != nil {
		return ledeOfRecipe(d)
	}
	in := plural(d.Seeds.Rows, "seed pair", "seed pairs") + " and " + plural(d.Segments.Rows, "human-written segment", "human-written segments") + " went in."
	rows, selected, model := final(d)
	if rows == 0 {
		return in + " No training set has come out yet."
	}
	if last := d.Rounds[len(d.Rounds)-1]; last.Iteration > 0 && last.Model.Name == "" && !d.EndedAt.IsZero() {
		if last.Selected == 0 {
			return fmt.Sprintf("%s Nothing was rated well enough in iteration %d, so no model was trained on it.", in, last.Iteration)
		}
		return fmt.Sprintf("%s Iteration %d selected what the one before had, so %s stands.", in, last.Iteration, modelOf(last.Iteration-1))
	}
	rated := ""
	if n := len(d.Histograms); n > 0 && selected > 0 {
		rated = fmt.Sprintf(" the best %s of %s rated pairs", percentOf(float64(selected)/float64(max(d.Histograms[n-1].Rows, 1))), num(d.Histograms[n-1].Rows))
	}
	if rated == "" {
		return fmt.Sprintf("%s %s was trained on %s.", in, model, plural(rows, "pair", "pairs"))
	}
	return fmt.Sprintf("%s Out came%s; with the seeds, %s were what %s was trained on.", in, rated, plural(rows, "pair", "pairs"), model)
}

// ledeOfRecipe is lede of a generate-and-score run.
func ledeOfRecipe(d Data) string {
	r := d.Recipe
	if r.Prompts.IsZero() {
		return "Nothing has been read yet."
	}
	said := []string{plural(r.Prompts.Rows, "prompt was", "prompts were") + " read"}
	if r.Prompts.Kind == dataset.KindResponses {
		said[0] = plural(r.Prompts.Rows, "answer was", "answers were") + " read"
	} else if !r.Answers.IsZero() {
		said = append(said, plural(r.Answers.Rows, "answer", "answers")+" written")
	}
	if len(d.Rounds) > 0 {
		said = append(said, num(d.Rounds[0].Ratings.Rows)+" scored")
	}
	if !r.Kept.IsZero() {
		said = append(said, num(r.Kept.Rows)+" kept")
	}
	return strings.Join(said, ", ") + "."
}

// tried returns the rounds whose judge was tried out.
func tried(d Data) (out []Round) {
	for _, r := range d.Rounds {
		if r.Calibration != nil {
			out = append(out, r)
		}
	}
	return out
}

// onTraining reports whether a judge was tried out on what it was trained on.
func onTraining(rounds []Round) bool {
	return slices.ContainsFunc(rounds, func(r Round) bool { return r.Calibration != nil && r.Calibration.OnTraining })
}

func endOf(d Data) time.Time {
	if d.EndedAt.IsZero() {
		return d.At
	}
	return d.EndedAt
}

func trainingCost(trainings []Training) string {
	var micro int64
	known := true
	for _, t := range trainings {
		micro += t.CostMicroUSD
		known = known && t.CostKnown
	}
	switch {
	case len(trainings) == 0:
		return "no training yet"
	case !known && micro == 0:
		return "training: unknown"
	case !known:
		return "training: ≥ " + usd(micro)
	}
	return "training: " + usd(micro)
}

// signed is a number that is added to another: + 1.5 or − 1.5.
func signed(v float64) string {
	if v < 0 {
		return fmt.Sprintf("− %.1f", -v)
	}
	return fmt.Sprintf("+ %.1f", v)
}
