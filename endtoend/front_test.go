package endtoend

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	commandpb "go.temporal.io/api/command/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// trap is a point at which the worker is killed, once: at the n-th request that fits, before it reaches the service or when
// the service has done it and the worker does not know.
type trap struct {
	name  string
	after bool
	nth   int // 0: the first

	method  string         // of S3 and the model server
	path    *regexp.Regexp // of S3, without the bucket, and of the model server
	command func(*commandpb.Command) bool

	with      *trap      // nil, or the trap whose kill is this one's too: what this one lets through is not answered until then
	meanwhile func(*lab) // what others do while the worker is dead; nil: nothing

	seen   int
	sprung bool
}

// warden watches over the traps of one lab.
type warden struct {
	l     *lab
	mu    sync.Mutex
	traps []*trap
}

// step returns the trap that a request springs, if any.
func (w *warden) step(fits func(*trap) bool) *trap {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.traps {
		if p.sprung || !fits(p) {
			continue
		}
		if p.seen++; p.seen >= max(1, p.nth) {
			p.sprung = true
			return p
		}
	}
	return nil
}

// spring kills the worker around do, and does not let it have the answer.
func (w *warden) spring(p *trap, do func()) {
	if p.after {
		do()
	}
	when := "before"
	if p.after {
		when = "after"
	}
	w.l.logf("%s: %s", when, p.name)
	w.l.kill(partWorker)
	if p.meanwhile != nil {
		p.meanwhile(w.l)
	}
}

// until waits until a trap is sprung, for a minute at most.
func (w *warden) until(p *trap) {
	for range 6000 {
		w.mu.Lock()
		sprung := p.sprung
		w.mu.Unlock()
		if sprung {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// front stands before an HTTP service.
func (w *warden) front(target string) string {
	t := w.l.t
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.Host = r.In.Host // S3 requests are signed with it
	}, ErrorLog: log.New(io.Discard, "", 0)}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/"+w.l.stack.S3.Bucket)
		p := w.step(func(p *trap) bool { return p.path != nil && p.method == r.Method && p.path.MatchString(path) })
		if p == nil {
			through.ServeHTTP(out, r)
			return
		}
		do := func() { through.ServeHTTP(httptest.NewRecorder(), r) }
		if p.with != nil {
			do()
			w.until(p.with)
		} else {
			w.spring(p, do)
		}
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// temporal stands before Temporal and sees what workers decide.
func (w *warden) temporal(target string) string {
	t := w.l.t
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	service, err := proxy.NewWorkflowServiceProxyServer(proxy.WorkflowServiceProxyOptions{Client: workflowservice.NewWorkflowServiceClient(conn)})
	require.NoError(t, err)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		done, ok := req.(*workflowservice.RespondWorkflowTaskCompletedRequest)
		if !ok {
			return next(ctx, req)
		}
		p := w.step(func(p *trap) bool {
			for _, c := range done.GetCommands() {
				if p.command != nil && p.command(c) {
					return true
				}
			}
			return false
		})
		if p == nil {
			return next(ctx, req)
		}
		w.spring(p, func() { _, _ = next(context.WithoutCancel(ctx), req) })
		return nil, status.Error(codes.Unavailable, "killed")
	}))
	workflowservice.RegisterWorkflowServiceServer(server, service)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}
