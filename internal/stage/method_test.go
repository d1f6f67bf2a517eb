package stage

import (
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/internal/prompt"
)

// judged is a bench with candidates to rate.
func judged(t *testing.T, rows int) *bench {
	t.Helper()
	b := newBench(t, rows, 0)
	b.run(b.backtranslate("candidates"))
	return b
}

func (b *bench) rateBy(method, output string) Work {
	w := b.rate("candidates", output)
	w.Method = method
	return w
}

// between is a score line with two likely scores, and the tokens that say so.
func between(reason string, score, other int, chance float64) reply {
	token := func(text string, p float64, more string) string {
		return fmt.Sprintf(`{"token":%q,"logprob":%g,"top_logprobs":[{"token":%q,"logprob":%g}%s]}`, text, math.Log(p), text, math.Log(p), more)
	}
	second := fmt.Sprintf(`,{"token":"%d","logprob":%g}`, other, math.Log(1-chance))
	return reply{
		text:   fmt.Sprintf("%s\nScore: %d", reason, score),
		tokens: "[" + strings.Join([]string{token(reason, 1, ""), token("\n", 1, ""), token("Score", 1, ""), token(":", 1, ""), token(" ", 1, ""), token(fmt.Sprint(score), chance, second)}, ",") + "]",
	}
}

func TestLogProbsGiveTheExpectedScore(t *testing.T) {
	t.Parallel()
	b := judged(t, 40)
	b.ref.answer = func(q question) reply {
		if q.top != topLogProbs {
			t.Errorf("%d alternatives were asked for", q.top)
		}
		r := between("It is fair.", 4, 2, 0.75)
		if strings.Contains(q.text, "Segment 3 ") {
			r.tokens = "" // none told
		}
		if strings.Contains(q.text, "Segment 4 ") {
			r.tokens = strings.ReplaceAll(r.tokens, `"4"`, `"5"`) // of another answer
		}
		return r
	}
	w := b.rateBy(MethodLogProbs, "ratings")
	result := b.run(w)[0]
	text := 0
	for _, r := range rowsOf[dataset.Rating](b, w) {
		switch {
		case r.Score == 4:
			text++
		case math.Abs(r.Score-3.5) > 1e-4:
			t.Errorf("score %v, want 3.5", r.Score)
		}
	}
	if want := (dataset.Answers{Read: 40, TextScore: 2}); text != 2 || result.Receipt.Answers != want {
		t.Errorf("%d scores from texts, %+v", text, result.Receipt.Answers)
	}
	before := b.ref.asked()
	b.run(b.rateBy(MethodLogProbs, "again"))
	if b.ref.asked() != before {
		t.Error("asked again, though the ledger keeps the probabilities")
	}
	b.ref.answer = nil
	b.run(b.rateBy(MethodText, "text"))
	if b.ref.asked() != before+40 {
		t.Error("answers of one method were taken for another's")
	}
	if Scope(b.rateBy(MethodText, "x")) != Scope(b.rate("candidates", "x")) {
		t.Error("the plain method by its name is another than by none")
	}
}

func TestJSONAnswersAreReadHoweverTheyCome(t *testing.T) {
	t.Parallel()
	b := judged(t, 40)
	b.ref.answer = func(q question) reply {
		if q.schema != prompt.RatingSchema {
			t.Errorf("schema %q", q.schema)
		}
		switch q.seed % 4 {
		case 0:
			return reply{text: "Well. It is good.\nScore: 4"}
		case 1:
			return reply{text: "Sure:\n```json\n{\"reason\": \"good\nand fair\", \"score\": \"4\"}\n```"}
		default:
			return reply{text: `{"reason": "good", "score": 4}`}
		}
	}
	for _, rubric := range []string{RubricPoints, RubricAdditive} {
		w := b.rateBy(MethodJSON, rubric)
		w.Rubric = rubric
		b.run(w)
		rows := rowsOf[dataset.Rating](b, w)
		if len(rows) != 40 {
			t.Fatalf("%d ratings", len(rows))
		}
		for _, r := range rows {
			if r.Score != 4 || !strings.Contains(strings.ToLower(r.Reason), "good") || !strings.HasPrefix(r.JudgePrompt, "rate") {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestRubricsAndMethodsHaveTheirTemplates(t *testing.T) {
	t.Parallel()
	scopes := map[string]bool{}
	for _, method := range []string{MethodText, MethodLogProbs, MethodJSON} {
		for _, rubric := range []string{RubricPoints, RubricAdditive} {
			w := Work{Task: TaskRate, Method: method, Rubric: rubric, Model: dataset.ModelRef{Name: "m"}}
			scopes[Scope(w)] = true
			w.Task = TaskCalibrate
			scopes[Scope(w)] = true
			tmpl, err := prompt.Embedded(ratingTemplate(&w))
			if err != nil || strings.Contains(tmpl.Name, "additive") != (rubric == RubricAdditive) || strings.Contains(tmpl.Name, "json") != (method == MethodJSON) {
				t.Errorf("%s, %s: %s, %v", method, rubric, tmpl.Name, err)
			}
		}
	}
	if len(scopes) != 12 {
		t.Errorf("%d ways of asking, want 12", len(scopes))
	}
	b := newBench(t, 1, 0)
	for name, change := range map[string]func(*Work){
		"method": func(w *Work) { w.Method = "guess" },
		"rubric": func(w *Work) { w.Rubric = "stars" },
		"task":   func(w *Work) { w.Task, w.Method = TaskBacktranslate, MethodJSON },
	} {
		w := b.rate("segments", "out")
		change(&w)
		var e *Error
		if _, err := Run(t.Context(), b.deps, w, nil); !errors.As(err, &e) || e.Class != ClassSetting {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARefusedMethodStopsAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method string
		reply  reply
	}{
		"OpenAI, schema":     {MethodJSON, reply{status: 400, body: `{"error":{"message":"Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.","type":"invalid_request_error","param":"response_format"}}`}},
		"vLLM, schema":       {MethodJSON, reply{status: 400, body: `{"object":"error","message":"Failed to compile the grammar","type":"BadRequestError","code":400}`}},
		"FastAPI, schema":    {MethodJSON, reply{status: 422, body: `{"detail":[{"msg":"extra fields not permitted: response_format"}]}`}},
		"OpenAI, logprobs":   {MethodLogProbs, reply{status: 403, body: `{"error":{"message":"You are not allowed to request logprobs from this model","type":"invalid_request_error"}}`}},
		"TGI, logprobs":      {MethodLogProbs, reply{status: 422, body: `{"error":"Input validation error: top_n_tokens must be >= 0 and <= 3","error_type":"validation"}`}},
		"without any reason": {MethodJSON, reply{status: 400, body: `{"error":{"message":"Bad request"}}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := judged(t, 200)
			before := b.ref.asked()
			var refusing atomic.Bool
			refusing.Store(true)
			b.ref.answer = func(question) reply {
				if refusing.Load() {
					return c.reply
				}
				return between("Fine.", 4, 2, 0.75)
			}
			w := b.rateBy(c.method, "ratings")
			_, err := Run(t.Context(), b.deps, w, nil)
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassSetting || e.Retryable() {
				t.Fatalf("error is %v", err)
			}
			for _, want := range []string{"rate.method", "provider p", "starter fork run --from 1 --name NAME --set rate.method=text"} {
				if !strings.Contains(e.Error()+e.Way, want) {
					t.Errorf("%q is not in: %v. %s", want, e, e.Way)
				}
			}
			if asked := b.ref.asked() - before; asked > blindRefusals+w.InFlight {
				t.Errorf("asked %d times", asked)
			}
			refusing.Store(false)
			if r := b.run(w)[0]; r.Receipt.Rejected != 0 || r.InDoubt != (dataset.Usage{}) {
				t.Errorf("after the endpoint was mended: %+v", r)
			}
			b.balanced(b.backtranslate("x"), w)
		})
	}
}

func TestRefusalsOfRowsStayRefusalsOfRows(t *testing.T) {
	t.Parallel()
	b := judged(t, 60)
	b.ref.answer = func(q question) reply {
		switch {
		case strings.Contains(q.text, "Segment 3 "):
			return reply{status: 400, body: `{"error":{"message":"This model's maximum context length is 10 tokens","code":"context_length_exceeded"}}`}
		case strings.Contains(q.text, "Segment 4"): // 4 and 40 to 49
			return reply{status: 400, body: `{"error":{"message":"Bad request"}}`}
		}
		return reply{text: `{"reason": "good", "score": 4}`}
	}
	w := b.rateBy(MethodJSON, "ratings")
	w.InFlight = 2
	if r := b.run(w)[0]; r.Receipt.Rejected != 12 {
		t.Errorf("%d rejected, want 12: %v", r.Receipt.Rejected, r.Receipt.Reasons)
	}
}

func TestACutRatingIsAskedAgain(t *testing.T) {
	t.Parallel()
	b := judged(t, 20)
	b.ref.answer = func(q question) reply {
		if q.seed%2 == 0 {
			return reply{text: "Fine.\nScore: 4", finish: "length"} // perhaps of 4.5
		}
		return reply{text: "Fine.\nScore: 3"}
	}
	w := b.rateBy(MethodText, "ratings")
	w.Attempts = 20
	result := b.run(w)[0]
	for _, r := range rowsOf[dataset.Rating](b, w) {
		if r.Score != 3 {
			t.Fatalf("a cut rating was taken: %+v", r)
		}
	}
	n := result.Receipt.Answers
	if n.Read != 20 || n.Unreadable == 0 || n.Read+n.Unreadable != result.Spent.Calls {
		t.Errorf("%+v of %d calls", n, result.Spent.Calls)
	}
	b.ref.answer = func(question) reply { return reply{text: "Fine.\nScore: 4", finish: "length"} }
	w = b.rateBy(MethodText, "cut")
	w.Attempts, w.Sampling.Temperature = 2, 0.1
	r := b.run(w)[0].Receipt
	if r.Reasons["answer_cut"] != 20 || r.Answers != (dataset.Answers{Unreadable: 40}) || r.Answers.ParseRate() != 0 {
		t.Errorf("%v, %+v", r.Reasons, r.Answers)
	}
}

func TestTheReasonIsOfTheRatingNearestTheMean(t *testing.T) {
	t.Parallel()
	r := rated(dataset.Candidate{}, []verdict{
		{Rating: prompt.Rating{Score: 1, Reason: "bad"}},
		{Rating: prompt.Rating{Score: 4, Reason: "good"}},
		{Rating: prompt.Rating{Score: 4, Reason: "good too"}},
		{Rating: prompt.Rating{Score: 5, Reason: "best"}},
	}, made{})
	if r.Score != 3.5 || r.Reason != "good" || fmt.Sprint(r.Scores) != "[1 4 4 5]" {
		t.Errorf("%+v", r)
	}
}

// pocketlm tells probabilities and follows schemas, so that every method gives ratings, and those of probabilities are finer.
func TestMethodsAgainstPocketlm(t *testing.T) {
	t.Parallel()
	b := judged(t, 30)
	server, err := pocketlm.Open(pocketlm.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	front := httptest.NewServer(server.Handler())
	t.Cleanup(front.Close)
	addr := front.URL
	b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": {URL: addr + "/v1"}, "plain": {URL: addr + "/v1", API: llm.APICompletions}})
	for _, c := range []struct{ provider, method, rubric string }{
		{"p", MethodText, RubricPoints},
		{"p", MethodLogProbs, RubricPoints},
		{"p", MethodLogProbs, RubricAdditive},
		{"p", MethodJSON, RubricPoints},
		{"p", MethodJSON, RubricAdditive},
		{"plain", MethodLogProbs, RubricPoints},
	} {
		w := b.rateBy(c.method, strings.Join([]string{c.provider, c.method, c.rubric}, "-"))
		w.Rubric, w.Model = c.rubric, dataset.ModelRef{Provider: c.provider, Name: "pocketlm-base"}
		w.Sampling.MaxTokens, w.Attempts = 200, 20
		r := b.run(w)[0].Receipt
		if r.Rejected != 0 || r.Answers.Read != 30 {
			t.Errorf("%s: %d rejected (%v), %+v", w.Output, r.Rejected, r.Reasons, r.Answers)
		}
		fine := 0
		for _, row := range rowsOf[dataset.Rating](b, w) {
			if !(row.Score >= 1 && row.Score <= 5) || row.Reason == "" {
				t.Errorf("%s: %+v", w.Output, row)
			}
			if row.Score*2 != math.Trunc(row.Score*2) {
				fine++
			}
		}
		switch {
		case c.method == MethodLogProbs && (fine < 25 || r.Answers.TextScore > 0):
			t.Errorf("%s: %d of 30 scores come from probabilities, %d from texts", w.Output, fine, r.Answers.TextScore)
		case c.method != MethodLogProbs && fine > 0:
			t.Errorf("%s: %d scores are no half points", w.Output, fine)
		}
	}
}
