// Package static serves models that somebody else deploys: their names follow a fixed pattern.
package static

import (
	"context"
	"errors"
	"fmt"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// Server implements serve.Server.
type Server struct {
	provider string
	pattern  serve.Pattern
}

var _ serve.Server = Server{}

// New returns a server whose models answer at the provider under names made by the pattern. A pattern without fields is one
// name for all models, told apart by their revisions.
func New(provider, pattern string) (Server, error) {
	if provider == "" {
		return Server{}, errors.New("static server: no provider")
	}
	if err := serve.Pattern(pattern).Check(); err != nil {
		return Server{}, fmt.Errorf("static server: %w", err)
	}
	return Server{provider, serve.Pattern(pattern)}, nil
}

// Deploy implements serve.Server: it names the model. Smoke tells whether somebody has deployed it.
func (s Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	return dataset.ModelRef{Provider: s.provider, Name: s.pattern.Name(m), Revision: m.Revision()}, nil
}

// Teardown implements serve.Server. Whoever deployed the model takes it away.
func (s Server) Teardown(context.Context, serve.Trained) error { return nil }
