package static

import (
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/servetest"
)

func model(n int) serve.Trained {
	return serve.Trained{Run: "demo", Iteration: n, Model: "adapter", TrainingDigest: fmt.Sprintf("%032d", n)}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"{run}-m{iteration}", "always-the-same"} {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			servetest.Exercise(t, "acme", func(t *testing.T) serve.Server {
				s, err := New("acme", pattern)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}, model)
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	back := model(0)
	back.Role, back.Run = serve.RoleBackward, "{iteration}"
	for _, c := range []struct {
		pattern string
		model   serve.Trained
		want    string
	}{
		{"{run}-m{iteration}", model(2), "demo-m2"},
		{"{role}/{model}@{digest}", back, "backward/adapter@000000000000"},
		{"{run}", back, "{iteration}"}, // what a run is called is not a pattern
		{"fixed", model(1), "fixed"},
	} {
		s, err := New("p", c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if ref, err := s.Deploy(t.Context(), c.model); err != nil || ref.Name != c.want {
			t.Errorf("%s: %+v, %v, want %s", c.pattern, ref, err, c.want)
		}
	}
}

func TestNewNamesTheUnknownField(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{"": "no model name", "{Run}": "unknown field {Run}", "a{}": "unknown field {}"} {
		if _, err := New("p", pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	if _, err := New("", "x"); err == nil {
		t.Error("no provider passes")
	}
}
