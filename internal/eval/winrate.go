package eval

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Outcomes of a comparison for the model that is evaluated, as shares of a win.
const (
	Loss = 0.0
	Draw = 0.5
	Win  = 1.0
)

const (
	resamples    = 2000    // of the bootstrap
	bootstrapMax = 20_000  // comparisons; above them the interval is the normal one, which is then as good
	z95          = 1.95996 // standard normal quantile of 0.975
)

// WinRate is how often a model is preferred to its baseline. Shares are from 0 to 1.
type WinRate struct {
	N       int64   `json:"n"`       // prompts that count: Wins + Draws + Losses
	Wins    int64   `json:"wins"`    // preferred for certain, or for the greater part where preferences are weighted
	Draws   int64   `json:"draws"`   // neither
	Losses  int64   `json:"losses"`  // the baseline is preferred, or the model gave no output
	Missing int64   `json:"missing"` // of Losses: the model gave no output
	Rate    float64 `json:"rate"`    // (wins + draws/2) / n; of weighted preferences their mean
	// StandardError of Rate: the sample's standard deviation over √n; 0 of fewer than two comparisons.
	StandardError float64 `json:"standard_error"`
	// Low and High hold Rate with 95 % confidence: quantiles of 2,000 bootstrap resamples that are the same in every run.
	// Of more than 20,000 comparisons they are Rate ± 1.96 standard errors.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Rate counts comparisons: scores are shares of a win, from Loss to Win, and may lie between; missing is how many outputs the
// model failed to give, each of which is a loss. The order of scores does not matter.
func Rate(scores []float64, missing int64) WinRate {
	all := slices.Sorted(slices.Values(scores))
	all = append(make([]float64, missing, int64(len(all))+missing), all...)
	w := WinRate{N: int64(len(all)), Missing: missing}
	for _, s := range all {
		switch {
		case s > Draw:
			w.Wins++
		case s < Draw:
			w.Losses++
		default:
			w.Draws++
		}
	}
	if w.N == 0 {
		w.High = 1 // nothing is known
		return w
	}
	w.Rate, w.StandardError = meanAndError(all)
	w.Low, w.High = interval(all, w.Rate, w.StandardError)
	return w
}

// Even reports whether the interval holds one half: nothing says that one of both is better.
func (w WinRate) Even() bool { return w.Low <= Draw && w.High >= Draw }

// Opposite is the same comparison seen from the baseline, which takes no account of whose outputs were missing.
func (w WinRate) Opposite() WinRate {
	return WinRate{
		N: w.N, Wins: w.Losses, Draws: w.Draws, Losses: w.Wins, Rate: 1 - w.Rate, StandardError: w.StandardError,
		Low: 1 - w.High, High: 1 - w.Low,
	}
}

// meanAndError returns the mean and its standard error, with n − 1 degrees of freedom.
func meanAndError(values []float64) (m, se float64) {
	m = mean(values)
	n := float64(len(values))
	if n < 2 {
		return m, 0
	}
	sum := 0.0
	for _, v := range values {
		sum += (v - m) * (v - m)
	}
	return m, math.Sqrt(sum / (n - 1) / n)
}

func interval(values []float64, m, se float64) (low, high float64) {
	if len(values) > bootstrapMax {
		return max(m-z95*se, 0), min(m+z95*se, 1)
	}
	return bootstrap(len(values), func(pick func() int) float64 {
		sum := 0.0
		for range values {
			sum += values[pick()]
		}
		return sum / float64(len(values))
	})
}

// bootstrap returns the 2.5 % and 97.5 % quantiles of a statistic over resamples of n items. The random numbers are always the same.
func bootstrap(n int, statistic func(pick func() int) float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(0x73656c66, 0x616c6967))
	pick := func() int { return rng.IntN(n) }
	found := make([]float64, resamples)
	for i := range found {
		found[i] = statistic(pick)
	}
	slices.Sort(found)
	return quantile(found, 0.025), quantile(found, 0.975)
}

// quantile interpolates between the values of a sorted list.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// wilson is the 95 % interval of a share k of n.
func wilson(k, n int64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	p, c := float64(k)/float64(n), float64(n)
	mid := p + z95*z95/(2*c)
	half := z95 * math.Sqrt(p*(1-p)/c+z95*z95/(4*c*c))
	div := 1 + z95*z95/c
	return max((mid-half)/div, 0), min((mid+half)/div, 1)
}
