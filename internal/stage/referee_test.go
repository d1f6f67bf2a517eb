package stage

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// referee is an endpoint that answers by what it is asked, and counts.
type referee struct {
	t      testing.TB
	url    string
	delay  time.Duration
	answer func(q question) reply // nil: a fair answer

	mu       sync.Mutex
	received map[string]int        // by request
	answered map[string][]exchange // that were billed
	tokens   int64
	flying   int
	most     int
}

// exchange is when a request came and when its reply was under way.
type exchange struct{ received, answered time.Time }

// question is what the referee sees.
type question struct {
	digest string
	text   string // all messages
	n      int    // how often it was received, this time included
	seed   int64
	model  string
	top    int    // alternatives wanted at each token; -1: no log-probabilities wanted
	schema string // that the answer must follow
}

// reply is what the referee does.
type reply struct {
	text   string
	tokens string // log-probabilities of the answer's tokens, as JSON
	finish string
	status int
	body   string
	header map[string]string
	hangUp bool // after having done the work
}

func newReferee(t testing.TB) *referee {
	r := &referee{t: t, received: map[string]int{}, answered: map[string][]exchange{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL + "/v1"
	return r
}

func (r *referee) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !strings.HasSuffix(req.URL.Path, "/v1/chat/completions") {
		http.NotFound(w, req) // a stranger, who looks for a server that had the port before
		return
	}
	start := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the caller died while it asked
	}
	var in struct {
		Model    string `json:"model"`
		Seed     int64  `json:"seed"`
		Messages []struct{ Role, Content string }
		LogProbs bool `json:"logprobs"`
		Top      int  `json:"top_logprobs"`
		Format   struct {
			Type string `json:"type"`
			JSON struct {
				Schema json.RawMessage `json:"schema"`
			} `json:"json_schema"`
		} `json:"response_format"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		r.t.Errorf("request: %v", err)
	}
	var text strings.Builder
	for _, m := range in.Messages {
		text.WriteString(m.Content)
	}
	q := question{digest: fmt.Sprintf("%x", sha256.Sum256(body)), text: text.String(), seed: in.Seed, model: in.Model, top: -1, schema: string(in.Format.JSON.Schema)}
	if in.LogProbs {
		q.top = in.Top
	}
	r.mu.Lock()
	r.received[q.digest]++
	q.n = r.received[q.digest]
	r.flying++
	r.most = max(r.most, r.flying)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.flying--
		r.mu.Unlock()
	}()
	if r.delay > 0 {
		time.Sleep(r.delay)
	}
	a := reply{}
	if r.answer != nil {
		a = r.answer(q)
	}
	if a.status == 0 && a.text == "" {
		a.text = fair(q)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.Header().Set("Content-Type", "application/json")
	if a.status != 0 && a.status != http.StatusOK {
		w.WriteHeader(a.status)
		fmt.Fprint(w, a.body)
		return
	}
	if a.finish == "" {
		a.finish = "stop"
	}
	prompt, completion := len(strings.Fields(q.text)), len(strings.Fields(a.text))
	r.mu.Lock()
	r.answered[q.digest] = append(r.answered[q.digest], exchange{start, time.Now()})
	r.tokens += int64(prompt + completion)
	r.mu.Unlock()
	if a.hangUp {
		panic(http.ErrAbortHandler)
	}
	content, err := json.Marshal(a.text)
	if err != nil {
		r.t.Errorf("reply: %v", err)
	}
	if a.tokens == "" {
		a.tokens = "null"
	}
	fmt.Fprintf(w, `{"id":"x","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%s},"logprobs":{"content":%s},"finish_reason":%q}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`,
		in.Model, content, a.tokens, a.finish, prompt, completion, prompt+completion)
}

// fair answers both tasks.
func fair(q question) string {
	sum := sha256.Sum256([]byte(q.text))
	if strings.Contains(q.text, "Score:") {
		return fmt.Sprintf("It reads well (%x).\nScore: %d", sum[:2], 1+sum[0]%5)
	}
	return fmt.Sprintf("Explain item %x in plain words.", sum[:6])
}

// counts returns how many questions were answered, in all and counting each once.
func (r *referee) counts() (answers, questions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, times := range r.answered {
		answers += len(times)
	}
	return answers, len(r.answered)
}

func (r *referee) asked() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, times := range r.received {
		n += times
	}
	return n
}
