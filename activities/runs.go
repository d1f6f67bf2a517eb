package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/stage"
)

// Runs checks, records and reports whole runs.
type Runs struct {
	Store    *blob.Store
	Models   *llm.Pool
	Settings config.Worker
	// Templates are those of the providers' tokenizers; nil: none has one.
	Templates *stage.Templates
}

// RecordInput is one record of a run, written to runs/<run>/<name>.
type RecordInput struct {
	Run  string          `json:"run"`
	Name string          `json:"name"`
	Body json.RawMessage `json:"body"`
}

// SaveRecord writes a record of a run. The newest one stands.
func (r *Runs) SaveRecord(ctx context.Context, in RecordInput) error {
	defer newHeart(ctx).keep()()
	return r.Store.Put(ctx, "runs/"+in.Run+"/"+in.Name, in.Body)
}

// Preflight finds what would stop a run before anything is spent: names that the worker's settings do not define, a bucket
// that cannot be written, refused keys, endpoints and models that do not answer, templates that cannot be rendered.
func (r *Runs) Preflight(ctx context.Context, spec config.Run) error {
	defer newHeart(ctx).keep()()
	if err := config.CheckTogether(spec, r.Settings); err != nil {
		return blocked("setting", err, "mend the settings of the workers and restart them, then retry")
	}
	if err := r.Store.Check(ctx); err != nil {
		return blocked("store", err, "make the bucket writable for the workers, then retry")
	}
	if err := checkTemplates(spec.Prompts); err != nil {
		return blocked("setting", err, "start a new run with the template mended")
	}
	for _, m := range modelsToCheck(spec, r.Settings) {
		if err := r.checkModel(ctx, m.Provider, m.Model); err != nil {
			return err
		}
	}
	asked := config.ModelsAsked(spec, r.Settings)
	if err := r.checkBatches(ctx, asked[0].Provider, asked[0].Model, spec.Augment.Sampling); err != nil {
		return err
	}
	return r.checkBatches(ctx, asked[len(asked)-1].Provider, asked[len(asked)-1].Model, spec.Rate.Sampling)
}

// modelsToCheck lists the endpoints of a run: the judge's and the base model's with the model, that of the trained
// models without, since these do not exist yet. Where a program is started for each model, nobody listens before.
func modelsToCheck(spec config.Run, settings config.Worker) []config.Asked {
	var out []config.Asked
	server := settings.Servers[spec.ServerName()]
	if server.Backend != config.BackendCommand {
		out = append(out, config.Asked{Provider: server.Provider})
	}
	if p := settings.Trainers[spec.Model.Trainer].Provider; p != "" && !slices.Contains(out, config.Asked{Provider: p}) {
		out = append(out, config.Asked{Provider: p})
	}
	if spec.Model.Provider != "" {
		out = append(out, config.Asked{Provider: spec.Model.Provider, Model: spec.Model.Base})
	}
	if j := spec.Rate.Judge; j != nil {
		out = append(out, config.Asked{Provider: j.Provider, Model: j.Model})
	}
	for _, j := range spec.Judges() {
		if a := (config.Asked{Provider: j.Provider, Model: j.Model}); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func (r *Runs) checkModel(ctx context.Context, provider, model string) error {
	client, err := r.Models.Client(provider)
	if err != nil {
		return blocked("setting", err, "mend the provider in the worker's settings and restart the workers, then retry")
	}
	if err := r.checkTokenizer(ctx, provider); err != nil {
		return err
	}
	if model == "" {
		_, err = client.Models(ctx)
		if class := llm.ClassOf(err); class == llm.ClassNotFound || class == llm.ClassPermanent {
			err = nil // answers, but lists no models
		}
	} else {
		err = client.Check(ctx, model)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	what := fmt.Errorf("provider %s: %w", provider, err)
	switch llm.ClassOf(err) {
	case llm.ClassAuth:
		env := r.Settings.Providers[provider].KeyEnv
		if env == "" {
			return blocked("auth", what, "name the variable with the key as providers."+provider+".key_env, restart the workers, then retry")
		}
		return blocked("auth", what, "set "+env+" for the workers to a key that the provider accepts, restart them, then retry")
	case llm.ClassQuota:
		return blocked("quota", what, "raise the quota, then retry")
	}
	if e := r.Settings.Providers[provider].InferenceEndpoint; e != nil {
		if class := llm.ClassOf(err); class == llm.ClassYield || class == llm.ClassPassing {
			return starting(what)
		}
		return blocked("endpoint", what, fmt.Sprintf("make the Inference Endpoint %s/%s run, then retry", e.Namespace, e.Name))
	}
	if model != "" && llm.ClassOf(err) == llm.ClassNotFound {
		return blocked("endpoint", what, "give the right name in the spec of a new run, or have the provider offer this one, then retry")
	}
	return blocked("endpoint", what, "make "+r.Settings.Providers[provider].URL+" answer for the workers, then retry")
}

// endpointLook is the time between two looks at an Inference Endpoint that starts.
const endpointLook = 15 * time.Second

// starting has a preflight look again: an Inference Endpoint that was scaled to zero takes minutes, and no person.
func starting(err error) error {
	return temporal.NewApplicationErrorWithOptions(err.Error(), "InferenceEndpointStarts", temporal.ApplicationErrorOptions{
		Cause: err, NextRetryDelay: endpointLook,
	})
}
