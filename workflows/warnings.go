package workflows

import (
	"fmt"
	"math"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/internal/eval"
)

// What is worth a warning. Under fewWarn rows nothing is said of shares.
const (
	fewWarn       = 20
	warnDominates = 0.80 // share of the ratings that one score has
	warnParseRate = 0.88 // published for a judge that works
	warnTextScore = 0.10 // share of scores whose token was not found
	warnSelected  = 0.90 // share of the rated pairs that are selected
	warnAUC       = 0.60 // of seed pairs against shuffled ones
)

// warnings tells what a person should look at, though the run goes on: oldest iteration first.
func warnings(stages []StageStatus, sets []IterationSummary, now *eval.Calibration) []string {
	var out []string
	say := func(t int, format string, args ...any) {
		where := fmt.Sprintf("iteration %d: ", t)
		if t == 0 { // a recipe has none
			where = ""
		}
		out = append(out, where+fmt.Sprintf(format, args...))
	}
	done := map[int]bool{}
	for _, set := range sets {
		done[set.Iteration] = true
	}
	for _, s := range stages {
		if s.Name == "generate" && s.State == StageDone && s.Done >= fewWarn && over(s.Rejected, s.Done, 1-warnParseRate) {
			say(s.Iteration, "%s of the answers were rejected; why stands in %s. Where they end at max_tokens (answer_cut), try a higher generate.max_tokens, or generate.keep_truncated: true",
				percent(s.Rejected, s.Done), "the rejected rows of starter pull RUN --set responses")
		}
		if s.Name != "rate" && s.Name != "score" {
			continue
		}
		warnRatings(s, say)
		for _, set := range sets {
			if set.Iteration == s.Iteration {
				warnSet(set, say)
			}
		}
		if !done[s.Iteration] && now != nil {
			warnJudge(s.Iteration, now, say)
		}
	}
	return out
}

func warnRatings(s StageStatus, say func(int, string, ...any)) {
	var rated, most int64
	top, block := "", s.Name // of the spec
	for _, score := range workflow.DeterministicKeys(s.Histogram) {
		n := s.Histogram[score]
		rated += n
		if n > most {
			most, top = n, score
		}
	}
	if rated >= fewWarn && over(most, rated, warnDominates) {
		say(s.Iteration, "%s of the ratings are %s: the judge hardly tells pairs apart. Try %[3]s.rubric: additive, %[3]s.method: logprobs, several %[3]s.samples, or another judge",
			percent(most, rated), top, block)
	}
	a := s.Answers
	if all := a.Read + a.Unreadable; all >= fewWarn && a.ParseRate() < warnParseRate {
		say(s.Iteration, "only %s of the judge's answers could be read. Try %[2]s.method: json, more %[2]s.max_tokens, or another judge", percent(a.Read, all), block)
	}
	if a.Read >= fewWarn && over(a.TextScore, a.Read, warnTextScore) {
		say(s.Iteration, "%s of the scores were taken from the answer's text, since the endpoint told no probabilities for them", percent(a.TextScore, a.Read))
	}
}

func warnSet(set IterationSummary, say func(int, string, ...any)) {
	rated := set.Ratings.Rows
	switch {
	case set.Selected <= 0 && rated > 0:
		say(set.Iteration, "no pair was rated %g or better, so nothing was selected and the training set is the seeds alone. Try a lower curate.threshold", set.Threshold)
	case rated >= fewWarn && over(set.Selected, rated, warnSelected):
		say(set.Iteration, "%s of the rated pairs were selected, so that the rating decides next to nothing. Try a higher curate.threshold", percent(set.Selected, rated))
	}
	if set.Calibration != nil {
		warnJudge(set.Iteration, set.Calibration, say)
	}
}

func warnJudge(t int, c *eval.Calibration, say func(int, string, ...any)) {
	if c.Rated >= fewWarn && c.AUC < warnAUC {
		say(t, "the judge rates seed pairs hardly above shuffled ones (AUC %.2f; 0.5 is chance): its selection means little", c.AUC)
	}
}

func over(n, of int64, share float64) bool { return of > 0 && float64(n) > share*float64(of) }

func percent(n, of int64) string {
	return fmt.Sprintf("%.0f %%", math.Floor(100*float64(n)/float64(max(of, 1))))
}

// judgeLine tells in a line how good a judge is.
func judgeLine(c eval.Calibration) string {
	text := fmt.Sprintf("precision %.2f, recall %.2f at ≥ %g; AUC %.2f; mean %.2f on seed pairs, %.2f on shuffled ones; %.0f %% of answers read",
		c.Precision, c.Recall, c.Threshold, c.AUC, c.MeanPositive, c.MeanNegative, 100*c.ParseRate)
	if c.OnTraining {
		text += "; it was trained on these seeds"
	}
	return text
}

// JudgeLine tells in a line how good the judge of an iteration is, from the set of the iteration or, while there is none,
// from what is known so far. It is empty where the judge was not tried out.
func (s Status) JudgeLine(iteration int) string {
	for _, set := range s.Sets {
		switch {
		case set.Iteration != iteration:
		case set.Calibration == nil:
			return ""
		default:
			return judgeLine(*set.Calibration)
		}
	}
	if iteration == s.Iteration && s.Calibration != nil {
		return judgeLine(*s.Calibration)
	}
	return ""
}
