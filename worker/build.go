package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/finetune/kubernetes"
	"github.com/selfalign/selfalign/internal/finetune/openai"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/sagemaker"
	"github.com/selfalign/selfalign/internal/finetune/slurm"
	"github.com/selfalign/selfalign/internal/finetune/together"
	"github.com/selfalign/selfalign/internal/finetune/webhook"
	"github.com/selfalign/selfalign/internal/hfendpoint"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/origin"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/internal/tokenizer"
	"github.com/selfalign/selfalign/workflows"
)

// batchWait is how long a partition keeps its place in the worker for a batch that it has sent. A batch that takes longer
// is looked at by short visits, so that a few places do for any number of batches.
const batchWait = 20 * time.Second

// parts are the activities of this worker, each with its dependencies.
type parts struct {
	store    *blob.Store
	stages   *activities.Stages
	sets     *activities.Sets
	sources  *activities.Sources
	evals    *activities.Evals
	near     *activities.NearDuplicates
	trainers *activities.Trainers
	runs     *activities.Runs
	publish  *activities.Publishing
}

// register serves what belongs to a role.
func (p *parts) register(w worker.Worker, role string) {
	switch role {
	case workflows.RoleControl:
		workflows.Register(w)
		w.RegisterActivity(p.sets)
		w.RegisterActivity(p.sources)
		w.RegisterActivity(p.near)
		w.RegisterActivity(p.trainers)
		w.RegisterActivity(p.runs)
		w.RegisterActivity(p.evals)
	case workflows.RoleLLM:
		w.RegisterActivity(p.stages)
	case workflows.RoleCPU:
		w.RegisterActivity(p.sets)
		w.RegisterActivity(p.sources)
		w.RegisterActivity(p.near)
		w.RegisterActivity(p.runs)
		w.RegisterActivity(p.publish)
		w.RegisterActivity(p.evals)
	case workflows.RoleTrain:
		w.RegisterActivity(p.trainers)
	}
}

// build makes the dependencies that the settings describe.
func build(ctx context.Context, settings config.Worker, host string, log *slog.Logger) (*parts, error) {
	storeConfig := blob.Config(settings.Store)
	store, err := blob.Open(ctx, storeConfig)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	datasets, err := hub.Connect(settings.Hub.Endpoint, settings.Hub.TokenEnv, log)
	if err != nil {
		return nil, err
	}
	templates := &stage.Templates{Find: activities.TemplatesOf(settings.Providers, &tokenizer.Shelf{Store: store, Hub: datasets})}
	providers, err := providersOf(settings, templates.Find)
	if err != nil {
		return nil, err
	}
	models := llm.NewPool(providers)
	trainers := &activities.Trainers{Trainers: map[string]activities.Trainer{}, Servers: map[string]activities.Server{}, Models: models, Store: store}
	for name, t := range settings.Trainers {
		rate := finetune.Rate{USDPerHour: t.InstanceHour, TokensPerSecond: t.TokensPerSecond}
		trainer := activities.Trainer{Poll: time.Duration(t.Poll), Queue: workflows.QueueName(settings.Temporal.Queue, workflows.RoleTrain)}
		switch t.Backend {
		case config.BackendCommand:
			trainer.Queue, trainer.Host, trainer.HostTimeout = hostQueue(settings, host), host, time.Duration(t.HostTimeout)
			trainer.Backend, err = command.New(command.Config{Name: name, Command: t.Command, Dir: t.Dir, Env: t.Env, Keep: t.Keep, Rate: rate}, store)
		case config.BackendSlurm:
			trainer.Backend, err = slurm.New(slurm.Config{Name: name, Template: t.Template, Dir: t.Dir, Env: t.Env, Keep: t.Keep, Rate: rate}, store)
		case config.BackendKubernetes:
			trainer.Backend, err = kubernetes.New(kubernetes.Config{Template: t.Template, Kubeconfig: t.Kubeconfig, Namespace: t.Namespace, Keep: t.Keep, Rate: rate}, store)
		case config.BackendSageMaker:
			trainer.Backend, err = sagemaker.New(ctx, sagemaker.Config{Template: t.Template, Region: t.Region, URL: t.URL, InstanceHour: t.InstanceHour, Keep: t.Keep}, store)
		case config.BackendHTTP:
			trainer.Backend, err = webhook.New(webhook.Config{Config: rest.Config{URL: t.URL}, Secret: envOf(t.SecretEnv), Keep: t.Keep}, store)
		case config.BackendTogether:
			p := settings.Providers[t.Provider]
			trainer.Backend, err = together.New(together.Config{
				Config: rest.Config{URL: p.URL, Key: keyOf(p)}, Price: trainingPrices(p), LoRA: t.LoRA, Keep: t.Keep,
			}, store)
		default:
			p := settings.Providers[t.Provider]
			trainer.Backend, err = openai.New(openai.Config{
				Config: rest.Config{URL: p.URL, Key: keyOf(p)}, Price: trainingPrices(p), Keep: t.Keep,
			}, store)
		}
		if err != nil {
			return nil, fmt.Errorf("trainer %s: %w", name, err)
		}
		trainers.Trainers[name] = trainer
	}
	if base := strings.TrimRight(settings.Callbacks.URL, "/"); base != "" {
		trainers.Callback = func(trainer, workflow string) string {
			if settings.Trainers[trainer].Backend != config.BackendHTTP {
				return ""
			}
			return base + webhook.CallbackPath(trainer, workflow)
		}
	}
	for name, s := range settings.Servers {
		trainers.Servers[name], err = serverOf(ctx, settings, name, s, host, store, log)
		if err != nil {
			return nil, fmt.Errorf("server %s: %w", name, err)
		}
	}
	elsewhere := func(ctx context.Context, bucket string) (*blob.Store, error) {
		c := storeConfig
		c.Bucket, c.Prefix = bucket, ""
		return blob.Open(ctx, c)
	}
	web := origin.NewWeb(origin.WebOptions{Allowed: settings.Sources.Allows})
	sources := &activities.Sources{Store: store, Bucket: elsewhere, Hub: datasets, Web: web, PathsBase: settings.Sources.PathsBase}
	return &parts{
		store:    store,
		publish:  &activities.Publishing{Store: store, Hub: datasets, Bucket: elsewhere},
		stages:   &activities.Stages{Deps: stage.Deps{Store: store, Models: models, Log: log, BatchWait: batchWait, Templates: templates, Evaluation: activities.EvaluationSets(sources)}},
		sets:     &activities.Sets{Store: store, Sources: sources},
		near:     &activities.NearDuplicates{Store: store},
		sources:  sources,
		evals:    &activities.Evals{Store: store, Sources: sources},
		trainers: trainers,
		runs:     &activities.Runs{Store: store, Models: models, Settings: settings, Templates: templates},
	}, nil
}

// providersOf reads the keys from the environment. A key that is missing is found by the preflight of a run that needs it.
func providersOf(settings config.Worker, find func(context.Context, string) (chattemplate.Source, error)) (map[string]llm.Provider, error) {
	out := map[string]llm.Provider{}
	for name, p := range settings.Providers {
		prices := map[string]llm.Price{}
		for model, price := range p.Prices {
			prices[model] = llm.Price{Input: price.Input, CachedInput: price.CachedInput, Output: price.Output, AsOf: price.AsOf}
		}
		provider := llm.Provider{
			Name: name, URL: p.URL, API: p.API, Key: llm.Secret(keyOf(p)()), Timeout: time.Duration(p.Timeout), Prices: prices,
			Batch: p.Batch, BatchDiscount: p.BatchDiscount,
			Limits: llm.Limits{
				InFlight: p.Limits.InFlight, RequestsPerMinute: p.Limits.RequestsPerMinute,
				TokensPerMinute: p.Limits.TokensPerMinute, Workers: p.Limits.Workers,
			},
		}
		if p.Tokenizer != "" {
			if _, _, remote := p.HubTokenizer(); !remote { // a wrong path shows at once; the Hub may be away
				if _, err := find(context.Background(), name); err != nil {
					return nil, fmt.Errorf("provider %s: %w", name, err)
				}
			}
			provider.Render = trialRender(name, find)
		}
		if e := p.InferenceEndpoint; e != nil {
			at := hfendpoint.Config{API: e.API, Namespace: e.Namespace, Name: e.Name, Token: keyOf(p)}
			provider.URL = at.Base()
			provider.Wrap = func(next http.RoundTripper) http.RoundTripper { return hfendpoint.New(at, next) }
		}
		out[name] = provider
	}
	return out, nil
}

// trialRender renders the questions of trials, which are in no dataset, with the template of a provider as it is when the first is asked.
func trialRender(name string, find func(context.Context, string) (chattemplate.Source, error)) func([]llm.Message) (string, error) {
	var mu sync.Mutex
	var template *chattemplate.Template
	return func(messages []llm.Message) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if template == nil {
			ctx, cancel := context.WithTimeout(context.Background(), trialPatience)
			defer cancel()
			s, err := find(ctx, name)
			var known *stage.Error
			if err != nil && !errors.As(err, &known) {
				err = &llm.Error{Class: llm.ClassPassing, Message: err.Error()}
			}
			if err != nil {
				return "", err
			}
			if template, err = chattemplate.New(s); err != nil {
				return "", err
			}
		}
		return template.Prompt(chattemplate.Turns(messages))
	}
}

// trialPatience is how long a tokenizer of the Hub is asked for while a trial waits.
const trialPatience = time.Minute

func keyOf(p config.Provider) func() string { return envOf(p.KeyEnv) }

// envOf reads an environment variable each time; "" where none is named.
func envOf(name string) func() string {
	return func() string {
		if name == "" {
			return ""
		}
		return strings.TrimSpace(os.Getenv(name))
	}
}

func trainingPrices(p config.Provider) map[string]float64 {
	out := map[string]float64{}
	for model, price := range p.Prices {
		if price.Training > 0 {
			out[model] = price.Training
		}
	}
	return out
}
