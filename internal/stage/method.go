package stage

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/prompt"
)

// How an answer is wanted (Work.Method). All but MethodText need something of the endpoint.
const (
	MethodText     = "text"     // as text; the same as ""
	MethodLogProbs = "logprobs" // with the probabilities of its tokens, for the expected value of a score
	MethodJSON     = "json"     // as an object that follows a JSON Schema
)

// What the embedded rating templates ask for (Work.Rubric).
const (
	RubricPoints   = "points"   // the level that fits best; the same as ""
	RubricAdditive = "additive" // a point for each criterion met
)

const (
	// topLogProbs is how many alternatives are asked for at each token: there are five scores, and no endpoint in use
	// refuses five.
	topLogProbs = 5
	// maxLogProbs bounds what is kept of an answer's probabilities, in bytes of JSON.
	maxLogProbs = 64 << 10
	// blindRefusals is how many questions the endpoint may refuse, before it answered any, until the method is to blame.
	blindRefusals = 8
)

// plainMethod makes the default the empty word, so that work under the default has one name.
func (w *Work) plainMethod(t runner) error {
	if w.Method == MethodText {
		w.Method = ""
	}
	if w.Rubric == RubricPoints {
		w.Rubric = ""
	}
	switch {
	case w.Method != "" && !slices.Contains(t.methods(), w.Method):
		return fmt.Errorf("task %s has no method %q (known: %s)", w.Task, w.Method, strings.Join(append([]string{MethodText}, t.methods()...), ", "))
	case w.Rubric != "" && w.Rubric != RubricAdditive:
		return fmt.Errorf("unknown rubric %q (known: %s, %s)", w.Rubric, RubricPoints, RubricAdditive)
	}
	return nil
}

// shape asks for the answer in the way that the method wants.
func (w *Work) shape(r *llm.Request) {
	switch w.Method {
	case MethodLogProbs:
		r.LogProbs, r.TopLogProbs = true, topLogProbs
	case MethodJSON:
		r.Schema, r.SchemaName = json.RawMessage(prompt.RatingSchema), "rating"
	}
}

// logProbs returns what the ledger keeps of the probabilities of an answer's tokens: those of its end, where the score
// stands, as the endpoint reported them to five places. nil where there are none.
func (w *Work) logProbs(resp *llm.Response) json.RawMessage {
	if w.Method != MethodLogProbs || len(resp.LogProbs) == 0 {
		return nil
	}
	places := func(f float64) float64 { return math.Round(f*1e5) / 1e5 }
	tail := resp.LogProbs[max(0, len(resp.LogProbs)-prompt.ScoreTokens):]
	out := make([]prompt.Token, len(tail))
	for i, t := range tail {
		out[i] = prompt.Token{Text: t.Token, LogProb: places(t.LogProb)}
		for _, alt := range t.Top {
			out[i].Top = append(out[i].Top, prompt.Alternative{Text: alt.Token, LogProb: places(alt.LogProb)})
		}
	}
	body, err := json.Marshal(out)
	if err != nil || len(body) > maxLogProbs {
		return nil // the score is then taken from the text, and counted
	}
	return body
}

// refusal is what an endpoint's refusal says about the method.
type refusal uint8

const (
	refusesRow    refusal = iota // the question itself is refused
	refusesMaybe                 // nothing was answered yet, so it may be the method
	refusesMethod                // the method is refused: every further question would be
)

// methodWords are what endpoints call the things that methods need, in lower case.
var methodWords = map[string][]string{
	MethodJSON: {
		"response_format", "json_schema", "json schema", "structured output", "guided", "grammar", "responseformat", "response_schema",
	},
	MethodLogProbs: {"logprob", "log prob", "top_n_tokens"},
}

// rowCodes are refusals that are about one question, whatever else is wrong.
var rowCodes = []string{llm.CodeContextLength, llm.CodeContentFilter, llm.CodeTooLarge, llm.CodeReplyTooLarge, llm.CodeRequest}

// blames tells whether a refusal is about the question or the method.
func (a *attempt[In, Out, Value]) blames(e *llm.Error) refusal {
	words := methodWords[a.work.Method]
	if len(words) == 0 {
		return refusesRow
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusForbidden, http.StatusNotImplemented:
	default:
		return refusesRow
	}
	if slices.Contains(rowCodes, e.Code) {
		return refusesRow
	}
	said := strings.ToLower(e.Code + " " + e.Message)
	if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(said, word) }) {
		return refusesMethod
	}
	if e.Class != llm.ClassPermanent || a.proved.Load() {
		return refusesRow
	}
	if a.blind.Add(1) >= blindRefusals {
		return refusesMethod
	}
	return refusesMaybe
}

// methodRefused says what to do about an endpoint that does not know the method.
func (a *attempt[In, Out, Value]) methodRefused(e *llm.Error) error {
	needs := map[string]string{
		MethodJSON:     "response_format with a json_schema",
		MethodLogProbs: fmt.Sprintf("logprobs with top_logprobs %d", topLogProbs),
	}[a.work.Method]
	p, m := a.work.Model.Provider, a.work.Model.Name
	return &Error{
		Class: ClassSetting,
		Err:   fmt.Errorf("provider %s does not take %s, which rate.method %s needs, for model %s: %w", p, needs, a.work.Method, m, e),
		Way: fmt.Sprintf("go on without it: starter fork %s --from %d --name NAME --set rate.method=%s; or make provider %s take it",
			a.work.Run, a.work.Iteration, MethodText, p),
	}
}
