package corpus

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
)

var heapMB = flag.Int("heap-mb", 256, "megabytes of the larger crawl of TestHeapOfACrawl")

// hugeRecord is more than a document may have.
const hugeRecord = 64 << 20

// crawl is a WARC file of about some megabytes: a page and a picture of one megabyte, again and again, and in the middle a
// huge record.
func crawl(mb int) (r io.Reader, pages int) {
	picture := "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n"
	head := func(size int) string {
		return fmt.Sprintf("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/p.png\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n", size)
	}
	one := page200(1) + head(len(picture)+1<<20) + picture + strings.Repeat("x", 1<<20) + "\r\n\r\n"
	half := max(1, mb/2)
	some := func() io.Reader { return io.LimitReader(&repeat{data: []byte(one)}, int64(half*len(one))) }
	huge := io.MultiReader(strings.NewReader(head(hugeRecord)), io.LimitReader(zeros('x'), hugeRecord), strings.NewReader("\r\n\r\n"))
	return io.MultiReader(some(), huge, some()), 2 * half
}

const heapChild = "SELFALIGN_HEAP_CHILD"

// TestHeapOfACrawl reads a small and a large crawl, each in a process of its own: what lives on the heap is bounded, and the
// same for both.
func TestHeapOfACrawl(t *testing.T) {
	t.Parallel()
	if os.Getenv(heapChild) != "" {
		readCrawl(t)
		return
	}
	peak := map[int]uint64{}
	for _, mb := range []int{16, *heapMB} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHeapOfACrawl$", fmt.Sprintf("-heap-mb=%d", mb))
		cmd.Env = append(os.Environ(), heapChild+"=1", "GOMEMLIMIT=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%d MB: %v\n%s", mb, err, out)
		}
		_, told, _ := strings.Cut(string(out), "peak ")
		var bytes uint64
		if _, err := fmt.Sscan(told, &bytes); err != nil {
			t.Fatalf("%d MB: %v\n%s", mb, err, out)
		}
		peak[mb] = bytes
		t.Logf("%d MB of WARC: %.1f MB of heap at the peak", mb, float64(bytes)/1e6)
	}
	most, growth := uint64(64<<20), uint64(32<<20) // what is allocated while the collector works counts as living
	if raced {                                     // the detector lets pools forget what they hold, at random: now and then a second huge buffer lives
		most, growth = 256<<20, 128<<20
	}
	if small, large := peak[16], peak[*heapMB]; large > most || large > small+growth {
		t.Errorf("%d bytes of heap for 16 MB, %d for %d MB", small, large, *heapMB)
	}
}

func readCrawl(t *testing.T) {
	t.Helper()
	debug.SetGCPercent(20) // so that it is often counted what lives
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	in, want := crawl(*heapMB)
	peak, pages, refused := uint64(0), 0, 0
	for item, err := range Documents(t.Context(), "a.warc", in, DocumentOptions{Segments: SegmentRules{RepeatJaccard: -1}}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Segment != nil {
			pages++
		} else {
			refused++
		}
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
	}
	if pages != want || refused != want+1 {
		t.Fatalf("%d pages, %d refused; want %d and %d", pages, refused, want, want+1)
	}
	fmt.Printf("peak %d\n", peak)
}
