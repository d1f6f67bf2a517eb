package eval

import (
	"errors"
	"math"
)

// Point is a model trained on N examples and its win rate, a share from 0 to 1.
type Point struct {
	N    int64   `json:"n"`
	Rate float64 `json:"rate"`
}

// Scaling is the least-squares line win rate = α ln N + C, with the win rate in percentage points and the natural logarithm.
// Papers do not always say which logarithm is theirs: PerDoubling and PerTenfold say the same slope without one.
type Scaling struct {
	Points      []Point `json:"points"`
	Alpha       float64 `json:"alpha"` // percentage points for each factor of e in N
	C           float64 `json:"c"`     // percentage points at N = 1
	LogBase     string  `json:"log_base"`
	PerDoubling float64 `json:"per_doubling"` // α ln 2
	PerTenfold  float64 `json:"per_tenfold"`  // α ln 10
	R2          float64 `json:"r2"`           // share of the variance that the line explains
	// StandardError, Low and High are of Alpha; the interval is one of 95 % by Student's t with n − 2 degrees of freedom. Of two
	// points nothing is known: Known is false.
	Known         bool    `json:"known"`
	StandardError float64 `json:"standard_error"`
	Low           float64 `json:"low"`
	High          float64 `json:"high"`
}

// ErrTooFewPoints says that a line needs two sizes at least.
var ErrTooFewPoints = errors.New("a line needs points at two sizes of training set at least")

// FitScaling fits the line. Sizes must be positive.
func FitScaling(points []Point) (Scaling, error) {
	n := float64(len(points))
	var mx, my float64
	for _, p := range points {
		if p.N < 1 {
			return Scaling{}, errors.New("a size of 0 has no logarithm")
		}
		mx += math.Log(float64(p.N)) / n
		my += 100 * p.Rate / n
	}
	var sxx, sxy, syy float64
	for _, p := range points {
		x, y := math.Log(float64(p.N))-mx, 100*p.Rate-my
		sxx, sxy, syy = sxx+x*x, sxy+x*y, syy+y*y
	}
	if len(points) < 2 || sxx < 1e-12 {
		return Scaling{}, ErrTooFewPoints
	}
	s := Scaling{Points: points, Alpha: sxy / sxx, LogBase: "e"}
	s.C = my - s.Alpha*mx
	s.PerDoubling, s.PerTenfold = s.Alpha*math.Ln2, s.Alpha*math.Ln10
	if syy > 0 {
		s.R2 = sxy * sxy / sxx / syy
	}
	if len(points) > 2 {
		left := max(syy-sxy*sxy/sxx, 0)
		s.Known = true
		s.StandardError = math.Sqrt(left / (n - 2) / sxx)
		half := t975(len(points)-2) * s.StandardError
		s.Low, s.High = s.Alpha-half, s.Alpha+half
	}
	return s, nil
}

// t975 is the 97.5 % quantile of Student's t.
func t975(df int) float64 {
	small := [...]float64{12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281}
	if df <= len(small) {
		return small[df-1]
	}
	z, d := z95, float64(df) // Cornish and Fisher's expansion, good to 0.0002 from here on
	return z + (z*z*z+z)/(4*d) + (5*math.Pow(z, 5)+16*z*z*z+3*z)/(96*d*d) + (3*math.Pow(z, 7)+19*math.Pow(z, 5)+17*z*z*z-15*z)/(384*d*d*d)
}
