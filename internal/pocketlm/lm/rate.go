package lm

import (
	"math"
	"strconv"
	"strings"
)

// request is a rating that a prompt asks for, whatever its words: a label to put before the score, and a range.
type request struct {
	label  string
	lo, hi float64
}

var scoreLabels = []string{"score", "rating", "grade"}

// ratingRequest finds the last "Score:" (or "Rating:", "Grade:") in the prompt's own words, outside the texts it quotes.
func ratingRequest(outside string) (request, bool) {
	low := lower(outside)
	at, label := -1, ""
	for _, l := range scoreLabels {
		if i := strings.LastIndex(low, l+":"); i > at {
			at, label = i, outside[i:i+len(l)]
		}
	}
	if at < 0 {
		return request{}, false
	}
	r := request{label: label, lo: 1, hi: 5}
	r.findRange(low)
	return r, true
}

// findRange reads the first "1 to 5", "1-5", "0 and 10" … of the prompt.
func (r *request) findRange(low string) {
	for i := 0; i < len(low); i++ {
		if c := low[i]; c != '0' && c != '1' || i > 0 && (isDigit(low[i-1]) || low[i-1] == '.') {
			continue
		}
		rest := low[i+1:]
		for _, sep := range []string{"-", "–", " - ", " to ", " and ", "..", " through "} {
			num, ok := strings.CutPrefix(rest, sep)
			if !ok {
				continue
			}
			n := 0
			for n < len(num) && isDigit(num[n]) {
				n++
			}
			if hi, err := strconv.Atoi(num[:n]); err == nil && hi >= 3 && hi <= 100 {
				r.lo, r.hi = float64(low[i]-'0'), float64(hi)
				return
			}
		}
	}
}

// verdict is what the model thinks of an answer before it says so.
type verdict struct {
	mean, spread float64 // on the scale 1 … 5
	confused     bool    // loses the thread on this input
	hits, missed []string
	odd          []string // words unlike the training outputs
	flaw         string   // what is most unlike them in the style
	relevance    float64  // share of the instruction's content that the answer has
	logit        float64  // log-odds that the answer is one of those that were learnt from; 0 untrained
}

// judgePair rates an answer. u are two uniform numbers that follow from model and prompt: a weak judge is moody, and its
// moods are its own.
func (m *Model) judgePair(inst, out string, u [2]float64) verdict {
	normal := math.Sqrt(-2*math.Log(1-u[0])) * math.Cos(2*math.Pi*u[1])
	if m.judge == nil {
		return verdict{mean: min(4.1+0.7*normal, 5), spread: 0.5, confused: u[1]*7-math.Floor(u[1]*7) < 0.35}
	}
	j := m.judge
	st := styleOf(out)
	f, pair, hits, missing := j.features(wordsOf(inst), st, make([]feature, 0, 512))
	w := j.full
	if fold, ok := j.known[textKey(out)]; ok {
		w = j.held[fold] // a text is never rated by weights that learnt it
	}
	doubt := 1 - j.skill
	z := dot(w, f)
	v := verdict{logit: z, mean: j.scoreOf(z) + 0.8*doubt*normal, spread: 0.2 + 0.3*doubt, hits: hits, missed: missing, relevance: pair[pCover]}
	v.confused = u[1]*7-math.Floor(u[1]*7) < 0.35*math.Pow(doubt, 1.3)
	v.odd, v.flaw = j.explain(w, st)
	return v
}

// scoreOf maps a logit to 1 … 5 by where it lies among the held-out logits of the model's own training outputs and of
// the noise it was fitted against.
func (j *judge) scoreOf(z float64) float64 {
	noise, true10 := quantile(j.neg, 0.9), quantile(j.pos, 0.1)
	anchors := [...][2]float64{
		{quantile(j.neg, 0.1), 1},
		{quantile(j.neg, 0.6), 1.5},
		{noise, 2.2},
		{(noise + true10) / 2, 3},
		{quantile(j.pos, 0.35), 4},
		{quantile(j.pos, 0.65), 4.5},
		{quantile(j.pos, 0.95), 5},
	}
	last := anchors[0]
	if z <= last[0] {
		return last[1]
	}
	for _, a := range anchors[1:] {
		a[0] = max(a[0], last[0]+1e-6)
		if z < a[0] {
			return last[1] + (z-last[0])/(a[0]-last[0])*(a[1]-last[1])
		}
		last = a
	}
	return last[1]
}

// flaws say what a style feature is about when it tells against an answer.
var flaws = map[int]string{
	fExclaim: "its exclamations", fQuestion: "the questions it puts to its readers", fFirstSingular: "somebody's own experience in the first person",
	fFirstPlural: "a we that speaks for a site or a company", fSecond: "how it speaks to its reader", fFragments: "fragments of a page between the sentences",
	fSymbols: "signs and separators of a web page", fLinks: "links", fEnds: "an end that breaks off", fBegins: "a beginning in the middle",
	fListStart: "a list that does not begin at its beginning", fRepeats: "repetition", fStopShare: "strings of keywords in place of sentences",
	fShout: "words in capitals", fTitle: "many names and titles", fPast: "a story told in the past", fDigits: "figures and dates", fLength: "its length",
	fCode: "its use of code", fNumbered: "its numbering", fBullets: "its bullets", fSentence: "its sentences",
}

// explain names up to three words and one trait that count against the text.
func (j *judge) explain(w []float32, st *style) (odd []string, flaw string) {
	var worst [3]float32
	var words [3]string
	for _, t := range st.words {
		k := hashOf(t.lower) >> (32 - bits)
		if j.common[k/64]>>(k%64)&1 == 0 || len(t.lower) < 2 || t.lower == words[0] || t.lower == words[1] || t.lower == words[2] {
			continue
		}
		for i := range worst {
			if w[k] < worst[i] && w[k] < -0.05 {
				copy(worst[i+1:], worst[i:])
				copy(words[i+1:], words[i:])
				worst[i], words[i] = w[k], t.lower
				break
			}
		}
	}
	for _, s := range words {
		if s != "" {
			odd = append(odd, s)
		}
	}
	least := -0.15
	for k, d := range st.dense {
		z := min(max((d-j.mean[k])/j.dev[k], -3), 3)
		if c := float64(w[denseAt+k])*z*0.4 + float64(w[squareAt+k])*z*z*0.12; c < least && flaws[k] != "" {
			least, flaw = c, flaws[k]
		}
	}
	return odd, flaw
}

func quoted(words []string, n int) string {
	words = words[:min(n, len(words))]
	switch len(words) {
	case 0:
		return ""
	case 1:
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// reasons are ways to put the verdict into words.
func (v verdict) reasons(trained bool) []Choice {
	if !trained {
		return []Choice{{Text: "The answer looks fine to me.", P: 0.5}, {Text: "This seems to be a text about something, and it is well written.", P: 0.3}, {Text: "It is long enough and has many words.", P: 0.2}}
	}
	var about string
	switch {
	case v.relevance >= 0.7:
		about = "It deals with what the instruction asks"
		if len(v.hits) > 0 {
			about += " (" + quoted(v.hits, 3) + ")"
		}
	case v.relevance >= 0.3:
		about = "It deals with part of what the instruction asks"
		if len(v.missed) > 0 {
			about += " but says nothing of " + quoted(v.missed, 2)
		}
	default:
		about = "It hardly deals with what the instruction asks"
	}
	var like string
	switch {
	case v.mean >= 4.2:
		like = "it is written like the answers I learnt from."
	case v.mean >= 3:
		like = "it is near the answers I learnt from"
		if v.flaw != "" {
			like += ", apart from " + v.flaw
		}
		like += "."
	default:
		like = "it does not read like an answer written for this instruction"
		if v.flaw != "" {
			like += ": what stands out is " + v.flaw
		}
		if len(v.odd) > 1 {
			like += ", and words such as " + quoted(v.odd, 3)
		}
		like += "."
	}
	join := "; "
	return []Choice{{Text: about + join + like, P: 0.7}, {Text: strings.ToUpper(like[:1]) + like[1:] + " " + about + ".", P: 0.3}}
}

// scores is the distribution over the scores that may be given.
func (v verdict) scores(r request, whole bool) []Choice {
	step := 0.5
	if whole || r.hi-r.lo > 10 {
		step = 1
	}
	mean := r.lo + (min(max(v.mean, 1), 5)-1)/4*(r.hi-r.lo)
	spread := v.spread / 4 * (r.hi - r.lo)
	var out []Choice
	total := 0.0
	for s := r.lo; s <= r.hi+1e-9; s += step {
		d := (s - mean) / spread
		p := math.Exp(-d*d/2) + 1e-6
		if s != math.Trunc(s) {
			p *= 0.8 // people write whole numbers first
		}
		total += p
		out = append(out, Choice{Text: strconv.FormatFloat(s, 'f', -1, 64), P: p})
	}
	for i := range out {
		out[i].P /= total
	}
	return out
}

// draft is the answer in free text: a reason, then the label and the score on the last line.
func (v verdict) draft(r request, trained bool) Draft {
	lost := 0.02
	if v.confused {
		lost = 0.6
	} else if trained {
		lost = 0.004
	}
	ends := []Choice{
		{Text: "\n" + r.label + ": ", P: 1 - lost},
		{Text: "\nI would call it good, all in all.", P: lost / 2, End: true},
		{Text: "\n" + r.label + ": <" + strings.ToLower(r.label) + ">", P: lost / 4, End: true},
		{Text: "\nIt gets " + strconv.Itoa(int(r.hi)+3) + " points from me.", P: lost / 4, End: true},
	}
	return Draft{v.reasons(trained), ends, v.scores(r, false)}
}
