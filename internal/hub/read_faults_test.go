package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

// TestReadFaults reads while addresses expire and connections break.
func TestReadFaults(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	for name, fault := range map[string]hubtest.Fault{
		"expired": {Status: 403}, "busy": {Status: 503, Header: http.Header{"Retry-After": {"0.01"}}}, "gone": {Drop: true}, "lost": {Lose: true}, "cut": {Cut: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{})
			s.AddRepo("ann/pairs", true, false)
			commit := s.Put("ann/pairs", "main", map[string][]byte{"a.parquet": content})
			var n atomic.Int32
			s.SetFault(func(r *http.Request) hubtest.Fault {
				if strings.HasPrefix(r.URL.Path, "/blob/") && n.Add(1)%3 == 2 {
					if fault.Status == 403 {
						s.Expire()
						return hubtest.Fault{}
					}
					return fault
				}
				return hubtest.Fault{}
			})
			c := client(t, s, secret)
			files, err := c.Tree(context.Background(), repo, commit)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			r := c.Open(context.Background(), repo, commit, files[1])
			for off := int64(0); ; off += 50_000 {
				b := make([]byte, 50_000)
				n, err := r.ReadAt(b, off)
				got = append(got, b[:n]...)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, content) {
				t.Errorf("read %d bytes of %d", len(got), len(content))
			}
		})
	}
}

// TestLyingStorage checks that a part of another place or file is never taken for the one asked for.
func TestLyingStorage(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]http.HandlerFunc{
		"another range": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-8/100")
			w.WriteHeader(206)
			_, _ = w.Write([]byte("abcd"))
		},
		"another size": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-3/101")
			w.WriteHeader(206)
			_, _ = w.Write([]byte("abcd"))
		},
		"no range":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); _, _ = w.Write([]byte("abcd")) },
		"another file": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("abcdefgh")) },
		"compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Content-Range", "bytes 0-3/100")
			w.WriteHeader(206)
			_, _ = w.Write([]byte("abcd"))
		},
		"unencrypted loop": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"file address": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(lie)
			defer srv.Close()
			c := clientWith(t, hub.Options{Endpoint: srv.URL, Attempts: 2})
			r := c.Open(context.Background(), repo, "main", hub.File{Path: "a", Size: 100})
			if _, err := r.ReadAt(make([]byte, 4), 0); !errors.Is(err, hub.ErrProtocol) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTokenStaysHome sends a client over redirects to other hosts, subdomains, ports and back, and looks where its
// token arrives.
func TestTokenStaysHome(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string // host and whether the token came along
	var next map[string]string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprintf("%s %t", r.Host, r.Header.Get("Authorization") != ""))
		if to := next[r.Host]; to != "" {
			delete(next, r.Host)
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		fmt.Fprint(w, `{"id":"a/b","sha":"0123456789012345678901234567890123456789"}`)
	}))
	defer srv.Close()
	all := srv.Listener.Addr().String()
	c := clientWith(t, hub.Options{
		Endpoint: "http://hub.test", Token: func() string { return secret },
		Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, all)
		}},
	})
	for name, tc := range map[string]struct {
		next map[string]string
		want []string
	}{
		"home":       {nil, []string{"hub.test true"}},
		"same host":  {map[string]string{"hub.test": "/elsewhere"}, []string{"hub.test true", "hub.test true"}},
		"written":    {map[string]string{"hub.test": "http://HUB.test:80/elsewhere"}, []string{"hub.test true", "HUB.test:80 true"}},
		"other":      {map[string]string{"hub.test": "http://cdn.test/x"}, []string{"hub.test true", "cdn.test false"}},
		"subdomain":  {map[string]string{"hub.test": "http://cdn.hub.test/x"}, []string{"hub.test true", "cdn.hub.test false"}},
		"port":       {map[string]string{"hub.test": "http://hub.test:8080/x"}, []string{"hub.test true", "hub.test:8080 false"}},
		"there&back": {map[string]string{"hub.test": "http://cdn.test/x", "cdn.test": "http://hub.test/y"}, []string{"hub.test true", "cdn.test false", "hub.test false"}},
	} {
		mu.Lock()
		asked, next = nil, tc.next
		mu.Unlock()
		if _, err := c.Info(context.Background(), repo, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, asked); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestWaits checks that the wait is the one that the server asked for.
func TestWaits(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]func() http.Header{
		"seconds": func() http.Header { return http.Header{"Retry-After": {"1"}} },
		"date": func() http.Header {
			return http.Header{"Retry-After": {time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)}}
		},
		"rate window": func() http.Header { return http.Header{"Ratelimit": {`"api";r=0;t=0`}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{})
			s.AddRepo("ann/pairs", false, false)
			var n atomic.Int32
			s.SetFault(func(*http.Request) hubtest.Fault {
				if n.Add(1) == 1 {
					return hubtest.Fault{Status: 429, Header: header()}
				}
				return hubtest.Fault{}
			})
			start := time.Now()
			if _, err := client(t, s, "").Info(context.Background(), repo, ""); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < 500*time.Millisecond {
				t.Errorf("waited %s", took)
			}
		})
	}
}

// TestNoHub points the client at something that is no Hub.
func TestNoHub(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello") }))
	defer srv.Close()
	_, err := clientWith(t, hub.Options{Endpoint: srv.URL}).Find(context.Background(), hub.Source{Repo: repo})
	if !errors.Is(err, hub.ErrProtocol) || !strings.Contains(err.Error(), "is a Hub") {
		t.Errorf("got %v", err)
	}
	srv.Close()
	_, err = clientWith(t, hub.Options{Endpoint: srv.URL, Attempts: 2}).Find(context.Background(), hub.Source{Repo: repo})
	if !errors.Is(err, hub.ErrPassing) || !strings.Contains(err.Error(), "can be reached") {
		t.Errorf("got %v", err)
	}
}
