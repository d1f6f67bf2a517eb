package neardup

import (
	"context"
	"fmt"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Reason is the reject reason of a near-duplicate.
const Reason = "near_duplicate"

// DropPartition commits one partition of a dataset at dir that is the job's input without its near-duplicates. What the input
// had turned away is turned away here too, so that one dataset accounts for all that went into both.
func DropPartition(ctx context.Context, st *blob.Store, j Job, dir string, part int) (dataset.Receipt, error) {
	if standing, err := dataset.ReadReceipt(ctx, st, dir, part); err == nil {
		return standing, nil // the job's runs may be gone by now
	}
	fail := func(err error) (dataset.Receipt, error) {
		return dataset.Receipt{}, fmt.Errorf("drop near-duplicates of partition %05d: %w", part, err)
	}
	runs, err := j.gathered(ctx, st, StepDecide)
	if err != nil {
		return fail(err)
	}
	m, err := openMerge(ctx, st, runs, part*runs.Sections/j.Input.Partitions())
	if err != nil {
		return fail(err)
	}
	r, err := m.next()
	for err == nil && r != nil && partitionOf(r.Key) < part {
		r, err = m.next()
	}
	if err != nil {
		return fail(err)
	}
	index := 0
	receipt, err := dataset.CopyPartition(ctx, st, j.Input, dir, part, func(row dataset.Segment) (*dataset.Reject, error) {
		number := rowNumber(part, index)
		index++
		if r == nil || r.Key != number {
			return nil, nil
		}
		kept, similarity, err := readKept(r.Data)
		if err != nil {
			return nil, err
		}
		reject := &dataset.Reject{
			ID: row.ID, Stage: "ingest", Reason: Reason,
			Detail: fmt.Sprintf("like %s, Jaccard similarity %.3f", kept, similarity),
			Text:   row.Text, Source: row.Source, Document: row.Document, Offset: row.Offset,
		}
		r, err = m.next()
		return reject, err
	})
	if err != nil {
		return fail(err)
	}
	return receipt, nil
}
