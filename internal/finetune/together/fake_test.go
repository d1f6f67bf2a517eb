package together

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// service is Together's fine-tuning API over HTTP, after its OpenAPI description: names, required fields, states and the
// order in which events come. Training takes milliseconds; the base model says how it goes.
type service struct {
	mu    sync.Mutex
	files []map[string]any
	jobs  []map[string]any
	sent  []map[string]any // bodies of POST /fine-tunes
	// loseCreate has the reply to the next created job be lost, loseUpload that of the next upload.
	loseCreate, loseUpload, noEstimate, noMetrics bool
	forgetSuffix                                  bool
}

const testKey = "tgp_v1_0123456789abcdef"

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(code int, words string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": words, "type": "invalid_request_error", "param": nil, "code": nil}})
	}
	if r.Header.Get("Authorization") != "Bearer "+testKey {
		fail(http.StatusUnauthorized, "Invalid API key provided: "+r.Header.Get("Authorization"))
		return
	}
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	path := strings.TrimPrefix(r.URL.Path, "/v1")
	switch what := r.Method + " " + path; {
	case what == "GET /files":
		reply(map[string]any{"data": s.files})
	case what == "POST /files/upload":
		file, _, err := r.FormFile("file")
		if err != nil || r.FormValue("purpose") != "fine-tune" || r.FormValue("file_name") == "" || r.FormValue("file_type") != "jsonl" {
			fail(http.StatusBadRequest, "missing field")
			return
		}
		n, _ := io.Copy(io.Discard, file)
		made := map[string]any{
			"id": fmt.Sprintf("file-%d", len(s.files)), "object": "file", "created_at": time.Now().Unix(), "filename": r.FormValue("file_name"),
			"bytes": n, "purpose": "fine-tune", "FileType": "jsonl", "Processed": true,
		}
		s.files = append(s.files, made)
		if s.loseUpload {
			s.loseUpload = false
			hangUp(w)
			return
		}
		reply(made)
	case strings.HasPrefix(path, "/files/"):
		i := slices.IndexFunc(s.files, func(f map[string]any) bool { return f["id"] == strings.TrimPrefix(path, "/files/") })
		if i < 0 {
			fail(http.StatusNotFound, "no such file")
			return
		}
		if r.Method == http.MethodDelete {
			s.files = slices.Delete(s.files, i, i+1)
			reply(map[string]any{"id": "x", "deleted": true})
			return
		}
		reply(s.files[i])
	case what == "POST /fine-tunes/estimate-price" && !s.noEstimate:
		reply(map[string]any{"estimated_total_price": 4.5, "allowed_to_proceed": true, "user_limit": 100, "estimated_train_token_count": 1000})
	case what == "POST /fine-tunes":
		s.create(w, r, fail, reply)
	case what == "GET /fine-tunes":
		var list []map[string]any
		for _, j := range s.jobs {
			short := map[string]any{}
			for k, v := range s.now(j) {
				if k != "events" && !(k == "suffix" && s.forgetSuffix) {
					short[k] = v
				}
			}
			list = append(list, short)
		}
		reply(map[string]any{"data": list})
	case strings.HasPrefix(path, "/fine-tunes/"):
		id, action, _ := strings.Cut(strings.TrimPrefix(path, "/fine-tunes/"), "/")
		i := slices.IndexFunc(s.jobs, func(j map[string]any) bool { return j["id"] == id })
		if i < 0 {
			fail(http.StatusNotFound, "fine-tune job not found")
			return
		}
		j := s.now(s.jobs[i])
		switch {
		case action == "" && r.Method == http.MethodGet:
			full := map[string]any{}
			for k, v := range j {
				full[k] = v
			}
			delete(full, "log")
			reply(full)
		case action == "events" && r.Method == http.MethodGet:
			reply(map[string]any{"data": j["log"]})
		case action == "metrics" && r.Method == http.MethodGet && !s.noMetrics:
			step := j["steps"].(int)
			reply(map[string]any{"metrics": []any{map[string]any{"train/loss": 2.0 / float64(step+1), "train/learning_rate": 1e-5, "train/global_step": step}}})
		case action == "cancel" && r.Method == http.MethodPost:
			if j["status"] == "completed" || j["status"] == "error" || j["status"] == "cancelled" {
				fail(http.StatusBadRequest, "job cannot be cancelled")
				return
			}
			j["status"], j["asked"] = cancelRequested, time.Now()
			reply(j)
		default:
			fail(http.StatusNotFound, "not here")
		}
	default:
		fail(http.StatusNotFound, "not here: "+what)
	}
}

func (s *service) create(w http.ResponseWriter, r *http.Request, fail func(int, string), reply func(any)) {
	var c map[string]any
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		fail(http.StatusBadRequest, err.Error())
		return
	}
	method, _ := c["training_method"].(map[string]any)
	_, hasInputs := method["train_on_inputs"]
	kind, _ := c["training_type"].(map[string]any)
	if c["training_file"] == "" || c["model"] == "" || method["method"] != "sft" || !hasInputs || (kind["type"] != "Full" && kind["type"] != "Lora") {
		fail(http.StatusBadRequest, "invalid request")
		return
	}
	s.sent = append(s.sent, c)
	at := time.Now()
	id := fmt.Sprintf("ft-%d", len(s.jobs))
	j := map[string]any{"id": id, "status": "pending", "created_at": at.UTC().Format(time.RFC3339Nano), "begun": at, "steps": 0}
	for k, v := range c {
		j[k] = v
	}
	j["model_output_name"] = fmt.Sprintf("account/%s-%s-%d", c["model"], c["suffix"], len(s.jobs))
	s.jobs = append(s.jobs, j)
	if s.loseCreate {
		s.loseCreate = false
		hangUp(w)
		return
	}
	reply(j)
}

// now brings a job to where it would be by now.
func (s *service) now(j map[string]any) map[string]any {
	since := time.Since(j["begun"].(time.Time))
	status := j["status"].(string)
	log := func(kind, level, words string, step int) {
		events, _ := j["log"].([]map[string]any)
		j["log"] = append(events, map[string]any{
			"object": "fine-tune-event", "created_at": time.Now().UTC().Format(time.RFC3339Nano), "level": level, "message": words, "type": kind,
			"step": step, "total_steps": 1000, "param_count": 0, "token_count": 0, "wandb_url": "", "checkpoint_path": "", "model_path": "", "training_offset": 0, "hash": "",
		})
	}
	switch {
	case status == cancelRequested:
		if time.Since(j["asked"].(time.Time)) > 30*time.Millisecond {
			j["status"] = "cancelled"
		}
	case status == "pending" && since > 10*time.Millisecond:
		j["status"] = "running"
		log("training_start", "info", "Training started", 0)
	case status == "running":
		j["steps"] = int(since.Milliseconds() / 10)
		log("epoch_complete", "info", "Epoch completed", j["steps"].(int))
		switch {
		case j["model"] == "broken":
			j["status"] = "error"
			log("job_error", "error", "Training failed: the loss exploded", 3)
		case j["model"] == "quick" && since > 60*time.Millisecond:
			j["status"], j["token_count"], j["total_price"] = "completed", 1234, 1_500_000_000
			log("job_complete", "info", "Job finished", 1000)
		}
	}
	return j
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}
