package corpus

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// examplePages are the project's own pages, as they lie on disk.
func examplePages(tb testing.TB) (pages [][]byte, size int64) {
	tb.Helper()
	names, err := filepath.Glob("../../examples/corpus/*.htm*")
	if err != nil || len(names) == 0 {
		tb.Fatalf("no pages: %v", err)
	}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		pages = append(pages, body)
		size += int64(len(body))
	}
	return pages, size
}

// libraries does with a page what nobody is spared: it is parsed, its main content found, and that written as markdown.
func libraries(tb testing.TB, body []byte) {
	doc, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	parser := newExtractor()
	article, err := parser.ParseAndMutate(doc, pageURL)
	if err != nil || article.Node == nil {
		return
	}
	if _, err := toMarkdown().ConvertNode(article.Node); err != nil {
		tb.Fatal(err)
	}
}

// all does what ingest does, with all rules, by default or with every option on.
func all(tb testing.TB, body []byte, opts DocumentOptions) {
	for _, err := range Documents(tb.Context(), "a.html", bytes.NewReader(body), opts) {
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkOverhead takes turns, page by page, between the libraries alone and all that ingest does, so that both halves meet
// the same machine; the ratio of their processor times is reported as overhead. Collecting garbage is part of both.
func BenchmarkOverhead(b *testing.B) {
	every := SegmentRules{
		Long: LongCut, Languages: []string{"en", "de"}, Signs: []string{"™", "®"}, Pronouns: 20, Questions: 20, CapitalWords: 20, VerbParagraphs: 1, Mask: MaskKinds(),
	}
	for _, half := range []struct {
		name string
		opts DocumentOptions
	}{{"default", DocumentOptions{}}, {"every-rule", DocumentOptions{Segments: every}}} {
		b.Run(half.name, func(b *testing.B) {
			pages, size := examplePages(b)
			var alone, whole time.Duration
			b.SetBytes(2 * size)
			for b.Loop() {
				for _, body := range pages {
					start := processTime(b)
					libraries(b, body)
					middle := processTime(b)
					all(b, body, half.opts)
					alone += middle - start
					whole += processTime(b) - middle
				}
			}
			b.ReportMetric(whole.Seconds()/alone.Seconds(), "overhead")
			b.ReportMetric(float64(size)*float64(b.N)/1e6/whole.Seconds(), "MB/s-ingest")
			b.ReportMetric(float64(size)*float64(b.N)/1e6/alone.Seconds(), "MB/s-libraries")
		})
	}
}
