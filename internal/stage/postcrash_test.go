package stage

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// TestKilledAroundABatchNothingIsPaidTwice kills children at each of their requests to the endpoint and each of their
// writes about a batch, once before and once after they took effect.
func TestKilledAroundABatchNothingIsPaidTwice(t *testing.T) {
	t.Parallel()
	const rows = 90
	want, _ := liveRows(t, rows, pocketlm.Faults{})
	for _, what := range []string{"asked", "upload", "create", "sent", "harvest", "done", "forget"} {
		for _, side := range []string{"before ", "after "} {
			t.Run(side+what, func(t *testing.T) {
				b := newPostBench(t, rows, pocketlm.Faults{BatchExpires: 0.3})
				cfg := b.reachable()
				killAround(t, b, cfg, order{Work: b.byPost("out"), Post: true}, side+what)
				b.oneBatch(want)
			})
		}
	}
}

// The same where the batch was handed over before, and the rest is to be asked live at an endpoint that declares no batches.
func TestKilledWhileItTakesBatchesHomeNothingIsPaidTwice(t *testing.T) {
	t.Parallel()
	const rows = 100
	want, _ := liveRows(t, rows, pocketlm.Faults{})
	for _, what := range []string{"cancel", "harvest", "done", "forget", "live"} {
		for _, side := range []string{"before ", "after "} {
			t.Run(side+what, func(t *testing.T) {
				b := newPostBench(t, rows, pocketlm.Faults{BatchTime: 5_000})
				cfg := b.reachable()
				w := b.byPost("out")
				b.handOver(w)
				w.Delivery = DeliveryLive
				killAround(t, b, cfg, order{Work: w}, side+what)
				if what == "live" { // the one call that was killed may be billed without an answer
					if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
						t.Fatal("rows differ from an undisturbed run")
					}
					return
				}
				b.oneBatch(want)
			})
		}
	}
}

// oneBatch wants the rows of an undisturbed run, every question answered once, and one batch.
func (b *postBench) oneBatch(want []dataset.Candidate) {
	b.t.Helper()
	w := b.byPost("out")
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
		b.t.Fatal("rows differ from an undisturbed run")
	}
	if got := b.journal(w).ByRoute["batches"].Answered; got != 1 {
		b.t.Errorf("%d batches were made", got)
	}
}

// reachable gives the bench a store that children can reach.
func (b *postBench) reachable() blob.Config {
	b.t.Helper()
	cfg := s3test.Config(b.t)
	var err error
	if b.st, err = blob.Open(b.t.Context(), cfg); err != nil {
		b.t.Fatal(err)
	}
	b.deps.Store = b.st
	b.in = b.segments("segments", int(b.in.Rows), 0)
	return cfg
}

// killAround kills a first child at a point of its life and lets a second one finish.
func killAround(t *testing.T, b *postBench, cfg blob.Config, o order, point string) {
	t.Helper()
	victims := make(chan *exec.Cmd, 1)
	at := func(name string) (killed bool) {
		if name != point {
			return false
		}
		select {
		case victim := <-victims:
			_ = victim.Process.Kill()
			_ = victim.Wait()
			return true
		default:
			return false // the second child
		}
	}
	between := func(target string, name func(*http.Request) string) string {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		proxy := &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host
			},
			ErrorLog: log.New(io.Discard, "", 0),
		}
		front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			n := name(req)
			if n != "" && at("before "+n) {
				panic(http.ErrAbortHandler)
			}
			if point != "after "+n {
				proxy.ServeHTTP(rw, req)
				return
			}
			reply := httptest.NewRecorder()
			proxy.ServeHTTP(reply, req)
			if at("after " + n) {
				panic(http.ErrAbortHandler)
			}
			for k, v := range reply.Header() {
				rw.Header()[k] = v
			}
			rw.WriteHeader(reply.Code)
			_, _ = rw.Write(reply.Body.Bytes())
		}))
		t.Cleanup(front.Close)
		return front.URL
	}
	endpoint := between(strings.TrimSuffix(b.url, "/v1"), func(r *http.Request) string {
		switch path := strings.TrimPrefix(r.URL.Path, "/v1/"); {
		case r.Method == http.MethodPost && path == "files":
			return "upload"
		case r.Method == http.MethodPost && path == "batches":
			return "create"
		case strings.HasSuffix(path, "/cancel"):
			return "cancel"
		case path == "chat/completions":
			return "live"
		case strings.HasSuffix(path, "/content"):
			return "harvest"
		case r.Method == http.MethodDelete:
			return "forget"
		}
		return ""
	})
	cfg.Endpoint = between(cfg.Endpoint, func(r *http.Request) string {
		for _, what := range []string{"asked", "sent", "done"} {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "-"+what+".json") {
				return what
			}
		}
		return ""
	})
	o.Blob, o.URL = cfg, endpoint+"/v1"
	victim := o.start(t)
	victims <- victim
	deadline := time.After(30 * time.Second)
	for len(victims) > 0 {
		select {
		case <-deadline:
			t.Fatal("the child does not come to the point")
		case <-time.After(10 * time.Millisecond):
		}
	}
	paid := b.sum(o.Work)
	c, err := pocketlm.ReadJournal(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	answered := c.ByRoute[routeLive].Answered + c.ByRoute[routePost].Answered
	if paid.Spent.Calls > answered || answered > paid.Spent.Calls+paid.InDoubt.Calls {
		t.Fatalf("ledger %d, answered %d, in doubt %d", paid.Spent.Calls, answered, paid.InDoubt.Calls)
	}
	if err := o.start(t).Wait(); err != nil {
		t.Fatal(err)
	}
}
