package pocketlm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// Faults is how a server misbehaves. Shares are between 0 and 1. What befalls a request follows from its digest, from how
// often it came before and from Seed, so that a test can be repeated; BadRequest follows from the digest alone, since
// such a request can never succeed. The zero value misbehaves in no way.
type Faults struct {
	Seed uint64 `json:"seed,omitempty"`

	Latency        Millis  `json:"latency_ms,omitempty"`    // constant, or the median when Sigma is set
	LatencySigma   float64 `json:"latency_sigma,omitempty"` // lognormal: standard deviation of the logarithm
	LatencyPerTok  Millis  `json:"latency_per_token_ms,omitempty"`
	Capacity       int     `json:"capacity,omitempty"`         // requests served at once; more get 429; 0: no bound
	RateLimited    float64 `json:"rate_limited,omitempty"`     // share answered 429
	RetryAfter     float64 `json:"retry_after_s,omitempty"`    // Retry-After of these, in seconds; 0: no header
	ServerError    float64 `json:"server_error,omitempty"`     // share answered 500
	BadRequest     float64 `json:"bad_request,omitempty"`      // share answered 400, every time
	Reset          float64 `json:"reset,omitempty"`            // share whose connection is reset before the answer is made
	Truncated      float64 `json:"truncated,omitempty"`        // share whose body ends half-way (billed)
	Garbage        float64 `json:"garbage,omitempty"`          // share answered with something that is not JSON (billed)
	Unparsable     float64 `json:"unparsable,omitempty"`       // share whose text is not in the format asked for
	Hang           float64 `json:"hang,omitempty"`             // share never answered
	Canned         bool    `json:"canned,omitempty"`           // answer from the digest alone, without asking the model: for benchmarks
	TrainingTime   Millis  `json:"training_ms,omitempty"`      // a job takes at least this long
	TrainingFails  string  `json:"training_fails,omitempty"`   // jobs fail with this message
	BatchTime      Millis  `json:"batch_ms,omitempty"`         // a batch takes at least this long
	BatchExpires   float64 `json:"batch_expires,omitempty"`    // share of a batch left undone when it expires
	EnqueuedTokens int     `json:"enqueued_tokens,omitempty"`  // batches beyond this many prompt tokens fail; 0: no bound
	RefuseAll      int     `json:"refuse_all_until,omitempty"` // Unix seconds until which everything is answered 429
}

// Millis is a duration in milliseconds.
type Millis float64

// Duration converts to the standard type.
func (m Millis) Duration() time.Duration {
	return time.Duration(float64(m) * float64(time.Millisecond))
}

// Validate names every field that is out of its range.
func (f Faults) Validate() error {
	var errs []error
	for _, s := range []struct {
		name string
		v    float64
	}{
		{"rate_limited", f.RateLimited},
		{"server_error", f.ServerError},
		{"bad_request", f.BadRequest},
		{"reset", f.Reset},
		{"truncated", f.Truncated},
		{"garbage", f.Garbage},
		{"unparsable", f.Unparsable},
		{"hang", f.Hang},
		{"batch_expires", f.BatchExpires},
	} {
		if !(s.v >= 0 && s.v <= 1) {
			errs = append(errs, fmt.Errorf("%s: must be between 0 and 1 (got %v)", s.name, s.v))
		}
	}
	for _, s := range []struct {
		name string
		v    float64
	}{
		{"latency_ms", float64(f.Latency)},
		{"latency_per_token_ms", float64(f.LatencyPerTok)},
		{"retry_after_s", f.RetryAfter},
		{"training_ms", float64(f.TrainingTime)},
		{"batch_ms", float64(f.BatchTime)},
		{"capacity", float64(f.Capacity)},
		{"enqueued_tokens", float64(f.EnqueuedTokens)},
	} {
		if !(s.v >= 0 && s.v <= 1e9) {
			errs = append(errs, fmt.Errorf("%s: must be between 0 and 1e9 (got %v)", s.name, s.v))
		}
	}
	if !(f.LatencySigma >= 0 && f.LatencySigma <= 3) {
		errs = append(errs, fmt.Errorf("latency_sigma: must be between 0 and 3 (got %v)", f.LatencySigma))
	}
	return errors.Join(errs...)
}

// uniform is a number in [0, 1) that follows from the arguments alone.
func (f Faults) uniform(d Digest, attempt int, what uint64) float64 {
	h := binary.LittleEndian.Uint64(d[:8]) ^ mix(f.Seed^what<<32^uint64(attempt))
	return float64(mix(h)>>11) / (1 << 53)
}

func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

const (
	drawFate = iota + 1
	drawBad
	drawUnparsable
	drawLatency
	drawLatency2
)

type fate int

const (
	fateNone fate = iota
	fateLimited
	fateError
	fateReset
	fateTruncated
	fateGarbage
	fateHang
)

// fateOf says what befalls a request. The shares are stacked, so that each holds exactly.
func (f Faults) fateOf(d Digest, attempt int) fate {
	u := f.uniform(d, attempt, drawFate)
	for _, c := range [...]struct {
		share float64
		fate  fate
	}{{f.RateLimited, fateLimited}, {f.ServerError, fateError}, {f.Reset, fateReset}, {f.Truncated, fateTruncated}, {f.Garbage, fateGarbage}, {f.Hang, fateHang}} {
		if u -= c.share; u < 0 {
			return c.fate
		}
	}
	return fateNone
}

func (f Faults) latency(d Digest, attempt, tokens int) time.Duration {
	ms := float64(f.Latency) + float64(f.LatencyPerTok)*float64(tokens)
	if f.LatencySigma > 0 && ms > 0 {
		u, v := f.uniform(d, attempt, drawLatency), f.uniform(d, attempt, drawLatency2)
		normal := math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v)
		ms *= math.Exp(f.LatencySigma * normal)
	}
	return Millis(ms).Duration()
}

// refusal is the error of a fate that is an error, or nil.
func (f Faults) refusal(d Digest, fate fate) *apiError {
	switch {
	case f.BadRequest > 0 && f.uniform(d, 0, drawBad) < f.BadRequest:
		e := badRequest("messages", "This request was refused for its content (fault).")
		e.Code = "content_filter"
		return e
	case int64(f.RefuseAll) > 0 && time.Now().Unix() < int64(f.RefuseAll), fate == fateLimited:
		return f.tooMany("Rate limit reached (fault).")
	case fate == fateError:
		return &apiError{status: 500, Type: "server_error", Message: "The server had an error while processing your request (fault)."}
	}
	return nil
}

func (f Faults) tooMany(message string) *apiError {
	e := &apiError{status: 429, Type: "requests", Code: "rate_limit_exceeded", Message: message}
	if f.RetryAfter > 0 {
		e.retryAfter = strconv.FormatFloat(math.Ceil(f.RetryAfter), 'f', 0, 64)
	}
	return e
}

// pause waits, or returns the context's error when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
