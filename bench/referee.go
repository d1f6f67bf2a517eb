package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm"
)

// referee asks a referee for its counts. Its answers are the only figures about calls that are reported.
type referee struct{ url string }

func (r referee) ask(ctx context.Context, method, path string, body, into any) error {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, r.url+path, payload)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("referee: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) //nolint:errcheck // the status says it
		return fmt.Errorf("referee: %s: %s", response.Status, text)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// behave sets latency and faults.
func (r referee) behave(ctx context.Context, f pocketlm.Faults) error {
	return r.ask(ctx, http.MethodPost, "/pocketlm/faults", f, &f)
}

// stats reads the counts since the last reset.
func (r referee) stats(ctx context.Context) (s pocketlm.Stats, err error) {
	return s, r.ask(ctx, http.MethodGet, "/pocketlm/stats", nil, &s)
}

// reset begins new counts.
func (r referee) reset(ctx context.Context) error {
	var s pocketlm.Stats
	return r.ask(ctx, http.MethodGet, "/pocketlm/stats?reset=1", nil, &s)
}

// journal reads the counts of the journal, which no reset and no kill ends.
func (r referee) journal(ctx context.Context) (c pocketlm.Counts, err error) {
	return c, r.ask(ctx, http.MethodGet, "/pocketlm/journal", nil, &c)
}

// behaviour are the flags that say how the referee behaves.
type behaviour struct {
	latency  time.Duration
	sigma    float64
	profile  bool
	capacity int
}

func behaviourFlags(flags *flag.FlagSet, latency time.Duration) *behaviour {
	b := &behaviour{}
	flags.DurationVar(&b.latency, "latency", latency, "latency of an answer: the median, or with -sigma 0 a constant; the same for the same request")
	flags.Float64Var(&b.sigma, "sigma", 0.5, "lognormal latency: standard deviation of its logarithm")
	flags.BoolVar(&b.profile, "errors", false, "answer 1 % of calls with 429 and Retry-After: 1, 0.5 % with 500, 0.2 % with 400 for good, and 0.5 % unreadably")
	flags.IntVar(&b.capacity, "capacity", 0, "calls served at once, more get 429; 0: no bound")
	return b
}

func (b *behaviour) faults() pocketlm.Faults {
	f := pocketlm.Faults{
		Canned: true, Latency: pocketlm.Millis(float64(b.latency) / float64(time.Millisecond)), LatencySigma: b.sigma, Capacity: b.capacity,
	}
	if b.latency == 0 {
		f.LatencySigma = 0
	}
	if b.profile {
		f.RateLimited, f.RetryAfter, f.ServerError, f.BadRequest, f.Unparsable = 0.01, 1, 0.005, 0.002, 0.005
	}
	return f
}

func (b *behaviour) String() string {
	s := "latency " + b.latency.String()
	if b.latency > 0 && b.sigma > 0 {
		s = fmt.Sprintf("latency lognormal, median %s, sigma %g", b.latency, b.sigma)
	}
	if b.profile {
		s += "; 1 % 429, 0.5 % 500, 0.2 % 400, 0.5 % unparsable"
	}
	if b.capacity > 0 {
		s += fmt.Sprintf("; capacity %d", b.capacity)
	}
	return s
}
