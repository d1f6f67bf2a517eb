package activities

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// judging answers as a judge with the words given, to model judge alone.
func judging(t *testing.T, words ...string) *httptest.Server {
	t.Helper()
	next := make(chan string, len(words))
	for _, w := range words {
		next <- w
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/models") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"judge","object":"model"}]}`)
			return
		}
		select {
		case text := <-next:
			fmt.Fprintf(w, `{"id":"1","object":"chat.completion","model":"judge","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%q}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`, text)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"message":"no such model","code":"model_not_found"}}`)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func TestTryJudge(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		words []string
		class string
	}{
		"clear":          {[]string{"The first one is right.\nVerdict: first"}, ""},
		"clear at last":  {[]string{"Hm.", "Well.", "Verdict: second"}, ""},
		"never clear":    {[]string{"Hm.", "Well.", "Both are nice."}, "judge"},
		"not there":      {nil, "model"},
		"gone in a word": {[]string{"Hm."}, "model"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			r, _ := preflightOf(t, judging(t, c.words...).URL+"/v1")
			check := EvaluationCheck{Spec: config.DefaultEvaluation(), Judge: dataset.ModelRef{Provider: "p", Name: "judge"}}
			_, err := activityEnv(t, r).ExecuteActivity("TryJudge", check)
			trouble, known := TroubleOf(err)
			if (c.class == "") != (err == nil) || (err != nil && (!known || trouble.Class != c.class || trouble.Way == "")) {
				t.Errorf("%v: %+v", err, trouble)
			}
		})
	}
}

// A model that its endpoint does not know, or whose endpoint is gone, does not answer; one in other trouble is there.
func TestModelAnswers(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		url  string
		want bool
	}{
		"listed":  {judging(t).URL, true},
		"unknown": {newEndpoint(t, http.StatusNotFound, `{"error":{"message":"no such model","code":"model_not_found"}}`).URL, false},
		"nothing": {"http://127.0.0.1:1", false},
		"refused": {newEndpoint(t, http.StatusUnauthorized, `{"error":{"message":"no"}}`).URL, true},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			r, _ := preflightOf(t, c.url+"/v1")
			value, err := activityEnv(t, r).ExecuteActivity("ModelAnswers", dataset.ModelRef{Provider: "p", Name: "judge"})
			answers := !c.want
			if err == nil {
				err = value.Get(&answers)
			}
			if err != nil || answers != c.want {
				t.Errorf("%v, %v", answers, err)
			}
		})
	}
}

func TestPreflightEvaluation(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, http.StatusOK, "")
	r, _ := preflightOf(t, e.URL+"/v1")
	check := EvaluationCheck{Spec: config.DefaultEvaluation(), Models: []dataset.ModelRef{{Provider: "p", Name: "base"}, {Provider: "p", Name: "judge"}}}
	if _, err := activityEnv(t, r).ExecuteActivity("PreflightEvaluation", check); err != nil {
		t.Error(err)
	}
	for about, change := range map[string]func(*EvaluationCheck){
		"no such provider": func(c *EvaluationCheck) { c.Spec.Judge = config.Side{Iteration: -1, Provider: "q", Model: "m"} },
		"no such trainer":  func(c *EvaluationCheck) { c.Trains = config.Model{Base: "base", Trainer: "u"} },
	} {
		wrong := check
		change(&wrong)
		_, err := activityEnv(t, r).ExecuteActivity("PreflightEvaluation", wrong)
		if trouble, known := TroubleOf(err); !known || trouble.Class != "setting" {
			t.Errorf("%s: %v", about, err)
		}
	}
}
