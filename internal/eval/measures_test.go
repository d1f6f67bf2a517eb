package eval_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/eval"
)

func TestAgree(t *testing.T) {
	t.Parallel()
	// Cohen's own kind of table: 20 yes–yes, 5 yes–no, 10 no–yes, 15 no–no gives κ = 0.4.
	var a, b []string
	for _, c := range []struct {
		a, b string
		n    int
	}{{"yes", "yes", 20}, {"yes", "no", 5}, {"no", "yes", 10}, {"no", "no", 15}} {
		for range c.n {
			a, b = append(a, c.a), append(b, c.b)
		}
	}
	got := eval.Agree(a, b)
	near(t, "agreed", got.Agreed, 0.7, 1e-12)
	near(t, "expected", got.Expected, 0.5, 1e-12)
	near(t, "kappa", got.Kappa, 0.4, 1e-12)
	if same := eval.Agree([]int{1, 1}, []int{1, 1}); same.Kappa != 0 || same.Agreed != 1 {
		t.Errorf("one word alone tells nothing: %+v", same)
	}
	if none := eval.Agree[int](nil, nil); none != (eval.Agreement{}) {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestAgreeIsSymmetric(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		list := rapid.SliceOfN(rapid.IntRange(1, 3), n, n)
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		x, y := eval.Agree(a, b), eval.Agree(b, a)
		if math.Abs(x.Kappa-y.Kappa) > 1e-9 || x.Kappa > 1+1e-9 || x.Kappa < -1-1e-9 {
			t.Fatalf("%+v and %+v", x, y)
		}
	})
}

func TestPairwiseAgreement(t *testing.T) {
	t.Parallel()
	// Pairs that people order: (1,2) right, (1,3) level, (2,3) wrong; the fourth is level with the third for people.
	got, ok := eval.PairwiseAgreement([]float64{1, 4, 1, 5}, []float64{1, 2, 3, 3})
	if !ok {
		t.Fatal("nothing to compare")
	}
	near(t, "share", got, (1+0.5+0+1+1)/5.0, 1e-12)
	if _, ok := eval.PairwiseAgreement([]float64{1, 2}, []float64{3, 3}); ok {
		t.Error("people put nothing into an order")
	}
}

func TestFitScaling(t *testing.T) {
	t.Parallel()
	var exact []eval.Point
	for _, n := range []int64{100, 800, 1600, 3200} {
		exact = append(exact, eval.Point{N: n, Rate: (6.95*math.Log(float64(n)) - 10) / 100})
	}
	s, err := eval.FitScaling(exact)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "α", s.Alpha, 6.95, 1e-9)
	near(t, "C", s.C, -10, 1e-9)
	near(t, "R²", s.R2, 1, 1e-9)
	near(t, "per doubling", s.PerDoubling, 6.95*math.Ln2, 1e-9)
	near(t, "width", s.High-s.Low, 0, 1e-5)
	hand, err := eval.FitScaling([]eval.Point{{1, 0}, {3, 0}, {9, 0}})
	if err != nil || hand.Alpha != 0 || hand.R2 != 0 {
		t.Errorf("a level line: %+v, %v", hand, err)
	}
	two, err := eval.FitScaling([]eval.Point{{100, 0.3}, {1000, 0.4}})
	if err != nil || two.Known {
		t.Errorf("two points: %+v, %v", two, err)
	}
	near(t, "per tenfold", two.PerTenfold, 10, 1e-9)
	for _, few := range [][]eval.Point{nil, {{5, 0.1}}, {{5, 0.1}, {5, 0.2}}} {
		if _, err := eval.FitScaling(few); !errors.Is(err, eval.ErrTooFewPoints) {
			t.Errorf("%v: %v", few, err)
		}
	}
	if _, err := eval.FitScaling([]eval.Point{{0, 0}, {1, 1}}); err == nil {
		t.Error("a size of 0 was fitted")
	}
}

// TestScalingHoldsTheTruth has lines with noise: the 95 % interval must hold the true slope in about 95 % of cases.
func TestScalingHoldsTheTruth(t *testing.T) {
	t.Parallel()
	held, all := 0, 2000
	next := noise()
	for range all {
		var points []eval.Point
		for _, n := range []int64{100, 200, 400, 800, 1600} {
			points = append(points, eval.Point{N: n, Rate: (5*math.Log(float64(n)) + 2*next()) / 100})
		}
		s, err := eval.FitScaling(points)
		if err != nil {
			t.Fatal(err)
		}
		if s.Low <= 5 && 5 <= s.High {
			held++
		}
	}
	if share := float64(held) / float64(all); share < 0.93 || share > 0.97 {
		t.Errorf("the interval held the slope in %.1f %% of cases", 100*share)
	}
}

// noise returns standard normal numbers, always the same.
func noise() func() float64 {
	state := uint64(1)
	uniform := func() float64 {
		state = state*6364136223846793005 + 1442695040888963407
		return (float64(state>>11) + 0.5) / (1 << 53)
	}
	return func() float64 { return math.Sqrt(-2*math.Log(uniform())) * math.Cos(2*math.Pi*uniform()) }
}

func TestSelect(t *testing.T) {
	t.Parallel()
	set := []eval.Labelled{
		{Good: true, Rated: true, Score: 5},
		{Good: true, Rated: true, Score: 4.5},
		{Good: true, Rated: true, Score: 3},
		{Good: true},
		{Rated: true, Score: 5},
		{Rated: true, Score: 1},
		{Rated: true, Score: 2},
		{},
	}
	s := eval.Select(set, 4.5)
	if s.N != 8 || s.Good != 4 || s.Rated != 6 || s.Selected != 3 || s.True != 2 {
		t.Errorf("counts %+v", s)
	}
	near(t, "precision", s.Precision.Value, 2.0/3, 1e-12)
	near(t, "recall", s.Recall.Value, 0.5, 1e-12)
	near(t, "F1", s.F1.Value, 4.0/7, 1e-12)
	near(t, "Wilson's low of 2 of 4", s.Recall.Low, 0.1500, 1e-3)
	near(t, "Wilson's high of 2 of 4", s.Recall.High, 0.8500, 1e-3)
	near(t, "AUC", s.AUC, (2.5+2+2)/9, 1e-12)
	near(t, "agreed", s.Agreement.Agreed, 5.0/8, 1e-12)
	if s.F1.Low > s.F1.Value || s.F1.High < s.F1.Value {
		t.Errorf("F1 %+v", s.F1)
	}
	empty := eval.Select(nil, 4)
	if empty.Precision.High != 1 || empty.F1.Value != 0 {
		t.Errorf("of nothing: %+v", empty)
	}
}

func TestSimilarity(t *testing.T) {
	t.Parallel()
	near(t, "half", eval.Similarity(2, 1, 1), 0.5, 1e-9)
	near(t, "of nothing", eval.Similarity(0, 0, 0), 1, 1e-9)
	near(t, "disjoint", eval.Similarity(0, 3, 4), 0, 1e-9)
}
