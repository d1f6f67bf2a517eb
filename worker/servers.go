package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/command"
	"github.com/selfalign/selfalign/internal/serve/ollama"
	serveopenai "github.com/selfalign/selfalign/internal/serve/openai"
	"github.com/selfalign/selfalign/internal/serve/static"
	"github.com/selfalign/selfalign/internal/serve/vllm"
	"github.com/selfalign/selfalign/workflows"
)

// watchEvery is the time between two looks at the programs that serve models.
const watchEvery = 5 * time.Second

// serverOf makes what a server of the settings describes. Those that load or start models name the queue of the workers that
// can do so: all with the role control, or, where programs run, this machine's own.
func serverOf(ctx context.Context, settings config.Worker, name string, s config.Server, host string, store *blob.Store, log *slog.Logger) (out activities.Server, err error) {
	p := settings.Providers[s.Provider]
	out = activities.Server{Queue: workflows.QueueName(settings.Temporal.Queue, workflows.RoleControl), Differs: s.Differs}
	pattern := serve.Pattern(s.Pattern())
	switch s.Backend {
	case config.BackendStatic:
		out.Queue = ""
		out.Server, err = static.New(s.Provider, s.Model)
	case config.BackendVLLM:
		urls := s.URLs
		if len(urls) == 0 {
			urls = []string{p.URL}
		}
		out.Server, err = vllm.New(vllm.Config{Provider: s.Provider, URLs: urls, Key: keyOf(p), Model: pattern, Dir: s.Dir, SeenAs: s.SeenAs}, store)
	case config.BackendOllama:
		out.Server, err = ollama.New(ollama.Config{
			Provider: s.Provider, URL: p.URL, Key: keyOf(p), Model: pattern, From: s.From, Quantize: s.Quantize,
		}, store)
	case config.BackendCommand:
		out.Queue = hostQueue(settings, host)
		var slots []command.Slot
		for _, provider := range s.Providers() {
			slots = append(slots, command.Slot{Provider: provider, URL: settings.Providers[provider].URL})
		}
		var programs *command.Server
		programs, err = command.New(command.Config{
			Name: name, Command: s.Command, Dir: s.Dir, Env: s.Env, Slots: slots, Model: pattern, Health: s.Health, Start: time.Duration(s.StartTimeout),
		}, store)
		if err == nil && slices.Contains(settings.Process.Queues, workflows.RoleTrain) {
			go programs.Watch(ctx, watchEvery, func(model string, err error) {
				log.Warn("started the program of a model again", "server", name, "model", model, "error", err)
			})
		}
		out.Server = programs
	default:
		out.Queue = ""
		out.Server, err = serveopenai.New(s.Provider)
	}
	return out, err
}
