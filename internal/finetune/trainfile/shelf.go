package trainfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

// Shelf is where a service keeps the files of jobs: uploaded under names that follow from a job's key alone, so that an
// upload whose reply was lost is found again, and whoever submitted can be cleaned up after.
type Shelf struct {
	API   *rest.Client
	Store *blob.Store
	// Upload is the path that takes uploads; "" is /files.
	Upload string
	// Fields of the form beside purpose and file; nil for none.
	Fields func(name string) [][2]string
}

// File is a file as the service tells it.
type File struct {
	ID            string          `json:"id"`
	Bytes         int64           `json:"bytes"` // 0 where it is not told
	CreatedAt     int64           `json:"created_at"`
	Filename      string          `json:"filename"`
	Purpose       string          `json:"purpose"`
	Status        string          `json:"status"` // "" where it is not told
	StatusDetails json.RawMessage `json:"status_details"`
}

// Ident implements rest.Identified.
func (f File) Ident() string { return f.ID }

// IDs are the service's ids of a job's files; Validation is "" where there is none.
type IDs struct{ Training, Validation string }

// Names of a job's files at the service.
func trainingName(job finetune.Job) string   { return job.Name() + ".jsonl" }
func validationName(job finetune.Job) string { return job.Name() + "-validation.jsonl" }

// Owned reports whether a file of this name was uploaded for the job with this digest. See finetune.Job.Digest.
func Owned(digest, file string) bool {
	return len(digest) == finetune.DigestSize && (strings.HasSuffix(file, digest+".jsonl") || strings.HasSuffix(file, digest+"-validation.jsonl"))
}

// Put brings the job's files there, whose sizes Inspect has told, and returns their ids.
func (s Shelf) Put(ctx context.Context, job finetune.Job, training, validation Stats) (ids IDs, err error) {
	if ids.Training, err = s.upload(ctx, trainingName(job), job.Training, training.Size); err != nil || job.Validation == "" {
		return ids, err
	}
	ids.Validation, err = s.upload(ctx, validationName(job), job.Validation, validation.Size)
	return ids, err
}

// upload returns the id of the newest whole file of this name, else of a new one.
func (s Shelf) upload(ctx context.Context, name, key string, size int64) (string, error) {
	for attempt := 1; ; attempt++ {
		var best File
		err := s.each(ctx, func(f File) {
			whole := f.Bytes == size || f.Bytes == 0
			usable := f.Status != "error" && f.Status != "deleted"
			if f.Filename == name && whole && usable && (best.ID == "" || f.CreatedAt > best.CreatedAt) {
				best = f
			}
		})
		if err != nil {
			return "", fmt.Errorf("look for the training file: %w", err)
		}
		if best.ID != "" {
			return best.ID, s.ready(ctx, best.ID)
		}
		fields := [][2]string{{"purpose", "fine-tune"}}
		if s.Fields != nil {
			fields = append(fields, s.Fields(name)...)
		}
		r := s.request(key, size, name, fields)
		if r.Path = s.Upload; r.Path == "" {
			r.Path = "/files"
		}
		r.Into = &best
		err = s.API.Once(ctx, r)
		if err == nil && best.ID == "" {
			err = &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to an uploaded file has no id"}
		}
		if err == nil {
			return best.ID, s.ready(ctx, best.ID)
		}
		if err = s.API.Pause(ctx, attempt, err); err != nil {
			return "", fmt.Errorf("upload the training file: %w", err)
		}
	}
}

// each goes through all files. Services without a listing have none.
func (s Shelf) each(ctx context.Context, fn func(File)) error {
	err := rest.Pages(ctx, s.API, "/files", func(f File) bool { fn(f); return true })
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		return nil
	}
	return err
}

// ready waits until the service has taken the file in. It does not wait for ever: making the job says the same, and a
// service that cannot tell about its files needs no waiting.
func (s Shelf) ready(ctx context.Context, id string) error {
	step, patience := s.API.Pace()
	for deadline := time.Now().Add(patience); ; {
		var f File
		err := s.API.Do(ctx, rest.Request{Method: http.MethodGet, Path: filePath(id), Into: &f})
		switch {
		case finetune.ClassOf(err) == finetune.ClassNotFound:
			return nil
		case err != nil:
			return fmt.Errorf("look at the training file: %w", err)
		case f.Status == "error":
			return &finetune.Error{
				Class: finetune.ClassPermanent, Code: "file_refused",
				Message: s.API.Clean("the service refused the training file: " + string(f.StatusDetails)),
			}
		case f.Status != "pending" && f.Status != "running" && f.Status != "uploading", time.Now().After(deadline):
			return nil
		}
		timer := time.NewTimer(step)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Remove deletes the files of the job with this digest. What somebody else put there is not ours to delete, and what is
// gone is fine.
func (s Shelf) Remove(ctx context.Context, ids IDs, digest string) error {
	for _, id := range []string{ids.Training, ids.Validation} {
		if id == "" {
			continue
		}
		var f File
		err := s.API.Do(ctx, rest.Request{Method: http.MethodGet, Path: filePath(id), Into: &f})
		if err == nil && Owned(digest, f.Filename) {
			err = s.API.Do(ctx, rest.Request{Method: http.MethodDelete, Path: filePath(id)})
		}
		if err != nil && finetune.ClassOf(err) != finetune.ClassNotFound {
			return fmt.Errorf("delete training file %s: %w", id, err)
		}
	}
	return nil
}

// Discard deletes what was uploaded for a job that was then refused for a reason that does not pass by itself: nobody may
// ever ask for it again. Where a job stands all the same, made by another process, its files stay. The refusal is returned,
// with a word about what could not be deleted; another error of a submission is returned as it is.
func (s Shelf) Discard(ctx context.Context, job finetune.Job, refused error, stands func() (bool, error)) error {
	switch finetune.ClassOf(refused) {
	case finetune.ClassPermanent, finetune.ClassNotFound, finetune.ClassBudget, finetune.ClassQuota, finetune.ClassAuth:
	default:
		return refused
	}
	if there, err := stands(); err != nil || there {
		return refused //nolint:nilerr // what cannot be told is left alone
	}
	var ours []string
	err := s.each(ctx, func(f File) {
		if Owned(job.Digest(), f.Filename) {
			ours = append(ours, f.ID)
		}
	})
	for _, id := range ours {
		gone := s.API.Do(ctx, rest.Request{Method: http.MethodDelete, Path: filePath(id)})
		if finetune.ClassOf(gone) != finetune.ClassNotFound {
			err = errors.Join(err, gone)
		}
	}
	var e *finetune.Error
	if err != nil && errors.As(refused, &e) {
		e.Message = finetune.Clip(fmt.Sprintf("%s (the file %s was uploaded for it and could not be deleted: %v)", e.Message, trainingName(job), err))
	}
	return refused
}

func filePath(id string) string { return "/files/" + url.PathEscape(id) }
