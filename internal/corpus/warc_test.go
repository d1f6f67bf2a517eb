package corpus

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

// record writes one WARC record. Fields beside the type come as lines.
func record(kind, uri, contentType, block string, more ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "WARC/1.0\r\nWARC-Type: %s\r\n", kind)
	if uri != "" {
		fmt.Fprintf(&b, "WARC-Target-URI: %s\r\n", uri)
	}
	fmt.Fprintf(&b, "Content-Type: %s\r\n", contentType)
	for _, line := range more {
		b.WriteString(line + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s\r\n\r\n", len(block), block)
	return b.String()
}

func response(uri, header, body string) string {
	return record("response", uri, "application/http; msgtype=response", "HTTP/1.1 200 OK\r\n"+header+"\r\n"+body)
}

// webPage is a page with one section that is kept, recognisable by its number.
func webPage(i int) string {
	return fmt.Sprintf("<!DOCTYPE html><html><head><title>Site</title></head><body><article><h1>Page number %d</h1><p>%s</p></article></body></html>",
		i, strings.ReplaceAll(para(700), "number", fmt.Sprintf("no. %d", i)))
}

func page200(i int) string {
	return response(fmt.Sprintf("https://example.org/%d", i), "Content-Type: text/html; charset=utf-8\r\n", webPage(i))
}

func info() string {
	return record("warcinfo", "", "application/warc-fields", "software: test\r\n") +
		record("request", "https://example.org/1", "application/http; msgtype=request", "GET / HTTP/1.1\r\n\r\n")
}

// members compresses each record by itself, as crawlers do.
func members(t testing.TB, records ...string) string {
	t.Helper()
	var b bytes.Buffer
	for _, r := range records {
		b.Write(gzipOf(t, []byte(r)))
	}
	return b.String()
}

func zlibbed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func brotlied(s string) string {
	var b bytes.Buffer
	w := brotli.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func zstded(t testing.TB, s string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(s), nil))
}

// outcome lists the rows of a source: kept documents by name, rejects by reason.
func outcome(t testing.TB, name string, r io.Reader, opts DocumentOptions) []string {
	t.Helper()
	opts.Segments.RepeatJaccard = -1
	var got []string
	for item, err := range Documents(t.Context(), name, r, opts) {
		switch {
		case err != nil:
			t.Fatal(err)
		case item.Segment != nil:
			got = append(got, strings.TrimPrefix(item.Segment.Document, "https://example.org/"))
		default:
			got = append(got, item.Reject.Reason)
		}
	}
	return got
}

// TestWARC reads archives as crawlers, and those who break them, write them.
func TestWARC(t *testing.T) {
	t.Parallel()
	flip := func(s string, at int) string {
		b := []byte(s)
		for i := range 20 {
			b[at+i] ^= 0xa5
		}
		return string(b)
	}
	html := "Content-Type: text/html\r\n"
	three := members(t, page200(1), page200(2), page200(3))
	middle := len(members(t, page200(1))) + 200
	swap := func(old, repl string) string { return strings.Replace(page200(2), old, repl, 1) }
	length := func(n string) string {
		r := page200(2)
		i := strings.Index(r, "Content-Length: ")
		return r[:i] + "Content-Length: " + n + r[i+strings.IndexByte(r[i:], '\r'):]
	}
	wet := record("conversion", "https://example.org/t", "text/plain", "Title of it\n\n"+para(700))
	for _, tt := range []struct{ name, file, in, want string }{
		{"compressed by member", "a.warc.gz", members(t, info(), page200(1), page200(2)), "1 2"},
		{"compressed as a whole", "a.warc.gz", members(t, info()+page200(1)+page200(2)), "1 2"},
		{"not compressed", "a.warc", info() + page200(1) + page200(2), "1 2"},
		{"zstandard", "a.warc.zst", zstded(t, info()+page200(1)+page200(2)), "1 2"},
		{"known by its content", "crawl", members(t, info(), page200(1)), "1"},
		{"known by its content, not compressed", "crawl", info() + page200(1), "1"},
		{"texts", "a.warc.wet.gz", members(t, info(), wet), "t"},
		{"resource", "a.warc", record("resource", "https://example.org/r", "text/html", webPage(1)), "r"},
		{"no pages", "a.warc", record("response", "dns:example.org", "text/dns", "x") + response("u", "Content-Type: image/png\r\n", "\x89PNG") +
			record("response", "u", "application/http", "HTTP/1.1 404 Not Found\r\n\r\n"+webPage(1)) + record("response", "u", "application/http", "what?"), "not_html not_html http_status bad_record"},
		{"no content type", "a.warc", response("https://example.org/u", "", webPage(1)) + response("u", "", "plain"), "u not_html"},
		{"bare HTTP", "a.warc", record("response", "https://example.org/u", "application/http", "HTTP/2 200\nX: a\n folded\nbroken line\nContent-Type : text/html\n\n"+webPage(1)), "u"},
		{"chunked", "a.warc", response("https://example.org/u", html+"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x;x=y\r\n%s\r\n%X\r\n%s\r\n0\r\n\r\n", 500, webPage(1)[:500], len(webPage(1))-500, webPage(1)[500:])), "u"},
		{"said to be chunked", "a.warc", response("https://example.org/u", html+"Transfer-Encoding: chunked\r\n", webPage(1)), "u"},
		{"gzip body", "a.warc", response("https://example.org/u", html+"Content-Encoding: gzip\r\n", string(gzipOf(t, []byte(webPage(1))))), "u"},
		{"said to be gzip", "a.warc", response("https://example.org/u", html+"Content-Encoding: gzip\r\n", webPage(1)), "u"},
		{"deflate body", "a.warc", response("https://example.org/u", html+"Content-Encoding: deflate\r\n", zlibbed(webPage(1))), "u"},
		{"raw deflate body", "a.warc", response("https://example.org/u", html+"Content-Encoding: deflate\r\n", zlibbed(webPage(1))[2:]), "u"},
		{"said to be deflate", "a.warc", response("https://example.org/u", html+"Content-Encoding: deflate\r\n", webPage(1)), "u"},
		{"brotli body", "a.warc", response("https://example.org/u", html+"Content-Encoding: br\r\n", brotlied(webPage(1))), "u"},
		{"zstd body", "a.warc", response("https://example.org/u", html+"Content-Encoding: zstd\r\n", zstded(t, webPage(1))), "u"},
		{"unknown encoding", "a.warc", response("u", html+"Content-Encoding: pack200\r\n", "x"), "bad_encoding"},
		{"body that is a bomb", "a.warc", response("u", html+"Content-Encoding: gzip\r\n", string(bomb(t))), "bomb"},
		{"latin-1 by header", "a.warc", response("https://example.org/u", "Content-Type: text/html; charset=iso-8859-1\r\n", strings.Replace(webPage(1), "The word", "caf\xe9", 1)), "u"},
		{"folded field", "a.warc", swap("WARC-Target-URI: ", "WARC-Target-URI:\r\n\t"), "2"},
		{"in angle brackets", "a.warc", swap("https://example.org/2\r", "<https://example.org/2>\r"), "2"},
		{"damaged member", "a.warc.gz", flip(three, middle), "1 bad_gzip 3"},
		{"garbage between members", "a.warc.gz", members(t, page200(1)) + "garbage \x1f\x8b\x08 garbage" + members(t, page200(2)), "1 bad_gzip 2"},
		{"truncated", "a.warc.gz", three[:len(three)-100], "1 2 bad_gzip"},
		{"truncated inside", "a.warc.gz", members(t, page200(1))[:300] + members(t, page200(2)), "bad_record bad_gzip 2"},
		{"record cut off, member whole", "a.warc.gz", members(t, page200(1)[:500], page200(2)), "bad_record 2"},
		{"truncated, not compressed", "a.warc", (page200(1) + page200(2))[:len(page200(1))+500], "1 bad_record"},
		{"length too large", "a.warc.gz", members(t, page200(1), length("99999999999"), page200(3)), "1 bad_record 3"},
		{"length too small", "a.warc", page200(1) + length("100") + page200(3), "1 bad_record 3"},
		{"length beyond numbers", "a.warc", page200(1) + length("99999999999999999999") + page200(3), "1 bad_record 3"},
		{"length below zero", "a.warc", page200(1) + length("-1") + page200(3), "1 bad_record 3"},
		{"no length", "a.warc", page200(1) + swap("Content-Length", "Content-Size") + page200(3), "1 bad_record 3"},
		{"endless header", "a.warc", page200(1) + "WARC/1.0\r\n" + strings.Repeat("A: b\r\n", 50_000) + "\r\n\r\n" + page200(3), "1 bad_record 3"},
		{"endless line", "a.warc", page200(1) + "WARC/1.0\r\nA: " + strings.Repeat("b", 200_000) + "\r\n\r\n" + page200(3), "1 bad_record 3"},
		{"not a WARC", "a.warc", "hello", "bad_record"},
		{"empty", "a.warc", "", ""},
		{"bomb of one member", "a.warc.gz", members(t, page200(1)) + string(bomb(t)) + members(t, page200(2)), "1 bad_record bomb 2"},
		{"bomb of one record", "a.warc.gz", members(t, page200(1), record("response", "u", "application/http", strings.Repeat("a", 20<<20)), page200(2)), "1 bomb 2"},
		{"many bombs", "a.warc.gz", strings.Repeat(members(t, record("response", "u", "application/http", strings.Repeat("a", 10<<20))), 20) + members(t, page200(2)), strings.TrimSpace(strings.Repeat("bomb ", maxBombs+1))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.HalfReader(strings.NewReader(tt.in))} {
				if got := strings.Join(outcome(t, tt.file, r, DocumentOptions{}), " "); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
		})
	}
}

// TestWARCLarge steps over a record that is too large without holding it.
func TestWARCLarge(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	head := fmt.Sprintf("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: big\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n", size)
	in := io.MultiReader(strings.NewReader(page200(1)+head), io.LimitReader(zeros('a'), size), strings.NewReader("\r\n\r\n"+page200(2)))
	if got := strings.Join(outcome(t, "a.warc", in, DocumentOptions{Bounds: Bounds{MaxDocumentBytes: 1 << 20}}), " "); got != "1 too_large 2" {
		t.Errorf("got %q", got)
	}
}

// TestWARCDamage breaks archives anywhere and checks that every record whose bytes are whole still comes out.
func TestWARCDamage(t *testing.T) {
	t.Parallel()
	const records = 12
	var starts []int
	var whole []byte
	for i := range records {
		starts = append(starts, len(whole))
		whole = append(whole, gzipOf(t, []byte(page200(i)))...)
	}
	starts = append(starts, len(whole))
	rapid.Check(t, func(rt *rapid.T) {
		from := rapid.IntRange(0, len(whole)-1).Draw(rt, "from")
		n := rapid.IntRange(1, min(1500, len(whole)-from)).Draw(rt, "bytes")
		broken := slices.Clone(whole)
		switch rapid.SampledFrom([]string{"change", "remove", "insert"}).Draw(rt, "how") {
		case "change":
			copy(broken[from:], rapid.SliceOfN(rapid.Byte(), n, n).Draw(rt, "with"))
		case "remove":
			broken = slices.Delete(broken, from, from+n)
		default:
			broken = slices.Insert(broken, from, rapid.SliceOfN(rapid.Byte(), n, n).Draw(rt, "with")...)
		}
		got := outcome(t, "a.warc.gz", bytes.NewReader(broken), DocumentOptions{Language: "any"})
		for i := range records {
			if starts[i+1] <= from || starts[i] >= from+n {
				if !slices.Contains(got, fmt.Sprint(i)) {
					rt.Fatalf("record %d is lost: %v", i, got)
				}
			}
		}
	})
}

func FuzzWARC(f *testing.F) {
	f.Add([]byte(page200(1)))
	f.Add([]byte(members(f, info(), page200(1))))
	f.Add([]byte(members(f, page200(1)+page200(2))))
	f.Add([]byte(record("conversion", "u", "text/plain", "# a\n\nb")))
	f.Add([]byte("WARC/1.0\r\nWARC-Type: response\r\n folded\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip, br\r\n\r\n5\r\n\x1f\x8b\x08\r\n"))
	add(f, hostileCrawls(f)...)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDocuments(t, "f.warc", data)
		fuzzDocuments(t, "f.warc.gz", append([]byte{0x1f, 0x8b, 8}, data...))
		if r, ok := parseReply(data); ok {
			_, _, _ = r.decoded(hostile)
		}
	})
}

// BenchmarkWARC compares a crawl's way with what extraction alone takes of it.
func BenchmarkWARC(b *testing.B) {
	files, err := filepath.Glob("../../examples/corpus/*.html")
	if err != nil || len(files) == 0 {
		b.Fatalf("no pages: %v", err)
	}
	var archive bytes.Buffer
	var pages [][]byte
	size := 0
	for i, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		pages = append(pages, body)
		uri := fmt.Sprintf("https://example.org/%d", i)
		for _, r := range []string{
			record("request", uri, "application/http; msgtype=request", "GET / HTTP/1.1\r\nUser-Agent: crawler\r\n\r\n"),
			response(uri, "Content-Type: text/html\r\n", string(body)),
			record("metadata", uri, "application/warc-fields", "fetchTimeMs: 100\r\n"),
		} {
			archive.Write(gzipOf(b, []byte(r)))
		}
		size += len(body)
	}
	b.Run("archive", func(b *testing.B) {
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, err := range Documents(b.Context(), "a.warc.gz", bytes.NewReader(archive.Bytes()), DocumentOptions{}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("records", func(b *testing.B) { // reading without cutting
		b.SetBytes(int64(size))
		for b.Loop() {
			w := newWARCReader(newSource(b.Context(), bytes.NewReader(archive.Bytes()), Bounds{}.withDefaults()), "a.warc.gz")
			for {
				if _, _, _, ok := w.next(32 << 20); !ok {
					break
				}
			}
		}
	})
	b.Run("extraction", func(b *testing.B) {
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, body := range pages {
				text, _ := decode(body, true, "")
				extract(text)
			}
		}
	})
	b.Run("pages", func(b *testing.B) { // extraction, segmentation, language
		b.SetBytes(int64(size))
		for b.Loop() {
			for _, body := range pages {
				for _, err := range Documents(b.Context(), "a.html", bytes.NewReader(body), DocumentOptions{}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}
