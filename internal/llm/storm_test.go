package llm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// endpoint plays a provider on a synctest clock: it answers up to capacity requests at once after latency, and refuses others.
type endpoint struct {
	mu       sync.Mutex
	capacity int
	latency  time.Duration
	jitter   time.Duration
	refusal  int // status of refusals
	header   http.Header
	unlucky  func() bool                    // not nil: refuses whatever the load
	dead     bool                           // connections are refused
	broken   func(n int, body string) error // not nil: the n-th request ends so

	active, peak         int
	requests             int
	answered, refused    int
	perSecond            map[int]int // requests by second since start
	start                time.Time
	answeredBy           map[string]int
	peakSince, requests2 int
}

func newEndpoint(capacity int, latency time.Duration) *endpoint {
	return &endpoint{capacity: capacity, latency: latency, refusal: 429, perSecond: map[int]int{}, start: time.Now(), answeredBy: map[string]int{}}
}

func (e *endpoint) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	e.peakSince, e.requests2 = e.active, 0
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body := make([]byte, r.ContentLength)
	e.mu.Lock()
	if e.dead {
		e.requests++
		e.perSecond[int(time.Since(e.start).Seconds())]++
		e.mu.Unlock()
		_ = r.Body.Close()
		return nil, errors.New("connect: connection refused")
	}
	e.mu.Unlock()
	_, _ = r.Body.Read(body)
	_ = r.Body.Close()
	e.mu.Lock()
	e.requests++
	e.requests2++
	e.perSecond[int(time.Since(e.start).Seconds())]++
	n := e.requests
	e.active++
	e.peak, e.peakSince = max(e.peak, e.active), max(e.peakSince, e.active)
	if e.active > e.capacity || e.unlucky != nil && e.unlucky() {
		e.active--
		e.refused++
		h := e.header.Clone()
		status := e.refusal
		e.mu.Unlock()
		return fakeReply(status, `{"error":{"message":"slow down"}}`, h), nil
	}
	latency := e.latency
	if e.jitter > 0 {
		latency += rand.N(e.jitter)
	}
	broken := e.broken
	e.mu.Unlock()
	timer := time.NewTimer(latency)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-r.Context().Done():
		err = r.Context().Err()
	}
	if err == nil && broken != nil {
		err = broken(n, string(body))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active--
	if err != nil {
		return nil, err
	}
	e.answered++
	e.answeredBy[string(body)]++
	return fakeReply(200, goodReply, nil), nil
}

func simClient(t *testing.T, e *endpoint, l Limits, opts ...Option) *Client {
	t.Helper()
	c, err := New(Provider{Name: "sim", URL: "http://sim/v1", Key: testKey, Limits: l}, append(opts, WithTransport(e))...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask answers n numbered questions with some workers, coming back after a yield as an activity would.
func ask(t *testing.T, c *Client, workers, n int) (yields int64) {
	t.Helper()
	var next, yielded atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				for {
					r := question()
					r.Messages = []Message{{"user", fmt.Sprint("question ", i)}}
					_, err := c.Complete(t.Context(), r)
					if err == nil {
						break
					}
					e := asError(t, err)
					if e.Class != ClassYield {
						t.Errorf("question %d: %v", i, err)
						break
					}
					if e.RetryAfter < time.Second {
						t.Errorf("yield for %s", e.RetryAfter)
					}
					yielded.Add(1)
					time.Sleep(e.RetryAfter)
				}
			}
		})
	}
	wg.Wait()
	return yielded.Load()
}

// once checks that each question was answered exactly once.
func (e *endpoint) once(t *testing.T, n int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answered != n || len(e.answeredBy) != n {
		t.Errorf("%d answers for %d of %d questions", e.answered, len(e.answeredBy), n)
	}
}

func TestFullSpeedWithoutRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(64, time.Second)
		e.jitter = time.Second
		c := simClient(t, e, Limits{InFlight: 64})
		const n = 6400
		ask(t, c, 200, n)
		e.once(t, n)
		if took, ideal := time.Since(e.start), n*1500*time.Millisecond/64; took > ideal*103/100 {
			t.Errorf("took %s, ideal is %s", took, ideal)
		}
		if e.refused != 0 || e.peak != 64 {
			t.Errorf("%d refused, peak %d", e.refused, e.peak)
		}
	})
}

func TestAdaptsToCapacityThatHalves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(40, time.Second)
		e.jitter = time.Second
		c := simClient(t, e, Limits{InFlight: 64})
		const n = 8000
		go func() {
			time.Sleep(100 * time.Second)
			e.set(func() { e.capacity = 20 })
		}()
		ask(t, c, 200, n)
		e.once(t, n)
		took := time.Since(e.start)
		atFull := 100.0 * 40 / 1.5
		ideal := 100 + (n-atFull)*1.5/20
		t.Logf("took %s, ideal %.0f s; %d refusals for %d answers", took, ideal, e.refused, n)
		if took.Seconds() > ideal*1.20 {
			t.Errorf("took %s, ideal is %.0f s", took, ideal)
		}
		if e.refused > n*5/100 {
			t.Errorf("%d refusals for %d answers", e.refused, n)
		}
	})
}

func TestFiveMinutesOfRefusals(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]http.Header{"bare": nil, "one second": {"Retry-After": {"1"}}, "twenty seconds": {"Retry-After": {"20"}}, "an hour": {"Retry-After": {"3600"}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(64, time.Second)
				e.jitter = time.Second
				e.header = header
				c := simClient(t, e, Limits{InFlight: 64})
				const n = 6000
				var during int
				go func() {
					time.Sleep(30 * time.Second)
					e.set(func() { e.capacity = 0 })
					time.Sleep(5 * time.Minute)
					e.set(func() { during = e.requests2; e.capacity = 64 })
				}()
				yields := ask(t, c, 200, n)
				e.once(t, n)
				took := time.Since(e.start)
				t.Logf("%d requests in five minutes of refusals, %d yields, took %s, busiest second after it %d", during, yields, took, e.busiest(331, 400))
				if during > 64+300 {
					t.Errorf("%d requests while the endpoint refused all", during)
				}
				if yields == 0 {
					t.Error("no call yielded")
				}
				// Back again, the calls do not fall upon the endpoint at once: a full window makes some 43 requests a second.
				from := 330
				if name == "an hour" {
					from = 3630
				}
				if b := e.busiest(from, from+3); b > 64 {
					t.Errorf("%d requests in one second after recovery", b)
				}
				most := 30*time.Second + 5*time.Minute + 45*time.Second + n*1500*time.Millisecond/64
				if name != "an hour" && took > most {
					t.Errorf("took %s, expected at most %s", took, most)
				}
			})
		})
	}
}

func (e *endpoint) busiest(from, to int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	most := 0
	for s := from; s < to; s++ {
		most = max(most, e.perSecond[s])
	}
	return most
}

func TestDeadEndpointIsProbedBySingleCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(64, time.Second)
		c := simClient(t, e, Limits{InFlight: 64})
		const n = 4000
		go func() {
			time.Sleep(10500 * time.Millisecond)
			e.set(func() { e.dead = true })
			time.Sleep(2 * time.Minute)
			e.set(func() { e.dead = false })
		}()
		ask(t, c, 128, n)
		e.once(t, n)
		later := 0
		for s := 14; s < 130; s++ {
			if e.perSecond[s] > 1 {
				t.Errorf("second %d: %d requests to a dead endpoint", s, e.perSecond[s])
			}
			later += e.perSecond[s]
		}
		t.Logf("%d probes in 116 s", later)
		if s := c.Stats(); s.Breaker != "closed" || s.Opened == 0 || s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestEveryThirdConnectionIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(64, 500*time.Millisecond)
		e.broken = func(n int, _ string) error {
			if n%3 == 0 {
				return errors.New("read: connection reset by peer")
			}
			return nil
		}
		c := simClient(t, e, Limits{InFlight: 32}, WithMaxAttempts(20))
		ask(t, c, 64, 2000)
		e.once(t, 2000)
		if s := c.Stats(); s.Limit != 32 || s.Broken < 900 {
			t.Errorf("%+v", s)
		}
	})
}

// A row that always fails is given up; the others do not suffer.
func TestPoisonedQuestionsFailAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(64, 500*time.Millisecond)
		bad := errors.New("read: connection reset by peer")
		e.broken = func(_ int, body string) error {
			if strings.Contains(body, "poison") {
				return bad
			}
			return nil
		}
		c := simClient(t, e, Limits{InFlight: 8})
		var wg, others sync.WaitGroup
		var over atomic.Bool
		for i := range 4 { // which are answered until the last of the bad ones is given up
			others.Go(func() {
				for !over.Load() {
					r := question()
					r.Messages[0].Content = fmt.Sprint("other ", i)
					if _, err := c.Complete(t.Context(), r); err != nil {
						t.Errorf("other question: %v", err)
					}
				}
			})
		}
		for i := range 200 {
			wg.Go(func() {
				r := question()
				poisoned := i%20 == 0
				r.Messages[0].Content = fmt.Sprint("good ", i)
				if poisoned {
					r.Messages[0].Content = fmt.Sprint("poison ", i)
				}
				_, err := c.Complete(t.Context(), r)
				if poisoned {
					if e := asError(t, err); e.Class != ClassPassing || e.Attempts < ownFault || !e.InDoubt || e.Doubtful != e.Attempts {
						t.Errorf("question %d: %+v", i, e)
					}
				} else if err != nil {
					t.Errorf("question %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		over.Store(true)
		others.Wait()
	})
}

func TestLongPauseYieldsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(0, time.Second)
		e.header = http.Header{"Retry-After": {"3600"}}
		c := simClient(t, e, Limits{InFlight: 4})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, err := c.Complete(t.Context(), question())
				if e := asError(t, err); e.Class != ClassYield || e.RetryAfter < 59*time.Minute || e.RetryAfter > 61*time.Minute || e.InDoubt {
					t.Errorf("%+v", e)
				}
			})
		}
		wg.Wait()
		if took := time.Since(e.start); took != 0 || e.requests > 4 {
			t.Errorf("took %s and %d requests", took, e.requests)
		}
		time.Sleep(time.Minute)
		_, err := c.Complete(t.Context(), question())
		if e := asError(t, err); e.Class != ClassYield || e.RetryAfter < 58*time.Minute || e.Attempts != 0 || e.Message == "" {
			t.Errorf("a call during the pause: %+v", e)
		}
		if s := c.Stats(); s.PausedFor < 58*time.Minute {
			t.Errorf("%+v", s)
		}
	})
}

func TestDeclaredRatesAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(1000, time.Second)
		c := simClient(t, e, Limits{InFlight: 64, RequestsPerMinute: 1200, Workers: 2}) // 10 a second for us
		if yields := ask(t, c, 300, 600); yields != 0 {
			t.Errorf("%d calls yielded for a declared rate", yields)
		}
		e.once(t, 600)
		took := time.Since(e.start)
		if e.busiest(1, 100) > 11 || took < 59*time.Second || took > 62*time.Second {
			t.Errorf("600 requests at 10 a second took %s, busiest second %d", took, e.busiest(1, 100))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(1000, time.Second)
		c := simClient(t, e, Limits{InFlight: 64, TokensPerMinute: 7200}) // 120 a second: 10 replies of 12 tokens each
		ask(t, c, 100, 1200)
		e.once(t, 1200)
		took := time.Since(e.start)
		// A full bucket is worth 10 s at the start; the first reckonings are too high.
		if took < 100*time.Second || took > 150*time.Second {
			t.Errorf("14,400 tokens at 120 a second took %s", took)
		}
	})
}

func TestCallersTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(8, time.Second)
		c := simClient(t, e, Limits{InFlight: 8})
		var served [2]atomic.Int64
		var wg sync.WaitGroup
		stop := time.Now().Add(100 * time.Second)
		for caller, workers := range []int{40, 40} {
			for range workers {
				wg.Go(func() {
					if caller == 1 {
						time.Sleep(5 * time.Second) // comes late, to a full line
					}
					for time.Now().Before(stop) {
						if _, err := c.Complete(t.Context(), question()); err != nil {
							t.Error(err)
						}
						served[caller].Add(1)
					}
				})
			}
		}
		wg.Wait()
		a, b := served[0].Load(), served[1].Load()
		if b < a*3/4 {
			t.Errorf("served %d and %d", a, b)
		}
	})
}

func TestDrainEndsSleepsBetweenAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(0, time.Second)
		c := simClient(t, e, Limits{})
		stop, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := c.Complete(WithDrain(t.Context(), stop), question())
		if err := asError(t, err); err.Class != ClassCancelled || err.Attempts != 1 || time.Since(e.start) != 100*time.Millisecond {
			t.Errorf("after %s: %+v", time.Since(e.start), err)
		}
	})
}
