// Package servetest holds every server of trained models to the promises of serve.Server.
package servetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// ExerciseAlone is Exercise with an outside world of its own for every case: world makes one and returns what makes servers
// over it, for servers that take only so many models at once.
func ExerciseAlone(t *testing.T, provider string, world func(t *testing.T) func(t *testing.T) serve.Server, model func(n int) serve.Trained) {
	t.Helper()
	exercise(t, provider, world, model)
}

// Exercise runs the conformance suite. fresh returns a fresh value over the same outside world; provider is what
// its references name; model returns the n-th of several models that can be deployed there.
func Exercise(t *testing.T, provider string, fresh func(t *testing.T) serve.Server, model func(n int) serve.Trained) {
	t.Helper()
	exercise(t, provider, func(*testing.T) func(t *testing.T) serve.Server { return fresh }, model)
}

func exercise(t *testing.T, provider string, world func(t *testing.T) func(t *testing.T) serve.Server, model func(n int) serve.Trained) {
	t.Helper()
	t.Run("deploying twice is one model", func(t *testing.T) {
		t.Parallel()
		fresh := world(t)
		first, err := fresh(t).Deploy(t.Context(), model(1))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(first.Provider, provider) || first.Name == "" || first.Revision != model(1).Revision() {
			t.Errorf("%+v", first)
		}
		if again, err := fresh(t).Deploy(t.Context(), model(1)); err != nil || again != first {
			t.Errorf("%+v, %v; first %+v", again, err, first)
		}
	})
	t.Run("other models are told apart", func(t *testing.T) {
		t.Parallel()
		fresh := world(t)
		s, seen := fresh(t), map[dataset.ModelRef]bool{}
		for n := range 3 {
			ref, err := s.Deploy(t.Context(), model(n))
			if err != nil || seen[ref] {
				t.Errorf("%+v, %v", ref, err)
			}
			seen[ref] = true
		}
	})
	t.Run("a retrained model is another one under whatever name", func(t *testing.T) {
		t.Parallel()
		fresh := world(t)
		retrained := model(1)
		retrained.TrainingDigest = "0123456789abcdef0123456789abcdef"
		s := fresh(t)
		was, err := s.Deploy(t.Context(), model(1))
		if err != nil {
			t.Fatal(err)
		}
		if now, err := s.Deploy(t.Context(), retrained); err != nil || now.Revision == was.Revision {
			t.Errorf("%+v, %v; was %+v", now, err, was)
		}
	})
	t.Run("teardown is idempotent", func(t *testing.T) { // before the parallel ones, which deploy the same model in the same world
		fresh := world(t)
		s := fresh(t)
		if _, err := s.Deploy(t.Context(), model(2)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := fresh(t).Teardown(t.Context(), model(2)); err != nil {
				t.Error(err)
			}
		}
		never := model(1)
		never.Run, never.TrainingDigest = "never-deployed", "fedcba9876543210"
		if err := s.Teardown(t.Context(), never); err != nil {
			t.Error(err)
		}
	})
	t.Run("what makes no sense is refused", func(t *testing.T) {
		t.Parallel()
		fresh := world(t)
		for name, spoil := range map[string]func(*serve.Trained){
			"no run":          func(m *serve.Trained) { m.Run = "" },
			"no model":        func(m *serve.Trained) { m.Model = " " },
			"no digest":       func(m *serve.Trained) { m.TrainingDigest = "" },
			"iteration below": func(m *serve.Trained) { m.Iteration = -1 },
			"role":            func(m *serve.Trained) { m.Role = "sideways" },
		} {
			m := model(1)
			spoil(&m)
			if ref, err := fresh(t).Deploy(t.Context(), m); err == nil {
				t.Errorf("%s: %+v", name, ref)
			}
		}
	})
	t.Run("a context that is over stops a call", func(t *testing.T) {
		t.Parallel()
		fresh := world(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := fresh(t).Deploy(ctx, model(1)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
