package origin

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Lines of a list never lead out of the base, whatever the bytes are.
func FuzzPathsList(f *testing.F) {
	f.Add([]byte("crawl/a.warc.gz\n../x\n/etc\nhttps://h/x\na//b\n"))
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0})
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
