// Package openai trains through the fine-tuning API that OpenAI defined and others keep (files and fine-tuning
// jobs): a job submitted under a key is found again by that key, whatever died in between.
//
// Wire reference: https://platform.openai.com/docs/api-reference/fine-tuning.
package openai

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// MetadataKey is the name under which a job's key stands in its metadata at the provider.
const MetadataKey = "selfalign_key"

// Config says where to train and how patiently.
type Config struct {
	rest.Config
	// Price in US dollars per million trained tokens by base model; a name ending in * covers all that begin
	// with it. Without a price the cost is unknown.
	Price map[string]float64
	// MaxFile is the largest training file accepted, in bytes; default 512 MiB, OpenAI's limit.
	MaxFile int64
	// Keep leaves training files at the provider when a job has ended; else Clean removes them.
	Keep bool
}

// Backend implements finetune.Backend.
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
		cfg.MaxFile = 512 << 20
	}
	return &Backend{cfg: cfg, api: client, files: trainfile.Shelf{API: client, Store: store}}, nil
}

// Submit implements finetune.Backend: the training file is checked before a byte of it leaves, uploaded under a
// name that follows from the key unless it lies there already, and the job is made unless one with this key stands.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	id, err := b.submit(ctx, job)
	var e *finetune.Error
	if errors.As(err, &e) && e.Class == finetune.ClassNotFound {
		// There is no job yet that could be unknown: it is the API or the model that is not there.
		e.Class = finetune.ClassPermanent
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
	// The jobs come first: a job found again needs no file, which the provider may have removed since.
	standing, err := b.find(ctx, job, "")
	if err != nil || standing != nil {
		return idOf(standing), err
	}
	training, validation, err := trainfile.Inspect(ctx, b.files.Store, job, b.cfg.MaxFile)
	if err != nil {
		return "", err
	}
	if price, ok := trainfile.PriceOf(b.cfg.Price, job.BaseModel); ok {
		passes := max(1, epochsOf(job.Hyper, job.Examples))
		tokens := training.Tokens() * int64(passes)
		how := fmt.Sprintf("at most %d tokens in %d passes, at $%g a million", tokens, passes, price)
		if err := trainfile.Afford(job, int64(price*float64(tokens)), how); err != nil {
			return "", err
		}
	}
	id := ""
	at, err := b.files.Put(ctx, job, training, validation)
	if err == nil {
		id, err = b.create(ctx, job, at)
	}
	if err != nil && !b.cfg.Keep {
		err = b.files.Discard(ctx, job, err, func() (bool, error) {
			standing, err := b.find(ctx, job, at.Training)
			return standing != nil, err
		})
	}
	return id, err
}

// create makes the job. A request whose reply was lost may have made it all the same, so each further attempt
// looks for it first.
func (b *Backend) create(ctx context.Context, job finetune.Job, file trainfile.IDs) (string, error) {
	for attempt := 1; ; attempt++ {
		standing, err := b.find(ctx, job, file.Training)
		if err != nil || standing != nil {
			return idOf(standing), err
		}
		var made wireJob
		err = b.api.Once(ctx, rest.Request{
			Method: http.MethodPost, Path: "/fine_tuning/jobs", Body: wireCreateOf(job, file), Into: &made,
			Headers: map[string]string{"Idempotency-Key": job.Name()},
		})
		if err == nil {
			return b.settle(ctx, job, file, made)
		}
		if err = b.api.Pause(ctx, attempt, err); err != nil {
			return "", err
		}
	}
}

// settle makes two submissions of one key that crossed each other agree on the older job and stops the other.
func (b *Backend) settle(ctx context.Context, job finetune.Job, file trainfile.IDs, made wireJob) (string, error) {
	if made.ID == "" {
		return "", &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to a created job has no id"}
	}
	first, err := b.find(ctx, job, file.Training)
	if err != nil || first == nil || first.ID == made.ID {
		// The job is made; not being able to look for a twin must not hide its id.
		return made.ID, nil //nolint:nilerr // see above
	}
	if err := b.Cancel(ctx, made.ID); err != nil {
		return "", fmt.Errorf("stop the twin %s of job %s: %w", made.ID, first.ID, err)
	}
	return first.ID, nil
}

// find returns the job that stands for the key, or nil. A job that runs or has succeeded goes before one that
// failed or was cancelled; of equals the oldest, so that all who look agree. Listings begin with the newest, so of
// two made in one second the one further down is older.
func (b *Backend) find(ctx context.Context, job finetune.Job, file string) (*wireJob, error) {
	var best *wireJob
	rank := func(j *wireJob) int {
		if s, _ := stateOf(j.Status); s == finetune.StateFailed || s == finetune.StateCancelled {
			return 1
		}
		return 0
	}
	err := rest.Pages(ctx, b.api, "/fine_tuning/jobs", func(j wireJob) bool {
		if !j.isFor(job, file) {
			return true
		}
		switch {
		case best == nil, rank(&j) < rank(best):
			best = &j
		case rank(&j) == rank(best) && j.CreatedAt <= best.CreatedAt:
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

// Poll implements finetune.Backend. Progress comes from the job's events; a provider without them shows none.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	j, err := b.job(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %s: %w", id, err)
	}
	state, unknown := stateOf(j.Status)
	st := finetune.Status{State: state, UnknownState: finetune.Clip(unknown), TrainedTokens: j.TrainedTokens, NotExpressed: b.notExpressed(j)}
	if price, ok := trainfile.PriceOf(b.cfg.Price, j.Model); ok && j.TrainedTokens > 0 {
		st.CostMicroUSD, st.CostKnown = int64(price*float64(j.TrainedTokens)), true
	}
	events, err := b.events(ctx, id)
	if err != nil && ctx.Err() != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %s: %w", id, err)
	}
	words := progress(&st, events)
	if state == finetune.StateRunning && st.Step == 0 {
		b.checkpoints(ctx, id, &st)
	}
	switch state {
	case finetune.StateQueued:
		if st.Step > 0 { // it began between the two questions
			st.State = finetune.StateRunning
		}
	case finetune.StateSucceeded:
		st.Model = j.FineTunedModel
		if st.Model == "" {
			// A provider may tell of success before it has named the model.
			st.State, st.UnknownState = finetune.StateRunning, "succeeded, model not named yet"
		}
	case finetune.StateFailed:
		if said := j.Error.Words(); said != "" {
			words = said
		}
		if words == "" {
			words = "the provider gave no reason"
		}
	}
	st.Message = b.api.Clean(words)
	return st, nil
}

// Cancel implements finetune.Backend.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	err := b.api.Do(ctx, rest.Request{Method: http.MethodPost, Path: jobPath(id) + "/cancel"})
	if err == nil {
		return nil
	}
	switch finetune.ClassOf(err) {
	case finetune.ClassPermanent, finetune.ClassNotFound:
		// Refused: fine when the job has ended already, by itself or by an earlier call.
		j, lookErr := b.job(ctx, id)
		if lookErr != nil {
			return fmt.Errorf("cancel fine-tuning job %s: %w", id, lookErr)
		}
		if state, _ := stateOf(j.Status); state.Terminal() || j.Status == "cancelling" {
			return nil
		}
	}
	return fmt.Errorf("cancel fine-tuning job %s: %w", id, err)
}

// Clean implements finetune.Cleaner: the job's files are deleted at the provider, whatever became of the job, since they
// lie in the store as well.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.cfg.Keep {
		return nil
	}
	j, err := b.job(ctx, id)
	if err == nil {
		if state, _ := stateOf(j.Status); !state.Terminal() {
			return nil
		}
		err = b.files.Remove(ctx, trainfile.IDs{Training: j.TrainingFile, Validation: j.ValidationFile}, j.digest())
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

func jobPath(id string) string { return "/fine_tuning/jobs/" + url.PathEscape(id) }

func (j wireJob) Ident() string { return j.ID }

// events returns the newest events of a job.
func (b *Backend) events(ctx context.Context, id string) ([]wireEvent, error) {
	var page rest.Page[wireEvent]
	err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: jobPath(id) + "/events", Query: url.Values{"limit": {"50"}}, Into: &page})
	return page.Data, err
}

// checkpoints tells progress where the events do not. A provider without them shows none.
func (b *Backend) checkpoints(ctx context.Context, id string, st *finetune.Status) {
	var page rest.Page[struct {
		Step    int `json:"step_number"`
		Metrics struct {
			Loss float64 `json:"train_loss"`
		} `json:"metrics"`
	}]
	r := rest.Request{Method: http.MethodGet, Path: jobPath(id) + "/checkpoints", Query: url.Values{"limit": {"10"}}, Into: &page}
	if b.api.Once(ctx, r) != nil {
		return
	}
	for _, c := range page.Data {
		if c.Step > st.Step && c.Step < math.MaxInt32 {
			st.Step, st.Loss = c.Step, max(c.Metrics.Loss, 0)
		}
	}
}
