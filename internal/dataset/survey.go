package dataset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

// Standing is what stands of a range of partitions that somebody began to make.
type Standing struct {
	Committed  bool         // the range manifest is there; Partitions is then empty
	Partitions []int        // those committed, in order
	Summary    RangeSummary // adds them up
}

// Survey tells what stands of the partitions from ≤ p < to. It asks for the range manifest, then lists the folder once
// and reads the receipts of the partitions that it finds.
func Survey(ctx context.Context, st *blob.Store, dir string, from, to int) (Standing, error) {
	fail := func(err error) (Standing, error) {
		return Standing{}, fmt.Errorf("survey %s, partitions %d–%d: %w", dir, from, to, err)
	}
	whole, err := readRange(ctx, st, rangeKey(dir, from, to))
	if err == nil {
		return Standing{Committed: true, Summary: whole.Summary}, nil
	}
	if !errors.Is(err, blob.ErrNotFound) {
		return fail(err)
	}
	var found []int
	err = st.List(ctx, dir+"/part-", func(info blob.Info) error {
		var part int
		name := info.Key[strings.LastIndexByte(info.Key, '/')+1:]
		if _, err := fmt.Sscanf(name, "part-%d.parquet", &part); err == nil && part >= from && part < to && PartKey(dir, part) == info.Key {
			found = append(found, part)
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	receipts := make([]Receipt, len(found))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(receiptsAtOnce)
	for i, part := range found {
		g.Go(func() (err error) {
			receipts[i], err = ReadReceipt(gctx, st, dir, part)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fail(err)
	}
	summary, err := summarize(from, to, receipts)
	if err != nil {
		return fail(err)
	}
	return Standing{Partitions: found, Summary: summary}, nil
}
