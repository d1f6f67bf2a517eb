package pocketlm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func post(t testing.TB, url, body string) (*http.Response, []byte, error) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body)) //nolint:gosec,noctx // our own server
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r, b, err
}

func hello(i int) string {
	return fmt.Sprintf(`{"model":"pocketlm-base","messages":[{"role":"user","content":"Hello %d"}]}`, i)
}

func TestEachFault(t *testing.T) {
	t.Parallel()
	s, _, url := setup(t, Options{})
	chat := url + "/v1/chat/completions"
	set := func(f Faults) { require.NoError(t, s.SetFaults(f)) }

	set(Faults{RateLimited: 1, RetryAfter: 1.5})
	r, b, err := post(t, chat, hello(1))
	require.NoError(t, err)
	require.Equal(t, 429, r.StatusCode)
	require.Equal(t, "2", r.Header.Get("Retry-After"))
	require.Contains(t, string(b), "rate_limit_exceeded")

	set(Faults{ServerError: 1})
	r, _, err = post(t, chat, hello(1))
	require.NoError(t, err)
	require.Equal(t, 500, r.StatusCode)

	set(Faults{BadRequest: 1})
	r, b, err = post(t, chat, hello(1))
	require.NoError(t, err)
	require.Equal(t, 400, r.StatusCode)
	require.Contains(t, string(b), "content_filter")
	require.Zero(t, s.journal.snapshot().Answered)

	set(Faults{Reset: 1})
	_, _, err = post(t, chat, hello(1))
	require.Error(t, err)
	require.Zero(t, s.journal.snapshot().Answered, "a reset is received, not answered")

	set(Faults{Truncated: 1})
	_, _, err = post(t, chat, hello(1))
	require.Error(t, err)
	require.EqualValues(t, 1, s.journal.snapshot().Answered, "a truncated answer was made and billed")

	set(Faults{Garbage: 1})
	_, b, err = post(t, chat, hello(2))
	require.NoError(t, err)
	require.Contains(t, string(b), "<html>")

	set(Faults{Unparsable: 1})
	_, b, err = post(t, chat, fmt.Sprintf(`{"model":"pocketlm-base","messages":[{"role":"user","content":%q}]}`, fmt.Sprintf(ratingOf, "x")))
	require.NoError(t, err)
	require.NotContains(t, string(b), "Score:")

	set(Faults{Latency: 80})
	start := time.Now()
	_, _, err = post(t, chat, hello(3))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), 80*time.Millisecond)

	set(Faults{Hang: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, chat, strings.NewReader(hello(4)))
	require.NoError(t, err)
	_, err = http.DefaultClient.Do(req) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	s, _, url := setup(t, Options{Faults: Faults{Capacity: 3, Latency: 150}})
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 8 {
		wg.Go(func() {
			r, _, err := post(t, url+"/v1/chat/completions", hello(i))
			if err == nil {
				mu.Lock()
				statuses[r.StatusCode]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, 8, statuses[200]+statuses[429])
	require.GreaterOrEqual(t, statuses[200], 3)
	require.Positive(t, statuses[429])
	require.LessOrEqual(t, s.Stats(false).PeakInFlight, 3)
}

func TestFaultsAtRunTime(t *testing.T) {
	t.Parallel()
	s, _, url := setup(t, Options{})
	r, _, err := post(t, url+"/pocketlm/faults", `{"latency_ms":5,"rate_limited":0.25}`)
	require.NoError(t, err)
	require.Equal(t, 200, r.StatusCode)
	require.Equal(t, Faults{Latency: 5, RateLimited: 0.25}, *s.faults.Load())
	for _, bad := range []string{`{"rate_limited":2,"reset":-1}`, `{"nonsense":1}`, `[]`} {
		r, _, err = post(t, url+"/pocketlm/faults", bad)
		require.NoError(t, err)
		require.Equal(t, 400, r.StatusCode, bad)
	}
	var c Counts
	getJSON(t, url+"/pocketlm/journal", &c)
	var st Stats
	getJSON(t, url+"/pocketlm/stats?reset=1", &st)
}

func digestOf(i int) Digest {
	sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	return Digest(sum[:12])
}

func TestFaultSharesHold(t *testing.T) {
	t.Parallel()
	f := Faults{RateLimited: 0.1, ServerError: 0.05, BadRequest: 0.02, Latency: 1000, LatencySigma: 0.5}
	const n = 20_000
	limited, broken, bad := 0.0, 0.0, 0.0
	var lat []float64
	for i := range n {
		d := digestOf(i)
		switch f.fateOf(d, 0) {
		case fateLimited:
			limited++
		case fateError:
			broken++
		}
		if e := f.refusal(d, fateNone); e != nil {
			bad++
			require.NotNil(t, f.refusal(d, fateNone), "and every time")
		}
		require.Equal(t, f.fateOf(d, 3), f.fateOf(d, 3))
		lat = append(lat, f.latency(d, 0, 0).Seconds())
	}
	require.InDelta(t, 0.1, limited/n, 0.01)
	require.InDelta(t, 0.05, broken/n, 0.007)
	require.InDelta(t, 0.02, bad/n, 0.005)
	sort.Float64s(lat)
	require.InDelta(t, 1, lat[n/2], 0.03)
	require.InDelta(t, math.Exp(0.5), lat[n*8413/10000], 0.08)
}

func TestCanonicalDigest(t *testing.T) {
	t.Parallel()
	digest := func(body string) Digest {
		c, err := parseCall(routeChat, []byte(body))
		require.Nil(t, err)
		return c.digest
	}
	a := digest(`{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1}`)
	require.Equal(t, a, digest(`{ "messages":[{"content":[{"type":"text","text":"x"}],"role":"user"}], "user":"me", "stream":true, "model":"m"}`), "spelling does not matter")
	for _, other := range []string{
		`{"model":"n","messages":[{"role":"user","content":"x"}]}`, `{"model":"m","messages":[{"role":"system","content":"x"}]}`,
		`{"model":"m","messages":[{"role":"user","content":"x"}],"seed":1}`, `{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":0.5}`,
		`{"model":"m","messages":[{"role":"user","content":""},{"role":"user","content":"x"}]}`,
	} {
		require.NotEqual(t, a, digest(other), other)
	}
}

func TestJournalEntriesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{
			Kind: rapid.SampledFrom([]Kind{Received, Answered, Refused}).Draw(t, "kind"), At: time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(t, "at")),
			Route: routeChat, Model: clean(rapid.StringN(0, 50, 190).Draw(t, "model")), Digest: digestOf(rapid.IntRange(0, 1<<20).Draw(t, "d")),
			Status: rapid.IntRange(0, 599).Draw(t, "s"), PromptTokens: rapid.IntRange(0, 1e6).Draw(t, "p"), CompletionTokens: rapid.IntRange(0, 1e6).Draw(t, "c"),
		}
		line := appendEntry(nil, e)
		got, ok := parseEntry(line)
		require.True(t, ok)
		require.Equal(t, e, got)
		require.Equal(t, 1, bytes.Count(line, []byte("\n")))
	})
}

func TestNoAnswerLeavesWithoutItsNote(t *testing.T) {
	t.Parallel()
	s, err := Open(Options{Dir: t.TempDir()})
	require.NoError(t, err)
	require.NoError(t, s.journal.f.Close(), "as if the disk were gone")
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/chat/completions", strings.NewReader(hello(1))))
	require.Equal(t, 500, w.Code)
	require.Contains(t, w.Body.String(), "write journal")
	require.Error(t, s.Close())
}

func FuzzCall(f *testing.F) {
	f.Add(hello(1))
	f.Add(`{"model":"pocketlm-base","prompt":["a","b"],"logprobs":3,"stop":["x"],"n":2}`)
	f.Add(`{"model":"pocketlm-base","messages":[{"role":"user","content":"Score: <x> 1 to 5"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"score":{"type":"number"}}}}}}`)
	s, err := Open(Options{Dir: f.TempDir()})
	require.NoError(f, err)
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/fine_tuning/jobs", "/v1/batches", "/pocketlm/faults"} {
			if path == "/pocketlm/faults" {
				continue // would slow the others down
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
			require.Less(t, w.Code, 500, w.Body.String())
		}
	})
}

func BenchmarkChat(b *testing.B) {
	for _, canned := range []bool{false, true} {
		b.Run(fmt.Sprintf("canned=%v", canned), func(b *testing.B) {
			s, err := Open(Options{Dir: b.TempDir(), Faults: Faults{Canned: canned}})
			require.NoError(b, err)
			defer s.Close()
			web := httptest.NewServer(s.Handler())
			defer web.Close()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			text := strings.Repeat("How to hold a knife: pinch the blade. ", 50)
			var n sync.Mutex
			i := 0
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n.Lock()
					i++
					body := fmt.Sprintf(`{"model":"pocketlm-base","messages":[{"role":"user","content":"%d %s"}]}`, i, text)
					n.Unlock()
					r, err := client.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader(body)) //nolint:noctx // benchmark
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, r.Body) //nolint:errcheck // benchmark
					r.Body.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}
