package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// crawlPlan says what a crawl is made of. Everything follows from it, so that any part can be made again.
type crawlPlan struct {
	Files  int     `json:"files"`
	Pages  int     `json:"pages"`     // of a file, about 50 KB each
	Share  float64 `json:"share"`     // of the bytes that are pages; the rest are scripts, which are no pages
	Record int64   `json:"record"`    // bytes of one huge record in the first file; 0: none
	Seed   uint64  `json:"page_seed"` // of texts
}

const (
	assetBytes = 200 << 10
	assetKinds = 32
)

// strangers are German words: one page in eight is in another language than wanted.
var strangers = strings.Fields(`der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach
wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch man sein wurde sei Prozent hatte kann gegen vom
können schon wenn habe seine Mark ihre dann unter wir soll ich eines Jahr zwei Jahren diese dieser wieder keine Uhr seiner worden will zwischen immer
Millionen was sagte gibt alle seit muss wurden beim doch jetzt waren drei Jahre neue neuen damit bereits da ihr seinen müssen ab ihrer ohne sondern`)

// page is the i-th page of a crawl: an article of several sections among the menus, scripts, styles and lists of links that pages
// have around it.
func (p crawlPlan) page(i int) []byte {
	rng := rand.New(rand.NewPCG(p.Seed, uint64(i)))
	var b bytes.Buffer
	b.Grow(64 << 10)
	words := vocabulary
	if i%8 == 5 {
		words = strangers
	}
	sentence := func() string {
		said := make([]string, 6+rng.IntN(14))
		for n := range said {
			most := len(words)
			if rng.IntN(3) == 0 {
				most = 12 // a third of what is said are articles and the like
			}
			said[n] = words[min(rng.IntN(most), rng.IntN(most))]
		}
		return strings.Join(said, " ") + ". "
	}
	title := strings.TrimSuffix(sentence(), ". ")
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s - Site %d</title>\n", title, i%97)
	for n := range 12 {
		fmt.Fprintf(&b, "<meta property=\"og:tag%d\" content=\"%s\">\n<link rel=\"preload\" href=\"/static/%d/a.css\">\n", n, title, rng.IntN(1e6))
	}
	fmt.Fprintf(&b, "<style>%s</style>\n<script>%s</script>\n</head><body class=\"post-template single\">\n", asset(i)[:4<<10], asset(i + 1)[:8<<10])
	links := func(class string, n int) {
		fmt.Fprintf(&b, "<ul class=%q>\n", class)
		for range n {
			at := rng.IntN(1e6)
			fmt.Fprintf(&b, "  <li class=\"item item-%d\"><a href=\"/topic/%d/index.html\" title=\"%s\">%s %s</a></li>\n", at, at, words[at%len(words)], words[at%len(words)], words[at/7%len(words)])
		}
		b.WriteString("</ul>\n")
	}
	b.WriteString("<header><div class=\"logo\"><a href=\"/\">Site</a></div><nav>")
	links("menu", 40)
	fmt.Fprintf(&b, "</nav></header>\n<!-- %d -->\n<div id=\"content\"><main><article><h1>%s</h1>\n", i, title)
	for range 4 + rng.IntN(4) {
		fmt.Fprintf(&b, "<h2 id=\"s%d\">%s</h2>\n", rng.IntN(1e6), strings.TrimSuffix(sentence(), ". "))
		for range 2 + rng.IntN(4) {
			b.WriteString("<p>")
			for n := range 3 + rng.IntN(4) {
				switch s := sentence(); n {
				case 1:
					fmt.Fprintf(&b, "<a href=\"https://example.org/%d\">%s</a>", rng.IntN(1e6), s)
				case 2:
					fmt.Fprintf(&b, "<em>%s</em> %s", s[:strings.IndexByte(s, ' ')], s)
				default:
					b.WriteString(s)
				}
			}
			b.WriteString("</p>\n")
		}
		switch rng.IntN(4) {
		case 0:
			b.WriteString("<ul>\n")
			for range 5 {
				fmt.Fprintf(&b, "<li>%s</li>\n", sentence())
			}
			b.WriteString("</ul>\n")
		case 1:
			fmt.Fprintf(&b, "<pre><code class=\"language-js\">%s</code></pre>\n", asset(i)[:400])
		}
	}
	b.WriteString("</article></main>\n<aside class=\"sidebar related\"><h3>Related</h3>")
	links("related", 60)
	b.WriteString("</aside></div>\n<footer>")
	links("footer-links", 30)
	fmt.Fprintf(&b, "<p>&copy; Site</p></footer>\n<script>%s</script>\n</body></html>\n", asset(i + 2)[:12<<10])
	return b.Bytes()
}

// asset is one of a few scripts.
func asset(i int) string { return assets()[i%assetKinds] }

var assets = sync.OnceValue(func() []string {
	all := make([]string, assetKinds)
	for i := range all {
		rng := rand.New(rand.NewPCG(77, uint64(i)))
		var b strings.Builder
		for b.Len() < assetBytes {
			fmt.Fprintf(&b, "  function %s_%d(a, b) { return a.%s(%d, b); }\n", vocabulary[rng.IntN(len(vocabulary))], rng.IntN(1e4), vocabulary[rng.IntN(len(vocabulary))], rng.IntN(1e6))
		}
		all[i] = b.String()[:assetBytes]
	}
	return all
})

// record wraps an HTTP response as a WARC record.
func record(uri, kind string, body []byte) []byte {
	http := "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n\r\n"
	return fmt.Appendf(nil, "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: %s\r\nWARC-Date: 2024-03-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n%s%s\r\n\r\n",
		uri, len(http)+len(body), http, body)
}

// write writes one file, a gzip member a record, and returns its bytes before compression.
func (p crawlPlan) write(path string, file int) (raw int64, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	add := func(rec []byte) error {
		z.Reset(w)
		raw += int64(len(rec))
		if _, err := z.Write(rec); err != nil {
			return err
		}
		return z.Close()
	}
	packed := packedAssets()
	pages, others := int64(0), int64(0)
	for i := range p.Pages {
		rec := record(fmt.Sprintf("https://example.org/%d/%d.html", file, i), "text/html; charset=utf-8", p.page(file*p.Pages+i))
		if err := add(rec); err != nil {
			return raw, err
		}
		for pages += int64(len(rec)); float64(others) < float64(pages)*(1/p.Share-1); {
			if _, err := w.Write(packed[int(others/assetBytes)%assetKinds]); err != nil {
				return raw, err
			}
			others += assetBytes
			raw += assetBytes
		}
		if p.Record > 0 && file == 0 && i == p.Pages/2 {
			n, err := p.huge(z, w)
			if raw += n; err != nil {
				return raw, err
			}
		}
	}
	return raw, w.Flush()
}

// huge writes one record of the size wanted: a page of many paragraphs.
func (p crawlPlan) huge(z *gzip.Writer, w *bufio.Writer) (int64, error) {
	z.Reset(w)
	var some []byte
	for i := range 2000 {
		some = fmt.Appendf(some, "<p>%s</p>\n", text(p.Seed+1, i))
	}
	http := "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body>"
	head := fmt.Sprintf("WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/huge.html\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n%s", p.Record+int64(len(http)), http)
	if _, err := z.Write([]byte(head)); err != nil {
		return 0, err
	}
	for left := p.Record; left > 0; left -= int64(len(some)) {
		if _, err := z.Write(some[:min(left, int64(len(some)))]); err != nil {
			return p.Record, err
		}
	}
	if _, err := z.Write([]byte("\r\n\r\n")); err != nil {
		return p.Record, err
	}
	return p.Record + int64(len(head)), z.Close()
}

// packedAssets are the scripts as members of a file. Their compression is not made again for every one.
var packedAssets = sync.OnceValue(func() [][]byte {
	all := make([][]byte, assetKinds)
	for i, a := range assets() {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(record(fmt.Sprintf("https://example.org/%d.js", i), "application/javascript", []byte(a))) // a bytes.Buffer
		_ = z.Close()
		all[i] = b.Bytes()
	}
	return all
})
