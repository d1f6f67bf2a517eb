package report

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Comparison is two runs side by side.
type Comparison struct {
	Format  int          `json:"format"` // 1
	A       string       `json:"a"`
	B       string       `json:"b"`
	Spec    []SpecChange `json:"spec"` // fields that differ in a spec or in what was in force; texts are clipped
	Figures []Figure     `json:"figures"`
	Sets    []SetChange  `json:"sets"`
}

// SpecChange is one field of the spec, "" where a run has none.
type SpecChange struct {
	Path string `json:"path"` // such as curate.threshold
	A    string `json:"a"`
	B    string `json:"b"`
	// SetA and SetB are what was in force in the end, where it was changed while the run went on; "" elsewhere.
	SetA string `json:"set_a,omitempty"`
	SetB string `json:"set_b,omitempty"`
}

// Spec is what a run was asked for.
type Spec struct {
	JSON json.RawMessage
	Set  map[string]string // fields that were changed while it went on, such as curate.threshold, to what
}

// Figure is one figure of both runs, "" where a run has none.
type Figure struct {
	Name string `json:"name"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// SetChange is how two datasets differ, row by row, by id.
type SetChange struct {
	Name  string `json:"name"`
	RowsA int64  `json:"rows_a"`
	RowsB int64  `json:"rows_b"`
	Equal bool   `json:"equal"` // the digests say that all is the same; nothing was read then
	// Of the rows that were read: those of both, and of one alone.
	Both  int64 `json:"both"`
	OnlyA int64 `json:"only_a"`
	OnlyB int64 `json:"only_b"`
	// Of the rows of both: those whose instruction differs, and whose score is higher or lower in B.
	Rewritten int64   `json:"rewritten"`
	Up        int64   `json:"up"`
	Down      int64   `json:"down"`
	MeanA     float64 `json:"mean_a,omitempty"` // score, over all rows read that have one
	MeanB     float64 `json:"mean_b,omitempty"`
	// Sampled says that only the first rows by id were read, of both sets up to the same id.
	Sampled bool     `json:"sampled"`
	Moved   []RowOf2 `json:"moved,omitempty"` // a few rows of each kind, the first by id
	JustA   []RowOf2 `json:"just_a,omitempty"`
	JustB   []RowOf2 `json:"just_b,omitempty"`
}

// RowOf2 is a row in both runs; scores are 0 where it is not there, or was not rated.
type RowOf2 struct {
	ID     string  `json:"id"`
	A      string  `json:"a"` // instruction
	B      string  `json:"b"`
	Output string  `json:"output"`
	ScoreA float64 `json:"score_a,omitempty"`
	ScoreB float64 `json:"score_b,omitempty"`
}

const (
	movedRows = 5    // examples of each kind
	maxFields = 2000 // of a spec
)

// Compare puts two runs side by side: their specs, the figures of their reports, and their datasets, of which
// opt.Scan rows are read, in bounded memory.
func Compare(ctx context.Context, st *blob.Store, a, b Data, specA, specB Spec, opt Options) (Comparison, error) {
	opt = opt.withDefaults()
	c := Comparison{Format: 1, A: a.Run, B: b.Run, Figures: figures(a, b)}
	var err error
	if c.Spec, err = specChanges(specA, specB); err != nil {
		return c, err
	}
	// compare adds one kind of dataset where both runs have it.
	add := func(name string, refA, refB dataset.Ref, scan func() (SetChange, error)) error {
		if refA.IsZero() || refB.IsZero() {
			return nil
		}
		if refA.Digest != "" && refA.Digest == refB.Digest {
			c.Sets = append(c.Sets, SetChange{Name: name, RowsA: refA.Rows, RowsB: refB.Rows, Equal: true, Both: refA.Rows})
			return nil
		}
		s, err := scan()
		if err != nil {
			return fmt.Errorf("compare %s: %w", name, err)
		}
		s.Name, s.RowsA, s.RowsB = name, refA.Rows, refB.Rows
		c.Sets = append(c.Sets, s)
		return nil
	}
	if err := add("Seed pairs", a.Seeds, b.Seeds, func() (SetChange, error) {
		return diff(ctx, st, a.Seeds, b.Seeds, opt, func(r dataset.Seed) RowOf2 { return RowOf2{A: r.Instruction, Output: r.Output} })
	}); err != nil {
		return c, err
	}
	if err := add("Segments", a.Segments, b.Segments, func() (SetChange, error) {
		return diff(ctx, st, a.Segments, b.Segments, opt, func(r dataset.Segment) RowOf2 { return RowOf2{Output: r.Text} })
	}); err != nil {
		return c, err
	}
	if err := add("Instructions written (A)", a.Candidates, b.Candidates, func() (SetChange, error) {
		return diff(ctx, st, a.Candidates, b.Candidates, opt, func(r dataset.Candidate) RowOf2 { return RowOf2{A: r.Instruction, Output: r.Output} })
	}); err != nil {
		return c, err
	}
	for _, ra := range a.Rounds {
		at := slices.IndexFunc(b.Rounds, func(r Round) bool { return r.Iteration == ra.Iteration })
		if at < 0 {
			continue
		}
		rb := b.Rounds[at]
		if err := add(fmt.Sprintf("Ratings, iteration %d", ra.Iteration), ra.Ratings, rb.Ratings, func() (SetChange, error) {
			return diff(ctx, st, ra.Ratings, rb.Ratings, opt, func(r dataset.Rating) RowOf2 { return RowOf2{A: r.Instruction, Output: r.Output, ScoreA: r.Score} })
		}); err != nil {
			return c, err
		}
		if err := add("Training set of "+modelOf(ra.Iteration), ra.Training, rb.Training, func() (SetChange, error) {
			return diff(ctx, st, ra.Training, rb.Training, opt, func(r dataset.Example) RowOf2 { return RowOf2{A: r.Instruction, Output: r.Output, ScoreA: r.Score} })
		}); err != nil {
			return c, err
		}
	}
	return c, nil
}

// diff reads two datasets side by side, in order of id. of gives a row's instruction and score as A's.
func diff[T dataset.Row](ctx context.Context, st *blob.Store, refA, refB dataset.Ref, opt Options, of func(T) RowOf2) (SetChange, error) {
	var s SetChange
	nextA, stopA := iter.Pull2(dataset.Rows[T](ctx, st, refA))
	defer stopA()
	nextB, stopB := iter.Pull2(dataset.Rows[T](ctx, st, refB))
	defer stopB()
	limit := sampleLimit(max(refA.Rows, refB.Rows), opt.Scan)
	s.Sampled = limit != ""
	take := func(next func() (T, error, bool)) (row T, ok bool, err error) {
		row, err, ok = next()
		return row, ok && err == nil && (limit == "" || row.RowID() < limit), err
	}
	rowA, okA, err := take(nextA)
	if err != nil {
		return s, err
	}
	rowB, okB, err := take(nextB)
	if err != nil {
		return s, err
	}
	var sumA, sumB float64
	var ratedA, ratedB int64
	for okA || okB {
		var order int
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = cmp.Compare(rowA.RowID(), rowB.RowID())
		}
		var both RowOf2
		if order <= 0 {
			x := of(rowA)
			both.ID, both.A, both.Output, both.ScoreA = rowA.RowID(), x.A, x.Output, x.ScoreA
		}
		if order >= 0 {
			x := of(rowB)
			both.ID, both.B, both.Output, both.ScoreB = rowB.RowID(), x.A, x.Output, x.ScoreA
		}
		if both.ScoreA > 0 {
			sumA, ratedA = sumA+both.ScoreA, ratedA+1
		}
		if both.ScoreB > 0 {
			sumB, ratedB = sumB+both.ScoreB, ratedB+1
		}
		s.count(both, order)
		if order <= 0 {
			if rowA, okA, err = take(nextA); err != nil {
				return s, err
			}
		}
		if order >= 0 {
			if rowB, okB, err = take(nextB); err != nil {
				return s, err
			}
		}
	}
	s.MeanA, s.MeanB = sumA/float64(max(ratedA, 1)), sumB/float64(max(ratedB, 1))
	return s, nil
}

func (s *SetChange) count(r RowOf2, order int) {
	keep := func(to *[]RowOf2) {
		if len(*to) < movedRows {
			r.A, r.B, r.Output = clip(r.A, 400), clip(r.B, 400), clip(r.Output, 400)
			*to = append(*to, r)
		}
	}
	switch {
	case order < 0:
		s.OnlyA++
		keep(&s.JustA)
	case order > 0:
		s.OnlyB++
		keep(&s.JustB)
	default:
		s.Both++
		rewritten := r.A != r.B
		if rewritten {
			s.Rewritten++
		}
		if r.ScoreB > r.ScoreA {
			s.Up++
		} else if r.ScoreB < r.ScoreA {
			s.Down++
		}
		if rewritten || r.ScoreA != r.ScoreB {
			keep(&s.Moved)
		}
	}
}

// specChanges compares two specs field by field, as they were written and as they were in force in the end.
func specChanges(a, b Spec) ([]SpecChange, error) {
	fieldsA, err := fields(a.JSON)
	if err != nil {
		return nil, err
	}
	fieldsB, err := fields(b.JSON)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, has := range []map[string]string{fieldsA, fieldsB, a.Set, b.Set} {
		maps.Copy(all, has)
	}
	var out []SpecChange
	for _, path := range slices.Sorted(maps.Keys(all)) {
		c := SpecChange{Path: clip(path, 200), A: clip(fieldsA[path], 500), B: clip(fieldsB[path], 500)}
		inForce := func(written string, set map[string]string) (changed, value string) {
			if now, ok := set[path]; ok && now != written {
				return clip(now, 500), now
			}
			return "", written
		}
		var x, y string
		c.SetA, x = inForce(fieldsA[path], a.Set)
		c.SetB, y = inForce(fieldsB[path], b.Set)
		if (fieldsA[path] != fieldsB[path] || x != y) && path != "name" {
			out = append(out, c)
		}
	}
	return out, nil
}

// inForce writes a value of the spec, and what it was set to.
func inForce(written, set string) string {
	if set == "" {
		return orDash(written)
	}
	return set + " (set; spec " + orDash(written) + ")"
}

// fields flattens a JSON object to paths and values.
func fields(body json.RawMessage) (map[string]string, error) {
	out := map[string]string{}
	if len(body) == 0 {
		return out, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	flatten(value, "", out)
	return out, nil
}

func flatten(value any, path string, into map[string]string) {
	if len(into) >= maxFields {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			below := k
			if path != "" {
				below = path + "." + k
			}
			flatten(v[k], below, into)
		}
	case []any:
		for i, x := range v {
			flatten(x, path+"["+strconv.Itoa(i)+"]", into)
		}
	case nil:
	default:
		if text := fmt.Sprint(v); text != "" {
			into[path] = text
		}
	}
}
