package llm

import (
	"math"
	"time"

	"golang.org/x/time/rate"
)

// rates holds the declared rates of an endpoint, as this worker's share of them. Its user holds a lock.
type rates struct {
	requests *rate.Limiter // nil: not declared
	tokens   *rate.Limiter
	credit   float64 // tokens reckoned for but not used, less those used beyond; the next calls take it into account
}

const tokenBurst = 10 * time.Second // a call larger than the tokens of that time is let through when the bucket is full

func newRates(l Limits) rates {
	var r rates
	share := float64(max(1, l.Workers)) * 60
	if l.RequestsPerMinute > 0 {
		perSecond := l.RequestsPerMinute / share
		r.requests = rate.NewLimiter(rate.Limit(perSecond), int(math.Max(1, perSecond)))
	}
	if l.TokensPerMinute > 0 {
		perSecond := l.TokensPerMinute / share
		r.tokens = rate.NewLimiter(rate.Limit(perSecond), int(math.Max(1, perSecond*tokenBurst.Seconds())))
	}
	return r
}

// delay returns how long a call of need tokens must still wait.
func (r *rates) delay(now time.Time, need float64) time.Duration {
	d := shortOf(r.requests, now, 1)
	if r.tokens != nil {
		d = max(d, shortOf(r.tokens, now, r.charge(need)))
	}
	return d
}

func shortOf(l *rate.Limiter, now time.Time, n int) time.Duration {
	if l == nil {
		return 0
	}
	missing := float64(n) - l.TokensAt(now)
	if missing <= 1e-9 {
		return 0
	}
	return max(time.Millisecond, time.Duration(missing/float64(l.Limit())*float64(time.Second)))
}

// take books a call.
func (r *rates) take(now time.Time, need float64) {
	if r.requests != nil {
		r.requests.AllowN(now, 1)
	}
	if r.tokens != nil {
		n := r.charge(need)
		r.tokens.AllowN(now, n)
		r.credit -= need - float64(n)
	}
}

// charge is what a call of need tokens takes from the bucket: less or more than need by the credit, within the bucket.
func (r *rates) charge(need float64) int {
	return int(math.Min(float64(r.tokens.Burst()), math.Max(1, math.Ceil(need-r.credit))))
}

// settle corrects what was reckoned by what was used (0: unknown).
func (r *rates) settle(need, used float64, answered bool) {
	if r.tokens == nil || !answered || used <= 0 {
		return
	}
	most := float64(r.tokens.Burst())
	r.credit = math.Max(-most, math.Min(most, r.credit+need-used))
}
