package dataset

import (
	"context"
	"errors"
	"iter"

	"github.com/selfalign/selfalign/internal/blob"
)

// CopyPartition commits one partition of dir with the rows of the same partition of another dataset, except those for which
// drop returns a reject. drop is called once a row, in order of id, unless the partition stands already. What the other
// dataset turned away is turned away here too, so Input is what went into the other one.
func CopyPartition[T Row](ctx context.Context, st *blob.Store, from Ref, dir string, part int, drop func(T) (*Reject, error)) (Receipt, error) {
	return commitPartition(ctx, st, dir, from.Bits, part, Receipt{}, func(w *rejectWriter, receipt *Receipt) ([]T, error) {
		before, err := ReadReceipt(ctx, st, from.Dir, part)
		if err != nil {
			return nil, err
		}
		receipt.Input = before.Input
		next, stop := iter.Pull2(rejectsIn(ctx, st, from.Dir, before))
		defer stop()
		old, err, more := next()
		// carry copies rejects up to an id; "" is no bound.
		carry := func(id string) error {
			for ; more && (id == "" || old.ID <= id); old, err, more = next() {
				if err := errors.Join(err, w.add(old)); err != nil {
					return err
				}
			}
			return nil
		}
		var kept []T
		for row, err := range partRows[T](ctx, st, from.Dir, part, "", "") {
			if err != nil {
				return nil, err
			}
			reject, err := drop(row)
			if err != nil {
				return nil, err
			}
			if reject == nil {
				kept = append(kept, row)
				continue
			}
			if err := carry(row.RowID()); err != nil {
				return nil, err
			}
			if err := w.add(trimmed(*reject)); err != nil {
				return nil, err
			}
		}
		return kept, carry("")
	})
}
