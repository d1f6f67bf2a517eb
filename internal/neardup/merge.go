package neardup

import (
	"cmp"
	"container/heap"
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	runsAtOnce = 16       // opened at the same time
	mergeBytes = 16 << 20 // shared by the runs of a merge for what they fetch ahead
	minChunk   = 16 << 10
	maxChunk   = 1 << 20
)

// merge walks one section of many runs in order of key and reference. Of equal records it yields one. Its memory is about
// mergeBytes, or a chunk a run where there are thousands.
type merge struct {
	cursors []*cursor // a heap by their records
	begun   bool
	last    record
}

func openMerge(ctx context.Context, st *blob.Store, runs Runs, section int) (*merge, error) {
	m := &merge{}
	found := make([]*cursor, len(runs.Runs))
	chunk := min(max(mergeBytes/max(1, len(runs.Runs)), minChunk), maxChunk)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runsAtOnce)
	for i, ref := range runs.Runs {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			c, err := openSection(ctx, st, ref, section, runs.Sections, chunk) // ctx, not gctx: it is read after the group is done
			if err != nil {
				return err
			}
			ok, err := c.advance()
			if ok {
				found[i] = c
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, c := range found {
		if c != nil {
			m.cursors = append(m.cursors, c)
		}
	}
	heap.Init(m)
	return m, nil
}

// next returns the next record, nil behind the last. Its data are overwritten by the next call.
func (m *merge) next() (*record, error) {
	for {
		if m.begun {
			if len(m.cursors) == 0 {
				return nil, nil
			}
			ok, err := m.cursors[0].advance()
			if err != nil {
				return nil, err
			}
			if ok {
				heap.Fix(m, 0)
			} else {
				heap.Pop(m)
			}
		}
		if len(m.cursors) == 0 {
			return nil, nil
		}
		r := &m.cursors[0].rec
		if m.begun && r.Key == m.last.Key && r.Ref == m.last.Ref {
			continue
		}
		m.begun = true
		m.last = record{Key: r.Key, Ref: r.Ref}
		return r, nil
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface over the cursors.
func (m *merge) Len() int { return len(m.cursors) }

// Less orders by key, then reference. Records with both equal are the same.
func (m *merge) Less(i, j int) bool {
	a, b := &m.cursors[i].rec, &m.cursors[j].rec
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Ref, b.Ref)) < 0
}

// Swap is part of heap.Interface.
func (m *merge) Swap(i, j int) { m.cursors[i], m.cursors[j] = m.cursors[j], m.cursors[i] }

// Push is part of heap.Interface; the heap only shrinks.
func (m *merge) Push(any) { panic("neardup: cursors are not pushed") }

// Pop is part of heap.Interface.
func (m *merge) Pop() any {
	last := m.cursors[len(m.cursors)-1]
	m.cursors = m.cursors[:len(m.cursors)-1]
	return last
}
