package neardup

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

var rules = Rules{Threshold: 0.8, Shingle: 5, Permutations: 128}

// words returns n made-up words.
func words(rng *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("w%d", rng.IntN(5000))
	}
	return out
}

// edited replaces each word with some probability.
func edited(rng *rand.Rand, text []string, p float64) []string {
	out := slices.Clone(text)
	for i := range out {
		if rng.Float64() < p {
			out[i] = fmt.Sprintf("x%d", rng.IntN(5000))
		}
	}
	return out
}

// families returns texts in families of like ones: copies of one text with more and more words replaced.
func families(seed uint64, n, size int) []string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var out []string
	for len(out) < n {
		base := words(rng, 60+rng.IntN(200))
		for i := range 1 + rng.IntN(size) {
			text := base
			if i > 0 {
				text = edited(rng, base, rng.Float64()*0.08)
			}
			out = append(out, strings.Join(text, " ")+".")
		}
	}
	return out[:n]
}

func segment(text string) dataset.Segment {
	return dataset.Segment{ID: dataset.SegmentID(text), Text: text, Source: "test", Document: text[:min(len(text), 12)]}
}

// rows returns the segments of texts in order of id, equal ones once.
func rows(texts []string) []dataset.Segment {
	out := make([]dataset.Segment, len(texts))
	for i, t := range texts {
		out[i] = segment(t)
	}
	slices.SortFunc(out, func(a, b dataset.Segment) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(out, func(a, b dataset.Segment) bool { return a.ID == b.ID })
}

// write commits texts as a dataset of 2^bits partitions, with one reject a partition.
func write(t testing.TB, st *blob.Store, dir string, bits int, texts []string) dataset.Ref {
	t.Helper()
	parts := make([][]dataset.Segment, 1<<bits)
	for _, r := range rows(texts) {
		p := dataset.PartitionOf(r.ID, bits)
		parts[p] = append(parts[p], r)
	}
	for p, part := range parts {
		reject := dataset.Reject{ID: fmt.Sprintf("%08x%024x", uint64(p)<<(32-bits)+1<<(31-bits), p), Stage: "ingest", Reason: "too_short", Source: "test"}
		_, err := dataset.WritePartition(t.Context(), st, dir, bits, p, part, []dataset.Reject{reject}, dataset.Receipt{Input: int64(len(part)) + 1})
		if err != nil {
			t.Fatal(err)
		}
	}
	whole, err := dataset.CommitRange(t.Context(), st, dir, 0, 1<<bits)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := dataset.Commit(t.Context(), st, dir, dataset.Manifest{Kind: dataset.KindSegments, Bits: bits}, []dataset.RangeSummary{whole})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// all does a job and returns the ids kept, and which kept row each dropped one names.
func all(t testing.TB, st *blob.Store, j Job, dir string) (ref dataset.Ref, kept []string, dropped map[string]string) {
	t.Helper()
	ref, err := All(t.Context(), st, j, dir, 4, func(Step, Counts) {})
	if err != nil {
		t.Fatal(err)
	}
	kept, dropped = read(t, st, ref)
	return ref, kept, dropped
}

func read(t testing.TB, st *blob.Store, ref dataset.Ref) (kept []string, dropped map[string]string) {
	t.Helper()
	for row, err := range dataset.Rows[dataset.Segment](t.Context(), st, ref) {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, row.ID)
	}
	dropped = map[string]string{}
	for r, err := range dataset.RejectsOf(t.Context(), st, ref) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Reason == Reason {
			var of string
			if _, err := fmt.Sscanf(r.Detail, "like %32s,", &of); err != nil {
				t.Fatalf("%s: %v", r.Detail, err)
			}
			dropped[r.ID] = strings.TrimSuffix(of, ",")
		}
	}
	return kept, dropped
}

// found lists what finding in memory says of the same rows.
func found(t testing.TB, r Rules, texts []string) (kept []string, dropped map[string]string) {
	t.Helper()
	all := rows(texts)
	matches, err := Find(r, func(yield func(string) bool) {
		for _, row := range all {
			if !yield(row.Text) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	dropped = map[string]string{}
	for i, m := range matches {
		if m.Of < 0 {
			kept = append(kept, all[i].ID)
		} else {
			dropped[all[i].ID] = all[m.Of].ID
		}
	}
	return kept, dropped
}

// brute is the set of shingles as strings, cut by the standard library: for comparison.
func brute(text string, n int) map[string]bool {
	all := strings.Fields(strings.ToLower(strings.ReplaceAll(text, ".", " ")))
	out := map[string]bool{}
	for i := range max(1, len(all)-n+1) {
		out[strings.Join(all[i:min(len(all), i+n)], " ")] = true
	}
	return out
}

func bruteJaccard(a, b map[string]bool) float64 {
	both := 0
	for s := range a {
		if b[s] {
			both++
		}
	}
	return float64(both) / float64(len(a)+len(b)-both)
}
