package corpus

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

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
		if len(r.ID) != 32 || r.Reason == "" || r.Stage != Stage || utf8.RuneCountInString(r.Text) > RejectTextChars {
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
			if errors.Is(err, ErrRandomAccess) {
				return // intake takes it the other way
			}
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
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) || n > 2 {
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
	add(f, hostilePages()...)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.html", data) })
}

func FuzzText(f *testing.F) {
	examples(f, ".txt")
	examples(f, ".md")
	add(f, hostileTexts()...)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.md", data) })
}

func FuzzJSONL(f *testing.F) {
	f.Add([]byte(`{"text":"# a\n\nb","title":"c"}` + "\n\n[\n{\"text\":{}}\n{\"text\":\"\\ud800\\u0000\"}"))
	add(f, hostileLines()...)
	f.Fuzz(func(t *testing.T, data []byte) { fuzzDocuments(t, "f.jsonl", data) })
}

func FuzzGzip(f *testing.F) {
	add(f, hostilePacked(f)...)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"f.jsonl.gz", "f.tar.zst", "f"} {
			fuzzDocuments(t, name, data)
		}
	})
}

func fuzzSeeds(t *testing.T, name string, data []byte, formats ...string) {
	t.Helper()
	for _, format := range formats {
		for item, err := range Seeds(t.Context(), name, bytes.NewReader(data), SeedOptions{Format: format, Bounds: hostile}) {
			if errors.Is(err, ErrRandomAccess) {
				return
			}
			check(t, item, err)
		}
	}
}

func FuzzSeeds(f *testing.F) {
	for _, name := range []string{"seeds_pairs", "seeds_oasst_trees", "seeds_oasst_messages"} {
		body, err := os.ReadFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	add(f, hostileRecords()...)
	add(f, hostileLines()...)
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzSeeds(t, "f.jsonl", data, FormatAuto, FormatPairs, FormatOASST)
		packed := zipOf(t, "a.jsonl", string(data), "b.json.gz", string(gzipOf(t, data)))
		for item, err := range ZipSeeds(t.Context(), "f.zip", bytes.NewReader(packed), int64(len(packed)), SeedOptions{Bounds: hostile}) {
			check(t, item, err)
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
