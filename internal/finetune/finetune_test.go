package finetune

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestPaperHyperMeetsThePublishedTable(t *testing.T) {
	t.Parallel()
	for _, row := range published {
		h := PaperHyper(int64(row.examples))
		if h.BatchSize != row.batch || h.Steps != row.steps {
			t.Errorf("%d examples: batch %d, steps %d; the paper has %d and %d", row.examples, h.BatchSize, h.Steps, row.batch, row.steps)
		}
		if h.LearningRate != 1e-5 || h.LearningRateEnd != 9e-6 || h.WeightDecay != 0.1 || h.Dropout != 0.1 {
			t.Errorf("%d examples: %+v", row.examples, h)
		}
	}
}

func TestPaperHyperBetweenAndBeyondRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n            int64
		batch, steps int
	}{
		{-1, 8, 1}, {0, 8, 1}, {1, 8, 1}, {10, 8, 3}, {50, 8, 15}, {2999, 8, 1800}, {3000, 32, 451}, {102400, 32, 3200},
	} {
		h := PaperHyper(c.n)
		if h.BatchSize != c.batch || math.Abs(float64(h.Steps-c.steps)) > 0.03*float64(c.steps) {
			t.Errorf("%d examples: batch %d, steps %d; want %d and about %d", c.n, h.BatchSize, h.Steps, c.batch, c.steps)
		}
	}
}

func TestPaperHyperIsSaneEverywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 10_000_000).Draw(t, "n")
		h := PaperHyper(n)
		if h.Steps < 1 || h.Epochs <= 0 {
			t.Fatalf("%d examples: %+v", n, h)
		}
		if n >= 100 && (h.Epochs < 0.9 || h.Epochs > 5.1) {
			t.Fatalf("%d examples: %.2f passes", n, h.Epochs)
		}
		if next := PaperHyper(n + 1); next.BatchSize == h.BatchSize && next.Steps+1 < h.Steps && n > 13000 {
			t.Fatalf("more examples, fewer steps: %d → %d at %d", h.Steps, next.Steps, n)
		}
	})
}

func TestOverrideKeepsStepsAndEpochsConsistent(t *testing.T) {
	t.Parallel()
	paper := PaperHyper(3200)
	if got := paper.Override(Hyper{}); got != paper {
		t.Errorf("an empty override changed %+v to %+v", paper, got)
	}
	if got := paper.Override(Hyper{Epochs: 2}); got.Steps != 0 || got.Epochs != 2 {
		t.Errorf("epochs 2: %+v", got)
	}
	if got := paper.Override(Hyper{Steps: 7}); got.Steps != 7 || got.Epochs != 0 {
		t.Errorf("steps 7: %+v", got)
	}
	if got := paper.Override(Hyper{BatchSize: 4}); got.Steps != 0 || got.Epochs != paper.Epochs || got.BatchSize != 4 {
		t.Errorf("batch 4: %+v", got)
	}
	if got := paper.Override(Hyper{LearningRate: 1e-6}); got.LearningRateEnd != 1e-6 {
		t.Errorf("the rate rises from %g to %g", got.LearningRate, got.LearningRateEnd)
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		n := NameOf(a)
		if len(n) > 64 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || n[0] == '-' {
			t.Fatalf("NameOf(%q) = %q", a, n)
		}
		if (a == b) != (n == NameOf(b)) {
			t.Fatalf("names of %q and %q", a, b)
		}
	})
	if got := NameOf("demo/M_1"); !strings.HasPrefix(got, "demo-m-1-") {
		t.Errorf("not readable: %q", got)
	}
}

func TestValidateNamesEverythingMissing(t *testing.T) {
	t.Parallel()
	err := Job{}.Validate()
	if ClassOf(err) != ClassPermanent {
		t.Fatalf("class of %v", err)
	}
	for _, word := range []string{"key", "base model", "training file"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
	if err := (Job{Key: strings.Repeat("k", MaxKey+1), BaseModel: "b", Training: "t"}).Validate(); err == nil {
		t.Error("a key over the limit passes")
	}
	if err := (Job{Key: "k", BaseModel: "b", Training: "t"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestClipKeepsTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 3*MaxMessage).Draw(t, "s"))
		got := Clip(s + "the end")
		if len(got) > MaxMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, "the end") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
	})
	if got := Clip("a\x00b\x1b[31mc\n"); strings.ContainsAny(got, "\x00\x1b") {
		t.Errorf("control characters stay: %q", got)
	}
}

func TestClassOfSeesThroughWrapping(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("submit x: %w", &Error{Class: ClassAuth, Status: 401, Message: "no", Err: errors.New("cause")})
	if ClassOf(err) != ClassAuth || ClassOf(errors.New("x")) != "" || ClassOf(nil) != "" {
		t.Error("class lost")
	}
	if got := err.Error(); got != "submit x: auth, status 401: no: cause" {
		t.Error(got)
	}
}
