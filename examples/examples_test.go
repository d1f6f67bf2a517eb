package examples_test

import (
	"io/fs"
	"testing"
	"unicode/utf8"

	"github.com/selfalign/selfalign/examples"
	"github.com/selfalign/selfalign/internal/corpus"
)

// TestCorpus holds the example to what the quickstart promises: enough segments to rate and enough variety to reject.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(examples.FS, "corpus/*")
	if err != nil {
		t.Fatal(err)
	}
	segments, rejects, bytes := map[string]string{}, map[string]int{}, 0
	duplicates := 0
	for _, name := range files {
		body, err := fs.ReadFile(examples.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(body)
		f, err := examples.FS.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		kept, turned := 0, map[string]int{}
		for item, err := range corpus.Documents(t.Context(), name, f, corpus.DocumentOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if s := item.Segment; s != nil {
				kept++
				if _, twice := segments[s.ID]; twice {
					duplicates++
				}
				segments[s.ID] = s.Text
				t.Logf("%s: %5d %s", name, utf8.RuneCountInString(s.Text), s.Header)
				continue
			}
			rejects[item.Reject.Reason]++
			turned[item.Reject.Reason]++
			t.Logf("%s: REJECT %s: %s", name, item.Reject.Reason, item.Reject.Detail)
		}
		t.Logf("%s: %d kept, rejected %v", name, kept, turned)
	}
	rejected := 0
	for _, n := range rejects {
		rejected += n
	}
	t.Logf("%d files, %d bytes: %d segments, %d duplicates, %d rejects %v", len(files), bytes, len(segments), duplicates, rejected, rejects)
	if len(files) < 80 || len(segments) < 250 || rejected < 60 {
		t.Errorf("%d files, %d segments, %d rejects; want at least 80, 250, 60", len(files), len(segments), rejected)
	}
	for _, reason := range []string{
		corpus.ReasonTooShort, corpus.ReasonTooLong, corpus.ReasonNavigation, corpus.ReasonUppercase,
		corpus.ReasonRepetitive, corpus.ReasonLanguage,
	} {
		if rejects[reason] == 0 {
			t.Errorf("no reject with reason %s", reason)
		}
	}
	if duplicates == 0 {
		t.Error("no two equal segments: de-duplication has nothing to do")
	}
}

// TestSeeds checks that every pair of the seed set can be used.
func TestSeeds(t *testing.T) {
	t.Parallel()
	f, err := examples.FS.Open("seeds.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for item, err := range corpus.Seeds(t.Context(), "seeds.jsonl", f, corpus.SeedOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Reject != nil {
			t.Fatalf("line %s: %s: %s", item.Reject.Document, item.Reject.Reason, item.Reject.Detail)
		}
		if n := utf8.RuneCountInString(item.Seed.Output); n < 250 || n > 2000 {
			t.Errorf("line %s: output of %d characters", item.Seed.Document, n)
		}
		seen[item.Seed.ID] = true
	}
	if len(seen) < 80 {
		t.Errorf("%d different pairs, want at least 80", len(seen))
	}
}
