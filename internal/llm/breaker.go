package llm

import (
	"math/rand/v2"
	"time"
)

// breaker stops all calls when an endpoint only fails, and lets one through from time to time to see whether it is back.
type breaker struct {
	failures int       // in a row, of any call
	until    time.Time // open until then; zero: closed
	probing  bool      // the one call is under way
	opens    int       // times opened without an answer in between
}

const (
	breakerAfter = 10 // failures in a row
	breakerFirst = time.Second
	breakerMost  = 30 * time.Second
)

// closed reports whether calls pass freely.
func (b *breaker) closed() bool { return b.until.IsZero() }

// answered closes the breaker. It reports whether it was open.
func (b *breaker) answered() bool {
	was := !b.closed()
	*b = breaker{}
	return was
}

// failed counts a failure and reports whether the breaker opened, for the first time or again.
func (b *breaker) failed(now time.Time, probe bool) bool {
	b.failures++
	if probe {
		b.probing = false
	}
	if !b.closed() && !probe || b.failures < breakerAfter {
		return false
	}
	wait := breakerMost
	if b.opens < 5 {
		wait = breakerFirst << b.opens
	}
	b.opens++
	b.until = now.Add(jitter(wait))
	return true
}

// jitter returns d less up to a fifth of it, so that many workers do not come back at one moment.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/5+1))
}
