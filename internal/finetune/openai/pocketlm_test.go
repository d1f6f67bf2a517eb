package openai

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

const testKey = "sk-test-0123456789abcdef"

// trainer is pocketlm with three base models in place of one, of which two misbehave.
type trainer struct {
	t   *testing.T
	srv *pocketlm.Server
	mu  sync.Mutex
}

var behaviours = map[string]pocketlm.Faults{
	"quick":   {},
	"endless": {TrainingTime: 30_000},
	"broken":  {TrainingFails: "the loss exploded at step 3"},
}

func (tr *trainer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/fine_tuning/jobs") {
		tr.srv.Handler().ServeHTTP(w, r)
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	var body map[string]any
	if err != nil || json.Unmarshal(raw, &body) != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	faults, known := behaviours[body["model"].(string)]
	if err := tr.srv.SetFaults(faults); err != nil || !known {
		http.Error(w, "no such model", http.StatusBadRequest)
		return
	}
	body["model"] = pocketlm.BaseModel
	raw, _ = json.Marshal(body)
	made := tr.ask(r, http.MethodPost, "/v1/fine_tuning/jobs", raw)
	var job wireJob
	_ = json.Unmarshal(made.Body.Bytes(), &job)
	// The job takes its behaviour when it begins.
	for job.ID != "" && (job.Status == "validating_files" || job.Status == "queued") {
		time.Sleep(2 * time.Millisecond)
		_ = json.Unmarshal(tr.ask(r, http.MethodGet, "/v1/fine_tuning/jobs/"+job.ID, nil).Body.Bytes(), &job)
	}
	w.WriteHeader(made.Code)
	_, _ = w.Write(made.Body.Bytes())
}

func (tr *trainer) ask(r *http.Request, method, path string, body []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(r.Context(), method, path, bytes.NewReader(body))
	req.Header = r.Header.Clone()
	req.Header.Set("Authorization", "Bearer "+testKey)
	rec := httptest.NewRecorder()
	tr.srv.Handler().ServeHTTP(rec, req)
	return rec
}

func backend(t *testing.T, url string, st *blob.Store, change ...func(*Config)) *Backend {
	t.Helper()
	cfg := Config{Config: rest.Config{URL: url, Key: func() string { return testKey }, Attempts: 3, Backoff: 5 * time.Millisecond, MaxBackoff: 2 * time.Second}}
	cfg.Price = map[string]float64{"quick": 1e6, "endless": 1e6, "pocketlm-base": 1e6}
	for _, c := range change {
		c(&cfg)
	}
	b, err := New(cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		srv, err := pocketlm.Open(pocketlm.Options{Dir: t.TempDir(), Key: testKey})
		if err != nil {
			t.Fatal(err)
		}
		tr := &trainer{t: t, srv: srv}
		front := httptest.NewServer(tr)
		t.Cleanup(func() {
			front.Close()
			if err := srv.Close(); err != nil {
				t.Errorf("close pocketlm: %v", err)
			}
		})
		st := s3test.Store(t)
		return finetunetest.World{
			Store: st, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded",
			Secrets: []string{testKey}, NotExpressed: true, Estimates: true,
			Left: func(t *testing.T, _ string) (left []string) {
				var page rest.Page[trainfile.File]
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				if err := json.Unmarshal(tr.ask(req, http.MethodGet, "/v1/files?limit=100", nil).Body.Bytes(), &page); err != nil {
					t.Fatal(err)
				}
				for _, f := range page.Data {
					if f.Purpose == "fine-tune" {
						left = append(left, f.Filename)
					}
				}
				return left
			},
			Backend: func(t *testing.T) finetune.Backend { return backend(t, front.URL+"/v1", st) },
			Started: func(t *testing.T, key string) int {
				var page rest.Page[wireJob]
				req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				raw := tr.ask(req, http.MethodGet, "/v1/fine_tuning/jobs?limit=100", nil).Body.Bytes()
				if err := json.Unmarshal(raw, &page); err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, j := range page.Data {
					if j.Metadata[MetadataKey] == key {
						n++
					}
				}
				return n
			},
		}
	})
}
