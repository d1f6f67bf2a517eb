// Package openai serves models that the trainer's provider serves by itself: they answer under the job's name for
// them as soon as they are trained.
package openai

import (
	"context"
	"errors"
	"fmt"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// Server implements serve.Server.
type Server struct{ provider string }

var _ serve.Server = Server{}

// New returns a server whose models answer at the named provider of the worker's settings.
func New(provider string) (Server, error) {
	if provider == "" {
		return Server{}, errors.New("openai server: no provider")
	}
	return Server{provider}, nil
}

// Deploy implements serve.Server. There is nothing to do.
func (s Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	return dataset.ModelRef{Provider: s.provider, Name: m.Model, Revision: m.Revision()}, nil
}

// Teardown implements serve.Server. The provider keeps the model, which costs nothing until it is asked.
func (s Server) Teardown(context.Context, serve.Trained) error { return nil }
