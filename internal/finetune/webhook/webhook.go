// Package webhook trains through a service of the user's own, which is told of jobs by signed webhooks (Standard Webhooks)
// and asked how they are.
//
// Wire reference: docs/operations.md, "A training service of your own"; https://www.standardwebhooks.com (signatures).
package webhook

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Config says where the service is.
type Config struct {
	rest.Config
	// Secret returns what requests are signed with: whsec_ and base64, or several between spaces while one replaces another.
	// It is asked for each request.
	Secret func() string
	// Keep has the service not told when a job may be cleaned up after.
	Keep bool
}

// Backend implements finetune.Backend. A job's id is its finetune.Job.Name.
type Backend struct {
	api   *rest.Client
	store *blob.Store
	keep  bool
}

var (
	_ finetune.Backend = (*Backend)(nil)
	_ finetune.Cleaner = (*Backend)(nil)
)

// New returns a backend that signs what it sends. It makes no request.
func New(cfg Config, store *blob.Store) (*Backend, error) {
	if store == nil {
		return nil, errors.New("training service: no store")
	}
	if cfg.Secret == nil {
		return nil, errors.New("training service: no secret")
	}
	cfg.Sign = func(req *http.Request, body []byte) error { return sign(req, body, cfg.Secret()) }
	client, err := rest.New(cfg.Config)
	if err != nil {
		return nil, err
	}
	return &Backend{api: client, store: store, keep: cfg.Keep}, nil
}

// minSecret is the least number of bytes of a secret, as Standard Webhooks has it.
const minSecret = 24

// keysOf reads the secrets between spaces.
func keysOf(secrets string) ([]*standard.Webhook, error) {
	var out []*standard.Webhook
	for _, s := range strings.Fields(secrets) {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_"))
		if err != nil || len(raw) < minSecret {
			return nil, fmt.Errorf("the secret must be whsec_ and the base64 of at least %d random bytes (Try: echo whsec_$(openssl rand -base64 32))", minSecret)
		}
		key, err := standard.NewWebhookRaw(raw)
		if err != nil {
			return nil, errors.New("the secret cannot be used") // its own words might show it
		}
		out = append(out, key)
	}
	if len(out) == 0 {
		return nil, errors.New("the secret's environment variable is empty")
	}
	return out, nil
}

// headerID carries what a message is about, "<action>-<job>". It is signed, and the same however often it is sent.
const headerID = standard.HeaderWebhookID

func sign(req *http.Request, body []byte, secrets string) error {
	keys, err := keysOf(secrets)
	if err != nil {
		return &finetune.Error{Class: finetune.ClassAuth, Code: "secret", Message: err.Error()}
	}
	now := time.Now()
	var signatures []string
	for _, key := range keys {
		s, err := key.Sign(req.Header.Get(headerID), now, body)
		if err != nil {
			return &finetune.Error{Class: finetune.ClassPermanent, Message: "sign", Err: err}
		}
		signatures = append(signatures, s)
	}
	req.Header.Set(standard.HeaderWebhookTimestamp, fmt.Sprint(now.Unix()))
	req.Header.Set(standard.HeaderWebhookSignature, strings.Join(signatures, " "))
	return nil
}

// Event is the body of every message, in both directions.
type Event struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// Types of events.
const (
	TypeSubmit  = "finetune.submit"  // Data is an Order
	TypeCancel  = "finetune.cancel"  // Data is a Reference
	TypeClean   = "finetune.clean"   // Data is a Reference with the job's state
	TypeChanged = "finetune.changed" // Data is a Reference; from the service, to the address that the order named
)

// Reference names a job.
type Reference struct {
	ID    string         `json:"id"`
	State finetune.State `json:"state,omitempty"`
}

// Order is a job as the service is told of it.
type Order struct {
	ID        string `json:"id"` // the same for the same job: whoever has it already does nothing
	Key       string `json:"key"`
	BaseModel string `json:"base_model"`
	Suffix    string `json:"suffix"`
	// TrainingFile is an s3:// address of JSON lines {"messages": […]}; TrainingURL reads it without credentials for seven
	// days at most.
	TrainingFile   string         `json:"training_file"`
	TrainingURL    string         `json:"training_url"`
	Examples       int64          `json:"examples"`
	ValidationFile string         `json:"validation_file,omitempty"`
	ValidationURL  string         `json:"validation_url,omitempty"`
	Hyper          finetune.Hyper `json:"hyperparameters"`
	Seed           int64          `json:"seed"`
	Artifacts      string         `json:"artifacts"` // s3:// address under which results may be left
	// MaxCostUSD is the most that the job may cost; absent: no bound.
	MaxCostUSD *float64 `json:"max_cost_usd,omitempty"`
	// CallbackURL is told when the job has changed; "": nobody waits there.
	CallbackURL string `json:"callback_url,omitempty"`
}

// Answer is how a job is, in the service's words. All but ID and State may be left out.
type Answer struct {
	ID           string   `json:"id"`
	State        string   `json:"state"` // queued, running, succeeded, failed or cancelled
	Step         int      `json:"step"`
	Steps        int      `json:"steps"`
	Loss         float64  `json:"loss"`
	Message      string   `json:"message"`
	Model        string   `json:"model"` // the result's name; default the job's id
	Tokens       int64    `json:"tokens"`
	CostUSD      *float64 `json:"cost_usd"`
	NotExpressed []string `json:"not_expressed"`
	Artifact     string   `json:"artifact"` // s3:// address of the results, where they were left in the store
}

// Submit implements finetune.Backend: the service knows a job by its id, which follows from the key.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	if err := b.submit(ctx, job); err != nil {
		var e *finetune.Error
		if errors.As(err, &e) {
			e.Message = trainfile.HidePresigned(e.Message)
			if e.Class == finetune.ClassNotFound {
				e.Class = finetune.ClassPermanent // the address is wrong
			}
		}
		return "", fmt.Errorf("submit fine-tuning job %s: %w", job.Name(), err)
	}
	return job.Name(), nil
}

func (b *Backend) submit(ctx context.Context, job finetune.Job) error {
	if err := job.Validate(); err != nil {
		return err
	}
	id := job.Name()
	if _, err := b.ask(ctx, id); finetune.ClassOf(err) != finetune.ClassNotFound {
		return err // it stands, or cannot be asked for
	}
	if _, _, err := trainfile.Inspect(ctx, b.store, job, 0); err != nil {
		return err
	}
	order := Order{
		ID: id, Key: job.Key, BaseModel: job.BaseModel, Suffix: job.Suffix, Examples: job.Examples, Hyper: job.Hyper, Seed: job.Seed,
		TrainingFile: b.store.URI(job.Training), Artifacts: b.store.URI(job.Artifacts), CallbackURL: job.Callback,
	}
	var err error
	if order.TrainingURL, err = b.store.Presign(ctx, job.Training, blob.MaxPresign); err != nil {
		return trainfile.StoreError("address of the training file", err)
	}
	if job.Validation != "" {
		order.ValidationFile = b.store.URI(job.Validation)
		if order.ValidationURL, err = b.store.Presign(ctx, job.Validation, blob.MaxPresign); err != nil {
			return trainfile.StoreError("address of the validation file", err)
		}
	}
	if job.MaxMicroUSD != nil {
		usd := float64(*job.MaxMicroUSD) / 1e6
		order.MaxCostUSD = &usd
	}
	err = b.send(ctx, "", "submit-"+id, TypeSubmit, order)
	var e *finetune.Error
	if errors.As(err, &e) && e.Code == "over_budget" {
		e.Class = finetune.ClassBudget
	}
	return err
}

// send posts an event. The service acts on an event's webhook-id once, so it may be sent again.
func (b *Backend) send(ctx context.Context, path, id, kind string, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: "encode event", Err: err}
	}
	return b.api.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: path, Headers: map[string]string{headerID: id},
		Body: Event{Type: kind, Timestamp: time.Now().UTC(), Data: raw},
	})
}

// ask gets the service's answer about a job.
func (b *Backend) ask(ctx context.Context, id string) (Answer, error) {
	if id == "" || len(id) > 100 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return Answer{}, &finetune.Error{Class: finetune.ClassNotFound, Message: "no job has such an id"}
	}
	var a Answer
	err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/" + id, Headers: map[string]string{headerID: "status-" + id}, Into: &a})
	if err == nil && a.ID != id {
		err = &finetune.Error{Class: finetune.ClassPermanent, Message: fmt.Sprintf("the service was asked about job %s and answered about %.100q", id, a.ID)}
	}
	return a, err
}

// Poll implements finetune.Backend.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	a, err := b.ask(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll fine-tuning job %.100q: %w", id, err)
	}
	return b.statusOf(a), nil
}

func (b *Backend) statusOf(a Answer) finetune.Status {
	st := finetune.Status{
		State: finetune.State(a.State), Step: bound(a.Step), Steps: bound(a.Steps), TrainedTokens: max(a.Tokens, 0),
		Message: trainfile.HidePresigned(b.api.Clean(a.Message)),
	}
	switch st.State {
	case finetune.StateQueued, finetune.StateRunning, finetune.StateSucceeded, finetune.StateFailed, finetune.StateCancelled:
	default:
		st.State, st.UnknownState = finetune.StateRunning, finetune.Clip(a.State)
	}
	if a.Loss > 0 && !math.IsInf(a.Loss, 0) {
		st.Loss = a.Loss
	}
	if c := a.CostUSD; c != nil && *c >= 0 && *c < 1e9 {
		st.CostMicroUSD, st.CostKnown = int64(math.Round(*c*1e6)), true
	}
	for _, s := range a.NotExpressed[:min(len(a.NotExpressed), 50)] {
		s = finetune.Clip(s)
		st.NotExpressed = append(st.NotExpressed, strings.ToValidUTF8(s[:min(len(s), 512)], ""))
	}
	if st.State != finetune.StateSucceeded {
		if st.State == finetune.StateFailed && st.Message == "" {
			st.Message = "the service gave no reason"
		}
		return st
	}
	if st.Model = finetune.Clip(a.Model); st.Model == "" || len(st.Model) > 512 {
		st.Model = a.ID
	}
	// Results elsewhere than in the store are the service's own matter.
	if key, ok := strings.CutPrefix(a.Artifact, b.store.URI("")); ok && !strings.Contains("/"+key+"/", "/../") {
		st.Artifact = strings.TrimRight(key, "/")
	}
	return st
}

func bound(n int) int { return min(max(n, 0), math.MaxInt32) }

// Cancel implements finetune.Backend.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	a, err := b.ask(ctx, id)
	if err == nil && !b.statusOf(a).State.Terminal() {
		err = b.send(ctx, "/"+id+"/cancel", "cancel-"+id, TypeCancel, Reference{ID: id})
		if err != nil { // refused since it ended meanwhile
			if now, lookErr := b.ask(ctx, id); lookErr == nil && b.statusOf(now).State.Terminal() {
				return nil
			}
		}
	}
	if err != nil {
		return fmt.Errorf("cancel fine-tuning job %.100q: %w", id, err)
	}
	return nil
}

// Clean implements finetune.Cleaner: the service is told that the job's end was noted, in which state, and may take away what
// nobody needs. One that knows no such event has nothing to take away.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.keep {
		return nil
	}
	a, err := b.ask(ctx, id)
	if err == nil {
		state := b.statusOf(a).State
		if !state.Terminal() {
			return nil
		}
		err = b.send(ctx, "/"+id+"/clean", "clean-"+id, TypeClean, Reference{ID: id, State: state})
		var e *finetune.Error
		if errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("clean up after fine-tuning job %.100q: %w", id, err)
	}
	return nil
}
