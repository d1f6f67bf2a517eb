package sagemaker

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

const template = `
AlgorithmSpecification: {TrainingImage: "registry.example/trl:1", TrainingInputMode: File}
RoleArn: arn:aws:iam::1:role/train
ResourceConfig: {InstanceType: ml.g5.xlarge, InstanceCount: 2, VolumeSizeInGB: 100}
StoppingCondition: {MaxRuntimeInSeconds: 86400}
HyperParameters: {lora: 64}
`

func setup(t *testing.T, secret string) (*service, func(t *testing.T) finetune.Backend, *blob.Store) {
	t.Helper()
	st := s3test.Store(t)
	s := &service{jobs: map[string]*training{}, store: st}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, func(t *testing.T) finetune.Backend {
		b, err := New(t.Context(), Config{
			Template: template, Region: testRegion, URL: srv.URL, LogsURL: srv.URL, InstanceHour: 3,
			Credentials: credentials.NewStaticCredentialsProvider(testAccess, secret, ""),
			Retry:       rest.Config{Attempts: 3, Backoff: 5 * time.Millisecond, MaxBackoff: time.Second},
		}, st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, st
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		s, fresh, st := setup(t, testSecret)
		return finetunetest.World{
			Store: st, Backend: fresh, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded", Secrets: []string{testSecret},
			Estimates: true, NotExpressed: true,
			Left: func(t *testing.T, key string) []string {
				prefix := "models/" + finetune.NameOf(key) + "/"
				return slices.DeleteFunc(keysUnder(t, st, prefix), func(k string) bool { return strings.Contains(k, "/output/") })
			},
			Started: func(_ *testing.T, key string) (n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, k := range s.made {
					if k == key {
						n++
					}
				}
				return n
			},
		}
	})
}

// The reply to the creation is lost: the job is adopted, and is what template and job say.
func TestRequest(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, testSecret)
	s.loseCreate = true
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "run/01/"+strings.Repeat("long", 40), "quick", 12)
	job.Validation = job.Training
	b := fresh(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil || len(s.made) != 1 {
		t.Fatalf("%v, %v", s.made, err)
	}
	made := s.jobs[id]
	channels := made.body["InputDataConfig"].([]any)
	files, err := s.listed(channels[0].(map[string]any)["DataSource"].(map[string]any)["S3DataSource"].(map[string]any))
	if err != nil || !slices.Equal(files, []string{job.Training}) {
		t.Errorf("the channel has %v, %v", files, err)
	}
	if made.told.Hyper != job.Hyper || made.told.TrainingFile != st.URI(job.Training) || len(channels) != 2 || made.told.Checkpoints != "" ||
		made.body["HyperParameters"].(map[string]any)["lora"] != "64" || made.body["OutputDataConfig"].(map[string]any)["S3OutputPath"] != st.URI(job.Artifacts) {
		t.Errorf("%v", made.body)
	}
	end := finetunetest.Await(t, b, id, finetunetest.Ended)
	if end.Artifact != job.Artifacts+"/"+id+"/output/model" || !end.CostKnown || end.CostMicroUSD != 3_000_000 || end.Loss > 1 {
		t.Errorf("%+v", end)
	}
	made.told.Key = "other"
	made.body["HyperParameters"] = map[string]any{hyperJob: `{"key": "other"}`}
	if _, err := b.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPermanent {
		t.Errorf("a stranger's job: %v", err)
	}
}

func keysUnder(t *testing.T, st *blob.Store, prefix string) (keys []string) {
	t.Helper()
	if err := st.List(t.Context(), prefix, func(i blob.Info) error { keys = append(keys, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return keys
}

// A dollar budget becomes a time limit; one that buys less than a few minutes is told before anything is made. A job that its
// own limit ended says whose limit it was.
func TestBudgetIsATimeLimit(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, testSecret)
	b := fresh(t).(*Backend)
	for _, c := range []struct {
		microUSD int64
		want     float64 // seconds; two instances at $3 an hour are a dollar for 600 s
	}{{1_000_000, 480}, {100_000_000, 59_880}, {1_000_000_000, 86_400}, {290_000, 0}, {-5, 0}} {
		job := finetunetest.NewJob(t, finetunetest.World{Store: st}, fmt.Sprint("budget ", c.microUSD), "quick", 12)
		job.MaxMicroUSD = &c.microUSD
		id, err := b.Submit(t.Context(), job)
		if c.want == 0 {
			if finetune.ClassOf(err) != finetune.ClassBudget || s.jobs[job.Name()] != nil {
				t.Errorf("%d: %v", c.microUSD, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := s.jobs[id].body["StoppingCondition"].(map[string]any)["MaxRuntimeInSeconds"]
		if got != c.want {
			t.Errorf("%d micro dollars: %v s, want %v", c.microUSD, got, c.want)
		}
	}
	d := description{TrainingJobStatus: "Stopped", SecondaryStatus: "MaxRuntimeExceeded"}
	d.StoppingCondition.MaxRuntimeInSeconds = 480
	if words := b.statusOf(d).Message; !strings.Contains(words, "budget") || !strings.Contains(words, "480 s") {
		t.Error(words)
	}
	d.StoppingCondition.MaxRuntimeInSeconds = 86400
	if words := b.statusOf(d).Message; !strings.Contains(words, "StoppingCondition") {
		t.Error(words)
	}
}

// With spot instances each job has checkpoints of its own, whatever place the template names.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, testSecret)
	b := fresh(t).(*Backend)
	b.template["EnableManagedSpotTraining"] = true
	b.template["CheckpointConfig"] = map[string]any{"S3Uri": "s3://elsewhere/shared", "LocalPath": "/tmp/checkpoints"}
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "on spot instances", "quick", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	made := s.jobs[id]
	if at := made.body["CheckpointConfig"].(map[string]any)["S3Uri"]; at != st.URI(job.Artifacts+"/checkpoints") || made.told.Checkpoints != "/tmp/checkpoints" {
		t.Errorf("%v, %q", at, made.told.Checkpoints)
	}
	for _, key := range []string{"/checkpoints/step-1/weights", "/" + id + "/output/model/weights"} {
		if err := st.Put(t.Context(), job.Artifacts+key, []byte("w")); err != nil {
			t.Fatal(err)
		}
	}
	finetunetest.Await(t, b, id, finetunetest.Ended)
	if err := b.Clean(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if keys := keysUnder(t, st, job.Artifacts+"/"); !slices.Equal(keys, []string{job.Artifacts + "/" + id + "/output/model/weights"}) {
		t.Errorf("left: %v", keys)
	}
}

// Logs that may not be read cost progress, not the job; metrics of the template tell it then.
func TestWithoutLogs(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, testSecret)
	s.noLogs, s.throttle = true, 2
	b := fresh(t)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "no logs", "quick", 12))
	if err != nil {
		t.Fatal(err)
	}
	if end := finetunetest.Await(t, b, id, finetunetest.Ended); end.State != finetune.StateSucceeded || end.Loss != 0.25 {
		t.Errorf("%+v", end)
	}
	_, err = b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "limited", "beyond the quota", 12))
	if finetune.ClassOf(err) != finetune.ClassQuota || !strings.Contains(err.Error(), "service limit") {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, fresh, st := setup(t, "another secret")
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "refused", "quick", 12)
	if _, err := fresh(t).Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassAuth {
		t.Errorf("a wrong secret: %v", err)
	}
	if _, err := New(t.Context(), Config{Template: "RoleArn: x", Region: testRegion}, st); err == nil || !strings.Contains(err.Error(), "AlgorithmSpecification") {
		t.Errorf("half a template: %v", err)
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	b := &Backend{store: s3test.Store(t)}
	for _, c := range []struct {
		status, second string
		want           finetune.State
	}{
		{"InProgress", "Pending", finetune.StateQueued},
		{"InProgress", "Interrupted", finetune.StateQueued},
		{"InProgress", "Uploading", finetune.StateRunning},
		{"Stopping", "Stopping", finetune.StateRunning},
		{"Stopped", "Stopped", finetune.StateCancelled},
		{"Stopped", "MaxRuntimeExceeded", finetune.StateFailed},
		{"Failed", "Failed", finetune.StateFailed},
		{"Dreaming", "", finetune.StateRunning},
	} {
		st := b.statusOf(description{TrainingJobStatus: c.status, SecondaryStatus: c.second})
		if st.State != c.want || st.CostKnown || (st.UnknownState != "") != (c.status == "Dreaming") || (st.State == finetune.StateFailed) != (st.Message != "") {
			t.Errorf("%s, %s: %+v", c.status, c.second, st)
		}
	}
}
