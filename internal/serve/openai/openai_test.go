package openai

import (
	"fmt"
	"testing"

	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/servetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	servetest.Exercise(t, "acme", func(t *testing.T) serve.Server {
		s, err := New("acme")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, func(n int) serve.Trained {
		return serve.Trained{Run: "demo", Iteration: n, Model: fmt.Sprintf("ft:%d", n), TrainingDigest: fmt.Sprintf("%032d", n)}
	})
}

func TestNewWantsAProvider(t *testing.T) {
	t.Parallel()
	if _, err := New(""); err == nil {
		t.Error("no provider passes")
	}
}
