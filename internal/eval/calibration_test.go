package eval_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/eval"
)

func TestCalibrate(t *testing.T) {
	t.Parallel()
	got := eval.Calibrate([]float64{5, 4.5, 4, 2}, []float64{5, 1, 2}, 5, 3, 4.5)
	want := eval.Calibration{
		Positives: 5, Negatives: 3, Rated: 7, Threshold: 4.5, TruePositives: 2, FalsePositives: 1,
		Precision: 2.0 / 3, Recall: 2.0 / 5, MeanPositive: 15.5 / 4, MeanNegative: 8.0 / 3, AUC: (2.5 + 2 + 2 + 1.5) / 12,
	}
	if math.Abs(got.AUC-want.AUC) < 1e-12 {
		got.AUC = want.AUC
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := eval.Calibrate(nil, nil, 0, 0, 4.5); got != (eval.Calibration{Threshold: 4.5, AUC: 0.5}) {
		t.Errorf("of nothing: %+v", got)
	}
	if got := eval.Calibrate(nil, []float64{5}, 4, 4, 4.5); got.Recall != 0 || got.Precision != 0 || got.AUC != 0.5 {
		t.Errorf("nothing readable among the good: %+v", got)
	}
}

func TestAUCIsAShareOfPairs(t *testing.T) {
	t.Parallel()
	scores := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.IntRange(2, 10).Draw(t, "n")) / 2 }), 1, 12)
	rapid.Check(t, func(t *rapid.T) {
		good, bad := scores.Draw(t, "good"), scores.Draw(t, "bad")
		want := 0.0
		for _, g := range good {
			for _, b := range bad {
				switch {
				case g > b:
					want++
				case g == b:
					want += 0.5
				}
			}
		}
		want /= float64(len(good) * len(bad))
		got := eval.AUC(good, bad)
		if math.Abs(got-want) > 1e-9 || math.Abs(got+eval.AUC(bad, good)-1) > 1e-9 {
			t.Fatalf("AUC of %v and %v is %v, want %v", good, bad, got, want)
		}
	})
}
