package llm

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An endpoint that refuses some requests whatever the load is used to the full all the same.
func TestScatteredRefusalsDoNotSlowOthers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header http.Header
		share  float64
	}{
		"bare":       {nil, 0.01},
		"one second": {http.Header{"Retry-After": {"1"}}, 0.01},
		"twice":      {http.Header{"Retry-After": {"1"}}, 0.02},
		"a minute":   {http.Header{"Retry-After": {"60"}}, 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header, refuses := c.header, c.share
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(1000, time.Second)
				e.jitter = time.Second
				e.header = header
				e.unlucky = func() bool { return rand.Float64() < refuses }
				c := simClient(t, e, Limits{InFlight: 200})
				ask(t, c, 300, 10_000) // learns
				begin, n, least := time.Now(), 40_000, 0.97
				if testing.Short() { // the last of those refused count for more
					n, least = 5_000, 0.85
				}
				ask(t, c, 300, n)
				share := float64(n) * 1.5 / 200 / time.Since(begin).Seconds()
				t.Logf("first 10,000 in %s; then %.3f of the ideal, %d refusals", begin.Sub(e.start), share, e.refused)
				// A refusal before anything is known of the endpoint is obeyed.
				if learnt := begin.Sub(e.start); learnt > 2*time.Minute && name != "a minute" || learnt > 4*time.Minute {
					t.Errorf("the first 10,000 took %s, ideal is 75 s", learnt)
				}
				if share < least && name != "a minute" || share < least-0.02 { // the last of those refused sleep for long
					t.Errorf("%.3f of the ideal", share)
				}
			})
		})
	}
}

// Workers that know nothing of each other share an endpoint: none starves, and together they use it.
func TestStrangersConverge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const strangers, capacity = 4, 60
		e := newEndpoint(capacity, time.Second)
		e.jitter = time.Second
		var served [strangers]atomic.Int64
		var wg sync.WaitGroup
		settled := time.Now().Add(5 * time.Minute)
		end := settled.Add(20 * time.Minute)
		var before int
		go func() {
			time.Sleep(time.Until(settled))
			e.set(func() { before = e.refused })
		}()
		for i := range strangers {
			c := simClient(t, e, Limits{InFlight: 64})
			for range 80 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 20 * time.Second) // they come one after another, to a full endpoint
					for time.Now().Before(end) {
						_, err := c.Complete(t.Context(), question())
						if err != nil {
							e := asError(t, err)
							if e.Class != ClassYield {
								t.Error(err)
							}
							time.Sleep(e.RetryAfter)
						} else if time.Now().After(settled) {
							served[i].Add(1)
						}
					}
				})
			}
		}
		wg.Wait()
		var all int64
		for i := range served {
			all += served[i].Load()
		}
		ideal := int64(capacity / 1.5 * 20 * 60)
		refused := e.refused - before
		t.Logf("served %d, %d, %d, %d: %.3f of the ideal; %.3f refused", served[0].Load(), served[1].Load(), served[2].Load(), served[3].Load(),
			float64(all)/float64(ideal), float64(refused)/float64(all))
		for i := range served {
			if n := served[i].Load(); n < all/strangers*2/3 || n > all/strangers*3/2 {
				t.Errorf("client %d was served %d of %d", i, n, all)
			}
		}
		if all < ideal*85/100 {
			t.Errorf("%d served, ideal is %d", all, ideal)
		}
		if int64(refused) > all/20 {
			t.Errorf("%d refused, %d served", refused, all)
		}
	})
}

// Declared rates, split by the number of workers, are used to 5 % and not crossed.
func TestDeclaredRatesAreHonouredTogether(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]Limits{
		"requests": {InFlight: 200, RequestsPerMinute: 3000, Workers: 3},
		"tokens":   {InFlight: 200, TokensPerMinute: 36_000, Workers: 3}, // replies of 12 tokens: 3,000 a minute
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(10_000, time.Second)
				e.jitter = 2 * time.Second
				end := time.Now().Add(11 * time.Minute)
				var wg sync.WaitGroup
				for range 3 {
					c := simClient(t, e, l)
					for range 100 {
						wg.Go(func() {
							for time.Now().Before(end) {
								if _, err := c.Complete(t.Context(), question()); err != nil {
									t.Error(err)
								}
							}
						})
					}
				}
				wg.Wait()
				n, worst := 0, 0
				for minute := 1; minute < 11; minute++ { // the first has a full bucket
					here := 0
					for s := range 60 {
						here += e.perSecond[60*minute+s]
					}
					n, worst = n+here, max(worst, here)
				}
				t.Logf("%d requests in ten minutes, at most %d in one", n, worst)
				if n < 30_000*95/100 || n > 30_000*101/100 || worst > 3000*105/100 {
					t.Errorf("%d requests in ten minutes, at most %d in one; 3,000 a minute are declared", n, worst)
				}
			})
		})
	}
}

// An endpoint that takes requests and never answers is left alone but for probes, and used again soon after it recovers.
func TestHangingEndpointRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(64, time.Second)
		var hangs atomic.Bool
		c, err := New(Provider{Name: "sim", URL: "http://sim/v1", Key: testKey, Limits: Limits{InFlight: 64}, Timeout: 20 * time.Second}, WithTransport(hanging{e, &hangs}))
		if err != nil {
			t.Fatal(err)
		}
		var during int
		go func() {
			time.Sleep(10 * time.Second)
			hangs.Store(true)
			time.Sleep(5 * time.Minute)
			e.set(func() { during = e.requests2 })
			hangs.Store(false)
		}()
		time.AfterFunc(10*time.Second, func() { e.set(func() {}) })
		const n = 4000
		yields := ask(t, c, 128, n)
		e.once(t, n)
		took := time.Since(e.start)
		t.Logf("%d requests while it hung, %d yields, took %s", during, yields, took)
		if during > 64+64+32 { // those in flight, those that were let in before the first ran out of time, and probes
			t.Errorf("%d requests to an endpoint that hangs", during)
		}
		if took > 7*time.Minute+30*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// hanging answers nothing while it hangs; the caller's timeout ends the wait.
type hanging struct {
	e     *endpoint
	hangs *atomic.Bool
}

func (h hanging) RoundTrip(r *http.Request) (*http.Response, error) {
	if !h.hangs.Load() {
		return h.e.RoundTrip(r)
	}
	h.e.mu.Lock()
	h.e.requests++
	h.e.requests2++
	h.e.mu.Unlock()
	_, _ = r.Body.Read(make([]byte, r.ContentLength))
	_ = r.Body.Close()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// Two runs that share a worker get what they want in the same proportion, though one came late to a full line.
func TestRunsShareAnEndpoint(t *testing.T) {
	t.Parallel()
	for name, callers := range map[string][2]int{"alike": {64, 64}, "twice": {128, 64}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e := newEndpoint(32, time.Second)
				e.jitter = time.Second
				c := simClient(t, e, Limits{InFlight: 32})
				var served [2]atomic.Int64
				end := time.Now().Add(10 * time.Minute)
				var wg sync.WaitGroup
				for run, n := range callers {
					for range n {
						wg.Go(func() {
							time.Sleep(time.Duration(run) * 30 * time.Second)
							for time.Now().Before(end) {
								r := question()
								r.Messages[0].Content = fmt.Sprint(run)
								if _, err := c.Complete(t.Context(), r); err != nil {
									t.Error(err)
								}
								if time.Until(end) < 9*time.Minute {
									served[run].Add(1)
								}
							}
						})
					}
				}
				wg.Wait()
				got := float64(served[0].Load()) / float64(served[1].Load())
				want := float64(callers[0]) / float64(callers[1])
				if got < want*0.9 || got > want*1.1 {
					t.Errorf("served %d and %d", served[0].Load(), served[1].Load())
				}
			})
		})
	}
}
