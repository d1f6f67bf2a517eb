package dataset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	// DefaultSpillBudget is how many bytes of rows a Spiller holds before it writes them to a temporary file.
	DefaultSpillBudget = 64 << 20
	maxSpill           = 512 << 20 // bytes of rows after which a spill is closed, and of temporary files about
	prefixBits         = 12        // of PrefixCounts
	entryBytes         = 96        // what a held row costs beside its bytes, about
)

// SpillRef points at one spill: rows and rejects of a map step, sorted by id. It is small enough for a
// workflow's history.
type SpillRef struct {
	Key      string `json:"key"`
	Digest   string `json:"digest"` // of the spill's index: a spill that was overwritten by other content is noticed
	Rows     int64  `json:"rows"`
	Rejected int64  `json:"rejected"`
	Bytes    int64  `json:"bytes"`
}

// SpillSummary is what one Spiller wrote.
type SpillSummary struct {
	Spills       []SpillRef   `json:"spills"`
	Rows         int64        `json:"rows"`          // duplicates among them included
	Rejected     int64        `json:"rejected"`      // rows that the map step turned away
	PrefixCounts PrefixCounts `json:"prefix_counts"` // of rows and rejects, by the first 12 bits of their id
}

// Spiller is the map side of the shuffle: it takes rows and rejects in any order and writes them to S3 as
// objects sorted by id, from which MergePartition reads just its range. It holds about budget bytes; more is sorted in
// runs on disk, which are merged. What is written does not depend on the budget. Not safe for concurrent use.
type Spiller[T Row] struct {
	st      *blob.Store
	dir     string
	name    string
	budget  int
	most    int // maxSpill; tests set less
	cols    *columns
	rejects *columns
	entries []entry
	arena   []byte
	runs    []*spillRun
	bytes   int // of rows since the last spill
	summary SpillSummary
}

// entry is a held row: its sort key up front, the rest in the arena.
type entry struct {
	id       [idBytes]byte
	reject   bool
	off, end int
}

// NewSpiller returns a Spiller whose objects lie at dir/name-00000.spill and so on. Map steps use different
// names; a repeated attempt of one uses the same name and overwrites what the first left behind. budget is in
// bytes, ≤ 0 means DefaultSpillBudget.
func NewSpiller[T Row](st *blob.Store, dir, name string, budget int) *Spiller[T] {
	if budget <= 0 {
		budget = DefaultSpillBudget
	}
	return &Spiller[T]{st: st, dir: dir, name: name, budget: budget, most: maxSpill, cols: columnsOf[T](), rejects: columnsOf[Reject]()}
}

// Hold changes the budget.
func (s *Spiller[T]) Hold(budget int) { s.budget = budget }

// Add takes a row. Now and then it writes a spill.
func (s *Spiller[T]) Add(ctx context.Context, row T) error {
	v := reflect.ValueOf(&row).Elem()
	if name := s.cols.invalid(v); name != "" {
		return fmt.Errorf("spill row %s: column %s is not valid UTF-8", row.RowID(), name)
	}
	return s.hold(ctx, row.RowID(), false, s.cols, v)
}

// Reject takes a row that the map step turned away. One without an id gets RejectID's.
func (s *Spiller[T]) Reject(ctx context.Context, r Reject) error {
	r = trimmed(r)
	if r.Reason == "" {
		return fmt.Errorf("spill rejected row %s: it has no reason", r.ID)
	}
	return s.hold(ctx, r.ID, true, s.rejects, reflect.ValueOf(&r).Elem())
}

func (s *Spiller[T]) hold(ctx context.Context, id string, reject bool, cols *columns, v reflect.Value) error {
	if !ValidID(id) {
		return fmt.Errorf("spill row: %q is no id", id)
	}
	e := entry{reject: reject, off: len(s.arena)}
	if _, err := hex.Decode(e.id[:], []byte(id)); err != nil {
		return fmt.Errorf("spill row: %w", err)
	}
	s.arena = cols.append(s.arena, v)
	e.end = len(s.arena)
	s.entries = append(s.entries, e)
	s.summary.PrefixCounts[prefixOf(id)>>(32-prefixBits)]++
	if reject {
		s.summary.Rejected++
	} else {
		s.summary.Rows++
	}
	s.bytes += e.end - e.off
	if s.bytes >= s.most {
		return s.spill(ctx)
	}
	if len(s.arena)+entryBytes*len(s.entries) < s.budget {
		return nil
	}
	return s.run()
}

// Close writes what is left and returns what became of all rows. The Spiller is not to be used afterwards.
func (s *Spiller[T]) Close(ctx context.Context) (SpillSummary, error) {
	if err := s.spill(ctx); err != nil {
		return SpillSummary{}, err
	}
	return s.summary, nil
}

// Discard removes what is on disk. It may be called at any time, and more than once.
func (s *Spiller[T]) Discard() {
	for _, r := range s.runs {
		r.close()
	}
	s.runs = nil
}

// spill writes all rows since the last one as an object.
func (s *Spiller[T]) spill(ctx context.Context) (err error) {
	if len(s.entries) == 0 && len(s.runs) == 0 {
		return nil
	}
	key := fmt.Sprintf("%s/%s-%05d.spill", s.dir, s.name, len(s.summary.Spills))
	defer func() {
		if err != nil {
			err = fmt.Errorf("write spill %s: %w", key, err)
		}
	}()
	f, err := os.CreateTemp("", "selfalign-spill-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	ref := SpillRef{Key: key}
	w := newSpillWriter(f)
	if len(s.runs) == 0 {
		err = s.drain(w)
	} else if err = s.run(); err == nil {
		err = s.merge(ctx, w)
	}
	if err != nil {
		return err
	}
	ref.Rows, ref.Rejected = w.rows, w.rejected
	if ref.Digest, ref.Bytes, err = w.close(); err != nil {
		return err
	}
	if err := s.st.PutFile(ctx, key, f.Name()); err != nil {
		return err
	}
	s.summary.Spills = append(s.summary.Spills, ref)
	s.bytes = 0
	s.Discard()
	return nil
}

// drain sorts the rows held and hands them to w.
func (s *Spiller[T]) drain(w *spillWriter) error {
	slices.SortFunc(s.entries, s.compare)
	for _, e := range s.entries {
		if err := w.add(e.id, e.reject, s.arena[e.off:e.end]); err != nil {
			return err
		}
	}
	s.entries, s.arena = s.entries[:0], s.arena[:0]
	return nil
}

// compare orders by id, rows before rejects, and then by where a row came from; the last resort are its bytes.
func (s *Spiller[T]) compare(a, b entry) int {
	if c := cmp.Or(bytes.Compare(a.id[:], b.id[:]), boolCompare(a.reject, b.reject)); c != 0 {
		return c
	}
	cols := s.cols
	if a.reject {
		cols = s.rejects
	}
	ab, bb := s.arena[a.off:a.end], s.arena[b.off:b.end]
	return compareOrigins(cols, ab, bb)
}

// compareOrigins orders two encoded rows of one id by source, document and offset, then by all their bytes.
func compareOrigins(cols *columns, a, b []byte) int {
	ao, bo := originOf(cols, a), originOf(cols, b)
	return cmp.Or(
		bytes.Compare(ao.source, bo.source), bytes.Compare(ao.document, bo.document),
		cmp.Compare(ao.offset, bo.offset), bytes.Compare(a, b),
	)
}

type origin struct {
	source, document []byte
	offset           int64
}

// originOf finds the origin columns of an encoded row without decoding it. A damaged row has none.
func originOf(cols *columns, b []byte) (o origin) {
	for _, c := range cols.fields {
		value, rest, err := cut(c.kind, b)
		if err != nil {
			return origin{}
		}
		switch c.name {
		case "source":
			o.source = value
		case "document":
			o.document = value
		case "offset":
			if len(value) == 8 {
				o.offset = int64(beUint64(value))
			}
		}
		b = rest
	}
	return o
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

var errDamagedSpill = errors.New("the spill is damaged")
