package origin_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
)

// site is a server of files over HTTPS that can be told to misbehave.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	tag    string
	mute   bool                                              // tells no ETag
	blunt  bool                                              // knows no ranges
	before func(w http.ResponseWriter, r *http.Request) bool // true: answered
	asked  atomic.Int64
	sent   atomic.Int64
}

func newSite(t *testing.T, files map[string][]byte) *site {
	t.Helper()
	s := &site{files: files, tag: `"1"`}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	s.mu.Lock()
	before, tag := s.before, s.tag
	body, ok := s.files[r.URL.Path]
	mute, blunt := s.mute, s.blunt
	s.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	if !mute {
		w.Header().Set("ETag", tag)
	}
	if blunt {
		r.Header.Del("Range")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
		return
	}
	http.ServeContent(counting{w, &s.sent}, r, "x.bin", time.Time{}, bytes.NewReader(body))
}

type counting struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func (s *site) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *site) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// places reads from the site alone.
func (s *site) places() *origin.Places {
	web := origin.NewWeb(origin.WebOptions{
		Allowed: func(a string) bool { return strings.HasPrefix(a, s.URL+"/") }, RootCAs: s.roots(), Backoff: time.Millisecond, Stall: 300 * time.Millisecond,
	})
	return &origin.Places{Web: web, PathsBase: s.URL + "/base/"}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func whole(t *testing.T, f intake.File) ([]byte, error) {
	t.Helper()
	body, err := f.Stream(t.Context())
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// A file is read over interruptions, from servers with and without ranges, as a stream and at random.
func TestWebIsReadOverInterruptions(t *testing.T) {
	t.Parallel()
	content := noise(1 << 20)
	for _, blunt := range []bool{false, true} {
		t.Run(fmt.Sprintf("blunt %v", blunt), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, map[string][]byte{"/a.bin": content})
			s.blunt = blunt
			var n atomic.Int64
			s.before = func(w http.ResponseWriter, _ *http.Request) bool {
				switch n.Add(1) % 4 {
				case 1:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				case 3:
					panic(http.ErrAbortHandler)
				}
				return false
			}
			p := s.places()
			files, pinned, err := p.List(t.Context(), origin.Want{Path: s.URL + "/a.bin?download=1"})
			if err != nil || len(files) != 1 || files[0].Size != int64(len(content)) || files[0].ETag != `"1"` || strings.Contains(files[0].Name, "?") || pinned.Bytes != int64(len(content)) {
				t.Fatalf("%+v, %+v, %v", files, pinned, err)
			}
			f := p.Open(files[0])
			got, err := whole(t, f)
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			at, err := f.At(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			part := make([]byte, 1000)
			if n, err := at.ReadAt(part, 500_000); n != 1000 || err != nil || !bytes.Equal(part, content[500_000:501_000]) {
				t.Errorf("%d, %v", n, err)
			}
			if n, err := at.ReadAt(part, int64(len(content)-10)); n != 10 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if c, ok := at.(io.Closer); ok {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// breaking ends a body in the middle and, the first time, changes the file.
func TestWebFileThatChanges(t *testing.T) {
	t.Parallel()
	content := noise(1 << 20)
	s := newSite(t, map[string][]byte{"/a.bin": content})
	p := s.places()
	files, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/a.bin"})
	if err != nil {
		t.Fatal(err)
	}
	// while it is read
	var once sync.Once
	s.set(func() {
		s.before = func(w http.ResponseWriter, r *http.Request) bool {
			cut := false
			once.Do(func() {
				cut = true
				w.Header().Set("ETag", `"1"`)
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				_, _ = w.Write(content[:1000])
				_ = http.NewResponseController(w).Flush()
				s.set(func() { s.tag = `"2"` })
				panic(http.ErrAbortHandler)
			})
			return cut
		}
	})
	var ours *origin.Error
	if _, err := whole(t, p.Open(files[0])); !errors.As(err, &ours) || !strings.Contains(err.Error(), "has changed since") {
		t.Errorf("while it was read: %v", err)
	}
	// before it is read
	if _, err := whole(t, p.Open(files[0])); !errors.As(err, &ours) || !strings.Contains(err.Error(), "has changed since") {
		t.Errorf("before it was read: %v", err)
	}
	s.set(func() { delete(s.files, "/a.bin") })
	if _, err := whole(t, p.Open(files[0])); !errors.As(err, &ours) || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("gone: %v", err)
	}
}

// A spec reaches no place that the settings do not allow, not by a redirect either.
func TestWebKeepsToWhatIsAllowed(t *testing.T) {
	t.Parallel()
	secret := newSite(t, map[string][]byte{"/secret": []byte("hunter2")})
	s := newSite(t, map[string][]byte{"/a": []byte("a"), "/base/b": []byte("b")})
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		to := map[string]string{
			"/private": secret.URL + "/secret", "/meta": "https://169.254.169.254/latest/", "/mapped": "https://[::ffff:127.0.0.1]:1/", "/nat": "https://[64:ff9b::7f00:1]/",
			"/plain": "http://example.com/", "/file": "file:///etc/passwd", "/user": "https://me:pw@example.com/", "/round": "/round", "/here": "/a",
		}[r.URL.Path]
		if to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
		return to != ""
	}
	p := s.places()
	for path, want := range map[string]string{
		"/private": "a private address", "/meta": "a private address", "/mapped": "a private address", "/nat": "a private address",
		"/plain": "redirects away from https", "/file": "redirects away from https", "/user": "redirects away from https", "/round": "over and over",
		"/nothing": "is gone",
	} {
		_, _, err := p.List(t.Context(), origin.Want{Path: s.URL + path})
		var ours *origin.Error
		if !errors.As(err, &ours) || !strings.Contains(err.Error(), want) || ours.Try == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if secret.asked.Load() != 0 {
		t.Error("a private place was asked")
	}
	if _, _, err := p.List(t.Context(), origin.Want{Path: secret.URL + "/secret"}); err == nil || !strings.Contains(err.Error(), "sources.https: ["+secret.URL+"/]") {
		t.Errorf("not allowed: %v", err)
	}
	files, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/here"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := whole(t, p.Open(files[0])); err != nil || string(got) != "a" {
		t.Errorf("a redirect at home: %q, %v", got, err)
	}
}

// What hangs is broken off and asked again; a context that ends ends it all.
func TestWebThatHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string][]byte{"/a": noise(100_000)})
	var hung atomic.Int64
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		if hung.Add(1) != 2 {
			return false
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 0))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	p := s.places()
	files, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/a"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := whole(t, p.Open(files[0])); err != nil || len(got) != 100_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.List(ended, origin.Want{Path: s.URL + "/a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// A list of paths names files below the base; what is no path and what is not there is said, and a limit takes a fair part.
func TestPathsList(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{}
	var list strings.Builder
	for i := range 40 {
		files[fmt.Sprintf("/base/crawl/%02d.warc.gz", i)] = bytes.Repeat([]byte("x"), i+1)
		fmt.Fprintf(&list, "crawl/%02d.warc.gz\n", i)
	}
	list.WriteString("crawl/lost.warc.gz\n\n../secret\nhttps://evil.example/x\n/etc/passwd\n" + strings.Repeat("a", 3000) + "\n")
	files["/lists/warc.paths"] = []byte(list.String())
	s := newSite(t, files)
	p := s.places()
	got, pinned, err := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/warc.paths"})
	if err != nil {
		t.Fatal(err)
	}
	var wrong []string
	for _, f := range got {
		if f.Wrong != "" {
			wrong = append(wrong, f.Name[strings.LastIndexByte(f.Name, '/')+1:]+": "+f.Wrong)
		} else if f.ETag == "" || f.Size == 0 || !strings.HasPrefix(f.URL, s.URL+"/base/crawl/") {
			t.Errorf("%+v", f)
		}
	}
	if len(got) != 45 || len(wrong) != 5 || pinned.Files != 45 {
		t.Errorf("%d files, %d wrong: %q", len(got), len(wrong), wrong)
	}
	few, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/warc.paths", Limit: 7})
	again, _, _ := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/warc.paths", Limit: 8})
	if err != nil || len(few) != 7 || len(again) != 8 {
		t.Fatalf("%d and %d files, %v", len(few), len(again), err)
	}
	for _, f := range few {
		found := false
		for _, g := range again {
			found = found || f.Name == g.Name
		}
		if !found {
			t.Errorf("%s left the choice as it grew", f.Name)
		}
	}
	p.PathsBase = s.URL + "/elsewhere/"
	if _, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/warc.paths"}); err == nil || !strings.Contains(err.Error(), "sources.paths_base") {
		t.Errorf("a wrong base: %v", err)
	}
	p.PathsBase = ""
	if _, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/warc.paths"}); err == nil || !strings.Contains(err.Error(), "sources.paths_base") {
		t.Errorf("no base: %v", err)
	}
}
