package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
	"github.com/selfalign/selfalign/internal/stage"
)

// DeliveryInput asks what a wish means for a provider.
type DeliveryInput struct {
	Wish     string `json:"wish"`
	Provider string `json:"provider"`
	Model    string `json:"model,omitempty"`
	// Within is the stage's deadline from its beginning; 0: none.
	Within time.Duration `json:"within,omitempty"`
}

// Delivery tells whether a stage's questions travel live or in batches.
func (r *Runs) Delivery(_ context.Context, in DeliveryInput) (string, error) {
	p, err := r.Models.Provider(in.Provider)
	if err != nil {
		return "", blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	return stage.Delivery(in.Wish, p, in.Model, in.Within), nil
}

// checkBatches finds out whether a provider has the Batch API, when a stage is to use it.
func (r *Runs) checkBatches(ctx context.Context, provider, model string, s config.Sampling) error {
	if !s.ByBatch(r.Settings.Providers[provider], model) {
		return nil
	}
	p, err := r.Models.Provider(provider)
	if err != nil {
		return blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	client, err := batch.New(p, batch.Options{})
	if err != nil {
		return blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	defer client.Close()
	err = client.Check(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case llm.ClassOf(err) == llm.ClassNotFound || llm.ClassOf(err) == llm.ClassPermanent:
		return blocked("setting", fmt.Errorf("provider %s has no Batch API: %w", provider, err), "choose delivery: live in a new run, or give the provider an address that has one, then retry")
	}
	return blocked("endpoint", fmt.Errorf("provider %s: %w", provider, err), "make its Batch API answer for the workers, then retry")
}
