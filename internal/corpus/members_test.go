package corpus

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func jsonLine(i int) string {
	line, _ := json.Marshal(map[string]string{"text": fmt.Sprintf("# Line %d\n\n", i) + strings.ReplaceAll(para(700), "number", fmt.Sprintf("no. %d", i))})
	return string(line) + "\n"
}

// TestArchiveMembers reads crawls and JSONL, packed once more or not, out of each kind of archive. A broken member is a
// reject, what it held before is kept, and the rest goes on.
func TestArchiveMembers(t *testing.T) {
	t.Parallel()
	lines := jsonLine(1) + "{broken\n" + jsonLine(2)
	wet := record("conversion", "https://example.org/wet", "text/plain", "# Head\n\n"+para(700))
	crawl := members(t, info(), page200(1), "no record at all", page200(2))
	packed := string(gzipOf(t, []byte(lines)))
	files := []string{
		"a.jsonl", lines, "in/b.jsonl.gz", packed, "c.ndjson.zst", zstded(t, lines), "d.warc", info() + page200(3), "e.warc.gz", crawl,
		"f.wet.gz", members(t, wet), "g.html.gz", string(gzipOf(t, []byte(webPage(4)))), "cut.jsonl.gz", packed[:len(packed)-5],
		"lie.jsonl.gz", jsonLine(5), "t.parquet", "PAR1", "deep.tar.gz", "x", "noname", jsonLine(6), "nozip", "PK\x03\x04", "h.txt", "# T\n\n" + para(700),
	}
	const want = "a.jsonl#1 bad_record a.jsonl#3 in/b.jsonl.gz#1 bad_record in/b.jsonl.gz#3 c.ndjson.zst#1 bad_record c.ndjson.zst#3 d.warc#https://example.org/3 " +
		"e.warc.gz#https://example.org/1 bad_record e.warc.gz#https://example.org/2 f.wet.gz#https://example.org/wet g.html.gz " +
		"cut.jsonl.gz#1 bad_record cut.jsonl.gz#3 bad_gzip lie.jsonl.gz#1 not_text not_text noname#1 not_text h.txt"
	zipped, rolled := zipOf(t, files...), tarOf(t, files...)
	if got := zipOutcome(t, bytes.NewReader(zipped), len(zipped), DocumentOptions{}); got != want {
		t.Errorf("zip:\n%s\nwant\n%s", got, want)
	}
	for name, in := range map[string][]byte{"a.tar": rolled, "a.tar.gz": gzipOf(t, rolled), "a.tar.zst": []byte(zstded(t, string(rolled)))} {
		if got := strings.Join(outcome(t, name, bytes.NewReader(in), DocumentOptions{}), " "); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	forced := tarOf(t, "part-0001", lines, "part-0002.dat.txt", jsonLine(7))
	if got := strings.Join(outcome(t, "a.tgz", bytes.NewReader(gzipOf(t, forced)), DocumentOptions{Format: FormatJSONL}), " "); got != "part-0001#1 bad_record part-0001#3 part-0002.dat.txt#1" {
		t.Errorf("as JSONL: %s", got)
	}
	if !RandomAccess("a.zip", FormatJSONL) || !RandomAccess("a.zip", FormatPairs) || RandomAccess("a.tgz", FormatJSONL) {
		t.Error("a zip is read at random, whatever it holds")
	}
	broken := bytes.Clone(zipped)
	at := bytes.Index(broken, []byte("in/b.jsonl.gz")) + 400
	for i := range 40 {
		broken[at+i] ^= 0x5a
	}
	if got := zipOutcome(t, bytes.NewReader(broken), len(broken), DocumentOptions{}); !strings.Contains(got, "bad_") || !strings.HasSuffix(got, "noname#1 not_text h.txt") {
		t.Errorf("a broken member: %s", got)
	}
}

// TestBombInArchive packs a bomb inside an archive, where neither layer alone is beyond any honest ratio.
func TestBombInArchive(t *testing.T) {
	t.Parallel()
	line := strings.Repeat(`{"text":"`+strings.Repeat("a", 20_000)+`"}`+"\n", 1100) // 22 MB
	once := gzipOf(t, []byte(line))
	var files []string
	for i := range 100 {
		files = append(files, fmt.Sprintf("%d.jsonl.gz", i), string(once)) // equal members, which packing once more makes small
	}
	rolled := gzipOf(t, gzipOf(t, []byte(line)))
	if len(rolled) > len(once) {
		t.Fatalf("%d bytes packed twice, %d once", len(rolled), len(once))
	}
	packed := []byte(zstded(t, string(tarOf(t, files...))))
	n, last := 0, ""
	d := worked(t, func() {
		for item, err := range Documents(t.Context(), "a.tar.zst", bytes.NewReader(packed), DocumentOptions{Language: "any"}) {
			check(t, item, err)
			n++
			last = item.Reject.Reason
		}
	})
	if last != ReasonBomb || n > 50_000 || d > time.Minute {
		t.Errorf("%d rows, the last %q, %v of the processor; %d bytes", n, last, d, len(packed))
	}
}

// FuzzMembers reads any bytes as each kind of member.
func FuzzMembers(f *testing.F) {
	f.Add([]byte(jsonLine(1)))
	f.Add(gzipOf(f, []byte(jsonLine(1))))
	f.Add([]byte(members(f, info(), page200(1))))
	for _, some := range [][]string{hostilePages(), hostileLines(), hostilePacked(f), hostileCrawls(f)} {
		for i := range 3 {
			add(f, some[i*len(some)/3])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []string{"a.jsonl", string(data), "b.warc.gz", string(data), "c", string(data), "d.html.zst", string(data)}
		fuzzDocuments(t, "f.tar", tarOf(t, files...))
		packed := zipOf(t, files...)
		zipOutcome(t, bytes.NewReader(packed), len(packed), DocumentOptions{Bounds: hostile, Segments: SegmentRules{MinChars: 5}})
	})
}

// TestGiants reads a record, a line and members of an archive of 1 GB each, between small ones, in little memory.
func TestGiants(t *testing.T) { //nolint:paralleltest // it measures the heap
	const giant = 1 << 30
	text := func(head, tail string) io.Reader {
		return io.MultiReader(strings.NewReader(head), io.LimitReader(&repeat{data: []byte(strings.Repeat("Some words of it. ", 4000))}, giant), strings.NewReader(tail))
	}
	warc := func() io.Reader {
		head := "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
		return text(page200(1)+fmt.Sprintf("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/giant\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n%s", giant+len(head), head), "\r\n\r\n"+page200(2))
	}
	jsonl := func() io.Reader { return text(jsonLine(1)+`{"text":"`, "\"}\n"+jsonLine(2)) }
	inTar := func(name string, size int64, body io.Reader) io.Reader {
		var header bytes.Buffer
		if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
			t.Fatal(err)
		}
		return io.MultiReader(&header, body, bytes.NewReader(make([]byte, (512-size%512)%512)), bytes.NewReader(tarOf(t, "z.jsonl", jsonLine(3))))
	}
	lineSize := int64(len(jsonLine(1))+len(`{"text":"`)+giant+len("\"}\n")) + int64(len(jsonLine(2)))
	for _, tt := range []struct {
		name string
		in   io.Reader
		want string
	}{
		{"a.warc", warc(), "1 too_large 2"},
		{"a.jsonl", jsonl(), "1 line_too_long 3"},
		{"a.tar", inTar("l.jsonl", lineSize, jsonl()), "l.jsonl#1 line_too_long l.jsonl#3 z.jsonl#1"},
		{"b.tar", inTar("page.html", giant, text("", "")), "too_large z.jsonl#1"},
	} {
		debug.FreeOSMemory()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		peak := uint64(0)
		watched := readerFunc(func(p []byte) (int, error) {
			n, err := tt.in.Read(p)
			if passed := uint64(n); passed > 0 {
				if after.Frees++; after.Frees%2000 == 0 { // every 100 MB or so
					var now runtime.MemStats
					runtime.ReadMemStats(&now)
					peak = max(peak, now.HeapAlloc)
				}
			}
			return n, err
		})
		var got string
		d := worked(t, func() { got = strings.Join(outcome(t, tt.name, watched, DocumentOptions{}), " ") })
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		t.Logf("%s: %v of the processor, %d MB of heap", tt.name, d.Round(time.Millisecond), peak>>20)
		if peak == 0 || peak > before.HeapAlloc+256<<20 || d > 30*time.Second {
			t.Errorf("%s: %d MB of heap, %v of the processor", tt.name, peak>>20, d)
		}
	}
}
