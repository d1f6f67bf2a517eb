package pocketlm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// States of a job, as OpenAI names them.
const (
	jobValidating = "validating_files"
	jobQueued     = "queued"
	jobRunning    = "running"
	jobSucceeded  = "succeeded"
	jobFailed     = "failed"
	jobCancelled  = "cancelled"
)

// autoInt and autoFloat are hyperparameters: a number, or "auto".
type autoFloat struct {
	Auto  bool
	Value float64
}

func (a autoFloat) MarshalJSON() ([]byte, error) {
	if a.Auto {
		return []byte(`"auto"`), nil
	}
	return json.Marshal(a.Value)
}

func (a *autoFloat) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte(`"auto"`)) || bytes.Equal(b, []byte("null")) {
		*a = autoFloat{Auto: true}
		return nil
	}
	a.Auto = false
	if err := json.Unmarshal(b, &a.Value); err != nil {
		return fmt.Errorf("neither a number nor auto: %.40s", b)
	}
	return nil
}

// or is the value, or the given one for auto.
func (a autoFloat) or(auto float64) float64 {
	if a.Auto || a.Value == 0 {
		return auto
	}
	return a.Value
}

type hyperparameters struct {
	Epochs    autoFloat `json:"n_epochs"`
	BatchSize autoFloat `json:"batch_size"`
	Rate      autoFloat `json:"learning_rate_multiplier"`
}

type jobError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
}

type jobEvent struct {
	Object  string         `json:"object"`
	ID      string         `json:"id"`
	Created int64          `json:"created_at"`
	Level   string         `json:"level"`
	Message string         `json:"message"`
	Type    string         `json:"type"`
	Data    map[string]any `json:"data,omitempty"`
}

// job is a fine-tuning job. Progress of a running job is kept in memory only: after a kill it is run again from the start.
type job struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	Model          string            `json:"model"`
	Created        int64             `json:"created_at"`
	Finished       *int64            `json:"finished_at"`
	FineTuned      *string           `json:"fine_tuned_model"`
	Organization   string            `json:"organization_id"`
	ResultFiles    []string          `json:"result_files"`
	Status         string            `json:"status"`
	TrainingFile   string            `json:"training_file"`
	ValidationFile *string           `json:"validation_file"`
	Hyper          hyperparameters   `json:"hyperparameters"`
	Method         jobMethod         `json:"method"`
	TrainedTokens  *int64            `json:"trained_tokens"`
	Error          *jobError         `json:"error"`
	Suffix         *string           `json:"user_provided_suffix"`
	Seed           int64             `json:"seed"`
	Integrations   []any             `json:"integrations"`
	Metadata       map[string]string `json:"metadata"`
	Estimated      *int64            `json:"estimated_finish"`

	Digest string     `json:"training_sha256"`
	Order  int64      `json:"order"`
	Events []jobEvent `json:"events,omitempty"` // oldest first; not shown with the job
	Steps  int        `json:"steps,omitempty"`
	Loss   float64    `json:"train_loss,omitempty"`
}

type jobMethod struct {
	Type       string `json:"type"`
	Supervised *struct {
		Hyper hyperparameters `json:"hyperparameters"`
	} `json:"supervised,omitempty"`
}

type jobStore struct {
	srv *Server
	dir string

	mu      sync.Mutex
	byID    map[string]*job
	cancels map[string]context.CancelFunc
	last    int64
	slot    chan struct{} // one job trains at a time
}

func openJobs(s *Server) (*jobStore, error) {
	st := &jobStore{srv: s, dir: filepath.Join(s.opt.Dir, "jobs"), byID: map[string]*job{}, cancels: map[string]context.CancelFunc{}, slot: make(chan struct{}, 1)}
	return st, loadAll(st.dir, func(j *job) {
		st.byID[j.ID] = j
		st.last = max(st.last, j.Order)
	})
}

func (st *jobStore) save(j *job) error { return saveJSON(filepath.Join(st.dir, j.ID+".json"), j) }

func (j *job) over() bool {
	return j.Status == jobSucceeded || j.Status == jobFailed || j.Status == jobCancelled
}

// shown is the job as the API shows it.
func (j *job) shown() job {
	c := *j
	c.Events = nil
	return c
}

func (j *job) event(level, kind, message string, data map[string]any) {
	e := jobEvent{Object: "fine_tuning.job.event", ID: fmt.Sprintf("ftevent-%s-%06d", j.ID[len("ftjob-"):], len(j.Events)), Created: time.Now().Unix(), Level: level, Message: message, Type: kind, Data: data}
	j.Events = append(j.Events, e)
}

// modelName follows from what is trained and how, so that the same job makes the same model, whoever submits it and how often.
func (j *job) modelName() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%v %v\n%d\n", j.Model, j.Digest, j.Hyper.Epochs.or(0), j.Hyper.Rate.or(0), j.Seed)
	if j.Suffix != nil {
		fmt.Fprintf(h, "%s\n", *j.Suffix)
	}
	digest := hex.EncodeToString(h.Sum(nil))[:12]
	suffix := ""
	if j.Suffix != nil {
		suffix = *j.Suffix
	}
	return "ft:" + BaseModel + ":" + suffix + ":" + digest
}

// resume takes up every job that is not over.
func (st *jobStore) resume() {
	st.mu.Lock()
	defer st.mu.Unlock()
	var open []*job
	for _, j := range st.byID {
		if !j.over() {
			open = append(open, j)
		}
	}
	slices.SortFunc(open, func(a, b *job) int { return int(a.Order - b.Order) })
	for _, j := range open {
		j.Events, j.Steps = slices.DeleteFunc(j.Events, func(e jobEvent) bool { return e.Type == "metrics" }), 0
		j.event("warn", "message", "The server was restarted; the job is run again from the start.", nil)
		st.start(j)
	}
}

// start runs a job in the background. The caller holds mu.
func (st *jobStore) start(j *job) {
	ctx, cancel := context.WithCancel(st.srv.ctx)
	st.cancels[j.ID] = cancel
	st.srv.work.Add(1)
	go func() {
		defer st.srv.work.Done()
		defer cancel()
		select {
		case st.slot <- struct{}{}:
			defer func() { <-st.slot }()
			st.run(ctx, j)
		case <-ctx.Done():
		}
	}()
}

// update changes a job under the lock and saves it, unless it is over: then it stays as it is and update is false.
func (st *jobStore) update(j *job, change func()) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if j.over() {
		return false
	}
	change()
	if err := st.save(j); err != nil {
		st.srv.log.Error("save fine-tuning job", "job", j.ID, "error", err)
	}
	if j.over() {
		delete(st.cancels, j.ID)
	}
	return true
}

func (st *jobStore) fail(j *job, code, message string) {
	st.update(j, func() {
		now := time.Now().Unix()
		j.Status, j.Finished = jobFailed, &now
		j.Error = &jobError{Code: code, Message: message}
		j.event("error", "message", message, nil)
	})
}

// run trains one job. When ctx ends by Close the job stays as it is and the next Open takes it up.
func (st *jobStore) run(ctx context.Context, j *job) {
	s := st.srv
	examples, err := s.models.examples(j.Digest)
	if err != nil {
		st.fail(j, "invalid_training_file", fmt.Sprintf("The job failed due to an invalid training file. %v", err))
		return
	}
	f := s.faults.Load()
	epochs := j.Hyper.Epochs.or(3)
	batch := j.Hyper.BatchSize.or(8)
	steps := max(1, int(math.Ceil(float64(len(examples))/batch))*int(math.Ceil(epochs)))
	passes := min(max(int(math.Round(epochs*2)), 2), 60)
	if !st.update(j, func() {
		j.Status = jobRunning
		eta := time.Now().Add(f.TrainingTime.Duration()).Unix()
		j.Estimated = &eta
		j.Hyper = hyperparameters{Epochs: autoFloat{Value: epochs}, BatchSize: autoFloat{Value: batch}, Rate: autoFloat{Value: j.Hyper.Rate.or(1)}}
		if j.Method.Supervised != nil {
			m := *j.Method.Supervised
			m.Hyper = j.Hyper
			j.Method.Supervised = &m
		}
		j.event("info", "message", "Fine-tuning job started", nil)
	}) {
		return
	}
	t := &trained{ID: *j.FineTuned, Base: j.Model, Training: j.Digest, Passes: passes, Rate: j.Hyper.Rate.Value, Seed: j.Seed, Created: j.Created, Job: j.ID}
	var losses []float64
	model, err := s.models.fit(t, func(_, _ int, loss float64) { losses = append(losses, loss) })
	if err != nil {
		st.fail(j, "internal_error", err.Error())
		return
	}
	reports := min(len(losses), 20)
	for i := 1; i <= reports; i++ {
		if pause(ctx, f.TrainingTime.Duration()/time.Duration(reports)) != nil {
			return
		}
		loss := losses[i*len(losses)/reports-1]
		step := max(1, steps*i/reports)
		note := func() {
			j.Steps, j.Loss = step, loss
			j.event("info", "metrics", fmt.Sprintf("Step %d/%d: training loss=%.4f", step, steps, loss),
				map[string]any{"step": step, "total_steps": steps, "train_loss": loss})
		}
		if !st.progress(j, note) {
			return
		}
	}
	if f.TrainingFails != "" {
		st.fail(j, "server_error", f.TrainingFails)
		return
	}
	st.finish(j, t, func() error { return s.models.publish(t, model) }, steps, losses, countTokens(examples, epochs))
}

// progress changes a running job in memory only: a kill makes it start again anyhow.
func (st *jobStore) progress(j *job, note func()) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if j.over() {
		return false
	}
	note()
	return true
}

func (st *jobStore) finish(j *job, t *trained, publish func() error, steps int, losses []float64, tokens int64) {
	var csv bytes.Buffer
	csv.WriteString("step,train_loss\n")
	for i, l := range losses {
		csv.WriteString(strconv.Itoa(max(1, steps*(i+1)/len(losses))) + "," + strconv.FormatFloat(l, 'f', 5, 64) + "\n")
	}
	if err := publish(); err != nil {
		st.fail(j, "server_error", err.Error())
		return
	}
	results, err := st.srv.files.add("step_metrics.csv", "fine-tune-results", &csv)
	st.update(j, func() {
		now := time.Now().Unix()
		j.Status, j.Finished, j.TrainedTokens = jobSucceeded, &now, &tokens
		if err == nil {
			j.ResultFiles = []string{results.ID}
		}
		j.event("info", "message", "New fine-tuned model created: "+t.ID, nil)
		j.event("info", "message", "The job has successfully completed", nil)
	})
}
