package corpus

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// hostile keeps fuzzing small: bounds low enough that reaching them is likely.
var hostile = Bounds{MaxDocumentBytes: 1 << 20, MaxLineBytes: 1 << 16, MaxPieces: 200, MaxFieldChars: 2000}

// check holds every row to what is promised of it.
func check(t testing.TB, item Item, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("foreign bytes made an error: %v", err)
	}
	set := 0
	var texts []string
	if s := item.Segment; s != nil {
		set++
		texts = append(texts, s.ID, s.Text, s.Title, s.Header)
		if s.ID != dataset.SegmentID(s.Text) || s.Offset < 0 || strings.TrimSpace(s.Text) == "" {
			t.Errorf("bad segment %+v", s)
		}
	}
	if s := item.Seed; s != nil {
		set++
		texts = append(texts, s.Instruction, s.Output)
		if s.ID != dataset.PairID(s.Instruction, s.Output) || s.Instruction == "" || s.Output == "" {
			t.Errorf("bad seed %+v", s)
		}
	}
	if r := item.Reject; r != nil {
		set++
		texts = append(texts, r.Text, r.Detail, r.Instruction)
		if len(r.ID) != 32 || r.Reason == "" || r.Stage != Stage || utf8.RuneCountInString(r.Text) > rejectTextChars {
			t.Errorf("bad reject %+v", r)
		}
	}
	if set != 1 {
		t.Errorf("%d fields set", set)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\x1e\r") {
			t.Errorf("unclean text %q", clip(text, 200))
		}
	}
}

func fuzzDocuments(t *testing.T, name string, data []byte) {
	t.Helper()
	opts := DocumentOptions{Bounds: hostile, Segments: SegmentRules{MinChars: 5, Long: LongCut, MaxChars: 400, Mask: MaskKinds(), Pronouns: 50, VerbParagraphs: 1}}
	d := worked(t, func() {
		for item, err := range Documents(t.Context(), name, bytes.NewReader(data), opts) {
			check(t, item, err)
		}
	})
	if d > 5*time.Second {
		t.Errorf("%d bytes took %v of the processor", len(data), d)
	}
}

// examples adds the project's own pages to a corpus.
func examples(f *testing.F, suffix string) {
	f.Helper()
	n := 0
	err := fs.WalkDir(os.DirFS("../../examples/corpus"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) || n > 15 {
			return err
		}
		body, err := os.ReadFile("../../examples/corpus/" + path)
		f.Add(body)
		n++
		return err
	})
	if err != nil || n == 0 {
		f.Fatalf("no examples: %v", err)
	}
}

func FuzzHTML(f *testing.F) {
	examples(f, ".html")
	f.Add([]byte("<table><tr><td><h1>a</h1><td rowspan=9999999>b</table><ol><li><h2>c<p>d</h3><pre>\x1e2 e</pre>"))
	f.Add([]byte("<title>a</title><body>\xff\xfe\x00<svg><h1>x</svg><math><h2>y<template><h3>z"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.html", data) })
}

func FuzzText(f *testing.F) {
	examples(f, ".txt")
	examples(f, ".md")
	f.Add([]byte("---\ntitle: x\n---\n# a\n```\n# b\n~~~\n```\nc\n===\n\xe9"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.md", data) })
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"text":"# a\n\nb","title":"c"}` + "\n\n[\n{\"text\":{}}\n{\"text\":\"\\ud800\\u0000\"}"))
	f.Add([]byte("\xef\xbb\xbf{\"text\":\"\"}\n{\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.jsonl", data) })
}

func FuzzGzip(f *testing.F) {
	member := gzipOf(f, []byte(`{"text":"# a\n\nbbbbbbb"}`+"\n"))
	f.Add(member)
	f.Add(append(bytes.Clone(member), member...))
	f.Add(member[:len(member)-3])
	f.Add(append(bytes.Clone(member), "trailing"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzDocuments(t, "f.jsonl.gz", append([]byte{0x1f, 0x8b}, data...))
		fuzzDocuments(t, "f", data)
	})
}

func FuzzSeeds(f *testing.F) {
	for _, name := range []string{"seeds_pairs", "seeds_oasst_trees", "seeds_oasst_messages"} {
		body, err := os.ReadFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"message_id":"a","role":"prompter","parent_id":null}` + "\n" + `{"message_id":"a","role":"prompter","parent_id":null,"lang":"en"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []string{FormatAuto, FormatPairs, FormatOASST} {
			for item, err := range Seeds(t.Context(), "f.jsonl", bytes.NewReader(data), SeedOptions{Format: format, Bounds: hostile}) {
				check(t, item, err)
			}
		}
	})
}

// BenchmarkHTML cuts the example pages.
func BenchmarkHTML(b *testing.B) {
	var pages [][]byte
	size := int64(0)
	entries, err := os.ReadDir("../../examples/corpus")
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".html") {
			body, err := os.ReadFile("../../examples/corpus/" + e.Name())
			if err != nil {
				b.Fatal(err)
			}
			pages = append(pages, body)
			size += int64(len(body))
		}
	}
	b.SetBytes(size)
	b.ReportAllocs()
	kept := []*dataset.Segment{}
	for b.Loop() {
		kept = kept[:0]
		for _, body := range pages {
			for item, err := range Documents(b.Context(), "a.html", bytes.NewReader(body), DocumentOptions{}) {
				if err != nil {
					b.Fatal(err)
				}
				if item.Segment != nil {
					kept = append(kept, item.Segment)
				}
			}
		}
	}
	b.ReportMetric(float64(len(kept)), "segments")
}
