package openai

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// TestRefusedJobLeavesNoFiles has a job refused, whose files nobody may ask for again: the run may be cancelled next. What may
// pass by itself keeps them, and so does a job that stands all the same.
func TestRefusedJobLeavesNoFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int // of the answer to a job
		class  finetune.Class
		left   int
		change func(*Config)
		also   func(f *fake, job finetune.Job)
	}{
		{name: "the model is unknown", status: 404, class: finetune.ClassPermanent},
		{name: "something is wrong", status: 400, class: finetune.ClassPermanent},
		{name: "no money is left", status: 402, class: finetune.ClassQuota},
		{name: "the key may not", status: 403, class: finetune.ClassAuth},
		{name: "files are kept", status: 400, class: finetune.ClassPermanent, left: 2, change: func(c *Config) { c.Keep = true }},
		{name: "the service is down", status: 503, class: finetune.ClassPassing, left: 2},
		{name: "another process made it", status: 400, class: finetune.ClassPermanent, left: 2, also: func(f *fake, job finetune.Job) {
			f.add(map[string]any{"metadata": map[string]any{MetadataKey: job.Key}, "training_file": "file-0"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fake{files: []trainfile.File{{ID: "file-of-another", Filename: "data.jsonl", Status: "processed"}}}
			st := s3test.Store(t)
			job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "run/M_1", "base-model", 12)
			job.Validation = job.Training
			f.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				if r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1") != createJob {
					return false
				}
				if c.also != nil {
					c.also(f, job)
				}
				return answer(w, c.status, `{"error":{"message":"no"}}`)
			}
			change := c.change
			if change == nil {
				change = func(*Config) {}
			}
			b := backend(t, f.start(t), st, change)
			_, err := b.Submit(t.Context(), job)
			if finetune.ClassOf(err) != c.class {
				t.Errorf("%v", err)
			}
			if f.count(uploadFile) != 2 || len(f.files) != 1+c.left || f.files[0].ID != "file-of-another" {
				t.Errorf("after %d uploads there are %v", f.count(uploadFile), f.files)
			}
		})
	}
}

// TestFilesThatCannotBeDeletedAreTold has a service that refuses a job and keeps its file.
func TestFilesThatCannotBeDeletedAreTold(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	f.before = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return (r.Method == http.MethodDelete || r.Method+r.URL.Path == "POST/v1/fine_tuning/jobs") && answer(w, 400, `{"error":{"message":"no"}}`)
	}
	_, err := b.Submit(t.Context(), job)
	if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), job.Name()+".jsonl was uploaded for it and could not be deleted") {
		t.Errorf("%v", err)
	}
}

func TestRefusedFileIsToldAndUploadedAnew(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	f.before = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/files/file-0") &&
			answer(w, 200, `{"id":"file-0","status":"error","status_details":"bad encoding"}`)
	}
	_, err := b.Submit(t.Context(), job)
	if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "bad encoding") {
		t.Errorf("%v", err)
	}
	if len(f.files) != 0 {
		t.Errorf("left: %v", f.files)
	}
	f.before = nil
	if _, err := b.Submit(t.Context(), job); err != nil || f.count(uploadFile) != 2 {
		t.Errorf("%v after %d uploads", err, f.count(uploadFile))
	}
}

func TestCleanLeavesOthersFilesAlone(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	if err := b.files.Store.Put(t.Context(), "held.jsonl", []byte(`{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`+"\n")); err != nil {
		t.Fatal(err)
	}
	job.Validation = "held.jsonl"
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if f.jobs[0]["validation_file"] != "file-1" {
		t.Errorf("%v", f.jobs[0])
	}
	if err := b.Clean(t.Context(), id); err != nil || len(f.deleted) != 0 {
		t.Fatalf("a job at work lost %v, %v", f.deleted, err)
	}
	f.jobs[0]["status"] = "succeeded"
	f.files[1].Filename = "mine.jsonl"
	keep := *b
	keep.cfg.Keep = true
	if err := keep.Clean(t.Context(), id); err != nil || len(f.deleted) != 0 {
		t.Errorf("%v, %v", f.deleted, err)
	}
	if err := b.Clean(t.Context(), id); err != nil || !slices.Equal(f.deleted, []string{"file-0"}) {
		t.Errorf("%v, %v", f.deleted, err)
	}
}
