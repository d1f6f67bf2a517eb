package lm

import (
	"math"
	"strings"
)

// comparison is a choice between two answers that a prompt asks for, whatever its words: a label to put before the choice, and
// the three words that may stand there.
type comparison struct{ label, first, second, tie string }

// evenness is how fast a tie becomes unlikely as the odds grow: at odds of 3 to 2 it is half as likely as at even ones.
const evenness = 20

var verdictLabels = []string{"verdict", "winner", "preference", "choice"}

// comparisonRequest finds the last "Verdict:" (or "Winner:" …) in the prompt's own words, outside the texts it quotes.
func comparisonRequest(outside string) (comparison, bool) {
	low := lower(outside)
	at, label := -1, ""
	for _, l := range verdictLabels {
		if i := strings.LastIndex(low, l+":"); i > at {
			at, label = i, outside[i:i+len(l)]
		}
	}
	if at < 0 {
		return comparison{}, false
	}
	c := comparison{label: label, first: "first", second: "second", tie: "tie"}
	if !strings.Contains(low, "first") && strings.Contains(low, "1") {
		c.first, c.second = "1", "2"
	}
	if !strings.Contains(low, "tie") && strings.Contains(low, "draw") {
		c.tie = "draw"
	}
	return c, true
}

// rivals finds which blocks hold the question and the two answers to it: by what their labels say, else the last three in order.
func rivals(blocks []block) (question, first, second string, ok bool) {
	n := len(blocks)
	if n < 3 {
		return "", "", "", false
	}
	q, a, b := n-3, n-2, n-1
	for i, bl := range blocks {
		if containsAny(bl.label, questionWords) {
			q = i
			break
		}
	}
	for i, bl := range blocks {
		switch {
		case i == q:
		case containsAny(bl.label, []string{"first", "answer 1", "answer a", "output 1", "output_1"}):
			a = i
		case containsAny(bl.label, []string{"second", "answer 2", "answer b", "output 2", "output_2"}):
			b = i
		}
	}
	return blocks[q].text, blocks[a].text, blocks[b].text, q != a && a != b && q != b
}

// compare is the model's distribution over which answer is better. It is that of Bradley and Terry over the likelihoods by which it
// rates: the odds of one answer over the other are those that it, rather than other text, is one of the answers the model was fitted
// on. What stands where changes nothing of them. An untrained model has moods instead, and leans to what it reads first.
func (m *Model) compare(c comparison, question, first, second string) Draft {
	a := m.judgePair(question, first, m.mood(question+"\x00"+first))
	b := m.judgePair(question, second, m.mood(question+"\x00"+second))
	trained := m.judge != nil
	d := (a.mean - b.mean + 0.8) / 0.85 // half the logarithm of the odds
	if trained {
		d = m.judge.skill * (a.logit - b.logit) / 2
	}
	even := 0.8 * math.Exp(-d*d*evenness)
	p := 1 / (1 + math.Exp(-2*d))
	if first == second {
		even = 0.97
	}
	better, reason := a, "The first answer is better"
	if d < 0 {
		better, reason = b, "The second answer is better"
	}
	switch {
	case even > 0.5:
		reason = "Both answers are about equally good."
	case !trained:
		reason += ", I think."
	case len(better.hits) > 0:
		reason += ": it says more of what was asked (" + quoted(better.hits, 3) + "), in the way of the answers I learnt from."
	default:
		reason += ": it is more like the answers I learnt from."
	}
	lost := 0.004
	switch {
	case a.confused && b.confused:
		lost = 0.5
	case !trained:
		lost = 0.02
	}
	return Draft{
		{{Text: reason, P: 0.8}, {Text: "I compared both answers with the instruction. " + reason, P: 0.2}},
		{{Text: "\n" + c.label + ": ", P: 1 - lost}, {Text: "\nIt depends on the reader.", P: lost, End: true}},
		{
			{Text: c.first, P: (1 - even) * p},
			{Text: c.second, P: (1 - even) * (1 - p)},
			{Text: c.tie, P: even},
		},
	}
}
