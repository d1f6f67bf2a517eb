package serve

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSmokeWaitsUntilTheModelAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		replies := []string{"", " \n", "!", "a pan"}
		asked := 0
		err := Smoke(t.Context(), func(_ context.Context, prompt string) (string, error) {
			if prompt == "" {
				t.Error("asked nothing")
			}
			defer func() { asked++ }()
			if replies[asked] == "!" {
				return "", errors.New("loading")
			}
			return replies[asked], nil
		})
		if err != nil || asked != 4 {
			t.Errorf("%v after %d questions", err, asked)
		}
	})
}

func TestSmokeGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cause := errors.New("model not found")
		err := Smoke(ctx, func(context.Context, string) (string, error) { return "", cause })
		if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "smoke test: ") {
			t.Error(err)
		}
	})
}

func TestSmokeStopsAtAFinalError(t *testing.T) {
	t.Parallel()
	cause := errors.New("key refused")
	err := Smoke(t.Context(), func(context.Context, string) (string, error) { return "", Final(cause) })
	if !errors.Is(err, cause) {
		t.Error(err)
	}
}

func TestValidateNamesEverythingMissing(t *testing.T) {
	t.Parallel()
	err := Trained{}.Validate()
	for _, word := range []string{"no run", "no model", "no training digest"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %s", err, word)
		}
	}
}
