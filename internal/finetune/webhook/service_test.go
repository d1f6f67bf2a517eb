package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/selfalign/selfalign/internal/finetune"
)

// service is a training service as docs/operations.md describes it, and an example of one: it checks signatures, takes an order
// once, reads the training file through its address, tells how jobs are and stops them. Training takes milliseconds; the base
// model says how it goes.
type service struct {
	secret string

	mu       sync.Mutex
	jobs     map[string]*training
	orders   []Order
	received map[string]bool // webhook-ids acted upon
	// loseSubmit has the reply to the next order be lost, loseClean that to the next word that a job may be cleaned up after.
	loseSubmit, loseClean bool
	plain                 bool // it knows no cleaning up
}

type training struct {
	Order
	begun    time.Time
	stopped  time.Time // zero: it was not stopped
	examples int
	copied   bool // a copy of the training file lies here
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, words string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": code, "message": words}})
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	key, err := standard.NewWebhook(s.secret)
	if err == nil {
		err = key.Verify(body, r.Header)
	}
	if err != nil {
		fail(http.StatusUnauthorized, "signature", err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var event Event
	if r.Method == http.MethodPost {
		if err := json.Unmarshal(body, &event); err != nil {
			fail(http.StatusBadRequest, "event", err.Error())
			return
		}
	}
	messageID := r.Header.Get(standard.HeaderWebhookID)
	id := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/jobs"), "/")
	id, cancel := strings.CutSuffix(id, "/cancel")
	id, clean := strings.CutSuffix(id, "/clean")
	switch {
	case r.Method == http.MethodPost && id == "" && event.Type == TypeSubmit:
		var o Order
		if err := json.Unmarshal(event.Data, &o); err != nil || messageID != "submit-"+o.ID {
			fail(http.StatusBadRequest, "event", "not an order")
			return
		}
		if have := s.jobs[o.ID]; have == nil {
			t := &training{Order: o, begun: time.Now()}
			if o.MaxCostUSD != nil && *o.MaxCostUSD < 2 {
				fail(http.StatusPaymentRequired, "over_budget", fmt.Sprintf("it would cost $2.00, $%.2f are left", *o.MaxCostUSD))
				return
			}
			if t.examples, err = countLines(o.TrainingURL); err != nil || int64(t.examples) != o.Examples {
				fail(http.StatusUnprocessableEntity, "training_file", fmt.Sprintf("%d examples, %v", t.examples, err))
				return
			}
			t.copied = true
			s.jobs[o.ID] = t
			s.orders = append(s.orders, o)
		}
		s.received[messageID] = true
		if s.loseSubmit {
			s.loseSubmit = false
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
	case s.jobs[id] == nil:
		fail(http.StatusNotFound, "unknown", "no such job")
	case r.Method == http.MethodPost && cancel && event.Type == TypeCancel && messageID == "cancel-"+id:
		t := s.jobs[id]
		if state := t.now().State; state == "queued" || state == "running" {
			t.stopped = time.Now()
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPost && clean && !s.plain && event.Type == TypeClean && messageID == "clean-"+id:
		var about Reference
		if err := json.Unmarshal(event.Data, &about); err != nil || about.State != finetune.State(s.jobs[id].now().State) {
			fail(http.StatusBadRequest, "event", "in another state")
			return
		}
		s.jobs[id].copied = false
		if s.loseClean {
			s.loseClean = false
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodGet && messageID == "status-"+id:
		_ = json.NewEncoder(w).Encode(s.jobs[id].now())
	default:
		fail(http.StatusNotFound, "unknown", r.Method+" "+r.URL.Path)
	}
}

func (t *training) now() Answer {
	since := time.Since(t.begun)
	a := Answer{ID: t.ID, State: "running", Step: int(since.Milliseconds() / 10), Steps: 100_000, NotExpressed: []string{"dropout"}}
	a.Loss = 2 / float64(a.Step+1)
	switch {
	case !t.stopped.IsZero():
		a.State = "cancelled"
	case since < 20*time.Millisecond:
		a.State = "queued"
	case t.BaseModel == "quick" && since > 60*time.Millisecond:
		cost := 1.5
		a.State, a.Model, a.CostUSD, a.Artifact = "succeeded", "mine/"+t.ID, &cost, t.Artifacts+"/adapter"
	case t.BaseModel == "broken":
		a.State, a.Message = "failed", "the loss exploded while reading "+t.TrainingURL
	}
	return a
}

func countLines(address string) (int, error) {
	resp, err := http.Get(address)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", resp.StatusCode, raw)
	}
	return bytes.Count(raw, []byte("\n")), err
}
