package dataset

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/selfalign/selfalign/internal/blob"
)

// Bounds of a funnel's examples.
const (
	ExamplesPerReason = 3
	exampleChars      = 600
)

// Tally counts what became of documents. Documents are what was read, those turned away whole among them; Documents − the sum
// of Whole were cut. Pieces are what they were cut into: Segments + the sum of Rejected = Pieces, always. Of seeds a pair is
// document and piece in one.
type Tally struct {
	Documents    int64            `json:"documents"`
	Pieces       int64            `json:"pieces"`
	Segments     int64            `json:"segments"`               // or seed pairs; duplicates among them included
	Whole        map[string]int64 `json:"whole,omitempty"`        // reason → documents and files that were turned away before they were cut
	Rejected     map[string]int64 `json:"rejected,omitempty"`     // reason → pieces
	Masked       map[string]int64 `json:"masked,omitempty"`       // kind → placeholders in segments
	Contaminated map[string]int64 `json:"contaminated,omitempty"` // evaluation set → pieces that share an n-gram with it
	Chars        Moments          `json:"chars"`                  // of segments; outputs of seeds
}

// Merge adds another tally.
func (t *Tally) Merge(o Tally) {
	t.Documents += o.Documents
	t.Pieces += o.Pieces
	t.Segments += o.Segments
	t.Whole = addCounts(t.Whole, o.Whole)
	t.Rejected = addCounts(t.Rejected, o.Rejected)
	t.Masked = addCounts(t.Masked, o.Masked)
	t.Contaminated = addCounts(t.Contaminated, o.Contaminated)
	t.Chars = t.Chars.Add(o.Chars)
}

// Check reports whether the counts add up.
func (t Tally) Check() error {
	rejected, whole := int64(0), int64(0)
	for _, n := range t.Rejected {
		rejected += n
	}
	for _, n := range t.Whole {
		whole += n
	}
	if t.Segments+rejected != t.Pieces || whole > t.Documents {
		return fmt.Errorf("%d segments + %d rejected pieces of %d, %d documents of %d turned away whole", t.Segments, rejected, t.Pieces, whole, t.Documents)
	}
	return nil
}

// Looked says which evaluation sets pieces are held against: one that nothing is found of has a count too.
func (t *Tally) Looked(sets []string) {
	for _, set := range sets {
		t.Contaminated = addCounts(t.Contaminated, map[string]int64{set: 0})
	}
}

// Kept counts a row that goes on, with its length in characters.
func (t *Tally) Kept(chars int, masked map[string]int64) {
	t.Pieces++
	t.Segments++
	t.Masked = addCounts(t.Masked, masked)
	t.Chars = t.Chars.with(int64(chars))
}

// Turned counts a piece, or a whole document, that was turned away.
func (t *Tally) Turned(reason string, whole bool, sets []string) {
	to := &t.Rejected
	if whole {
		to = &t.Whole
	} else {
		t.Pieces++
	}
	*to = addCounts(*to, map[string]int64{reason: 1})
	for _, set := range sets {
		t.Contaminated = addCounts(t.Contaminated, map[string]int64{set: 1})
	}
}

// Examples keeps a few rejects of each reason: those with the smallest ids, which is a fair choice that does not depend on the
// order of reading.
type Examples map[string][]Reject

// Add takes a reject where it belongs among the few.
func (e Examples) Add(r Reject) {
	have := e[r.Reason]
	if same := slices.IndexFunc(have, func(h Reject) bool { return h.ID == r.ID }); same >= 0 {
		if compareRejects(r, have[same]) >= 0 {
			return // the same text from elsewhere shows nothing new
		}
		have = slices.Delete(have, same, same+1)
	}
	if len(have) == ExamplesPerReason && compareRejects(r, have[len(have)-1]) >= 0 {
		return
	}
	r = trimmed(r)
	r.Text = firstRunes(r.Text, exampleChars)
	at, _ := slices.BinarySearchFunc(have, r, compareRejects)
	have = slices.Insert(have, at, r)
	e[r.Reason] = have[:min(len(have), ExamplesPerReason)]
}

// SourceTally is a tally of one source.
type SourceTally struct {
	Source string `json:"source"` // as the spec names it, its address in S3 where it was uploaded
	Tally
}

// Funnel says what became of the sources of a dataset on the way to its rows; duplicates and what later steps drop stand in the
// dataset's manifest, whose Input is Total.Pieces and the documents in Total.Whole.
type Funnel struct {
	Format   int           `json:"format"` // 1
	Total    Tally         `json:"total"`
	Sources  []SourceTally `json:"sources"` // in order of their names
	Examples Examples      `json:"examples"`
}

// Add takes the tallies of one part of the sources.
func (f *Funnel) Add(sources map[string]*Tally, examples Examples) {
	if f.Examples == nil {
		f.Format, f.Examples = 1, Examples{}
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		at, found := slices.BinarySearchFunc(f.Sources, name, func(s SourceTally, name string) int { return cmp.Compare(s.Source, name) })
		if !found {
			f.Sources = slices.Insert(f.Sources, at, SourceTally{Source: name})
		}
		f.Sources[at].Merge(*sources[name])
		f.Total.Merge(*sources[name])
	}
	for _, list := range examples {
		for _, r := range list {
			f.Examples.Add(r)
		}
	}
}

func funnelKey(dir string) string { return dir + "/funnel.json" }

// WriteFunnel writes the funnel of a dataset beside it. The same funnel may be written again.
func WriteFunnel(ctx context.Context, st *blob.Store, dir string, f Funnel) error {
	if err := f.Total.Check(); err != nil {
		return fmt.Errorf("funnel of %s: %w", dir, err)
	}
	body, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("funnel of %s: %w", dir, err)
	}
	return st.Put(ctx, funnelKey(dir), append(body, '\n'))
}

// ReadFunnel returns the funnel of a dataset. blob.ErrNotFound: it has none.
func ReadFunnel(ctx context.Context, st *blob.Store, dir string) (Funnel, error) {
	body, err := st.Get(ctx, funnelKey(dir))
	if err != nil {
		return Funnel{}, fmt.Errorf("funnel of %s: %w", dir, err)
	}
	var f Funnel
	if err := json.Unmarshal(body, &f); err != nil {
		return Funnel{}, fmt.Errorf("funnel of %s: %w", dir, err)
	}
	if f.Format != 1 {
		return Funnel{}, fmt.Errorf("funnel of %s: format %d, this program knows 1", dir, f.Format)
	}
	return f, f.Total.Check()
}
