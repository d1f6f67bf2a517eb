package main

import (
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/config"
)

// warnOfKeys tells of providers whose key is not in the environment: a worker without it serves all other runs, and one that
// needs it blocks, which may be long after the worker was started.
func warnOfKeys(settings config.Worker, log *slog.Logger) {
	var names []string
	for name := range settings.Providers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if env := settings.Providers[name].KeyEnv; env != "" && strings.TrimSpace(os.Getenv(env)) == "" {
			log.Warn("the environment variable with a provider's key is not set. Try: export it and start the worker again", "provider", name, "variable", env)
		}
	}
}
