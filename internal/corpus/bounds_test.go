package corpus

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

func gzipOf(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zeros is an endless source of one byte.
type zeros byte

func (z zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(z)
	}
	return len(p), nil
}

func para(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "The word number %d of this text stands between %d others that nobody counted before it did. ", i, i*i+7)
	}
	return b.String()
}

// TestBounds feeds each kind of broken or hostile source and checks which reasons come out, how many segments, and
// that it takes no more than a few seconds.
func TestBounds(t *testing.T) {
	t.Parallel()
	good := para(700)
	goodLine := func(i int) string { return fmt.Sprintf(`{"text":"# Number %d\n\n%s"}`, i, good) + "\n" }
	noRepeat := SegmentRules{RepeatJaccard: -1}
	tests := []struct {
		name     string
		file     string
		in       io.Reader
		opts     DocumentOptions
		segments int
		reasons  string // in order
	}{
		{"empty", "a.html", strings.NewReader(" \n"), DocumentOptions{}, 0, "no_content"},
		{"no body", "a.html", strings.NewReader("<html><head><title>x</title></head></html>"), DocumentOptions{}, 0, "no_content"},
		{"picture named html", "a.html", strings.NewReader("\x89PNG\r\n\x1a\n\x00\x00"), DocumentOptions{}, 0, "binary"},
		{"pdf", "paper", strings.NewReader("%PDF-1.7 and so on"), DocumentOptions{}, 0, "binary"},
		{"too large", "a.txt", io.LimitReader(zeros('a'), 2000), DocumentOptions{Bounds: Bounds{MaxDocumentBytes: 1000}}, 0, "too_large"},
		{"endless", "a.html", zeros('<'), DocumentOptions{Bounds: Bounds{MaxDocumentBytes: 1 << 20}}, 0, "too_large"},
		{"only line breaks", "a.txt", io.LimitReader(io.MultiReader(strings.NewReader("x"), zeros('\n')), 1<<20), DocumentOptions{}, 0, "too_large"},
		{"deep", "a.html", strings.NewReader(strings.Repeat("<div>", 5000) + good), DocumentOptions{}, 0, "too_deep"},
		{"many elements", "a.html", strings.NewReader(strings.Repeat("<p>x", 400_000)), DocumentOptions{}, 0, "too_large"},
		{"formatting left open", "a.html", strings.NewReader(openFormatting(200, 40_000)), DocumentOptions{}, 0, "too_large"},
		{"headings without end", "a.md", strings.NewReader(strings.Repeat("# h\nx\n", 60_000)), DocumentOptions{Bounds: Bounds{MaxPieces: 3}}, 0, "too_short too_short too_short too_many_pieces"},
		{"long line between good ones", "a.jsonl", strings.NewReader(goodLine(1) + `{"text":"` + strings.Repeat("a", 10_000) + "\"}\n" + goodLine(2)), DocumentOptions{Segments: noRepeat, Bounds: Bounds{MaxLineBytes: 5000}}, 2, "line_too_long"},
		{"json array", "a.jsonl", strings.NewReader("[\n" + goodLine(1) + ",\n\n" + goodLine(2) + "]\n"), DocumentOptions{Segments: noRepeat}, 2, ""},
		{"json array cut off", "a.json", strings.NewReader("[" + goodLine(1) + "," + goodLine(2)[:300]), DocumentOptions{Segments: noRepeat}, 1, "bad_record"},
		{"json array with a long element", "a.json", strings.NewReader("[" + goodLine(1) + `,{"text":"[{]}` + strings.Repeat("a", 10_000) + "\"}," + goodLine(2) + "]"), DocumentOptions{Segments: noRepeat, Bounds: Bounds{MaxLineBytes: 5000}}, 2, "line_too_long"},
		{"json array of texts", "a.jsonl", strings.NewReader("[\n\"a\"]"), DocumentOptions{}, 0, "bad_record"},
		{"deep json", "a.jsonl", strings.NewReader(`{"text":` + strings.Repeat("[", 100_000) + "\n" + goodLine(1)), DocumentOptions{Segments: noRepeat}, 1, "bad_record"},
		{"bytes that are no text in a line", "a.jsonl", strings.NewReader("{\"text\":\"a\xff\"}\n" + goodLine(1)), DocumentOptions{Segments: noRepeat}, 1, "invalid_utf8"},
		{"a bad byte in mostly good text", "a.txt", strings.NewReader("Title\n\né é é " + good + "\xff"), DocumentOptions{Segments: noRepeat}, 0, "invalid_utf8"},
		{"latin-1 text", "a.txt", strings.NewReader("Title\n\ncaf\xe9 " + good), DocumentOptions{Segments: noRepeat}, 1, ""},
		{"gzip", "a.jsonl.gz", bytes.NewReader(gzipOf(t, []byte(goodLine(1)+goodLine(2)))), DocumentOptions{Segments: noRepeat}, 2, ""},
		{"gzip of two members", "a.jsonl.gz", bytes.NewReader(append(gzipOf(t, []byte(goodLine(1))), gzipOf(t, []byte(goodLine(2)))...)), DocumentOptions{Segments: noRepeat}, 2, ""},
		{"gzip without the name", "a.html", bytes.NewReader(gzipOf(t, []byte("<html><body><h1>T</h1><p>"+good))), DocumentOptions{Segments: noRepeat}, 1, ""},
		{"truncated gzip", "a.jsonl.gz", bytes.NewReader(append(gzipOf(t, []byte(goodLine(1))), cut(gzipOf(t, []byte(goodLine(2))), 40)...)), DocumentOptions{Segments: noRepeat}, 1, "bad_gzip"},
		{"gzip header alone", "a.jsonl.gz", strings.NewReader("\x1f\x8b"), DocumentOptions{}, 0, "bad_gzip"},
		{"bomb of one line", "a.jsonl.gz", bytes.NewReader(bomb(t)), DocumentOptions{}, 0, "bomb"},
		{"bomb of one page", "a.html.gz", bytes.NewReader(bomb(t)), DocumentOptions{}, 0, "too_large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			segments, reasons := 0, []string{}
			d := worked(t, func() {
				for item, err := range Documents(t.Context(), tt.file, tt.in, tt.opts) {
					if err != nil {
						t.Fatal(err)
					}
					if item.Segment != nil {
						segments++
					} else {
						reasons = append(reasons, item.Reject.Reason)
					}
				}
			})
			if segments != tt.segments || strings.Join(reasons, " ") != tt.reasons {
				t.Errorf("%d segments, rejects %v; want %d, %q", segments, reasons, tt.segments, tt.reasons)
			}
			if d > time.Minute {
				t.Errorf("took %v of the processor", d)
			}
		})
	}
}

// openFormatting leaves n different elements open, which a parser opens again in each of m paragraphs.
func openFormatting(n, m int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "<b id=%d>", i)
	}
	return b.String() + strings.Repeat("<p>x</p>", m)
}

func cut(b []byte, n int) []byte { return b[:len(b)-n] }

// bomb is 96 MiB of one letter in about 95 KiB.
func bomb(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.Copy(w, io.LimitReader(zeros('a'), 96<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReadError checks that a failing reader is an error and not a reject, also below gzip.
func TestReadError(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	zipped := gzipOf(t, []byte(strings.Repeat(`{"text":"x"}`+"\n", 100)))
	for name, in := range map[string]io.Reader{
		"a.jsonl":    io.MultiReader(strings.NewReader("{}\n"), iotest.ErrReader(lost)),
		"a.html":     io.MultiReader(strings.NewReader("<p>"), iotest.ErrReader(lost)),
		"a.jsonl.gz": io.MultiReader(bytes.NewReader(zipped[:len(zipped)/2]), iotest.ErrReader(lost)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var last error
			for item, err := range Documents(t.Context(), name, in, DocumentOptions{}) {
				if last != nil {
					t.Fatal("an item after the error")
				}
				if item.Reject != nil && item.Reject.Reason == ReasonBadGzip {
					t.Error("a lost connection was taken for broken compression")
				}
				last = err
			}
			if !errors.Is(last, lost) || !strings.Contains(last.Error(), name) {
				t.Errorf("got %v, want %v with the name", last, lost)
			}
		})
	}
}

// TestStop checks that both ways of ending early end it: the context and the loop's break.
func TestStop(t *testing.T) {
	t.Parallel()
	in := strings.Repeat(`{"instruction":"a","output":"b"}`+"\n", 1000) + strings.Repeat("bad\n", 1000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n, last := 0, error(nil)
	for _, err := range Seeds(ctx, "s.jsonl", iotest.OneByteReader(strings.NewReader(in)), SeedOptions{}) {
		if n++; n == 10 {
			cancel()
		}
		last = err
	}
	if !errors.Is(last, context.Canceled) || n > 200 {
		t.Errorf("%d items, then %v", n, last)
	}
	for _, stop := range []int{1, 2, 3, 4, 5, 6, 7} {
		n := 0
		doc := "# a\nx\n# B B\ny\n# Advertisement\nz\n#\nempty\n# c\n" + para(800) + "\n# d\n" + para(4000) + "\n## e\nx\n"
		for range Documents(t.Context(), "a.md", strings.NewReader(doc), DocumentOptions{Bounds: Bounds{MaxPieces: 5}}) {
			if n++; n == stop {
				break
			}
		}
	}
}

// TestMany holds memory flat: a long stream is read without keeping it.
func TestMany(t *testing.T) {
	t.Parallel()
	line := []byte(`{"instruction":"Say something.","output":"` + strings.Repeat("word ", 200) + `"}` + "\n")
	n := 0
	for item, err := range Seeds(t.Context(), "s.jsonl", io.LimitReader(&repeat{data: line}, int64(len(line))*20_000), SeedOptions{}) {
		if err != nil || item.Seed == nil {
			t.Fatal(item.Reject, err)
		}
		n++
	}
	if n != 20_000 {
		t.Errorf("%d seeds", n)
	}
}

type repeat struct {
	data []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}

// TestPendingRoots checks that a flat file of roots without replies stays within its bound and loses none of them.
func TestPendingRoots(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	const roots = maxPendingRoots + 5000
	for i := range roots {
		fmt.Fprintf(&b, `{"message_id":"m%d","message_tree_id":"m%d","parent_id":null,"role":"prompter","lang":"en","text":"q"}`+"\n", i, i)
	}
	n := 0
	for item, err := range Seeds(t.Context(), "s.jsonl", strings.NewReader(b.String()), SeedOptions{}) {
		if err != nil || item.Reject == nil || item.Reject.Reason != ReasonNoReply {
			t.Fatal(item, err)
		}
		n++
	}
	if n != roots {
		t.Errorf("%d rejects, want %d", n, roots)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		n    int
		want string
	}{{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"äöü", 2, "äö"}, {"äöü", 3, "äöü"}, {"日本語", 1, "日"}, {"a", 0, ""}} {
		if got := clip(tt.in, tt.n); got != tt.want || !utf8.ValidString(got) {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.in, tt.n, got, tt.want)
		}
	}
}
