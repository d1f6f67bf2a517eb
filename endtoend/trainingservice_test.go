package endtoend

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// trainingService is a service of a user's own, as docs/operations.md describes it: it checks signatures, takes an order once and
// has the model server train. A job ends when the test lets it, and is called back about when the test says so.
type trainingService struct {
	t             *testing.T
	url           string
	key, modelKey *string // secrets: of the webhooks, of the model server
	pocket        string

	mu   sync.Mutex
	jobs map[string]*serviceJob
}

type serviceJob struct {
	ID          string `json:"id"`
	Key         string `json:"key"`
	BaseModel   string `json:"base_model"`
	Suffix      string `json:"suffix"`
	TrainingURL string `json:"training_url"`
	CallbackURL string `json:"callback_url"`

	name     string // of the model server's job
	released bool   // it may be told that it has ended
	looks    int    // how often it was asked for
	cleaned  string // the state in which it was cleaned up after
}

func newTrainingService(t *testing.T) *trainingService {
	t.Helper()
	s := &trainingService{t: t, jobs: map[string]*serviceJob{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL + "/jobs"
	return s
}

func (s *trainingService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	key, keyErr := standard.NewWebhook(*s.key)
	if err != nil || keyErr != nil || key.Verify(body, r.Header) != nil {
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var event struct {
		Type string
		Data struct {
			serviceJob
			State string `json:"state"`
		}
	}
	if len(body) > 0 && json.Unmarshal(body, &event) != nil {
		http.Error(w, "not an event", http.StatusBadRequest)
		return
	}
	id, action, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/jobs"), "/"), "/")
	job := s.jobs[id]
	switch {
	case event.Type == "finetune.submit":
		if s.jobs[event.Data.ID] == nil {
			made := event.Data.serviceJob
			if made.name, err = s.train(made); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			s.jobs[made.ID] = &made
		}
	case job == nil:
		http.Error(w, "no such job", http.StatusNotFound)
	case action == "clean":
		job.cleaned = event.Data.State
	case action == "" && r.Method == http.MethodGet:
		job.looks++
		answer := map[string]any{"id": id, "state": "running", "step": 1, "steps": 2}
		var at struct {
			Status string
			Model  string `json:"fine_tuned_model"`
		}
		if job.released && s.ask(http.MethodGet, "/v1/fine_tuning/jobs/"+job.name, "", nil, &at) == nil && at.Status == "succeeded" {
			answer["state"], answer["model"], answer["step"] = at.Status, at.Model, 2
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// train hands a job to the model server and returns its name there.
func (s *trainingService) train(job serviceJob) (string, error) {
	file, err := http.Get(job.TrainingURL)
	if err != nil {
		return "", err
	}
	defer file.Body.Close()
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	err = parts.WriteField("purpose", "fine-tune")
	if err != nil {
		return "", err
	}
	to, err := parts.CreateFormFile("file", "train.jsonl")
	if err != nil {
		return "", err
	}
	if _, err = io.Copy(to, file.Body); err != nil {
		return "", err
	}
	if err = parts.Close(); err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err = s.ask(http.MethodPost, "/v1/files", parts.FormDataContentType(), form.Bytes(), &made); err != nil {
		return "", err
	}
	order := fmt.Sprintf(`{"model": %q, "training_file": %q, "suffix": "service"}`, job.BaseModel, made.ID)
	err = s.ask(http.MethodPost, "/v1/fine_tuning/jobs", "application/json", []byte(order), &made)
	return made.ID, err
}

func (s *trainingService) ask(method, path, kind string, body []byte, into any) error {
	req, err := http.NewRequest(method, s.pocket+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+*s.modelKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// job waits until a model is being trained and was looked at.
func (s *trainingService) job(model string) serviceJob {
	s.t.Helper()
	var out serviceJob
	require.Eventually(s.t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, j := range s.jobs {
			if strings.HasSuffix(j.Suffix, "-"+model) && j.looks > 0 {
				out = *j
				return true
			}
		}
		return false
	}, 2*time.Minute, 50*time.Millisecond, "no job for %s", model)
	return out
}

// release lets a job end.
func (s *trainingService) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs[id].released = true
}

// callback is a message of the service about a job.
func (s *trainingService) callback(secret, id string) *http.Request {
	s.t.Helper()
	s.mu.Lock()
	address := s.jobs[id].CallbackURL
	s.mu.Unlock()
	body := fmt.Sprintf(`{"type": "finetune.changed", "timestamp": %q, "data": {"id": %q}}`, time.Now().Format(time.RFC3339), id)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, address, strings.NewReader(body))
	require.NoError(s.t, err)
	key, err := standard.NewWebhook(secret)
	require.NoError(s.t, err)
	now := time.Now()
	signature, err := key.Sign("msg-"+id, now, []byte(body))
	require.NoError(s.t, err)
	req.Header.Set("webhook-id", "msg-"+id)
	req.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("webhook-signature", signature)
	return req
}

// send sends a message and returns the status of the answer; 0: there was none.
func (s *trainingService) send(req *http.Request) int {
	req.Body, _ = req.GetBody()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
