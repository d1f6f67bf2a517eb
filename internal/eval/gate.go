package eval

import "fmt"

// Policies of a gate.
const (
	PolicyContinue = "continue"
	PolicyStop     = "stop"
	PolicyRollback = "rollback"
	PolicyAsk      = "ask"
)

// Decide applies a gate's policy to the win rate of a new model against the one before. The new model is better when the whole
// 95 % interval lies above one half; else the win rate has reached its plateau, or fell.
func Decide(policy string, r Result) Verdict {
	v := Verdict{Result: r, Policy: policy, Decision: GoOn, Better: r.Low > Draw}
	share := fmt.Sprintf("%s wins %.1f %% against %s (95 %% interval %.1f to %.1f, n %d)", r.Model, 100*r.Rate, r.Baseline, 100*r.Low, 100*r.High, r.N)
	switch {
	case r.N == 0:
		v.Reason = "nothing could be compared, so nothing is known"
	case v.Better:
		v.Reason = share + ": it is better"
		return v
	case r.High < Draw:
		v.Reason = share + ": it is worse"
	default:
		v.Reason = share + ": no difference that is certain"
	}
	switch policy {
	case PolicyStop:
		v.Decision = End
	case PolicyRollback:
		v.Decision = End
		if r.N > 0 && r.Rate < Draw {
			v.Decision = RollBack
			v.Reason += "; " + r.Baseline + " is the result"
		}
	case PolicyAsk:
		v.Decision = AskFor
	}
	return v
}
