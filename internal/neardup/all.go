package neardup

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// All does every step of a job in this process, atOnce tasks at a time, and commits the dataset without near-duplicates at
// dir: what workflows do with many processes. done is called with the counts of each step.
func All(ctx context.Context, st *blob.Store, j Job, dir string, atOnce int, done func(Step, Counts)) (dataset.Ref, error) {
	each := func(n int, do func(ctx context.Context, i int) error) error {
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for i := range n {
			g.Go(func() error {
				if gctx.Err() != nil {
					return gctx.Err()
				}
				return do(gctx, i)
			})
		}
		return g.Wait()
	}
	for _, s := range Steps() {
		err := each(j.Tasks(s), func(ctx context.Context, task int) error {
			return Run(ctx, st, j, s, task, func(int64) {})
		})
		if err != nil {
			return dataset.Ref{}, err
		}
		counts, err := Gather(ctx, st, j, s)
		if err != nil {
			return dataset.Ref{}, err
		}
		done(s, counts)
	}
	err := each(j.Input.Partitions(), func(ctx context.Context, part int) error {
		_, err := DropPartition(ctx, st, j, dir, part)
		return err
	})
	if err != nil {
		return dataset.Ref{}, err
	}
	whole, err := dataset.CommitRange(ctx, st, dir, 0, j.Input.Partitions())
	if err != nil {
		return dataset.Ref{}, err
	}
	m := dataset.Manifest{Kind: dataset.KindSegments, Bits: j.Input.Bits, Input: j.Input.Rows + j.Input.Rejected}
	return dataset.Commit(ctx, st, dir, m, []dataset.RangeSummary{whole})
}
