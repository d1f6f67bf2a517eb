package eval_test

import (
	"math"
	"slices"
	"testing"

	"github.com/selfalign/selfalign/internal/eval"
)

func TestCompareJudges(t *testing.T) {
	t.Parallel()
	var items []eval.Opinion
	add := func(n int, o eval.Opinion) {
		for range n {
			items = append(items, o)
		}
	}
	add(20, eval.Opinion{A: "model", B: "model"})
	add(5, eval.Opinion{A: "model", B: "baseline", ContradictsB: true})
	add(10, eval.Opinion{A: "baseline", B: "model", ContradictsA: true, ContradictsB: true})
	add(15, eval.Opinion{A: "baseline", B: "baseline"})
	j := eval.CompareJudges(items, 0) // the textbook case of kappa: 0.7 agreed, 0.5 expected
	if j.N != 50 || math.Abs(j.Agreed-0.7) > 1e-9 || math.Abs(j.Expected-0.5) > 1e-9 || math.Abs(j.Kappa-0.4) > 1e-9 {
		t.Errorf("%+v", j.Agreement)
	}
	if !slices.Equal(j.Words, []string{"baseline", "model"}) || j.Table[0][1] != 10 || j.Table[1][0] != 5 || j.Table[1][1] != 20 {
		t.Errorf("table %v %v", j.Words, j.Table)
	}
	if j.ContradictsA != 10 || j.ContradictsB != 15 || j.ContradictsBoth != 10 || j.Order != nil || len(j.Examples) != 5 {
		t.Errorf("%+v", j)
	}
	r := eval.CompareJudges([]eval.Opinion{
		{ID: "1", A: "5", B: "4", ScoreA: 5, ScoreB: 4}, {ID: "2", A: "1", B: "5", ScoreA: 1, ScoreB: 5}, {ID: "3", A: "2", B: "2", ScoreA: 2, ScoreB: 2},
	}, 4.5)
	if r.Selected == nil || math.Abs(r.Selected.Agreed-1.0/3) > 1e-9 || r.Order == nil || math.Abs(*r.Order-1.0/3) > 1e-9 || r.Examples[0].ID != "2" || r.MeanB != 11.0/3 {
		t.Errorf("%+v", r)
	}
	if e := eval.CompareJudges(nil, 4.5); e.N != 0 || e.Selected != nil {
		t.Errorf("of nothing: %+v", e)
	}
}
