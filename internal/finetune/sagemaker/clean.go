package sagemaker

import (
	"context"
	"fmt"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Clean implements finetune.Cleaner: checkpoints and lists of files go when the job has succeeded; after a cancel all that
// it wrote; after a failure nothing. The job itself stays: SageMaker keeps it free of charge.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.cfg.Keep {
		return nil
	}
	d, err := b.describe(ctx, id)
	if err != nil {
		return fmt.Errorf("clean up after fine-tuning job %.100q: %w", id, err)
	}
	told, known := d.told()
	place, ours := b.keyOf(told.Artifacts)
	if !known || !ours || finetune.NameOf(told.Key) != id {
		return nil // somebody else's
	}
	var prefixes []string
	switch b.statusOf(d).State {
	case finetune.StateSucceeded:
		prefixes = []string{place + "/" + folderInputs + "/", place + "/" + folderCheckpoints + "/"}
	case finetune.StateCancelled:
		prefixes = []string{place + "/"}
	default:
		return nil
	}
	for _, prefix := range prefixes {
		var keys []string
		err := b.store.List(ctx, prefix, func(i blob.Info) error { keys = append(keys, i.Key); return nil })
		if err == nil {
			err = b.store.Delete(ctx, keys...)
		}
		if err != nil {
			return fmt.Errorf("clean up after fine-tuning job %.100q: %w", id, trainfile.StoreError("remove checkpoints", err))
		}
	}
	return nil
}
