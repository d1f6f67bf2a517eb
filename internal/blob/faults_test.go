package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// behind returns a store that reaches its server through h, which is given the way on.
func behind(t *testing.T, h func(w http.ResponseWriter, r *http.Request, on http.Handler)) (faulty, direct *blob.Store) {
	t.Helper()
	cfg := s3test.Config(t)
	direct, err := blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	target, err := url.Parse(cfg.Endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is part of the signature
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h(w, r, proxy) }))
	t.Cleanup(srv.Close)
	cfg.Endpoint = srv.URL
	faulty, err = blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	return faulty, direct
}

func TestLostReplyIsOurOwn(t *testing.T) {
	t.Parallel()
	var puts atomic.Int64
	st, _ := behind(t, func(w http.ResponseWriter, r *http.Request, on http.Handler) {
		if r.Method != http.MethodPut || puts.Add(1) > 1 {
			on.ServeHTTP(w, r)
			return
		}
		on.ServeHTTP(httptest.NewRecorder(), r) // the object is written
		panic(http.ErrAbortHandler)             // the reply is lost
	})
	require.NoError(t, st.PutIfAbsent(t.Context(), "lease/1", []byte("mine")))
	require.Equal(t, int64(2), puts.Load())
}

func TestLostRequestMeetsAnother(t *testing.T) {
	t.Parallel()
	var puts atomic.Int64
	var direct *blob.Store
	st, direct := behind(t, func(w http.ResponseWriter, r *http.Request, on http.Handler) {
		if r.Method == http.MethodPut && puts.Add(1) == 1 {
			// Our request is lost, and somebody else writes the very same content meanwhile.
			if err := direct.PutIfAbsent(context.Background(), "lease/1", []byte("equal")); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler)
		}
		on.ServeHTTP(w, r)
	})
	require.ErrorIs(t, st.PutIfAbsent(t.Context(), "lease/1", []byte("equal")), blob.ErrExists)
}

func TestPassingErrorsAreWaitedOut(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	st, _ := behind(t, func(w http.ResponseWriter, r *http.Request, on http.Handler) {
		if n.Add(1)%2 == 1 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		on.ServeHTTP(w, r)
	})
	ctx := t.Context()
	require.NoError(t, st.Put(ctx, "a", []byte("x")))
	got, err := st.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
}

// cutting breaks off every body over 100 kB after 100 kB.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) > c.left {
		if _, err := c.ResponseWriter.Write(p[:c.left]); err != nil {
			return 0, err
		}
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestBrokenBodiesAreContinued(t *testing.T) {
	t.Parallel()
	st, direct := behind(t, func(w http.ResponseWriter, r *http.Request, on http.Handler) {
		if r.Method == http.MethodGet {
			w = &cutting{ResponseWriter: w, left: 100_000}
		}
		on.ServeHTTP(w, r)
	})
	ctx := t.Context()
	body := noise(450_000)
	require.NoError(t, direct.Put(ctx, "o", body))
	got, err := st.Get(ctx, "o")
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, got))

	rc, err := st.Stream(ctx, "o")
	require.NoError(t, err)
	defer rc.Close()
	_, err = io.CopyN(io.Discard, rc, 50_000)
	require.NoError(t, err)
	require.NoError(t, direct.Put(ctx, "o", noise(450_000)))
	_, err = io.Copy(io.Discard, rc)
	require.Error(t, err, "the rest is another object's")
}

func TestCheckFindsAStoreWithoutConditions(t *testing.T) {
	t.Parallel()
	st, _ := behind(t, func(w http.ResponseWriter, r *http.Request, on http.Handler) {
		if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("ETag", `"x"`)
			return // as an old store would, whatever stands there
		}
		if r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "" {
			_, _ = w.Write([]byte("selfalign preflight, second writer\n"))
			return
		}
		on.ServeHTTP(w, r)
	})
	require.ErrorContains(t, st.Check(t.Context()), "ignores conditional puts")
}

func TestCheckSaysWhatToTry(t *testing.T) {
	t.Parallel()
	cfg := s3test.Config(t)
	cfg.Endpoint = "http://127.0.0.1:1"
	st, err := blob.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.ErrorContains(t, st.Check(t.Context()), "the store is running")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.True(t, errors.Is(st.Check(ctx), context.Canceled))
	for status, want := range map[int]string{http.StatusForbidden: "credentials", http.StatusNotFound: "create the bucket"} {
		st, _ := behind(t, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(status) })
		err := st.Check(t.Context())
		require.ErrorContains(t, err, "Try:")
		require.ErrorContains(t, err, want)
	}
}
