package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Compact ends the book's work: it writes all entries of the partition as one object, with the closing record, and deletes
// the small ones. A crash at any point leaves a ledger that reads the same. Only Close may follow.
func (b *Book) Compact(ctx context.Context) error {
	b.mu.Lock()
	if !b.claimed || b.done {
		b.mu.Unlock()
		return ErrClosed
	}
	b.closing = true
	b.wake()
	b.mu.Unlock()
	b.stopFlushing()
	if b.pending != nil {
		if err := b.finish(ctx); err != nil {
			return fmt.Errorf("compact ledger: %w", err)
		}
	}
	if err := b.checkFence(ctx); err != nil {
		return fmt.Errorf("compact ledger: %w", err)
	}
	if err := b.fencedErr(); err != nil {
		return err
	}
	state, bodies, err := b.fold()
	if err == nil && len(bodies) > 1 && len(b.unflushed) > 0 {
		// The first piece would state as settled what only the last one holds.
		if err = b.flushOnce(ctx, false); err == nil {
			state, bodies, err = b.fold()
		}
	}
	if err != nil {
		return fmt.Errorf("compact ledger: %w", err)
	}
	for i, body := range bodies {
		key := b.shelf.key(object{kindWhole, state.Epoch, int64(i) + 1})
		if err := b.insist(ctx, func(ctx context.Context) error { return b.putOwn(ctx, key, body) }); err != nil {
			return fmt.Errorf("compact ledger: %w", err)
		}
	}
	b.mu.Lock()
	b.state, b.done, b.durable = state, true, b.n
	b.own, b.unflushed = append(b.own, b.unflushed...), nil
	var small []string
	for _, o := range slices.Concat(b.view.standing, b.flushed) {
		small = append(small, b.shelf.key(o))
	}
	b.mu.Unlock()
	if err := b.st.Delete(ctx, small...); err != nil {
		return fmt.Errorf("compact ledger: what was folded stays beside the whole: %w", err)
	}
	return nil
}

// fold encodes all entries of the partition, in pieces that are whole objects each.
func (b *Book) fold() (epochState, [][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.nextState(true)
	epochs := []epochState{state}
	for epoch, s := range b.view.epochs {
		if epoch != state.Epoch {
			epochs = append(epochs, s)
		}
	}
	slices.SortFunc(epochs, func(a, b epochState) int { return cmp.Compare(a.Epoch, b.Epoch) })
	entries := slices.Concat(b.view.entries, b.own, b.unflushed)
	var bodies [][]byte
	for len(bodies) == 0 || len(entries) > 0 {
		w, err := newWriter(b.header(epochs...))
		if err != nil {
			return state, nil, err
		}
		for n := 0; len(entries) > 0 && (n == 0 || w.size() < b.opts.piece); n++ {
			if err := w.add(entries[0]); err != nil {
				return state, nil, err
			}
			entries = entries[1:]
		}
		body, err := w.finish()
		if err != nil {
			return state, nil, err
		}
		bodies = append(bodies, body)
	}
	return state, bodies, nil
}
