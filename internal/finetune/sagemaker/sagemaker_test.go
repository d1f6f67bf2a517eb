package sagemaker

import (
	"net/http/httptest"
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
	s := &service{jobs: map[string]*training{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	st := s3test.Store(t)
	return s, func(t *testing.T) finetune.Backend {
		b, err := New(t.Context(), Config{
			Template: template, Region: testRegion, URL: srv.URL, InstanceHour: 3,
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
	if made.told.Hyper != job.Hyper || made.told.TrainingFile != st.URI(job.Training) || len(made.body["InputDataConfig"].([]any)) != 2 ||
		made.body["HyperParameters"].(map[string]any)["lora"] != "64" || made.body["OutputDataConfig"].(map[string]any)["S3OutputPath"] != st.URI(job.Artifacts) {
		t.Errorf("%v", made.body)
	}
	end := finetunetest.Await(t, b, id, finetunetest.Ended)
	if end.Artifact != job.Artifacts+"/"+id+"/output" || !end.CostKnown || end.CostMicroUSD != 3_000_000 {
		t.Errorf("%+v", end)
	}
	made.told.Key = "other"
	made.body["HyperParameters"] = map[string]any{hyperJob: `{"key": "other"}`}
	if _, err := b.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPermanent {
		t.Errorf("a stranger's job: %v", err)
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
