// Package together trains through Together AI's fine-tuning API, which has words for nearly all of the paper's recipe: an
// absolute learning rate that falls in a straight line to a share of itself, weight decay, the batch size, loss on answers
// only.
//
// Wire reference: https://docs.together.ai/reference/post-fine-tunes (OpenAPI of 2026-04).
package together

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Config says where to train and how.
type Config struct {
	rest.Config
	// Price in US dollars per million trained tokens by base model, used where the service does not estimate; a name ending
	// in * covers all that begin with it.
	Price map[string]float64
	// LoRA is the rank of the adapter to train; 0 trains all weights, as the paper does.
	LoRA int
	// Keep leaves training files at the service when a job has ended; else Clean removes them.
	Keep bool
	// MaxFile is the largest training file accepted, in bytes; default 25 GB, the service's limit.
	MaxFile int64
}

// Backend implements finetune.Backend and finetune.Cleaner.
type Backend struct {
	cfg   Config
	api   *rest.Client
	files trainfile.Shelf
}

var (
	_ finetune.Backend = (*Backend)(nil)
	_ finetune.Cleaner = (*Backend)(nil)
)

// New returns a backend that reads training files from store. It makes no request.
func New(cfg Config, store *blob.Store) (*Backend, error) {
	client, err := rest.New(cfg.Config)
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, errors.New("fine-tuning: no store")
	}
	if cfg.MaxFile <= 0 {
		cfg.MaxFile = 25_000_000_000
	}
	files := trainfile.Shelf{API: client, Store: store, Upload: "/files/upload", Fields: func(name string) [][2]string {
		return [][2]string{{"file_name", name}, {"file_type", "jsonl"}}
	}}
	return &Backend{cfg: cfg, api: client, files: files}, nil
}

// Submit implements finetune.Backend. The service keeps no metadata of ours: a job is known by the digest of its key at the
// end of its suffix, or by its training file, whose name follows from the key.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	id, err := b.submit(ctx, job)
	var e *finetune.Error
	if errors.As(err, &e) && e.Class == finetune.ClassNotFound {
		e.Class = finetune.ClassPermanent // the API or the model is not there
	}
	if err != nil {
		return "", fmt.Errorf("submit fine-tuning job %s: %w", job.Name(), err)
	}
	return id, nil
}

func (b *Backend) submit(ctx context.Context, job finetune.Job) (string, error) {
	if err := job.Validate(); err != nil {
		return "", err
	}
	standing, err := b.find(ctx, job)
	if err != nil || standing != nil {
		return idOf(standing), err
	}
	training, validation, err := trainfile.Inspect(ctx, b.files.Store, job, b.cfg.MaxFile)
	if err != nil {
		return "", err
	}
	id := ""
	at, err := b.files.Put(ctx, job, training, validation)
	if err == nil {
		id, err = b.order(ctx, job, at, training)
	}
	if err != nil && !b.cfg.Keep {
		err = b.files.Discard(ctx, job, err, func() (bool, error) {
			standing, err := b.find(ctx, job)
			return standing != nil, err
		})
	}
	return id, err
}

// order makes the job of files that are there, unless it costs too much.
func (b *Backend) order(ctx context.Context, job finetune.Job, at trainfile.IDs, training trainfile.Stats) (string, error) {
	request := b.createOf(job)
	request.TrainingFile, request.ValidationFile = at.Training, at.Validation
	if at.Validation != "" {
		request.Evals = request.Epochs
	}
	if job.MaxMicroUSD != nil {
		if err := b.afford(ctx, job, request, training); err != nil {
			return "", err
		}
	}
	return b.create(ctx, job, request)
}

// afford asks the service what the job would cost; where it does not know, tokens times price.
func (b *Backend) afford(ctx context.Context, job finetune.Job, request create, training trainfile.Stats) error {
	var told struct {
		Price   *float64 `json:"estimated_total_price"` // in US dollars
		Allowed *bool    `json:"allowed_to_proceed"`
		Tokens  float64  `json:"estimated_train_token_count"`
	}
	err := b.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/fine-tunes/estimate-price", Into: &told, Body: map[string]any{
		"training_file": request.TrainingFile, "validation_file": request.ValidationFile, "model": request.Model,
		"n_epochs": request.Epochs, "n_evals": request.Evals, "training_method": request.Method, "training_type": request.Type,
	}})
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("estimate the price: %w", err)
	case err == nil && told.Allowed != nil && !*told.Allowed:
		return &finetune.Error{Class: finetune.ClassQuota, Message: "the account's credit does not cover the job"}
	case err == nil && told.Price != nil && *told.Price >= 0 && *told.Price < 1e9:
		return trainfile.Afford(job, int64(math.Ceil(*told.Price*1e6)), fmt.Sprintf("the service's estimate, %.0f tokens", told.Tokens))
	}
	price, ok := trainfile.PriceOf(b.cfg.Price, job.BaseModel)
	if !ok {
		return nil // unknown, as its cost will be
	}
	tokens := training.Tokens() * int64(request.Epochs)
	return trainfile.Afford(job, int64(price*float64(tokens)), fmt.Sprintf("at most %d tokens at $%g a million", tokens, price))
}

// create makes the job. A request whose reply was lost may have made it all the same, so each further attempt looks first.
func (b *Backend) create(ctx context.Context, job finetune.Job, request create) (string, error) {
	for attempt := 1; ; attempt++ {
		if attempt > 1 {
			standing, err := b.find(ctx, job)
			if err != nil || standing != nil {
				return idOf(standing), err
			}
		}
		var made wireJob
		err := b.api.Once(ctx, rest.Request{Method: http.MethodPost, Path: "/fine-tunes", Body: request, Into: &made})
		if err == nil && made.ID == "" {
			return "", &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to a created job has no id"}
		}
		if err == nil {
			return b.settle(ctx, job, made)
		}
		if err = b.api.Pause(ctx, attempt, err); err != nil {
			return "", err
		}
	}
}

// settle makes submissions of one key that crossed each other agree on the older job and stops the other.
func (b *Backend) settle(ctx context.Context, job finetune.Job, made wireJob) (string, error) {
	first, err := b.find(ctx, job)
	if err != nil || first == nil || first.ID == made.ID {
		return made.ID, nil //nolint:nilerr // the job is made; its id must not be hidden
	}
	if err := b.Cancel(ctx, made.ID); err != nil {
		return "", fmt.Errorf("stop the twin %s of job %s: %w", made.ID, first.ID, err)
	}
	return first.ID, nil
}

// find returns the job that stands for the key, or nil: of several one that runs or succeeded before one that failed or was
// cancelled, of equals the oldest.
func (b *Backend) find(ctx context.Context, job finetune.Job) (*wireJob, error) {
	var best *wireJob
	rank := func(j *wireJob) int {
		if s, _ := stateOf(j.Status); s == finetune.StateFailed || s == finetune.StateCancelled {
			return 1
		}
		return 0
	}
	older := func(x, y *wireJob) bool {
		a, c := timeOf(x.CreatedAt), timeOf(y.CreatedAt)
		return a.Before(c) || a.Equal(c) && x.ID < y.ID
	}
	err := rest.Pages(ctx, b.api, "/fine-tunes", func(j wireJob) bool {
		if j.isFor(job) && (best == nil || rank(&j) < rank(best) || rank(&j) == rank(best) && older(&j, best)) {
			best = &j
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("look for a job with this key: %w", err)
	}
	return best, nil
}

func idOf(j *wireJob) string {
	if j == nil {
		return ""
	}
	return j.ID
}

func timeOf(s string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return at
}

// Poll implements finetune.Backend. Steps come from the job's events, loss from its metrics, both where they are had.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	j, err := b.job(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %s: %w", id, err)
	}
	state, unknown := stateOf(j.Status)
	st := finetune.Status{State: state, UnknownState: finetune.Clip(unknown), TrainedTokens: max(j.Tokens, 0), NotExpressed: j.notExpressed()}
	if state == finetune.StateSucceeded && j.TotalPrice > 0 {
		st.CostMicroUSD, st.CostKnown = j.TotalPrice/1000, true // the service counts billionths of a dollar
	}
	events := j.Events
	if len(events) == 0 {
		var page rest.Page[event]
		err := b.api.Once(ctx, rest.Request{Method: http.MethodGet, Path: jobPath(id) + "/events", Into: &page})
		if err != nil && ctx.Err() != nil {
			return finetune.Status{}, fmt.Errorf("poll fine-tuning job %s: %w", id, err)
		}
		events = page.Data
	}
	words := progress(&st, events)
	b.metrics(ctx, id, &st)
	switch state {
	case finetune.StateQueued:
		if st.Step > 0 { // it began between the two questions
			st.State = finetune.StateRunning
		}
	case finetune.StateSucceeded:
		if st.Model = j.OutputName; st.Model == "" {
			st.State, st.UnknownState = finetune.StateRunning, "completed, model not named yet"
		}
	case finetune.StateFailed:
		if words == "" {
			words = "the service gave no reason"
		}
	}
	st.Message = b.api.Clean(words)
	return st, nil
}

// metrics adds the newest loss, where the service has metrics for the job.
func (b *Backend) metrics(ctx context.Context, id string, st *finetune.Status) {
	var told struct {
		Metrics []map[string]any `json:"metrics"`
	}
	if b.api.Once(ctx, rest.Request{Method: http.MethodGet, Path: jobPath(id) + "/metrics", Into: &told}) != nil {
		return
	}
	for _, m := range told.Metrics {
		if step, ok := m["train/global_step"].(float64); ok && step > 0 && step < math.MaxInt32 && int(step) >= st.Step {
			st.Step = int(step)
			if loss, ok := m["train/loss"].(float64); ok && loss > 0 {
				st.Loss = loss
			}
		}
	}
}

// Cancel implements finetune.Backend.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	j, err := b.job(ctx, id)
	if err != nil {
		return fmt.Errorf("cancel fine-tuning job %s: %w", id, err)
	}
	if state, _ := stateOf(j.Status); state.Terminal() || j.Status == cancelRequested {
		return nil
	}
	err = b.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: jobPath(id) + "/cancel"})
	if err == nil {
		return nil
	}
	if now, lookErr := b.job(ctx, id); lookErr == nil { // refused since it ended meanwhile
		if state, _ := stateOf(now.Status); state.Terminal() || now.Status == cancelRequested {
			return nil
		}
	}
	return fmt.Errorf("cancel fine-tuning job %s: %w", id, err)
}

// Clean implements finetune.Cleaner: the job's files are deleted at the service; they lie in the store as well.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.cfg.Keep {
		return nil
	}
	j, err := b.job(ctx, id)
	if err == nil {
		if state, _ := stateOf(j.Status); !state.Terminal() {
			return nil
		}
		err = b.files.Remove(ctx, trainfile.IDs{Training: j.TrainingFile, Validation: j.ValidationFile}, finetune.DigestIn(j.Suffix))
	}
	if err != nil {
		return fmt.Errorf("clean up after fine-tuning job %s: %w", id, err)
	}
	return nil
}

func (b *Backend) job(ctx context.Context, id string) (wireJob, error) {
	var j wireJob
	if id == "" {
		return j, &finetune.Error{Class: finetune.ClassNotFound, Message: "empty job id"}
	}
	err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: jobPath(id), Into: &j})
	if err == nil && j.ID == "" {
		err = &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer is not a fine-tuning job"}
	}
	return j, err
}

func jobPath(id string) string { return "/fine-tunes/" + url.PathEscape(id) }
