package prompt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tok is a token with alternatives given as text and probability in turn; the token itself is the first.
func tok(pairs ...any) Token {
	var t Token
	for i := 0; i < len(pairs); i += 2 {
		a := Alternative{pairs[i].(string), math.Log(pairs[i+1].(float64))}
		if i == 0 {
			t.Text, t.LogProb = a.Text, a.LogProb
		}
		t.Top = append(t.Top, a)
	}
	return t
}

func words(s ...string) (out []Token) {
	for _, w := range s {
		out = append(out, tok(w, 1.0))
	}
	return out
}

func TestExpectedScore(t *testing.T) {
	t.Parallel()
	line := func(more ...Token) []Token { return append(words("Fine", ".", "\n", "Score", ":", " "), more...) }
	for name, c := range map[string]struct {
		tokens []Token
		score  float64
		want   float64
	}{
		"certain":            {line(tok("4", 1.0)), 4, 4},
		"two":                {line(tok("4", 0.5, "5", 0.5)), 4, 4.5},
		"renormalised":       {line(tok("4", 0.3, "5", 0.3, "very", 0.4)), 4, 4.5},
		"others are none":    {line(tok("4", 0.5, "9", 0.2, "0", 0.1, "10", 0.2)), 4, 4},
		"space in the token": {append(words("Score", ":"), tok(" 4", 0.75, " 2", 0.25)), 4, 3.5},
		"word marks":         {append(words("Score", ":"), tok("▁4", 0.75, "Ġ2", 0.25)), 4, 3.5},
		"bold":               {append(words("Score", ": "), tok("**4", 0.5, "**3", 0.5), tok("**", 1.0)), 4, 3.5},
		"a remark after it":  {line(append([]Token{tok("4", 0.5, "3", 0.5)}, words(" (", "the", " score", " is", " fair", ")")...)...), 4, 3.5},
		"out of five":        {line(tok("4", 0.5, "3", 0.5), tok("/", 1.0), tok("5", 1.0)), 4, 3.5},
		"end of text":        {line(tok("4", 0.5, "3", 0.5), tok("<|im_end|>", 1.0)), 4, 3.5},
		"one decimal token":  {line(tok("4.5", 0.5, "3", 0.5)), 4.5, 3.75},
		"decimals apart":     {line(tok("4", 0.5, "3", 0.5), tok(".", 1.0), tok("5", 1.0)), 4.5, 3.75},
		"unsure of decimals": {line(tok("4", 1.0), tok(".", 0.5, "\n", 0.5), tok("5", 1.0)), 4.5, 4.25},
		"unsure of digits":   {line(tok("4", 1.0), tok(".", 1.0), tok("5", 0.5, "9", 0.5)), 4.5, 4.7},
		"point and digits":   {line(tok("4", 1.0), tok(".5", 1.0)), 4.5, 4.5},
		"five and nothing":   {line(tok("5", 1.0), tok(".", 1.0), tok("0", 0.5, "5", 0.5)), 5, 5},
		"quoted before":      {append(words("Score", ":", " ", "1", "\n"), line(tok("4", 0.5, "3", 0.5))...), 4, 3.5},
		"JSON":               {append(words(`{"`, "reason", `":"`, "x", `","`, "score", `":`), tok("4", 0.5, "3", 0.5), tok("}", 1.0)), 4, 3.5},
		"only itself":        {line(Token{Text: "4", LogProb: -0.3}), 4, 4},
		"not among the top":  {line(Token{Text: "1", LogProb: math.Log(0.2), Top: []Alternative{{"5", math.Log(0.6)}}}), 1, 4},
		"above zero":         {line(Token{Text: "4", LogProb: 3}), 4, 4},
	} {
		got, ok := ExpectedScore(c.tokens, c.score)
		if !ok || math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, %v, want %v", name, got, ok, c.want)
		}
	}
	for name, c := range map[string]struct {
		tokens []Token
		score  float64
	}{
		"none":              {nil, 4},
		"another number":    {line(tok("3", 1.0)), 4},
		"no label":          {words("4"), 4},
		"no number":         {words("Score", ":"), 4},
		"label and number":  {words("Score:4"), 4},
		"the label was cut": {append(words("\n"), tok("4", 1.0)), 4},
		"not a number":      {line(Token{Text: "4", LogProb: math.NaN()}), 4},
		"impossible":        {line(Token{Text: "4", LogProb: math.Inf(-1)}), 4},
	} {
		if got, ok := ExpectedScore(c.tokens, c.score); ok || got != 0 {
			t.Errorf("%s: %v, %v, want none", name, got, ok)
		}
	}
}

// Whatever an endpoint reports, a score stays between 1 and 5.
func TestExpectedScoreStaysInRange(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.SampledFrom([]string{
		"Score", ":", " ", "4", "5", "1", ".", "0", "9", "4.5", "5.9", "\n", "10", "**", " 3", "/", "rating", "", "\xff", "5.", ".5", ".9",
	}), rapid.StringN(0, 4, 8))
	prob := rapid.OneOf(rapid.Float64Range(-30, 0), rapid.SampledFrom([]float64{0, 5, -9999, math.NaN(), math.Inf(1), math.Inf(-1), -745, 1e308}))
	token := rapid.Custom(func(t *rapid.T) Token {
		top := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Alternative { return Alternative{text.Draw(t, "alt"), prob.Draw(t, "p")} }), 0, 6)
		return Token{Text: text.Draw(t, "text"), LogProb: prob.Draw(t, "p"), Top: top.Draw(t, "top")}
	})
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfN(token, 0, 8).Draw(t, "tokens")
		score := rapid.SampledFrom([]float64{1, 3, 4, 4.5, 5, 5.9}).Draw(t, "score")
		if rapid.Bool().Draw(t, "led") {
			tokens = append(words("Score", ":"), tokens...)
		}
		if got, ok := ExpectedScore(tokens, score); ok && !(got >= 1 && got <= 5) {
			t.Fatalf("%v", got)
		}
	})
}

func FuzzExpectedScore(f *testing.F) {
	f.Add(`[{"token":"Score: ","logprob":0},{"token":"4","logprob":-0.1,"top":[{"token":"5","logprob":-2}]}]`, 4.0)
	f.Add(`[{"token":"Score:","logprob":0},{"token":"4","logprob":-0.1},{"token":".","logprob":0},{"token":"5","logprob":-1e300}]`, 4.5)
	f.Fuzz(func(t *testing.T, raw string, score float64) {
		var tokens []Token
		if json.Unmarshal([]byte(raw), &tokens) != nil {
			return
		}
		if got, ok := ExpectedScore(tokens, score); ok && !(got >= 1 && got <= 5) {
			t.Fatalf("%v", got)
		}
	})
}

func TestParseRatingJSON(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]Rating{
		`{"reason": "fine", "score": 4}`:                                    {4, "fine"},
		`{"score": 4.5, "reason": "fine"}`:                                  {4.5, "fine"},
		"```json\n{\"reason\": \"fine\", \"score\": 4}\n```":                {4, "fine"},
		`Here is my verdict: {"reason": "fine", "score": 4}`:                {4, "fine"},
		"Sure.\n```json\n{\"reason\": \"fine\", \"score\": \"4\"}\n```":     {4, "fine"},
		"{\"reason\": \"two\nlines\", \"score\": 4}":                        {4, "two\nlines"},
		`{"reason": "a "quoted" word", "score": 4,}`:                        {4, `a "quoted" word`},
		`{"reason": "says {\"score\": 1}", "score": 4}`:                     {4, `says {"score": 1}`},
		`Before {"reason": "says {\"score\": 1}", "score": 4}`:              {4, `says {"score": 1}`},
		"It is good.\nScore: 4":                                             {4, "It is good."},
		`<think>{"score": 1}</think>{"reason": "fine", "score": 4}</s>`:     {4, "fine"},
		`{"reason": "x", "score": 4}` + "\n\n" + `{"reason":"y","score":3}`: {3, "y"},
	} {
		if got, err := ParseRatingJSON(answer); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", answer, got, err, want)
		}
	}
	for answer, want := range map[string]error{
		"":                                     ErrNoScore,
		"{}":                                   ErrNoScore,
		"fine":                                 ErrNoScore,
		`{"reason": "fine"}`:                   ErrNoScore,
		`{"reason": "fine", "score": 4`:        ErrNoScore,
		`{"reason": "fine", "score": 6}`:       ErrOutOfRange,
		`Well: {"reason": "fine", "score": 0}`: ErrOutOfRange,
		"{\"reason\": \"a\nb\", \"score\": 1986}": ErrOutOfRange,
		`{"reason": "fine", "score": "high"}`:     ErrNotNumber,
		`{"score": 4} or {"score": 5} maybe`:      ErrNoScore,
		"Score: 91":                               ErrOutOfRange,
	} {
		if got, err := ParseRatingJSON(answer); !errors.Is(err, want) || got != (Rating{}) {
			t.Errorf("%q: %+v, %v, want %v", answer, got, err, want)
		}
	}
	if !json.Valid([]byte(RatingSchema)) {
		t.Error("the schema is not JSON")
	}
}

func FuzzParseRatingJSON(f *testing.F) {
	for _, s := range []string{
		`{"reason":"x","score":4}`, `x {"score":4}`, "{\"reason\":\"\n\",\"score\":4,}", strings.Repeat("{", 40), `{"score":"4/5"}`, "Score: 4", `"score": 5}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		r, err := ParseRatingJSON(answer)
		if err != nil && r != (Rating{}) || err == nil && (!(r.Score >= 1 && r.Score <= 5) || len(r.Reason) > MaxReason) {
			t.Fatalf("%q: %+v, %v", answer, r, err)
		}
		if plain, plainErr := ParseRating(answer); plainErr == nil && plain != r {
			t.Fatalf("%q: %+v, but as text %+v", answer, r, plain)
		}
	})
}

// Templates of one rubric differ in how the answer is to be given, and in nothing else.
func TestJSONTemplatesAskTheSame(t *testing.T) {
	t.Parallel()
	for text, object := range map[string]string{Rate: RateJSON, RateAdditive: RateAddJSON} {
		v := Vars{Instruction: "i", Output: "o"}
		a, err := mustEmbedded(t, text).Render(v)
		if err != nil {
			t.Fatal(err)
		}
		b, err := mustEmbedded(t, object).Render(v)
		if err != nil {
			t.Fatal(err)
		}
		const end = "===== END OUTPUT"
		same := func(m []Message) string { return fmt.Sprint(m[0], m[1].Content[:strings.Index(m[1].Content, end)]) }
		if same(a) != same(b) {
			t.Errorf("%s and %s ask different things", text, object)
		}
		if !strings.HasSuffix(b[1].Content, "\nscore: a number from 1 to 5") {
			t.Errorf("%s does not end with the form of the object", object)
		}
	}
}
