package prompt

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Token is a token of an answer with its log-probability and the likeliest tokens in its place.
type Token struct {
	Text    string        `json:"token"`
	LogProb float64       `json:"logprob"`
	Top     []Alternative `json:"top,omitempty"`
}

// Alternative is a token that could have stood in a place.
type Alternative struct {
	Text    string  `json:"token"`
	LogProb float64 `json:"logprob"`
}

// ScoreTokens is how many tokens at the end of an answer are enough for ExpectedScore: the score line with a remark.
const ScoreTokens = 32

var (
	// scoreLabel comes before a score: in a line, in a tag, as a field.
	scoreLabel = regexp.MustCompile(`(?i)(?:score|rating|grade)`)
	scoreValue = regexp.MustCompile(`^(\d+)(?:\.(\d*))?`)
	// scoreToken is a token that begins with a number, whatever mark of a beginning word or bracket stands before.
	scoreToken = regexp.MustCompile(`^[\s▁Ġ*_"'` + "`" + `(\[{<:]*(\d+)(?:\.(\d+))?(\.?)[^\d.]*$`)
)

// ExpectedScore returns the expected value of the score under the probabilities of its token: over the numbers 1 to 5 among
// the alternatives, renormalised. A decimal that follows in tokens of its own counts for the whole number that was
// written, by the probabilities of its first digit. tokens are the answer's last ones; score is what its text says, which the
// tokens must say too. It is false where that is not so, or no alternative is a score: the text's own score then stands.
// The result lies between 1 and 5.
func ExpectedScore(tokens []Token, score float64) (float64, bool) {
	var text strings.Builder
	starts := make([]int, len(tokens))
	for i, t := range tokens {
		starts[i] = text.Len()
		text.WriteString(t.Text)
	}
	at, digits, ok := scoreAt(text.String(), score)
	if !ok {
		return 0, false
	}
	i := tokenAt(starts, at)
	// A token that holds more of the text before the number than marks, such as ":4", has alternatives that say nothing.
	if own := scoreToken.FindStringSubmatch(tokens[i].Text); own == nil || own[1] != wholeOf(digits) {
		return 0, false
	}
	sum, mass := 0.0, 0.0
	for alt, p := range chances(tokens[i]) {
		value, known := numberIn(alt)
		if !known || p <= 0 {
			continue
		}
		if alt == tokens[i].Text && value == math.Trunc(value) {
			value += fraction(tokens, starts, i, at, digits, value)
		}
		if value < 1 || value > 5 {
			continue
		}
		sum += p * value
		mass += p
	}
	if !(mass > 1e-9) || math.IsInf(mass, 0) {
		return 0, false
	}
	return min(max(sum/mass, 1), 5), true
}

// scoreAt finds the number after the text's last label that is followed by one, and checks that it is the score.
func scoreAt(text string, score float64) (at int, digits string, ok bool) {
	labels := scoreLabel.FindAllStringIndex(text, -1)
	for k := len(labels) - 1; k >= 0; k-- {
		from := labels[k][1]
		to := len(text)
		if k+1 < len(labels) {
			to = labels[k+1][0]
		}
		d := strings.IndexAny(text[from:to], "0123456789")
		if d < 0 {
			continue
		}
		at = from + d
		digits = strings.TrimSuffix(scoreValue.FindString(text[at:]), ".")
		value, err := strconv.ParseFloat(digits, 64)
		return at, digits, err == nil && value == score
	}
	return 0, "", false
}

func tokenAt(starts []int, at int) int {
	i := len(starts) - 1
	for i > 0 && starts[i] > at {
		i--
	}
	return i
}

func wholeOf(digits string) string {
	whole, _, _ := strings.Cut(digits, ".")
	return whole
}

// chances returns the probabilities of the tokens in a place, the one that was written included.
func chances(t Token) map[string]float64 {
	out := make(map[string]float64, len(t.Top)+1)
	for _, a := range append(t.Top[:len(t.Top):len(t.Top)], Alternative{t.Text, t.LogProb}) {
		if _, twice := out[a.Text]; !twice && !math.IsNaN(a.LogProb) {
			out[a.Text] = math.Exp(min(a.LogProb, 0))
		}
	}
	return out
}

// numberIn returns the number that a token is.
func numberIn(token string) (float64, bool) {
	m := scoreToken.FindStringSubmatch(token)
	if m == nil {
		return 0, false
	}
	value, err := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64)
	return value, err == nil
}

// fraction is the expected decimal part after the whole number that token i wrote, when tokens of their own write it.
func fraction(tokens []Token, starts []int, i, at int, digits string, whole float64) float64 {
	_, decimals, has := strings.Cut(digits, ".")
	if !has || decimals == "" {
		return 0
	}
	point := at + len(digits) - len(decimals) - 1
	j := tokenAt(starts, point+1)
	if j <= i {
		return 0 // in the token itself
	}
	// How likely the point was at all, where it had a token of its own.
	follows := 1.0
	if k := tokenAt(starts, point); k > i && k < j {
		follows = min(1, chances(tokens[k])[tokens[k].Text])
	}
	sum, mass := 0.0, 0.0
	for alt, p := range chances(tokens[j]) {
		alt = strings.TrimLeft(alt, ".")
		n := len(alt) - len(strings.TrimLeft(alt, "0123456789"))
		part, err := strconv.ParseFloat("0."+alt[:n]+"0", 64)
		if n == 0 || err != nil || whole+part > 5 {
			continue
		}
		sum += p * part
		mass += p
	}
	if !(mass > 1e-9) {
		return 0
	}
	return follows * sum / mass
}
