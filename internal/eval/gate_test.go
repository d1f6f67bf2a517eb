package eval_test

import (
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/eval"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	rate := func(rate, low, high float64) eval.Result {
		return eval.Result{Model: "M2", Baseline: "M1", WinRate: eval.WinRate{N: 100, Rate: rate, Low: low, High: high}}
	}
	better, plateau, slightly, worse, none := rate(0.7, 0.6, 0.8), rate(0.52, 0.42, 0.6), rate(0.48, 0.4, 0.56), rate(0.3, 0.2, 0.4), eval.Result{}
	for _, c := range []struct {
		policy string
		r      eval.Result
		want   string
	}{
		{eval.PolicyContinue, worse, eval.GoOn},
		{eval.PolicyContinue, none, eval.GoOn},
		{eval.PolicyStop, better, eval.GoOn},
		{eval.PolicyStop, plateau, eval.End},
		{eval.PolicyStop, worse, eval.End},
		{eval.PolicyRollback, better, eval.GoOn},
		{eval.PolicyRollback, plateau, eval.End},
		{eval.PolicyRollback, slightly, eval.RollBack},
		{eval.PolicyRollback, worse, eval.RollBack},
		{eval.PolicyRollback, none, eval.End},
		{eval.PolicyAsk, better, eval.GoOn},
		{eval.PolicyAsk, plateau, eval.AskFor},
		{eval.PolicyAsk, rate(0.5, 0.5, 0.5), eval.AskFor},
	} {
		v := eval.Decide(c.policy, c.r)
		if v.Decision != c.want || v.Reason == "" || v.Better != (c.r.Low > 0.5) {
			t.Errorf("%s at %.2f: %s (%s), want %s", c.policy, c.r.Rate, v.Decision, v.Reason, c.want)
		}
		if (c.want == eval.RollBack) != strings.Contains(v.Reason, "is the result") {
			t.Errorf("reason %q", v.Reason)
		}
	}
}
