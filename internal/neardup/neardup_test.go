package neardup

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// The pairs that the steps find are those that comparing everything with everything finds, but for the share that banding
// is known to miss; none is found that is none.
func TestPairsAgainstBruteForce(t *testing.T) {
	t.Parallel()
	texts := families(7, 4500, 4)
	sorted := rows(texts)
	sets := make([]map[string]bool, len(sorted))
	byWord := map[string][]int{} // comparing only texts that share a shingle loses none of a similarity over 0
	for i, r := range sorted {
		sets[i] = brute(r.Text, rules.Shingle)
		for s := range sets[i] {
			byWord[s] = append(byWord[s], i)
		}
	}
	truth := map[[2]int]float64{}
	for _, members := range byWord {
		for n, a := range members {
			for _, b := range members[n+1:] {
				truth[[2]int{a, b}] = 0
			}
		}
	}
	for p := range truth {
		truth[p] = bruteJaccard(sets[p[0]], sets[p[1]])
	}
	st := s3test.Store(t)
	job := NewJob(rules, write(t, st, "in", 3, texts), "work")
	job.Groups, job.Buckets = 4, 8
	all(t, st, job, "out")
	numbers := map[uint64]int{}
	for p, next := 0, 0; p < 8; p++ {
		part, err := dataset.ReadPartition[dataset.Segment](t.Context(), st, "in", p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range part {
			numbers[rowNumber(p, i)] = next
			next++
		}
	}
	runs, err := job.gathered(t.Context(), st, StepCompare)
	if err != nil {
		t.Fatal(err)
	}
	m, err := openMerge(t.Context(), st, runs, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[[2]int]bool{}
	for {
		r, err := m.next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		pair := [2]int{numbers[r.Key], numbers[r.Ref]}
		got[pair] = true
		if _, j, err := readKept(r.Data); err != nil || math.Abs(j-truth[pair]) > 1e-9 || j < rules.Threshold {
			t.Errorf("pair %v: similarity %v (%v), in truth %v", pair, j, err, truth[pair])
		}
	}
	banding := rules.Banding()
	type bin struct{ pairs, found, expected, variance float64 }
	bins := map[int]bin{}
	var sum bin
	for pair, j := range truth {
		if j < rules.Threshold {
			continue
		}
		p := banding.Chance(j)
		for _, b := range []int{int(j * 20), 99} {
			x := bins[b]
			x.pairs++
			x.expected += p
			x.variance += p * (1 - p)
			if got[pair] {
				x.found++
			}
			bins[b] = x
		}
	}
	sum = bins[99]
	delete(bins, 99)
	for _, b := range slices.Sorted(maps.Keys(bins)) {
		x := bins[b]
		t.Logf("Jaccard from %.2f: %4.0f pairs, recall %.3f, expected %.3f", float64(b)/20, x.pairs, x.found/x.pairs, x.expected/x.pairs)
		if math.Abs(x.found-x.expected) > 5*math.Sqrt(x.variance)+1 {
			t.Errorf("Jaccard from %.2f: %.0f pairs found, expected %.1f ± %.1f", float64(b)/20, x.found, x.expected, math.Sqrt(x.variance))
		}
	}
	right := 0.0
	for pair := range got {
		if truth[pair] >= rules.Threshold {
			right++
		}
	}
	t.Logf("all: %.0f pairs, recall %.4f, expected %.4f, precision %.4f; %d × %d", sum.pairs, sum.found/sum.pairs, sum.expected/sum.pairs, right/float64(len(got)), banding.Bands, banding.Rows)
	if sum.pairs < 500 || right != float64(len(got)) {
		t.Errorf("%v pairs, %v of %d found are right", sum.pairs, right, len(got))
	}
}

// However a dataset is cut, the same rows are kept, every dropped one names one that is kept, and finding in memory agrees.
func TestTheResultIsThatOfTheTextsAlone(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for n := range 16 {
		rng := rand.New(rand.NewPCG(uint64(n), 11))
		texts := families(rng.Uint64(), 1+rng.IntN(120), 6)
		want, wantDropped := found(t, rules, texts)
		bits := rng.IntN(4)
		rng.Shuffle(len(texts), func(a, b int) { texts[a], texts[b] = texts[b], texts[a] })
		in := write(t, st, fmt.Sprintf("in-%d", n), bits, texts)
		job := NewJob(rules, in, fmt.Sprintf("work-%d", n))
		job.Groups, job.Buckets, job.Budget = 1<<rng.IntN(bits+1), 1<<rng.IntN(4), 1<<(12+rng.IntN(8))
		ref, kept, dropped := all(t, st, job, fmt.Sprintf("out-%d", n))
		if d := cmp.Diff(want, kept); d != "" {
			t.Fatalf("%+v: kept (-in memory, +steps): %s", job, d)
		}
		if d := cmp.Diff(wantDropped, dropped); d != "" {
			t.Fatalf("%+v: dropped (-in memory, +steps): %s", job, d)
		}
		if ref.Rows+ref.Rejected != in.Rows+in.Rejected || ref.Rejected != in.Rejected+int64(len(dropped)) {
			t.Fatalf("%+v: %d kept and %d rejected of %d and %d", job, ref.Rows, ref.Rejected, in.Rows, in.Rejected)
		}
		for row, of := range dropped {
			if of >= row || !slices.Contains(kept, of) {
				t.Fatalf("%s is dropped for %s, which is not kept or larger", row, of)
			}
		}
	}
}

// A page that is there a thousand times costs no more than its length, and is kept once.
func TestBoilerplate(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	base := words(rng, 300)
	texts := make([]string, 1500)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s id%d", strings.Join(base, " "), i)
	}
	st := s3test.Store(t)
	in := write(t, st, "in", 2, texts)
	job := NewJob(rules, in, "work")
	var counts Counts
	ref, err := All(t.Context(), st, job, "out", 2, func(_ Step, c Counts) { counts = counts.Add(c) })
	if err != nil {
		t.Fatal(err)
	}
	most := int64(len(texts) * maxLeaders * rules.Banding().Bands)
	if ref.Rows != 1 || counts.Dropped != 1499 || counts.Candidates > most || counts.Compared > most || counts.Crowded == 0 {
		t.Errorf("%d rows kept; %+v", ref.Rows, counts)
	}
}

func TestBanding(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules Rules
		want  Banding
	}{
		{rules, Banding{16, 8}},
		{Rules{Threshold: 0.7, Shingle: 5, Permutations: 256}, Banding{36, 7}},
		{Rules{Threshold: 0.5, Shingle: 5, Permutations: 128}, Banding{42, 3}},
		{Rules{Threshold: 1, Shingle: 5, Permutations: 16}, Banding{1, 16}},
		{Rules{Threshold: 0.01, Shingle: 5, Permutations: 16}, Banding{16, 1}},
	} {
		got := c.rules.Banding()
		if got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.rules, got, c.want)
		}
		if chance := got.Chance(c.rules.Threshold); got.Rows > 1 && chance < LeastRecall {
			t.Errorf("%+v: chance %.3f", got, chance)
		}
		if next := (Banding{c.rules.Permutations / (got.Rows + 1), got.Rows + 1}); got.Rows < c.rules.Permutations && next.Chance(c.rules.Threshold) >= LeastRecall {
			t.Errorf("%+v would do", next)
		}
	}
}

func TestRulesAreChecked(t *testing.T) {
	t.Parallel()
	for _, r := range []Rules{{}, {Threshold: 1.1, Shingle: 5, Permutations: 128}, {Threshold: math.NaN(), Shingle: 5, Permutations: 128}, {Threshold: 0.8, Permutations: 128}, {Threshold: 0.8, Shingle: 5, Permutations: 8}} {
		if r.Validate() == nil {
			t.Errorf("%+v is no mistake", r)
		}
		if _, err := Find(r, slices.Values([]string{"a"})); err == nil {
			t.Errorf("%+v: finds", r)
		}
	}
	if err := rules.Validate(); err != nil {
		t.Error(err)
	}
}
