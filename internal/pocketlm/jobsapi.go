package pocketlm

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm/lm"
)

func countTokens(examples []lm.Example, epochs float64) int64 {
	var n int64
	for _, e := range examples {
		n += int64(lm.Count(e.System) + lm.Count(e.User) + lm.Count(e.Assistant))
	}
	return int64(float64(n) * epochs)
}

type jobBody struct {
	Model          string            `json:"model"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile *string           `json:"validation_file"`
	Suffix         *string           `json:"suffix"`
	Seed           *int64            `json:"seed"`
	Hyper          *hyperparameters  `json:"hyperparameters"`
	Method         *jobMethod        `json:"method"`
	Metadata       map[string]string `json:"metadata"`
}

func (s *Server) createJob(w http.ResponseWriter, r *http.Request) *apiError {
	raw, bad := readBody(w, r)
	if bad != nil {
		return bad
	}
	auto := hyperparameters{Epochs: autoFloat{Auto: true}, BatchSize: autoFloat{Auto: true}, Rate: autoFloat{Auto: true}}
	var b jobBody
	if err := json.Unmarshal(raw, &b); err != nil {
		return badRequest("", "We could not parse the JSON body of your request: %v", err)
	}
	if b.Model == "" {
		return badRequest("model", "'model' is a required property")
	}
	if !s.models.known(b.Model) {
		return notFound("model", "model_not_found", "The model '%.120s' does not exist or cannot be fine-tuned.", b.Model)
	}
	f, bad := s.files.get(b.TrainingFile)
	if bad != nil || f.Purpose != "fine-tune" {
		return badRequest("training_file", "File '%.80s' does not exist or has not the purpose 'fine-tune'", b.TrainingFile)
	}
	if b.ValidationFile != nil {
		if v, bad := s.files.get(*b.ValidationFile); bad != nil || v.Purpose != "fine-tune" {
			return badRequest("validation_file", "File '%.80s' does not exist or has not the purpose 'fine-tune'", *b.ValidationFile)
		}
	}
	if b.Suffix != nil && (len(*b.Suffix) > 64 || strings.Trim(*b.Suffix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "") {
		return badRequest("suffix", "Invalid suffix: up to 64 letters, digits, '-', '_' and '.'.")
	}
	if len(b.Metadata) > 16 {
		return badRequest("metadata", "At most 16 metadata entries.")
	}
	j := &job{
		ID: newID("ftjob-"), Object: "fine_tuning.job", Model: b.Model, Created: time.Now().Unix(), Organization: "org-pocketlm",
		ResultFiles: []string{}, Status: jobValidating, TrainingFile: f.ID, ValidationFile: b.ValidationFile, Hyper: auto,
		Suffix: b.Suffix, Integrations: []any{}, Metadata: b.Metadata, Digest: f.Digest, Method: jobMethod{Type: "supervised"},
	}
	j.Method.Supervised = &struct {
		Hyper hyperparameters `json:"hyperparameters"`
	}{auto}
	given := b.Hyper
	if b.Method != nil {
		if b.Method.Type != "" && b.Method.Type != "supervised" {
			return badRequest("method.type", "Only the method 'supervised' is supported (got '%.40s').", b.Method.Type)
		}
		if b.Method.Supervised != nil {
			given = &b.Method.Supervised.Hyper
		}
	}
	if given != nil {
		j.Hyper = *given
		j.Method.Supervised.Hyper = *given
	}
	for _, h := range []struct {
		name string
		v    autoFloat
		max  float64
	}{{"n_epochs", j.Hyper.Epochs, 50}, {"batch_size", j.Hyper.BatchSize, 4096}, {"learning_rate_multiplier", j.Hyper.Rate, 100}} {
		if !(h.v.Value >= 0 && h.v.Value <= h.max) {
			return badRequest("hyperparameters."+h.name, "Invalid '%s': must be between 0 and %v (got %v).", h.name, h.max, h.v.Value)
		}
	}
	if b.Seed != nil {
		j.Seed = *b.Seed
	} else {
		sum := sha256.Sum256([]byte(f.Digest))
		j.Seed = int64(sum[0])<<16 | int64(sum[1])<<8 | int64(sum[2])
	}
	name := j.modelName()
	j.FineTuned = &name
	if err := s.models.keepTraining(s.files.path(f.ID), f.Digest); err != nil {
		return internal(err)
	}
	digest := sha256.Sum256([]byte("fine_tuning.jobs\x00" + name))
	if bad := s.noteSubmission(Entry{Route: "fine_tuning.jobs", Model: b.Model, Digest: Digest(digest[:12])}); bad != nil {
		return bad
	}
	if err := s.jobs.add(j); err != nil {
		return internal(err)
	}
	s.writeJob(w, j)
	return nil
}

func (st *jobStore) add(j *job) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.last++
	j.Order = st.last
	j.event("info", "message", "Created fine-tuning job: "+j.ID, nil)
	j.event("info", "message", "Validating training file: "+j.TrainingFile, nil)
	if err := st.save(j); err != nil {
		return err
	}
	st.byID[j.ID] = j
	st.start(j)
	return nil
}

// writeJob shows a job. The name of the model is shown only once it exists.
func (s *Server) writeJob(w http.ResponseWriter, j *job) {
	s.jobs.mu.Lock()
	c := j.shown()
	s.jobs.mu.Unlock()
	writeJSON(w, c.public())
}

func (j job) public() job {
	if j.Status != jobSucceeded {
		j.FineTuned = nil
	}
	return j
}

func (s *Server) job(r *http.Request) (*job, *apiError) {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	if j := s.jobs.byID[r.PathValue("id")]; j != nil {
		return j, nil
	}
	return nil, notFound("id", "fine_tune_not_found", "Could not find fine tune: %.80s", r.PathValue("id"))
}

func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) *apiError {
	want := map[string]string{}
	for k, v := range r.URL.Query() {
		if rest, ok := strings.CutPrefix(k, "metadata["); ok && len(v) > 0 {
			want[strings.TrimSuffix(rest, "]")] = v[0]
		}
	}
	s.jobs.mu.Lock()
	var all []job
jobs:
	for _, j := range s.jobs.byID {
		for k, v := range want {
			if j.Metadata[k] != v {
				continue jobs
			}
		}
		all = append(all, j.shown().public())
	}
	s.jobs.mu.Unlock()
	slices.SortFunc(all, func(a, b job) int { return int(b.Order - a.Order) })
	return writePage(w, withDefaultLimit(r), all, 100, func(j job) string { return j.ID })
}

// withDefaultLimit makes 20 the limit of a list that names none.
func withDefaultLimit(r *http.Request) *http.Request {
	q := r.URL.Query()
	if q.Get("limit") == "" {
		q.Set("limit", "20")
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
	}
	return r
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) *apiError {
	j, bad := s.job(r)
	if bad == nil {
		s.writeJob(w, j)
	}
	return bad
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) *apiError {
	j, bad := s.job(r)
	if bad != nil {
		return bad
	}
	var cancel func()
	ok := s.jobs.update(j, func() {
		now := time.Now().Unix()
		j.Status, j.Finished = jobCancelled, &now
		j.event("info", "message", "The job was cancelled", nil)
		cancel = s.jobs.cancels[j.ID]
	})
	if !ok {
		return badRequest("", "Job %s is over and cannot be cancelled.", j.ID)
	}
	if cancel != nil {
		cancel()
	}
	s.writeJob(w, j)
	return nil
}

// jobEvents lists the newest event first, as OpenAI does.
func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request) *apiError {
	j, bad := s.job(r)
	if bad != nil {
		return bad
	}
	s.jobs.mu.Lock()
	events := slices.Clone(j.Events)
	s.jobs.mu.Unlock()
	slices.Reverse(events)
	return writePage(w, withDefaultLimit(r), events, 1000, func(e jobEvent) string { return e.ID })
}

func (s *Server) jobCheckpoints(w http.ResponseWriter, r *http.Request) *apiError {
	j, bad := s.job(r)
	if bad != nil {
		return bad
	}
	type checkpoint struct {
		ID        string         `json:"id"`
		Object    string         `json:"object"`
		Created   int64          `json:"created_at"`
		FineTuned string         `json:"fine_tuned_model_checkpoint"`
		Job       string         `json:"fine_tuning_job_id"`
		Metrics   map[string]any `json:"metrics"`
		Step      int            `json:"step_number"`
	}
	s.jobs.mu.Lock()
	var all []checkpoint
	if j.Status == jobSucceeded { // the finished model is the only checkpoint kept
		all = append(all, checkpoint{
			ID: fmt.Sprintf("ftckpt_%s", j.ID[len("ftjob-"):]), Object: "fine_tuning.job.checkpoint", Created: *j.Finished, FineTuned: *j.FineTuned,
			Job: j.ID, Metrics: map[string]any{"step": j.Steps, "train_loss": j.Loss}, Step: j.Steps,
		})
	}
	s.jobs.mu.Unlock()
	return writePage(w, withDefaultLimit(r), all, 100, func(c checkpoint) string { return c.ID })
}
