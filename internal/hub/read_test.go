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

const readme = `---
license: apache-2.0
configs:
- config_name: first
  data_files:
  - split: train
    path: first/*.parquet
  - split: test
    path:
    - held/b.parquet
    - held/a.parquet
- config_name: second
  default: true
  data_files: second/x.parquet
- config_name: texts
  data_files: texts/*.jsonl
---
# Card
`

// TestFind looks for the files of configs and splits in repositories of several layouts.
func TestFind(t *testing.T) {
	t.Parallel()
	p := []byte("PAR1")
	carded := map[string][]byte{
		"README.md": []byte(readme), "first/1.parquet": p, "first/0.parquet": p, "held/a.parquet": p, "held/b.parquet": p, "second/x.parquet": p, "texts/a.jsonl": p, "stray.parquet": p,
	}
	sharded := map[string][]byte{
		"data/train-00000-of-00002.parquet": p, "data/train-00001-of-00002.parquet": p, "data/extra_part-00000-of-00001-abc.parquet": p,
		"other/test.parquet": p,
	}
	copied := map[string][]byte{"default/train/0000.parquet": p, "default/train/0001.parquet": p, "en/partial-train/0000.parquet": p}
	cases := []struct {
		name  string
		files map[string][]byte
		copy  map[string][]byte
		src   string // after hf://ann/pairs
		want  string // config split files
		says  string
	}{
		{"by card, default", carded, nil, "", "second train second/x.parquet", ""},
		{"by card, config", carded, nil, "?config=first", "first train first/0.parquet first/1.parquet", ""},
		{"by card, order of patterns", carded, nil, "?config=first&split=test", "first test held/b.parquet held/a.parquet", ""},
		{"by card, no such config", carded, nil, "?config=third", "", `no config "third"; there are first, second, texts`},
		{"by card, no such split", carded, nil, "?split=test", "", `config "second" has no split "test" in Parquet; there are train`},
		{"by card, config in another format", carded, map[string][]byte{"texts/train/0000.parquet": p}, "?config=texts", "texts train texts/train/0000.parquet copy", ""},
		{"by path", carded, nil, "/held/*.parquet", "  held/a.parquet held/b.parquet", ""},
		{"by one path", carded, nil, "/stray.parquet", "  stray.parquet", ""},
		{"by wrong path", carded, nil, "/held/c.parquet", "", "no Parquet file has that path"},
		{"shards", sharded, nil, "", "default train data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet", ""},
		{"shards, other split", sharded, nil, "?split=extra_part", "default extra_part data/extra_part-00000-of-00001-abc.parquet", ""},
		{"folders", map[string][]byte{"train/a.parquet": p, "dev/b.parquet": p, "README.md": []byte("hello")}, nil, "?split=validation", "default validation dev/b.parquet", ""},
		{"names", map[string][]byte{"my-training.parquet": p, "x_test.parquet": p, "trained.parquet": p}, nil, "?split=train", "default train my-training.parquet", ""},
		{"anything", map[string][]byte{"a.parquet": p, "b/c.parquet": p, ".hidden/d.parquet": p}, nil, "", "default train a.parquet b/c.parquet", ""},
		{"only a test split", map[string][]byte{"data/test-00000-of-00001.parquet": p}, nil, "", "default test data/test-00000-of-00001.parquet", ""},
		{"two splits, neither train", map[string][]byte{"data/test-00000-of-00001.parquet": p, "data/val-00000-of-00001.parquet": p}, nil, "", "", "has to be chosen of test, val"},
		{"copy", map[string][]byte{"a.jsonl": p}, copied, "", "default train default/train/0000.parquet default/train/0001.parquet copy", ""},
		{"copy, partial", map[string][]byte{"a.jsonl": p}, copied, "?config=en", "en train en/partial-train/0000.parquet copy partial", ""},
		{"copy, no such config", map[string][]byte{"a.jsonl": p}, copied, "?config=de", "", `no config "de"; there are default, en`},
		{"copy's own branch", map[string][]byte{"a.jsonl": p}, copied, "@refs/convert/parquet?config=en", "en train en/partial-train/0000.parquet partial", ""},
		{"copy of another revision", map[string][]byte{"a.jsonl": p}, copied, "@old", "", "of another one"},
		{"nothing", map[string][]byte{"a.jsonl": p}, nil, "", "", "no Parquet copy of it"},
		{"no such revision", carded, nil, "@nothing", "", "check the revision's name"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := server(t, hubtest.Options{PageSize: 2})
			s.AddRepo("ann/pairs", false, false)
			s.Put("ann/pairs", "old", map[string][]byte{"old.jsonl": p})
			head := s.Put("ann/pairs", "main", tc.files)
			if tc.copy != nil {
				s.Put("ann/pairs", "refs/convert/parquet", tc.copy)
			}
			src, err := hub.ParseSource("hf://ann/pairs" + tc.src)
			if err != nil {
				t.Fatal(err)
			}
			got, err := client(t, s, "").Find(context.Background(), src)
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) || !errors.Is(err, hub.ErrNotFound) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parts := []string{got.Config, got.Split}
			for _, f := range got.Files {
				parts = append(parts, f.Path)
			}
			if got.Converted {
				parts = append(parts, "copy")
			}
			if got.Partial {
				parts = append(parts, "partial")
			}
			if diff := cmp.Diff(tc.want, strings.Join(parts, " ")); diff != "" {
				t.Error(diff)
			}
			if src.Revision == "" && (got.Source != head || (got.Commit == head) == got.Converted) {
				t.Errorf("pinned to %s and %s, expected %s", got.Commit, got.Source, head)
			}
		})
	}
}

// TestRead pins a private dataset, reads it by ranges through the storage host, and goes on reading the same rows
// after the branch moved.
func TestRead(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.AddRepo("ann/pairs", true, false)
	s.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00002.parquet": pairs(t, 500, 1), "data/train-00001-of-00002.parquet": pairs(t, 300, 2)})
	ctx := context.Background()
	c := client(t, s, secret)
	src := hub.Source{Repo: repo}
	table, err := c.Find(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	s.Put("ann/pairs", "main", map[string][]byte{"data/train-00000-of-00002.parquet": pairs(t, 5, 9), "data/train-00001-of-00002.parquet": nil})
	rows := collect(t, c, table, hub.Columns{"instruction": "prompt"})
	if len(rows) != 800 || rows[500].Index != 0 || rows[799].File != "data/train-00001-of-00002.parquet" || !strings.HasPrefix(rows[499].Values["instruction"], "prompt 499 of 1") {
		t.Fatalf("%d rows, the last %+v", len(rows), rows[len(rows)-1])
	}
	src.Revision = table.Commit
	again, err := c.Find(ctx, src)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, collect(t, c, again, hub.Columns{"instruction": "prompt"})); diff != "" {
		t.Error(diff)
	}
	resolves := 0
	for _, r := range s.Requests() {
		if r.Storage && r.Token != "" {
			t.Error("the token went to the storage host")
		}
		if strings.Contains(r.Path, "/resolve/") {
			resolves++
		}
	}
	if resolves != 4 { // once a file and reader
		t.Errorf("asked %d times where a file lies", resolves)
	}
	f, commit, err := c.Head(ctx, repo, table.Commit, "data/train-00000-of-00002.parquet")
	if err != nil || f.SHA256 != table.Files[0].SHA256 || f.Size != table.Files[0].Size || commit != table.Commit {
		t.Errorf("head: %+v %s %v", f, commit, err)
	}
	if f, _, err := c.Head(ctx, repo, "main", ".gitattributes"); err != nil || f.Size == 0 || len(f.OID) != 40 {
		t.Errorf("head: %+v %v", f, err)
	}
}

func TestReadRefused(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{})
	s.AddRepo("ann/private", true, false)
	s.AddRepo("ann/gated", false, true)
	s.Put("ann/gated", "main", map[string][]byte{"a.parquet": pairs(t, 3, 1)})
	cases := []struct {
		token, repo string
		kind        error
		says        string
	}{
		{"", "ann/private", hub.ErrUnauthorized, "HF_TOKEN"},
		{reader, "ann/private", hub.ErrNotFound, "may not read it"},
		{"hf_wrong", "ann/private", hub.ErrUnauthorized, "make a new token"},
		{"", "ann/absent", hub.ErrUnauthorized, "check owner and name"},
		{reader, "ann/absent", hub.ErrNotFound, "check owner and name"},
		{"", "ann/gated", hub.ErrGated, "no token was given"},
		{reader, "ann/gated", hub.ErrGated, "accept the conditions"},
		{secret, "ann/gated", nil, ""},
		{secret, "ann/private", hub.ErrNotFound, "no Parquet"},
	}
	for _, tc := range cases {
		src, err := hub.ParseSource("hf://" + tc.repo)
		if err != nil {
			t.Fatal(err)
		}
		c := client(t, s, tc.token)
		table, err := c.Find(context.Background(), src)
		if err == nil {
			for _, err = range c.Rows(context.Background(), table, nil) {
				if err != nil {
					break
				}
			}
		}
		if !errors.Is(err, tc.kind) || (err != nil && !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%q %s: %v", tc.token, tc.repo, err)
		}
	}
}

func TestRenamed(t *testing.T) {
	t.Parallel()
	s := server(t, hubtest.Options{PageSize: 1})
	s.AddRepo("ann/before", true, false)
	s.Put("ann/before", "main", map[string][]byte{"a.parquet": pairs(t, 3, 1), "b.parquet": pairs(t, 3, 2)})
	s.Rename("ann/before", "ann/after")
	c := client(t, s, secret)
	table, err := c.Find(context.Background(), hub.Source{Repo: hub.Repo{Owner: "ann", Name: "before"}})
	if err != nil {
		t.Fatal(err)
	}
	if rows := collect(t, c, table, nil); len(rows) != 6 {
		t.Errorf("%d rows", len(rows))
	}
}

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
