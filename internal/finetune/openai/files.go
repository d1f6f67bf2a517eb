package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

type wireFile struct {
	ID            string          `json:"id"`
	Bytes         int64           `json:"bytes"`
	CreatedAt     int64           `json:"created_at"`
	Filename      string          `json:"filename"`
	Purpose       string          `json:"purpose"`
	Status        string          `json:"status"`
	StatusDetails json.RawMessage `json:"status_details"`
}

// upload returns the provider's id of a file: of the one that lies there under the name, else of a new one. The name
// follows from the key alone, so an upload whose reply was lost is found again.
func (b *Backend) upload(ctx context.Context, name, key string, size int64) (string, error) {
	for attempt := 1; ; attempt++ {
		standing, err := b.findFile(ctx, name, size)
		if err != nil {
			return "", fmt.Errorf("look for the training file: %w", err)
		}
		if standing != "" {
			return b.ready(ctx, standing)
		}
		var made wireFile
		r := trainfile.Form(b.store, key, size, name, [][2]string{{"purpose", "fine-tune"}})
		r.Path, r.Into = "/files", &made
		err = b.api.Once(ctx, r)
		if err == nil && made.ID == "" {
			err = &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to an uploaded file has no id"}
		}
		if err == nil {
			return b.ready(ctx, made.ID)
		}
		if err = b.api.Pause(ctx, attempt, err); err != nil {
			return "", fmt.Errorf("upload the training file: %w", err)
		}
	}
}

// Names of a job's files at the provider.
func trainingName(key string) string   { return finetune.NameOf(key) + ".jsonl" }
func validationName(key string) string { return finetune.NameOf(key) + "-validation.jsonl" }

// Clean implements finetune.Cleaner: the job's files are deleted at the provider, whatever became of the job, since they
// lie in the store as well.
func (b *Backend) Clean(ctx context.Context, id string) error {
	if b.cfg.Keep {
		return nil
	}
	j, err := b.job(ctx, id)
	if err != nil {
		return fmt.Errorf("clean up after fine-tuning job %s: %w", id, err)
	}
	if state, _ := stateOf(j.Status); !state.Terminal() {
		return nil
	}
	for _, file := range []string{j.TrainingFile, j.ValidationFile} {
		if file == "" {
			continue
		}
		// A file that somebody else put there is not ours to delete.
		var f wireFile
		path := "/files/" + url.PathEscape(file)
		err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Into: &f})
		key, named := j.Metadata[MetadataKey]
		if err == nil && named && (f.Filename == trainingName(key) || f.Filename == validationName(key)) {
			err = b.api.Do(ctx, rest.Request{Method: http.MethodDelete, Path: path})
		}
		if err != nil && finetune.ClassOf(err) != finetune.ClassNotFound {
			return fmt.Errorf("delete training file %s: %w", file, err)
		}
	}
	return nil
}

// findFile returns the newest whole file of this name, or "". Providers without a listing of files have none.
func (b *Backend) findFile(ctx context.Context, name string, size int64) (string, error) {
	var best wireFile
	err := rest.Pages(ctx, b.api, "/files", func(f wireFile) bool {
		whole := f.Bytes == size || f.Bytes == 0 // 0: a provider that does not tell
		usable := f.Status != "error" && f.Status != "deleted"
		if f.Filename == name && whole && usable && (best.ID == "" || f.CreatedAt > best.CreatedAt) {
			best = f
		}
		return true
	})
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		return "", nil
	}
	return best.ID, err
}

// ready waits until the provider has taken the file in. It does not wait for ever: making the job says the same,
// and a provider that cannot tell about its files needs no waiting.
func (b *Backend) ready(ctx context.Context, id string) (string, error) {
	for deadline := time.Now().Add(b.cfg.MaxBackoff); ; {
		var f wireFile
		err := b.api.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/files/" + url.PathEscape(id), Into: &f})
		switch {
		case finetune.ClassOf(err) == finetune.ClassNotFound:
			return id, nil
		case err != nil:
			return "", fmt.Errorf("look at the training file: %w", err)
		case f.Status == "error":
			return "", &finetune.Error{Class: finetune.ClassPermanent, Code: "file_refused", Message: b.api.Clean("the provider refused the training file: " + string(f.StatusDetails))}
		case f.Status != "pending" && f.Status != "running" && f.Status != "uploading":
			return id, nil
		case time.Now().After(deadline):
			return id, nil
		}
		timer := time.NewTimer(b.cfg.Backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		case <-timer.C:
		}
	}
}
