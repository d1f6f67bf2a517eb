package llm

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Every third connection is cut, before or after the request was read; no call is lost, none answered twice.
func TestResetConnectionsLoseNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	answered := map[string]int{}
	var n atomic.Int64
	client := setup(t, Provider{Limits: Limits{InFlight: 16}}, func(w http.ResponseWriter, r *http.Request) {
		i := n.Add(1)
		if i%6 != 0 { // half of the cuts come before the request is read
			_, _ = io.Copy(io.Discard, r.Body)
		}
		if i%3 == 0 {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
			return
		}
		mu.Lock()
		answered[r.Header.Get("X-None")]++
		mu.Unlock()
		_, _ = io.WriteString(w, goodReply)
	}, WithMaxAttempts(30))
	var wg sync.WaitGroup
	var doubtful atomic.Int64
	const calls = 120
	for i := range calls {
		wg.Go(func() {
			r := question()
			r.Messages[0].Content = fmt.Sprint(i)
			got, err := client.Complete(t.Context(), r)
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
			doubtful.Add(int64(got.InDoubt))
		})
	}
	wg.Wait()
	s := client.Stats()
	mu.Lock()
	defer mu.Unlock()
	if answered[""] != calls || s.Answered != calls || s.Calls != calls {
		t.Errorf("%d answers, %+v", answered[""], s)
	}
	// What the server saw beyond its answers is in doubt.
	if lost := n.Load() - calls; doubtful.Load() < lost {
		t.Errorf("%d requests lost, %d in doubt", lost, doubtful.Load())
	}
}

// Thousands of calls use about as many connections as there are calls in flight.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // chunked: the end of the body comes apart
		_, _ = io.WriteString(w, goodReply+"\n")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	client, err := New(Provider{URL: srv.URL, Limits: Limits{InFlight: 32}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	var wg sync.WaitGroup
	for range 128 {
		wg.Go(func() {
			for range 10 {
				if _, err := client.Complete(t.Context(), question()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if opened.Load() > 3*32 {
		t.Errorf("%d connections for 1,280 calls, 32 at once", opened.Load())
	}
}

// A dial error leaves no doubt: nothing was sent.
func TestUnreachableYieldsWithoutDoubt(t *testing.T) {
	t.Parallel()
	c, err := New(Provider{URL: nobody}, WithMaxWait(300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Complete(t.Context(), question())
	if e := asError(t, err); e.Class != ClassYield || e.Code != CodeUnreachable || e.InDoubt || e.RetryAfter < time.Second || e.Attempts == 0 {
		t.Errorf("%+v", e)
	}
}

// BenchmarkComplete measures whole calls with an in-process server and answers of 1 KB.
func BenchmarkComplete(b *testing.B) {
	prompt := string(make([]byte, 0, 2048))
	for len(prompt) < 2000 {
		prompt += "A sentence of a document, about nothing. "
	}
	body := []byte(`{"id":"x","object":"chat.completion","created":1,"model":"served","choices":[{"index":0,"message":{"role":"assistant","content":"` + prompt[:1000] + `"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}`)
	client := setup(b, Provider{Limits: Limits{InFlight: 64}}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(body)
	})
	r := question()
	r.Messages = []Message{{"system", "Be brief."}, {"user", prompt}}
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.Complete(b.Context(), r); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkEncode(b *testing.B) {
	c, err := New(Provider{URL: "http://x"})
	if err != nil {
		b.Fatal(err)
	}
	r := question()
	r.Messages[0].Content = string(make([]byte, 2000))
	for b.Loop() {
		c.encode(&r, false)
	}
}
