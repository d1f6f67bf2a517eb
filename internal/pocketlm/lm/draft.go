package lm

import (
	"math"
	"math/rand/v2"
	"sort"
	"strings"
)

// Choice is one way in which a segment of an answer may go on, with the probability the model gives to it.
type Choice struct {
	Text string
	P    float64
	End  bool // the answer ends after this choice
}

// Draft is the model's distribution over whole answers: segments chosen one after the other, independently.
// The probabilities of a segment add up to one.
type Draft [][]Choice

// Sampling is how an answer is drawn from a draft. Temperature 0 takes the likeliest choice everywhere.
type Sampling struct {
	Temperature, TopP float64 // TopP 0 means 1
	MaxTokens         int     // 0: no limit
	Stop              []string
	Seed              [2]uint64
	LogProbs          bool
	Top               int // alternatives listed for each token
}

// Token is one emitted token with its log-probability under the model (before temperature and nucleus).
type Token struct {
	Text    string
	LogProb float64
	Top     []Alternative
}

// Alternative is a token that could have stood in a place.
type Alternative struct {
	Text    string
	LogProb float64
}

// Completion is an answer drawn. Finish is "stop" or "length".
type Completion struct {
	Text   string
	Tokens int
	Finish string
	Detail []Token // only with Sampling.LogProbs
}

func one(text string) []Choice { return []Choice{{Text: text, P: 1}} }

// Draw draws one answer.
func (d Draft) Draw(s Sampling) Completion {
	rng := rand.New(rand.NewPCG(s.Seed[0], s.Seed[1]))
	picked := make([]int, 0, len(d))
	var b strings.Builder
	for _, seg := range d {
		i := pick(seg, s, rng)
		picked = append(picked, i)
		b.WriteString(seg[i].Text)
		if seg[i].End {
			break
		}
	}
	text, finish := b.String(), "stop"
	for _, stop := range s.Stop {
		if i := strings.Index(text, stop); stop != "" && i >= 0 {
			text = text[:i]
		}
	}
	c := Completion{Text: text, Finish: finish, Tokens: Count(text)}
	if s.MaxTokens > 0 && c.Tokens > s.MaxTokens {
		c.Text, c.Tokens, c.Finish = firstTokens(text, s.MaxTokens), s.MaxTokens, "length"
	}
	if s.LogProbs {
		c.Detail = d.detail(picked, len(c.Text), s.Top)
	}
	return c
}

func firstTokens(text string, n int) string {
	at := 0
	for ; n > 0 && at < len(text); n-- {
		at += tokenLen(text[at:])
	}
	return text[:at]
}

func pick(seg []Choice, s Sampling, rng *rand.Rand) int {
	best := 0
	for i := range seg {
		if seg[i].P > seg[best].P {
			best = i
		}
	}
	if len(seg) == 1 || s.Temperature <= 0 {
		return best
	}
	order := make([]int, len(seg))
	w := make([]float64, len(seg))
	for i := range seg {
		order[i] = i
		w[i] = math.Pow(seg[i].P/seg[best].P, 1/s.Temperature)
	}
	sort.SliceStable(order, func(a, b int) bool { return w[order[a]] > w[order[b]] })
	total := 0.0
	for _, v := range w {
		total += v
	}
	if s.TopP > 0 && s.TopP < 1 {
		kept := 0.0
		for n, i := range order {
			if kept += w[i]; kept >= s.TopP*total {
				order, total = order[:n+1], kept
				break
			}
		}
	}
	u := rng.Float64() * total
	for _, i := range order {
		if u -= w[i]; u < 0 {
			return i
		}
	}
	return order[0]
}

// detail computes token probabilities exactly: within a segment, P(token | tokens before) is the weight of the choices
// that begin with both over the weight of the choices that begin with the tokens before. Tokens are cut to limit bytes.
func (d Draft) detail(picked []int, limit, top int) []Token {
	var out []Token
	for si, pi := range picked {
		seg := d[si]
		pieces := make([][]string, len(seg))
		alive := make([]int, 0, len(seg))
		for i := range seg {
			if seg[i].P > 0 {
				pieces[i] = Tokens(seg[i].Text)
				alive = append(alive, i)
			}
		}
		for k, tok := range pieces[pi] {
			if limit <= 0 {
				return out
			}
			if len(tok) > limit {
				tok = tok[:limit]
			}
			limit -= len(tok)
			alts := map[string]float64{}
			total := 0.0
			next := alive[:0:0]
			for _, i := range alive {
				total += seg[i].P
				if k < len(pieces[i]) {
					alts[pieces[i][k]] += seg[i].P
					if pieces[i][k] == pieces[pi][k] {
						next = append(next, i)
					}
				} else {
					alts[""] += seg[i].P
				}
			}
			alive = next
			t := Token{Text: tok, LogProb: math.Log(alts[pieces[pi][k]] / total)}
			if top > 0 {
				for a, p := range alts {
					t.Top = append(t.Top, Alternative{Text: a, LogProb: math.Log(p / total)})
				}
				sort.Slice(t.Top, func(a, b int) bool {
					if t.Top[a].LogProb != t.Top[b].LogProb {
						return t.Top[a].LogProb > t.Top[b].LogProb
					}
					return t.Top[a].Text < t.Top[b].Text
				})
				t.Top = t.Top[:min(top, len(t.Top))]
			}
			out = append(out, t)
		}
	}
	return out
}
