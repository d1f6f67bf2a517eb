// Package static serves models that somebody else deploys: their names follow a fixed pattern.
package static

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// Server implements serve.Server.
type Server struct{ provider, pattern string }

var _ serve.Server = Server{}

var field = regexp.MustCompile(`\{[^{}]*\}`)

// New returns a server whose models answer at the provider under names made by the pattern, in which stand
//
//	{run}        the run's name
//	{iteration}  0 for M_0, 1 for M_1, …
//	{role}       forward, or backward for M_yx
//	{model}      the name that the trainer gave the model
//	{digest}     the first 12 characters of the training set's digest
//
// A pattern without fields is one name for all models, told apart by their revisions.
func New(provider, pattern string) (Server, error) {
	if provider == "" {
		return Server{}, errors.New("static server: no provider")
	}
	if strings.TrimSpace(pattern) == "" {
		return Server{}, errors.New("static server: no model name")
	}
	for _, f := range field.FindAllString(pattern, -1) {
		switch f {
		case "{run}", "{iteration}", "{role}", "{model}", "{digest}":
		default:
			return Server{}, fmt.Errorf("static server: model name %q: unknown field %s (Try: {run}, {iteration}, {role}, {model}, {digest})", pattern, f)
		}
	}
	return Server{provider, pattern}, nil
}

// Deploy implements serve.Server: it names the model. Smoke tells whether somebody has deployed it.
func (s Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	role := m.Role
	if role == "" {
		role = serve.RoleForward
	}
	name := strings.NewReplacer(
		"{run}", m.Run, "{iteration}", strconv.Itoa(m.Iteration), "{role}", role, "{model}", m.Model,
		"{digest}", m.TrainingDigest[:min(12, len(m.TrainingDigest))],
	).Replace(s.pattern)
	return dataset.ModelRef{Provider: s.provider, Name: name, Revision: m.Revision()}, nil
}

// Teardown implements serve.Server. Whoever deployed the model takes it away.
func (s Server) Teardown(context.Context, dataset.ModelRef) error { return nil }
