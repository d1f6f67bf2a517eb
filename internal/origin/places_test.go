package origin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
)

// buckets are places of stores alone.
func buckets(stores ...*blob.Store) *origin.Places {
	return &origin.Places{Bucket: func(_ context.Context, bucket string) (*blob.Store, error) {
		for _, st := range stores {
			if st.Bucket() == bucket {
				return st, nil
			}
		}
		return nil, fmt.Errorf("no bucket %s", bucket)
	}}
}

func fill(t *testing.T, st *blob.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := st.Put(t.Context(), key, []byte("The text of "+key+".")); err != nil {
			t.Fatal(err)
		}
	}
}

// outcomes reads a file and lists what came of it.
func outcomes(t *testing.T, f intake.File) (rows []string, err error) {
	t.Helper()
	for item, e := range intake.Documents(t.Context(), f, corpus.DocumentOptions{Language: "any", Segments: corpus.SegmentRules{MinChars: 5}}) {
		switch {
		case e != nil:
			err = e
		case item.Reject != nil:
			rows = append(rows, item.Reject.Reason)
		default:
			rows = append(rows, item.Segment.Text)
		}
	}
	return rows, err
}

// TestS3Addresses finds objects, folders and patterns, and what each leaves out.
func TestS3Addresses(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	fill(t, st, "crawl/a/1.txt", "crawl/a/2.html", "crawl/b/c/3.txt", "crawl/b/.hidden.txt", "crawl/4.txt", "crawlers.txt", "odd/[x].txt", "odd/x.txt")
	if err := st.Put(t.Context(), "crawl/empty.txt", nil); err != nil {
		t.Fatal(err)
	}
	p := buckets(st)
	for pattern, want := range map[string]string{
		"crawl/":           "crawl/4.txt crawl/a/1.txt crawl/a/2.html crawl/b/c/3.txt",
		"crawl":            "crawl/4.txt crawl/a/1.txt crawl/a/2.html crawl/b/c/3.txt",
		"crawl/a/1.txt":    "crawl/a/1.txt",
		"crawl/*.txt":      "crawl/4.txt",
		"crawl/*/*":        "crawl/a/1.txt crawl/a/2.html",
		"crawl/**/*.txt":   "crawl/4.txt crawl/a/1.txt crawl/b/c/3.txt",
		"cr*/{a,b}/**":     "crawl/a/1.txt crawl/a/2.html crawl/b/c/3.txt",
		"crawl/?/[13].txt": "crawl/a/1.txt",
		"*.txt":            "crawlers.txt",
		"odd/[x].txt":      "odd/[x].txt", // what is there under its very name
		`odd/\[x\].txt`:    "odd/[x].txt",
		"odd/[xy].txt":     "odd/x.txt",
		"crawl/none*":      "error: there is nothing",
		"crawl/{a":         "error: the pattern cannot be read",
		"elsewhere/":       "error: there is nothing",
	} {
		var got []string
		files, pinned, err := p.List(t.Context(), origin.Want{Path: st.URI(pattern)})
		for _, f := range files {
			if f.ETag == "" || f.Size == 0 || f.Name != st.URI(f.Key) {
				t.Errorf("%s: %+v is not pinned", pattern, f)
			}
			got = append(got, f.Key)
		}
		if text, wantsError := strings.CutPrefix(want, "error: "); wantsError {
			var ours *origin.Error
			if !errors.As(err, &ours) || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", pattern, err, text)
			}
			continue
		}
		if slices.Sort(got); err != nil || strings.Join(got, " ") != want || pinned.Files != len(got) || pinned.Digest == "" {
			t.Errorf("%s: %q, %v; want %q", pattern, got, err, want)
		}
	}
	files, _, err := p.List(t.Context(), origin.Want{Path: st.URI("crawl/**/*.txt")})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Put(t.Context(), files[0].Key, []byte("Another text.")); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), files[1].Key); err != nil {
		t.Fatal(err)
	}
	for i, says := range []string{"has changed", "is gone", ""} {
		rows, err := outcomes(t, p.Open(files[i]))
		var ours *origin.Error
		if says != "" && (!errors.As(err, &ours) || !strings.Contains(err.Error(), says) || len(rows) > 0) || says == "" && (err != nil || len(rows) != 1) {
			t.Errorf("%s: %q, %v; want %q", files[i].Name, rows, err, says)
		}
	}
}

// TestPathsBaseInS3 reads a list in one bucket whose files lie in another.
func TestPathsBaseInS3(t *testing.T) {
	t.Parallel()
	lists, data := s3test.Store(t), s3test.Store(t)
	fill(t, data, "base/crawl/1.txt", "base/crawl/2 100%.txt", "crawl/3.txt")
	if err := lists.Put(t.Context(), "wet.paths", []byte("crawl/1.txt\ncrawl/2 100%.txt\ncrawl/3.txt\n../crawl/3.txt\n")); err != nil {
		t.Fatal(err)
	}
	p := buckets(lists, data)
	for _, base := range []string{data.URI("base"), data.URI("base/")} {
		p.PathsBase = base
		files, _, err := p.List(t.Context(), origin.Want{Path: lists.URI("wet.paths")})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range files {
			rows, err := outcomes(t, p.Open(f))
			if err != nil {
				t.Error(err)
			}
			got = append(got, rows...)
			if f.Wrong == "" && (f.ETag == "" || f.Bucket != data.Bucket()) {
				t.Errorf("%+v is not pinned", f)
			}
		}
		slices.Sort(got)
		if want := []string{"The text of base/crawl/1.txt.", "The text of base/crawl/2 100%.txt.", "missing_file", "missing_file"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	p.PathsBase = "s3://no-such-bucket/"
	if _, _, err := p.List(t.Context(), origin.Want{Path: lists.URI("wet.paths")}); err == nil {
		t.Error("a base that is not there")
	}
}

// TestLongList turns away those files of a long list that are not there, whether anybody looked for them before or not.
func TestLongList(t *testing.T) {
	t.Parallel()
	const listed = 1200
	files := map[string][]byte{}
	var list strings.Builder
	for i := range listed {
		key := fmt.Sprintf("crawl/%04d.txt", i)
		list.WriteString(key + "\n")
		if i%3 != 1 {
			files["/base/"+key] = []byte("The text of " + key + ".")
		}
	}
	files["/lists/wet.paths"] = []byte(list.String())
	s := newSite(t, files)
	st := s3test.Store(t)
	if err := st.Put(t.Context(), "wet.paths", []byte(list.String())); err != nil {
		t.Fatal(err)
	}
	p := s.places()
	asked := s.asked.Load()
	found, _, err := p.List(t.Context(), origin.Want{Path: s.URL + "/lists/wet.paths"})
	if err != nil || len(found) != listed {
		t.Fatal(len(found), err)
	}
	if n := s.asked.Load() - asked; n > 20 {
		t.Errorf("%d requests to list %d files", n, listed)
	}
	for i, f := range found {
		if i%40 > 4 {
			continue
		}
		rows, err := outcomes(t, p.Open(f))
		want := "The text of crawl/" + path.Base(f.Name) + "."
		if i%3 == 1 {
			want = corpus.ReasonNoFile
		}
		if err != nil || !slices.Equal(rows, []string{want}) {
			t.Errorf("%s: %q, %v; want %q", f.Name, rows, err, want)
		}
	}
	s.set(func() { delete(s.files, "/base/crawl/0000.txt") })
	if rows, err := outcomes(t, p.Open(found[0])); err != nil || !slices.Equal(rows, []string{corpus.ReasonNoFile}) {
		t.Errorf("a file that was seen before: %q, %v", rows, err)
	}
	refuse := func(status int) {
		s.set(func() {
			s.before = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true }
		})
	}
	refuse(http.StatusForbidden)
	if rows, err := outcomes(t, p.Open(found[30])); err == nil || !strings.Contains(err.Error(), "Try: ") {
		t.Errorf("a file that may not be read: %q, %v", rows, err)
	}
	in := buckets(st)
	in.PathsBase = st.URI("base")
	fill(t, st, "base/crawl/0000.txt")
	found, _, err = in.List(t.Context(), origin.Want{Path: st.URI("wet.paths")})
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := outcomes(t, in.Open(found[1000])); err != nil || !slices.Equal(rows, []string{corpus.ReasonNoFile}) {
		t.Errorf("in S3: %q, %v", rows, err)
	}
}

// TestHubAnswers reads a file of a commit while the Hub answers otherwise: who may not read needs a person, a file that the Hub
// will not give is a reject, and what passes is neither.
func TestHubAnswers(t *testing.T) {
	t.Parallel()
	remote, err := hubtest.Start(hubtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = remote.Close() })
	remote.AddRepo("ann/texts", false, false)
	remote.Put("ann/texts", "main", map[string][]byte{"raw/a.txt": []byte("The text of a."), "raw/b.txt": []byte("The text of b.")})
	client, err := hub.New(hub.Options{Endpoint: remote.URL(), Attempts: 2, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := &origin.Places{Hub: client}
	files, pinned, err := p.List(t.Context(), origin.Want{Path: "hf://ann/texts/raw/*.txt"})
	if err != nil || len(files) != 2 || pinned.Commit == "" {
		t.Fatal(files, err)
	}
	for _, tt := range []struct {
		fault  hubtest.Fault
		reject string
		says   string
		person bool
	}{
		{hubtest.Fault{}, "", "", false},
		{hubtest.Fault{Status: 401}, "", "HF_TOKEN", true},
		{hubtest.Fault{Status: 403}, "", "permission", true},
		{hubtest.Fault{Status: 403, Code: "GatedRepo"}, "", "accept the conditions", true},
		{hubtest.Fault{Status: 404, Code: "RepoNotFound"}, "", "owner and name", true},
		{hubtest.Fault{Status: 404, Code: "EntryNotFound"}, corpus.ReasonNoFile, "", false},
		{hubtest.Fault{Status: 451}, corpus.ReasonUnreadable, "", false},
		{hubtest.Fault{Status: 400}, corpus.ReasonUnreadable, "", false},
		{hubtest.Fault{Status: 503}, "", "503", false},
	} {
		remote.SetFault(func(*http.Request) hubtest.Fault { return tt.fault })
		rows, err := outcomes(t, p.Open(files[0]))
		var ours *origin.Error
		switch {
		case tt.says != "":
			if err == nil || !strings.Contains(err.Error(), tt.says) || errors.As(err, &ours) != tt.person || len(rows) > 0 {
				t.Errorf("%+v: %q, %v", tt.fault, rows, err)
			}
		case tt.reject != "":
			if err != nil || !slices.Equal(rows, []string{tt.reject}) {
				t.Errorf("%+v: %q, %v; want %s", tt.fault, rows, err, tt.reject)
			}
		case err != nil || !slices.Equal(rows, []string{"The text of a."}):
			t.Errorf("%+v: %q, %v", tt.fault, rows, err)
		}
	}
}
