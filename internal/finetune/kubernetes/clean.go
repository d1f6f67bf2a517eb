package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// record is what stays in the store of a job that was removed from the cluster: jobs/kubernetes/<namespace>/<id>.json.
type record struct {
	Format int             `json:"format"` // 1
	Key    string          `json:"key"`
	Status finetune.Status `json:"status"`
}

var _ finetune.Cleaner = (*Backend)(nil)

// Clean implements finetune.Cleaner: a job that succeeded or was cancelled is written down in the store, and then deleted
// with its pods and all else that it owns. A failed one stays until its ttl is over, for its log and its pods tell why.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.keep {
		return nil
	}
	if err := b.clean(ctx, id); err != nil {
		return fmt.Errorf("clean up after fine-tuning job %.100q: %w", id, err)
	}
	return nil
}

func (b *Backend) clean(ctx context.Context, id string) error {
	o, err := b.get(ctx, id)
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		_, err = b.recorded(ctx, id)
		return err // it was removed before
	}
	if err != nil {
		return err
	}
	status, err := b.statusOf(ctx, o)
	if err != nil || !status.State.Terminal() || status.State == finetune.StateFailed {
		return err
	}
	raw, err := json.Marshal(record{Format: 1, Key: o.Metadata.Annotations[annotationKey], Status: status})
	if err != nil {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: "encode the record of a job", Err: err}
	}
	// Whoever died after this line left both. The first record stands: what was told once is told again.
	if err := b.store.PutIfAbsent(ctx, b.recordKey(id), raw); err != nil && !errors.Is(err, blob.ErrExists) {
		return trainfile.StoreError("record of the job", err)
	}
	err = b.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: b.path(id), Body: map[string]any{
		"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
		"preconditions": map[string]any{"uid": o.Metadata.UID}, // not another one of its name
	}})
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		return nil
	}
	return err
}

func (b *Backend) recordKey(id string) string {
	return "jobs/kubernetes/" + b.place + "/" + id + ".json"
}

// recorded returns what is known of a job that was removed; an Error of ClassNotFound where nothing is.
func (b *Backend) recorded(ctx context.Context, id string) (record, error) {
	var r record
	if !validID(id) {
		return r, errNoSuchID
	}
	raw, err := b.store.Get(ctx, b.recordKey(id))
	if errors.Is(err, blob.ErrNotFound) {
		return r, &finetune.Error{Class: finetune.ClassNotFound, Message: "neither the cluster nor the store knows a job " + id}
	}
	if err != nil {
		return r, trainfile.StoreError("record of the job", err)
	}
	if json.Unmarshal(raw, &r) != nil || r.Format != 1 {
		return r, &finetune.Error{Class: finetune.ClassPermanent, Message: "the record of the job cannot be read: " + b.store.URI(b.recordKey(id))}
	}
	return r, nil
}
