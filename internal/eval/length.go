package eval

import "math"

// Compared is one comparison: what the model's share of a win was, and how long both outputs are, in characters.
type Compared struct {
	Share         float64
	Chars         int64
	BaselineChars int64
}

// LengthControlled is what the win rate would be if both outputs were equally long, by a logistic regression of the
// preference on a constant and tanh of the difference in length over its standard deviation. This is the form that alpaca_eval
// calls length_controlled_minimal, without the terms of the leaderboard's AlpacaEval 2: the difficulty of each of its 805
// instructions, and a pull towards baselines with padded answers, which rest on data of that leaderboard. So figures are good for comparing
// models on one prompt set with one another, and are not those of the leaderboard. The fit has a slight ridge penalty in place of
// a cross-validated L1, so that it has a solution where every longer output wins.
type LengthControlled struct {
	N             int     `json:"n"`
	Rate          float64 `json:"rate"`           // share of wins at equal length, from 0 to 1
	Low           float64 `json:"low"`            // 95 % interval of Rate, from the fit's own standard error
	High          float64 `json:"high"`           //
	LengthEffect  float64 `json:"length_effect"`  // coefficient of tanh(difference/σ); above 0: longer outputs are preferred
	MeanChars     float64 `json:"mean_chars"`     // of the model's outputs
	BaselineChars float64 `json:"baseline_chars"` // mean of the baseline's
}

const (
	ridge      = 1e-2 // penalty on both coefficients
	newtonMost = 100
)

// ControlLength fits the regression; ok is false of fewer than 10 comparisons, or where all differences in length are equal.
func ControlLength(all []Compared) (l LengthControlled, ok bool) {
	n := float64(len(all))
	if len(all) < 10 {
		return LengthControlled{}, false
	}
	x := make([]float64, len(all))
	for i, c := range all {
		x[i] = float64(c.Chars - c.BaselineChars)
		l.MeanChars += float64(c.Chars) / n
		l.BaselineChars += float64(c.BaselineChars) / n
	}
	_, se := meanAndError(x)
	if se == 0 {
		return LengthControlled{}, false
	}
	for i := range x {
		x[i] = math.Tanh(x[i] / (se * math.Sqrt(n)))
	}
	a, b := 0.0, 0.0 // the constant, and the effect of length
	var haa, hab, hbb float64
	for range newtonMost {
		ga, gb := -ridge*a, -ridge*b
		haa, hab, hbb = ridge, 0, ridge
		for i, c := range all {
			p := 1 / (1 + math.Exp(-a-b*x[i]))
			ga += c.Share - p
			gb += (c.Share - p) * x[i]
			w := p * (1 - p)
			haa, hab, hbb = haa+w, hab+w*x[i], hbb+w*x[i]*x[i]
		}
		det := haa*hbb - hab*hab
		da, db := (hbb*ga-hab*gb)/det, (haa*gb-hab*ga)/det
		step := min(1, 4/max(math.Abs(da), math.Abs(db), 1e-12)) // no leap where the curve is flat
		a, b = a+step*da, b+step*db
		if math.Abs(da)+math.Abs(db) < 1e-10 {
			break
		}
	}
	spread := z95 * math.Sqrt(hbb/(haa*hbb-hab*hab))
	logistic := func(z float64) float64 { return 1 / (1 + math.Exp(-z)) }
	l.N, l.Rate, l.Low, l.High, l.LengthEffect = len(all), logistic(a), logistic(a-spread), logistic(a+spread), b
	return l, true
}
