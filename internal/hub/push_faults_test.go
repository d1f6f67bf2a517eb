package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
)

// TestPushFaults holds pushes to one commit with the right content while everything goes wrong once or more.
func TestPushFaults(t *testing.T) {
	t.Parallel()
	const some = 2 // times
	on := func(method, part string, f hubtest.Fault) func(*http.Request) hubtest.Fault {
		var n atomic.Int32
		return func(r *http.Request) hubtest.Fault {
			if r.Method == method && strings.Contains(r.URL.Path, part) && n.Add(1) <= some {
				return f
			}
			return hubtest.Fault{}
		}
	}
	retry := http.Header{"Retry-After": {"0.01"}}
	cases := map[string]func(*http.Request) hubtest.Fault{
		"commit lost after it was made":   on("POST", "/commit/main", hubtest.Fault{Lose: true}),
		"commit refused for a moment":     on("POST", "/commit/main", hubtest.Fault{Status: 503, Header: retry}),
		"commit never arrives":            on("POST", "/commit/main", hubtest.Fault{Drop: true}),
		"commit's answer cut":             on("POST", "/commit/main", hubtest.Fault{Cut: 10}),
		"gateway timeout":                 on("POST", "/commit/main", hubtest.Fault{Status: 504}),
		"rate limit everywhere":           on("GET", "/api/", hubtest.Fault{Status: 429, Header: http.Header{"Ratelimit": {`"api";r=0;t=0`}}}),
		"create lost":                     on("POST", "/api/repos/create", hubtest.Fault{Lose: true}),
		"create conflicts":                on("POST", "/api/repos/create", hubtest.Fault{Status: 409}),
		"preupload fails":                 on("POST", "/preupload/", hubtest.Fault{Status: 500}),
		"batch fails":                     on("POST", "/objects/batch", hubtest.Fault{Status: 502}),
		"batch's answer cut":              on("POST", "/objects/batch", hubtest.Fault{Cut: 40}),
		"verify fails":                    on("POST", "/objects/verify", hubtest.Fault{Status: 500}),
		"storage drops":                   on("PUT", "/put/", hubtest.Fault{Drop: true}),
		"storage slows down":              on("PUT", "/put/", hubtest.Fault{Status: 503, Header: retry}),
		"storage stores and stays silent": on("PUT", "/put/", hubtest.Fault{Lose: true}),
		"signature expired":               on("PUT", "/put/", hubtest.Fault{Status: 403}),
		"part expired":                    on("PUT", "/part/", hubtest.Fault{Status: 403}),
		"part fails":                      on("PUT", "/part/", hubtest.Fault{Status: 500}),
		"assembly fails":                  on("POST", "/complete/", hubtest.Fault{Status: 500}),
		"assembly lost":                   on("POST", "/complete/", hubtest.Fault{Lose: true}),
		"tree cut":                        on("GET", "/tree/", hubtest.Fault{Cut: 5}),
	}
	for name, fault := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{PageSize: 2, PartSize: 2000})
			hit := false
			var mu sync.Mutex
			s.SetFault(func(r *http.Request) hubtest.Fault {
				f := fault(r)
				mu.Lock()
				defer mu.Unlock()
				hit = hit || f.Drop || f.Lose || f.Cut > 0 || f.Status != 0
				return f
			})
			p := dataset(t, 4)
			p.Files = append(p.Files, hub.FromBytes("data/tiny.parquet", pairs(t, 1, 77)))
			if _, err := client(t, s, secret).Push(context.Background(), p); err != nil {
				t.Fatal(err)
			}
			s.SetFault(nil)
			checkPushed(t, s, p, 1)
			if !hit {
				t.Error("the fault did not happen")
			}
		})
	}
}

// TestPushBesideOthers lets somebody else commit between the look at the branch and the commit.
func TestPushBesideOthers(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.AddRepo(repo.String(), true, false)
	var n atomic.Int32
	s.SetFault(func(r *http.Request) hubtest.Fault {
		if strings.Contains(r.URL.Path, "/commit/main") && n.Add(1) <= 2 {
			s.Put(repo.String(), "main", map[string][]byte{fmt.Sprintf("other-%d.txt", n.Load()): []byte("theirs")})
		}
		return hubtest.Fault{}
	})
	p := dataset(t, 2)
	if _, err := client(t, s, secret).Push(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	files := s.Files(repo.String(), "main")
	if string(files["other-1.txt"]) != "theirs" || string(files["other-2.txt"]) != "theirs" || len(files["README.md"]) == 0 {
		t.Error("a commit was lost")
	}
	if got := len(s.Commits(repo.String(), "main")); got != 4 {
		t.Errorf("%d commits", got)
	}
}

// TestPushTwiceAtOnce lets two processes make the same push: one commit.
func TestPushTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	p := dataset(t, 3)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := client(t, s, secret).Push(context.Background(), p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkPushed(t, s, p, 1)
}

func TestPushRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ok := func(t *testing.T) hub.Push { return dataset(t, 1) }
	cases := []struct {
		name  string
		token string
		set   func(*hubtest.Server)
		push  func(*testing.T) hub.Push
		kind  error
		says  string
	}{
		{"no token", "", nil, ok, hub.ErrUnauthorized, "HF_TOKEN"},
		{"wrong token", "hf_nonsense", nil, ok, hub.ErrUnauthorized, "make a new token"},
		{"read token", reader, nil, ok, hub.ErrForbidden, "write"},
		{"public repository", secret, func(s *hubtest.Server) { s.AddRepo(repo.String(), false, false) }, ok, hub.ErrPublic, "make it private"},
		{"no such branch", secret, nil, func(t *testing.T) hub.Push { p := ok(t); p.Branch = "dev"; return p }, hub.ErrNotFound, "branches"},
		{
			"ignored file", secret, func(s *hubtest.Server) {
				s.AddRepo(repo.String(), true, false)
				s.Put(repo.String(), "main", map[string][]byte{".gitignore": []byte("README.md\n")})
			}, ok, hub.ErrProtocol, ".gitignore",
		},
		{"path out of the repository", secret, nil, func(t *testing.T) hub.Push {
			p := ok(t)
			p.Files = append(p.Files, hub.FromBytes("../x", nil))
			return p
		}, nil, "no path"},
		{"twice", secret, nil, func(t *testing.T) hub.Push {
			p := ok(t)
			p.Files = append(p.Files, hub.FromBytes("README.md", nil))
			return p
		}, nil, "twice"},
		{"key with a line break", secret, nil, func(t *testing.T) hub.Push { p := ok(t); p.Key = "a\nb"; return p }, nil, "visible ASCII"},
		{"nothing", secret, nil, func(t *testing.T) hub.Push { return hub.Push{Repo: repo} }, nil, "no files"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{})
			if tc.set != nil {
				tc.set(s)
			}
			_, err := client(t, s, tc.token).Push(ctx, tc.push(t))
			if err == nil || !strings.Contains(err.Error(), tc.says) || (tc.kind != nil && !errors.Is(err, tc.kind)) {
				t.Errorf("got %v", err)
			}
			if puts(s) != 0 {
				t.Error("something was uploaded")
			}
		})
	}
}

// TestLongWait checks that a wait too long to sit out comes back to the caller, who has other things to do.
func TestLongWait(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.SetFault(func(*http.Request) hubtest.Fault {
		return hubtest.Fault{Status: 429, Header: http.Header{"Ratelimit": {`"api";r=0;t=3000`}}}
	})
	_, err := client(t, s, secret).Push(context.Background(), dataset(t, 1))
	var e *hub.Error
	if !errors.As(err, &e) || e.RetryAfter != 3001*time.Second || !errors.Is(err, hub.ErrPassing) || !strings.Contains(err.Error(), "wait 50m1s") {
		t.Errorf("got %v", err)
	}
}

// TestSecrets makes every request fail in turn, at a server that repeats the token, and looks for it in errors and logs.
func TestSecrets(t *testing.T) {
	t.Parallel()
	p := dataset(t, 2)
	p.Files = append(p.Files, hub.FromBytes("data/tiny.parquet", pairs(t, 1, 77)))
	for at := 1; at < 30; at++ {
		for _, f := range []hubtest.Fault{
			{Status: 418, Code: secret, Header: http.Header{"X-Request-Id": {secret}}},
			{Drop: true},
			{Status: 302, Header: http.Header{"Location": {"http://127.0.0.1:1/x?Signature=abc&token=" + secret}}},
		} {
			s := server(t, hubtest.Options{PartSize: 4000})
			var n atomic.Int32
			s.SetFault(func(*http.Request) hubtest.Fault {
				if int(n.Add(1)) >= at {
					return f
				}
				return hubtest.Fault{}
			})
			var logged bytes.Buffer
			var mu sync.Mutex
			c := clientWith(t, hub.Options{
				Endpoint: s.URL(), Token: func() string { return secret }, Attempts: 2, Parallel: 1,
				Log: slog.New(slog.NewTextHandler(locked{&mu, &logged}, nil)),
			})
			if _, err := c.Push(context.Background(), p); err != nil {
				noSecret(t, err.Error())
				noSecret(t, fmt.Sprintf("%+v %#v", err, err))
			}
			noSecret(t, logged.String())
			s.Close()
		}
	}
}

type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// TestStall checks that a connection on which nothing moves is given up and the content sent anew.
func TestStall(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	var n atomic.Int32
	s.SetFault(func(r *http.Request) hubtest.Fault {
		if strings.HasPrefix(r.URL.Path, "/put/") && n.Add(1) == 1 {
			return hubtest.Fault{Delay: 3 * time.Second} // the body is not read meanwhile
		}
		return hubtest.Fault{}
	})
	c := clientWith(t, hub.Options{Endpoint: s.URL(), Token: func() string { return secret }, Stall: 200 * time.Millisecond})
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	p := hub.Push{Repo: repo, Files: []hub.Upload{hub.FromBytes("data/big.parquet", big)}}
	if _, err := c.Push(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	checkPushed(t, s, p, 1)
	if n.Load() < 2 {
		t.Error("the content was sent once only")
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	s.SetFault(func(r *http.Request) hubtest.Fault {
		if strings.HasPrefix(r.URL.Path, "/put/") {
			cancel()
			return hubtest.Fault{Delay: 50 * time.Millisecond, Status: 503}
		}
		return hubtest.Fault{}
	})
	if _, err := client(t, s, secret).Push(ctx, dataset(t, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestProgressIsMonotone(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	p := dataset(t, 5)
	var seen []int
	p.Progress = func(now hub.Progress) { seen = append(seen, now.FilesDone) }
	if _, err := client(t, s, secret).Push(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5}, seen); diff != "" {
		t.Error(diff)
	}
}
