package openai

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

const createJob, uploadFile = "POST /fine_tuning/jobs", "POST /files"

func setup(t *testing.T, f *fake) (*Backend, finetune.Job) {
	t.Helper()
	w := finetunetest.World{Store: s3test.Store(t)}
	return backend(t, f.start(t), w.Store), finetunetest.NewJob(t, w, "run/M_1", "base-model", 12)
}

func TestLostRepliesMakeNothingTwice(t *testing.T) {
	t.Parallel()
	f := &fake{
		afterCreate: func(j map[string]any) bool { return j["id"] == "ftjob-0" },
		afterUpload: func(n int) bool { return n == 1 },
	}
	b, job := setup(t, f)
	id, err := b.Submit(t.Context(), job)
	if err != nil || id != "ftjob-0" {
		t.Fatalf("%q, %v", id, err)
	}
	if c, u := f.count(createJob), f.count(uploadFile); c != 1 || u != 1 {
		t.Errorf("%d jobs and %d files made", c, u)
	}
}

func TestJobIsFoundWithoutMetadata(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(j map[string]any){
		"by its training file": func(j map[string]any) { delete(j, "suffix") },
		"by its suffix":        func(j map[string]any) { j["training_file"] = "gone" },
		"by its model's name": func(j map[string]any) {
			j["fine_tuned_model"] = fmt.Sprintf("ft:base:org:%s:id", j["suffix"])
			delete(j, "suffix")
			j["training_file"] = "gone"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{noMetadata: true}
			b, job := setup(t, f)
			id, err := b.Submit(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			forget(f.jobs[0])
			again, err := b.Submit(t.Context(), job)
			if err != nil || again != id {
				t.Errorf("%q, then %q, %v", id, again, err)
			}
		})
	}
}

func TestJobIsFoundOnALaterPage(t *testing.T) {
	t.Parallel()
	f := &fake{pageSize: 2}
	b, job := setup(t, f)
	f.add(map[string]any{"metadata": map[string]any{MetadataKey: job.Key}})
	for range 5 {
		f.add(map[string]any{"metadata": map[string]any{MetadataKey: "another", "odd": 7}})
	}
	if id, err := b.Submit(t.Context(), job); err != nil || id != "ftjob-0" {
		t.Errorf("%q, %v", id, err)
	}
}

func TestListingThatDoesNotMoveEnds(t *testing.T) {
	t.Parallel()
	f := &fake{stuck: true}
	b, job := setup(t, f)
	f.add(map[string]any{"metadata": map[string]any{MetadataKey: "another"}})
	if _, err := b.Submit(t.Context(), job); err != nil {
		t.Error(err)
	}
	if n := f.count("GET /fine_tuning/jobs"); n > 10 {
		t.Errorf("%d pages asked for", n)
	}
}

// TestCrossingSubmissions has another process make the same job while ours is being made.
func TestCrossingSubmissions(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	f.afterCreate = func(j map[string]any) bool {
		f.add(map[string]any{"metadata": map[string]any{MetadataKey: job.Key}})
		f.jobs[1]["created_at"] = 900
		return false
	}
	id, err := b.Submit(t.Context(), job)
	if err != nil || id != "ftjob-1" {
		t.Fatalf("%q, %v", id, err)
	}
	if f.jobs[0]["status"] != "cancelled" || f.jobs[1]["status"] != "running" {
		t.Errorf("%v", f.jobs)
	}
}

func TestRunningJobGoesBeforeAFailedOne(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	for _, status := range []string{"failed", "succeeded", "cancelled"} {
		f.add(map[string]any{"status": status, "metadata": map[string]any{MetadataKey: job.Key}})
		f.jobs[len(f.jobs)-1]["status"] = status
	}
	if id, err := b.Submit(t.Context(), job); err != nil || id != "ftjob-1" {
		t.Errorf("%q, %v", id, err)
	}
}

func TestRequestSaysWhatTheRecipeCan(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	if _, err := b.Submit(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	got := f.jobs[0]
	want := map[string]any{"type": "supervised", "supervised": map[string]any{"hyperparameters": map[string]any{"n_epochs": 3.0, "batch_size": 8.0}}}
	if diff := cmp.Diff(want, got["method"]); diff != "" {
		t.Error(diff)
	}
	if got["seed"] != 7.0 || got["model"] != "base-model" || got["training_file"] != "file-0" {
		t.Errorf("%v", got)
	}
	if s := got["suffix"].(string); len(s) > maxSuffix || !strings.HasPrefix(s, "test-run-") {
		t.Errorf("suffix %q", s)
	}
	if f.files[0].Filename != job.Name()+".jsonl" {
		t.Errorf("file name %q", f.files[0].Filename)
	}
}

func TestErrorsAreSortedAndKeepNoKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		body   string
		class  finetune.Class
		words  string
	}{
		{"key refused", 401, `{"error":{"message":"Incorrect API key provided: ` + testKey + `","code":"invalid_api_key"}}`, finetune.ClassAuth, "Incorrect API key provided: ***"},
		{"not allowed", 403, `{"error":"region not supported"}`, finetune.ClassAuth, "region not supported"},
		{"no money", 429, `{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}`, finetune.ClassQuota, "exceeded"},
		{"payment", 402, `pay first`, finetune.ClassQuota, "pay first"},
		{"bad request", 400, `{"error":{"message":"unsupported model","param":"model","code":null}}`, finetune.ClassPermanent, "unsupported model (model)"},
		{"no API here", 404, `<html>nginx</html>`, finetune.ClassPermanent, "nginx"},
		{"detail", 422, `{"detail":[{"msg":"field required"}]}`, finetune.ClassPermanent, "field required"},
		{"moved", 302, ``, finetune.ClassPermanent, "Try:"},
		{"server error", 500, `oops`, finetune.ClassPassing, "oops"},
		{"no words", 503, ``, finetune.ClassPassing, "Service Unavailable"},
		{"code is a number", 400, `{"error":{"message":"no","code":40001}}`, finetune.ClassPermanent, "40001"},
		{"not JSON", 200, `<html>`, finetune.ClassPassing, "not the JSON expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fake{before: func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				return answer(w, c.status, c.body, "Location", "http://127.0.0.1:1/")
			}}
			b, job := setup(t, f)
			_, err := b.Submit(t.Context(), job)
			if finetune.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("%v", err)
			}
			if strings.Contains(err.Error(), testKey) {
				t.Errorf("the key shows: %v", err)
			}
			want := 1
			if c.class == finetune.ClassPassing {
				want = 3
			}
			if n := len(f.asked); n != want {
				t.Errorf("asked %d times, want %d", n, want)
			}
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	f := &fake{before: func(w http.ResponseWriter, _ *http.Request, nth int) bool {
		return nth == 1 && answer(w, 429, `{"error":{"message":"slow down"}}`, "Retry-After", "1")
	}}
	b, job := setup(t, f)
	begin := time.Now()
	if _, err := b.find(t.Context(), job, ""); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < time.Second {
		t.Errorf("asked again after %v", d)
	}
	far := &fake{before: func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		return answer(w, 429, ``, "Retry-After", "3600")
	}}
	b, job = setup(t, far)
	_, err := b.Submit(t.Context(), job)
	var e *finetune.Error
	if !errors.As(err, &e) || e.Class != finetune.ClassPassing || e.RetryAfter != 3600 || len(far.asked) != 1 {
		t.Errorf("%v after %d requests", err, len(far.asked))
	}
}

func TestPollReadsWhateverIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		job    map[string]any
		events []map[string]any
		want   finetune.Status
	}{
		{"unknown state runs", map[string]any{"status": "paused"}, nil, finetune.Status{State: finetune.StateRunning, UnknownState: "paused"}},
		{"no state runs", map[string]any{"status": ""}, nil, finetune.Status{State: finetune.StateRunning, UnknownState: "(none)"}},
		{"validating is queued", map[string]any{"status": "validating_files"}, nil, finetune.Status{State: finetune.StateQueued}},
		{"success without a name is none yet", map[string]any{"status": "succeeded"}, nil, finetune.Status{State: finetune.StateRunning, UnknownState: "succeeded, model not named yet"}},
		{
			"success",
			map[string]any{"status": "succeeded", "fine_tuned_model": "ft:m", "trained_tokens": 2_000_000, "model": "gpt-4o-mini-2024"},
			nil,
			finetune.Status{State: finetune.StateSucceeded, Model: "ft:m", TrainedTokens: 2_000_000, CostKnown: true, CostMicroUSD: 6_000_000},
		},
		{
			"failure",
			map[string]any{"status": "failed", "error": map[string]any{"code": "exceeded_quota", "message": "Job failed: " + testKey}},
			nil,
			finetune.Status{State: finetune.StateFailed, Message: "Job failed: *** (exceeded_quota)"},
		},
		{"failure told by an event", map[string]any{"status": "failed"}, []map[string]any{
			{"created_at": 9, "level": "info", "message": "Job over"}, {"created_at": 8, "level": "error", "message": "NaN loss"},
		}, finetune.Status{State: finetune.StateFailed, Message: "NaN loss"}},
		{"failure without a word", map[string]any{"status": "failed"}, nil, finetune.Status{State: finetune.StateFailed, Message: "the provider gave no reason"}},
		{"progress in data", map[string]any{"status": "running"}, []map[string]any{
			{"created_at": 9, "type": "metrics", "message": "m", "data": map[string]any{"step": 7, "total_steps": 90, "train_loss": 0.5}},
			{"created_at": 8, "type": "metrics", "data": map[string]any{"step": 6, "total_steps": 90, "train_loss": 0.75}},
		}, finetune.Status{State: finetune.StateRunning, Step: 7, Steps: 90, Loss: 0.5, Message: "m"}},
		{"progress in words", map[string]any{"status": "running"}, []map[string]any{
			{"created_at": 9, "message": "Step 11/20: training loss=1.25"}, {"created_at": 8, "message": "Step 9: loss 1.5", "data": "odd"},
		}, finetune.Status{State: finetune.StateRunning, Step: 11, Steps: 20, Loss: 1.25, Message: "Step 11/20: training loss=1.25"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fake{event: c.events}
			f.add(c.job)
			b := backend(t, f.start(t), s3test.Store(t), func(cfg *Config) {
				cfg.Price = map[string]float64{"gpt-4o*": 25, "gpt-4o-mini*": 3}
			})
			got, err := b.Poll(t.Context(), "ftjob-0")
			if err != nil {
				t.Fatal(err)
			}
			got.NotExpressed = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPollOutlivesItsEvents(t *testing.T) {
	t.Parallel()
	f := &fake{before: func(w http.ResponseWriter, r *http.Request, _ int) bool {
		return strings.HasSuffix(r.URL.Path, "/events") && answer(w, 500, "")
	}}
	f.add(map[string]any{})
	b := backend(t, f.start(t), s3test.Store(t))
	if st, err := b.Poll(t.Context(), "ftjob-0"); err != nil || st.State != finetune.StateRunning {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestBrokenTrainingFileNeverLeaves(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	job.Training = "training/broken.jsonl"
	if err := b.files.Store.Put(t.Context(), job.Training, []byte("{\"messages\":[]}\nnot json\n")); err != nil {
		t.Fatal(err)
	}
	_, err := b.Submit(t.Context(), job)
	if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "line 1: no messages; line 2: not a JSON object") {
		t.Errorf("%v", err)
	}
	if slices.Contains(f.asked, uploadFile) {
		t.Error("it was uploaded")
	}
	big := backend(t, f.start(t), b.files.Store, func(c *Config) { c.MaxFile = 10 })
	if _, err := big.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("%v", err)
	}
	_, short := setup(t, f)
	short.Examples = 99
	if err := b.files.Store.Put(t.Context(), short.Training, []byte(`{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}`+"\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Submit(t.Context(), short); finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "1 examples, the job speaks of 99") {
		t.Errorf("%v", err)
	}
}

func TestHalfAFileIsNotAdopted(t *testing.T) {
	t.Parallel()
	f := &fake{}
	b, job := setup(t, f)
	f.files = []trainfile.File{{ID: "file-half", Filename: job.Name() + ".jsonl", Bytes: 17, Status: "processed"}}
	if _, err := b.Submit(t.Context(), job); err != nil || f.count(uploadFile) != 1 {
		t.Errorf("%v after %d uploads", err, f.count(uploadFile))
	}
}

func TestUnreachableProviderIsPassing(t *testing.T) {
	t.Parallel()
	const nobody = "http://127.0.0.1:1" // the port of a server that was closed may be another's by then
	b := backend(t, nobody, s3test.Store(t))
	_, err := b.Poll(t.Context(), "ftjob-1")
	if finetune.ClassOf(err) != finetune.ClassPassing || !strings.Contains(err.Error(), nobody) {
		t.Errorf("%v", err)
	}
}

func TestNewRefusesAddressesThatHideSecrets(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for _, url := range []string{"", "localhost:8000", "ftp://x/v1", "https://user:pass@x/v1", "https://x/v1?key=1", "https://x/#y"} {
		if _, err := New(Config{Config: rest.Config{URL: url}}, st); err == nil {
			t.Errorf("%q passes", url)
		}
	}
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"id":"x","status":"running","metadata":[1],"error":"s","hyperparameters":{"n_epochs":{}}}`))
	f.Add([]byte(`{"id":"x","method":{"supervised":{"hyperparameters":{"n_epochs":"auto","batch_size":[1]}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fk := &fake{before: func(w http.ResponseWriter, r *http.Request, _ int) bool {
			_, _ = w.Write(raw)
			return true
		}}
		rec := httptest.NewServer(fk)
		defer rec.Close()
		client, err := rest.New(rest.Config{URL: rec.URL, HTTP: rec.Client(), Attempts: 1, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		b := &Backend{api: client}
		st, err := b.Poll(t.Context(), "x")
		if err == nil && st.State == "" {
			t.Fatal("no state")
		}
	})
}

func TestCheckpointsTellProgressWhereEventsDoNot(t *testing.T) {
	t.Parallel()
	f := &fake{checkpoints: []map[string]any{
		{"id": "c2", "step_number": 20, "metrics": map[string]any{"train_loss": 0.5}}, {"id": "c1", "step_number": 10, "metrics": map[string]any{"train_loss": 0.9}},
	}}
	b, job := setup(t, f)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := b.Poll(t.Context(), id); err != nil || st.Step != 20 || st.Loss != 0.5 {
		t.Errorf("%+v, %v", st, err)
	}
}
