package dataset

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"os"
)

// spillRun is a spill on disk, which waits to be merged with others.
type spillRun struct {
	f      *os.File
	size   int64
	digest string
}

// run writes the rows held to a file of their own.
func (s *Spiller[T]) run() (err error) {
	if len(s.entries) == 0 {
		return nil
	}
	f, err := os.CreateTemp("", "selfalign-run-")
	if err != nil {
		return fmt.Errorf("spill to disk: %w", err)
	}
	r := &spillRun{f: f}
	_ = os.Remove(f.Name()) // the file goes with the process, however that ends; where this cannot be done yet, close does it
	w := newSpillWriter(f)
	err = s.drain(w)
	if err == nil {
		r.digest, r.size, err = w.close()
	}
	if err != nil {
		r.close()
		return fmt.Errorf("spill to disk: %w", err)
	}
	s.runs = append(s.runs, r)
	return nil
}

func (r *spillRun) close() {
	_ = r.f.Close() // nothing in it is wanted any more
	_ = os.Remove(r.f.Name())
}

// merge hands the rows of all runs to w, in order.
func (s *Spiller[T]) merge(ctx context.Context, w *spillWriter) error {
	m := &merger[T]{rows: s.cols, rejects: s.rejects, dec: newDecoder()}
	defer m.close()
	var first [idBytes]byte
	for _, r := range s.runs {
		blocks, err := readIndex(r.f, r.size, r.digest)
		if err != nil {
			return fmt.Errorf("read %s: %w", r.f.Name(), err)
		}
		c := &cursor{r: r.f, uri: r.f.Name(), blocks: blocks, from: first[:]}
		switch ok, err := c.next(m.dec); {
		case err != nil:
			return err
		case ok:
			m.cursors = append(m.cursors, c)
		}
	}
	heap.Init(m)
	for n := 0; len(m.cursors) > 0; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return errors.Join(errors.New("merge runs"), ctx.Err())
		}
		if err := w.add(m.cursors[0].rec.id, m.cursors[0].rec.reject, m.cursors[0].rec.row); err != nil {
			return err
		}
		if err := m.step(); err != nil {
			return err
		}
	}
	return nil
}
