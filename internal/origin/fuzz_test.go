package origin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
)

func packed(t testing.TB, body []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestListBounds stops at lists that no crawl has, soon, and reads one of Common Crawl's size.
func TestListBounds(t *testing.T) {
	t.Parallel()
	line := "crawl-data/CC-MAIN-2024-10/segments/1707947473347.0/warc/CC-MAIN-20240220211055-20240221001055-00000.warc.gz\n"
	for name, tt := range map[string]struct {
		list  []byte
		lines int
		says  string
	}{
		"Common Crawl": {packed(t, bytes.Repeat([]byte(line), 100_000)), 100_000, ""},
		"too long":     {packed(t, bytes.Repeat([]byte(line), maxListBytes/len(line)+1)), 0, "bytes"},
		"one line":     {packed(t, bytes.Repeat([]byte("a"), maxListBytes+1)), 0, "bytes"},
		"empty lines":  {packed(t, bytes.Repeat([]byte("\n"), maxListLines+1)), 0, "lines"},
	} {
		lines := 0
		err := readList(bytes.NewReader(tt.list), func(_ int, _, wrong string) error {
			if wrong == "" {
				lines++
			}
			return nil
		})
		if tt.says == "" && (err != nil || lines != tt.lines) || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %d lines, %v", name, lines, err)
		}
	}
}

// Lines of a list never lead out of the base, whatever the bytes are.
func FuzzPathsList(f *testing.F) {
	f.Add([]byte("crawl/a.warc.gz\n../x\n/etc\nhttps://h/x\na//b\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0})
	f.Add(packed(f, bytes.Repeat([]byte("\n"), 4<<20)))
	f.Add(packed(f, bytes.Repeat([]byte("a"), 4<<20)))
	f.Add([]byte(strings.Repeat("a", 5000)))
	f.Fuzz(func(t *testing.T, list []byte) {
		p := &Places{PathsBase: "https://host.example/base"}
		_ = readList(bytes.NewReader(list), func(_ int, name, wrong string) error {
			if wrong != "" {
				return nil
			}
			if got := p.listedFile(name); !strings.HasPrefix(got.URL, "https://host.example/base/") || strings.Contains(got.URL, "/../") {
				t.Errorf("%q leads to %q", name, got.URL)
			}
			return nil
		})
	})
}

// What an answer says of itself is either what was asked for or an error.
func FuzzWebAnswer(f *testing.F) {
	f.Add(206, "bytes 5-14/100", "1", int64(5), int64(10))
	f.Add(200, "", "", int64(0), int64(-1))
	f.Add(416, "bytes */7", "-3", int64(9), int64(1))
	f.Fuzz(func(t *testing.T, status int, contentRange, after string, off, n int64) {
		off, n = max(off, 0)%1e12, max(n, -1)%1e12
		h := http.Header{"Content-Range": {contentRange}, "Retry-After": {after}}
		got, err := answer(&http.Response{StatusCode: status, Header: h, ContentLength: -1, Body: io.NopCloser(nil)}, off, n)
		if err == nil && got.ranges && got.from != off {
			t.Errorf("%+v for %d bytes from %d", got, n, off)
		}
		if retryAfter(h) < 0 {
			t.Error("a negative wait")
		}
	})
}

// Patterns that anybody may write neither panic nor match without end.
func FuzzMatch(f *testing.F) {
	f.Add("crawl/**/*.warc.gz", "crawl/a/b/c.warc.gz")
	f.Add("{a,{b,[c", "a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 60 || len(name) > 60 {
			return
		}
		if Match(pattern, name) && CheckPattern(pattern) != nil {
			t.Errorf("%q matches %q and is no pattern", pattern, name)
		}
		if before := Before(pattern); !strings.HasPrefix(pattern, before) || IsPattern(before) {
			t.Errorf("before %q: %q", pattern, before)
		}
	})
}
