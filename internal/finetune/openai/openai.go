// Package openai trains through the fine-tuning API that OpenAI defined and others keep (files and fine-tuning
// jobs): a job submitted under a key is found again by that key, whatever died in between.
//
// Wire reference: https://platform.openai.com/docs/api-reference/fine-tuning.
package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
)

// MetadataKey is the name under which a job's key stands in its metadata at the provider.
const MetadataKey = "selfalign_key"

// Config says where to train and how patiently.
type Config struct {
	// URL of the API with its version, such as https://api.openai.com/v1.
	URL string
	// Key returns the API key; nil or "" sends none. It is asked for each request, so that a key may be changed.
	Key func() string
	// Headers are sent with every request.
	Headers map[string]string
	// Price in US dollars per million trained tokens by base model; a name ending in * covers all that begin
	// with it. Without a price the cost is unknown.
	Price map[string]float64
	// Timeout of one request that carries no file; default 60 s. An upload has 1 s for every 64 KiB on top.
	Timeout time.Duration
	// Attempts is how often a request that failed in passing is made in all; default 6.
	Attempts int
	// Backoff before the second attempt, doubled each time with jitter; default 500 ms.
	Backoff time.Duration
	// MaxBackoff caps one wait, also one that the provider asks for: when it wants to be left alone longer than
	// this, the call ends with ClassPassing and RetryAfter. Default 30 s.
	MaxBackoff time.Duration
	// MaxFile is the largest training file accepted, in bytes; default 512 MiB, OpenAI's limit.
	MaxFile int64
	// HTTP sends the requests; default a client of its own that follows no redirects.
	HTTP *http.Client
}

// Backend implements finetune.Backend.
type Backend struct {
	cfg   Config
	base  string
	store *blob.Store
}

var _ finetune.Backend = (*Backend)(nil)

// New returns a backend that reads training files from store. It makes no request.
func New(cfg Config, store *blob.Store) (*Backend, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("fine-tuning URL %q: want http(s)://host/path", cfg.URL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("fine-tuning URL: user, query and fragment are not allowed")
	}
	if store == nil {
		return nil, errors.New("fine-tuning: no store")
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&cfg.Timeout, time.Minute)
	or(&cfg.Backoff, 500*time.Millisecond)
	or(&cfg.MaxBackoff, 30*time.Second)
	if cfg.Attempts <= 0 {
		cfg.Attempts = 6
	}
	if cfg.MaxFile <= 0 {
		cfg.MaxFile = 512 << 20
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	client := *cfg.HTTP
	// A redirect could carry the key, or an upload, to another host.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.HTTP = &client
	return &Backend{cfg: cfg, base: strings.TrimRight(u.String(), "/"), store: store}, nil
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
	file, err := b.upload(ctx, job)
	if err != nil {
		return "", err
	}
	return b.create(ctx, job, file)
}

// create makes the job. A request whose reply was lost may have made it all the same, so each further attempt
// looks for it first.
func (b *Backend) create(ctx context.Context, job finetune.Job, file string) (string, error) {
	for attempt := 1; ; attempt++ {
		standing, err := b.find(ctx, job, file)
		if err != nil || standing != nil {
			return idOf(standing), err
		}
		var made wireJob
		err = b.once(ctx, request{
			method: http.MethodPost, path: "/fine_tuning/jobs", body: wireCreateOf(job, file), into: &made,
			headers: map[string]string{"Idempotency-Key": job.Name()},
		})
		if err == nil {
			return b.settle(ctx, job, file, made)
		}
		if err = b.pause(ctx, attempt, err); err != nil {
			return "", err
		}
	}
}

// settle makes two submissions of one key that crossed each other agree on the older job and stops the other.
func (b *Backend) settle(ctx context.Context, job finetune.Job, file string, made wireJob) (string, error) {
	if made.ID == "" {
		return "", &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to a created job has no id"}
	}
	first, err := b.find(ctx, job, file)
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
	err := pages(ctx, b, "/fine_tuning/jobs", func(j wireJob) bool {
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
	if price, ok := priceOf(b.cfg.Price, j.Model); ok && j.TrainedTokens > 0 {
		st.CostMicroUSD, st.CostKnown = int64(price*float64(j.TrainedTokens)), true
	}
	events, err := b.events(ctx, id)
	if err != nil && ctx.Err() != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %s: %w", id, err)
	}
	words := progress(&st, events)
	switch state {
	case finetune.StateSucceeded:
		st.Model = j.FineTunedModel
		if st.Model == "" {
			// A provider may tell of success before it has named the model.
			st.State, st.UnknownState = finetune.StateRunning, "succeeded, model not named yet"
		}
	case finetune.StateFailed:
		if said := j.Error.words(); said != "" {
			words = said
		}
		if words == "" {
			words = "the provider gave no reason"
		}
	}
	st.Message = b.clean(words)
	return st, nil
}

// Cancel implements finetune.Backend.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	err := b.do(ctx, request{method: http.MethodPost, path: jobPath(id) + "/cancel"})
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

func (b *Backend) job(ctx context.Context, id string) (wireJob, error) {
	var j wireJob
	if id == "" {
		return j, &finetune.Error{Class: finetune.ClassNotFound, Message: "empty job id"}
	}
	err := b.do(ctx, request{method: http.MethodGet, path: jobPath(id), into: &j})
	if err == nil && j.ID == "" {
		err = &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer is not a fine-tuning job"}
	}
	return j, err
}

func jobPath(id string) string { return "/fine_tuning/jobs/" + url.PathEscape(id) }

func priceOf(prices map[string]float64, model string) (float64, bool) {
	if p, ok := prices[model]; ok {
		return p, true
	}
	best, found := "", false
	for name := range prices {
		if stem, ok := strings.CutSuffix(name, "*"); ok && strings.HasPrefix(model, stem) && (!found || len(name) > len(best)) {
			best, found = name, true
		}
	}
	return prices[best], found
}
