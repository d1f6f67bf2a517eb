package activities

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/serve"
)

// backend is a trainer under the test's hand.
type backend struct {
	jobs      []finetune.Job
	submit    func(context.Context) error
	status    finetune.Status
	pollErr   error
	cancelled []string
}

func (b *backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	b.jobs = append(b.jobs, job)
	if b.submit != nil {
		if err := b.submit(ctx); err != nil {
			return "", err
		}
	}
	return "job-1", nil
}

func (b *backend) Poll(context.Context, string) (finetune.Status, error) { return b.status, b.pollErr }

func (b *backend) Cancel(_ context.Context, id string) error {
	b.cancelled = append(b.cancelled, id)
	return nil
}

// server deploys whatever it is given.
type server struct{ got serve.Trained }

func (s *server) Deploy(_ context.Context, t serve.Trained) (dataset.ModelRef, error) {
	s.got = t
	return dataset.ModelRef{Provider: "p", Name: t.Model, Revision: t.TrainingDigest}, nil
}

func (s *server) Teardown(context.Context, serve.Trained) error { return nil }

func trainersWith(b *backend) *Trainers {
	return &Trainers{
		Trainers: map[string]Trainer{"t": {Backend: b, Poll: time.Minute, Queue: "q-train"}},
		Servers:  map[string]Server{"t": {Server: &server{}}}, Models: llm.NewPool(nil),
	}
}

func activityEnv(t *testing.T, a any) *testsuite.TestActivityEnvironment {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return env
}

func submission() SubmitInput {
	return SubmitInput{
		Run: "r", Name: "m1", Iteration: 1, Model: config.Model{Base: "base", Trainer: "t"},
		Exported: Exported{Key: "runs/r/01/train/m1.jsonl", Examples: 300, Digest: "d1"},
	}
}

// The key of a job names all that decides what is trained: nothing is trained twice under one, and other data is another job.
func TestJobKeys(t *testing.T) {
	t.Parallel()
	b := &backend{}
	env := activityEnv(t, trainersWith(b))
	change := []func(*SubmitInput){
		func(*SubmitInput) {},
		func(*SubmitInput) {}, // the same again
		func(in *SubmitInput) { in.Exported.Digest = "d2" },
		func(in *SubmitInput) { in.Attempt = 1 },
		func(in *SubmitInput) { in.Name = "myx" },
		func(in *SubmitInput) { in.Iteration = 2 },
		func(in *SubmitInput) { in.Model.Base = "bigger" },
		func(in *SubmitInput) { in.Model.Hyper.LearningRate = 1e-4 },
	}
	keys := map[string]int{}
	for i, f := range change {
		in := submission()
		f(&in)
		if _, err := env.ExecuteActivity("SubmitFinetune", in); err != nil {
			t.Fatal(err)
		}
		keys[b.jobs[i].Key]++
	}
	if len(keys) != len(change)-1 || b.jobs[0].Key != b.jobs[1].Key {
		t.Errorf("keys %v", keys)
	}
	job := b.jobs[0]
	if job.BaseModel != "base" || job.Examples != 300 || !strings.HasPrefix(job.Key, "r/01/m1/0/") || job.Artifacts != "runs/r/01/train/m1-0" {
		t.Errorf("job %+v", job)
	}
}

// A submission that a cancel meets on its way ends, so that its job is known and can be cancelled.
func TestSubmissionOutlivesACancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	longer, done := outlive(ctx, time.Second)
	defer done()
	cancel()
	if longer.Err() != nil {
		t.Error("ended with its parent")
	}
	select {
	case <-longer.Done():
	case <-time.After(time.Minute):
		t.Error("never ended")
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	longer, done = outlive(ctx, time.Hour)
	done()
	if !errors.Is(longer.Err(), context.Canceled) {
		t.Error("goes on after it was done")
	}
}

func TestPollTellsTenths(t *testing.T) {
	t.Parallel()
	b := &backend{}
	env := activityEnv(t, trainersWith(b))
	poll := func(shown int) (TrainingStatus, error) {
		var out TrainingStatus
		value, err := env.ExecuteActivity("PollFinetune", PollInput{Job: TrainingJob{ID: "job-1", Trainer: "t"}, Shown: shown})
		if err == nil {
			err = value.Get(&out)
		}
		return out, err
	}
	var app *temporal.ApplicationError
	for _, s := range []struct {
		about  string
		status finetune.Status
		shown  int
		kind   string // of the error; "" none
		delay  time.Duration
	}{
		{"queued", finetune.Status{State: finetune.StateQueued}, -1, ErrTypeTraining, time.Minute},
		{"first step", finetune.Status{State: finetune.StateRunning, Step: 0, Steps: 100}, -1, "", 0},
		{"no news", finetune.Status{State: finetune.StateRunning, Step: 9, Steps: 100}, 0, ErrTypeTraining, time.Minute},
		{"a tenth", finetune.Status{State: finetune.StateRunning, Step: 10, Steps: 100}, 0, "", 0},
		{"done", finetune.Status{State: finetune.StateSucceeded, Model: "ft"}, 9, "", 0},
		{"failed", finetune.Status{State: finetune.StateFailed, Message: "out of memory"}, 9, ErrTypeTrainerFailed, 0},
		{"cancelled by hand", finetune.Status{State: finetune.StateCancelled}, 9, ErrTypeTrainerFailed, 0},
	} {
		b.status = s.status
		out, err := poll(s.shown)
		switch {
		case s.kind == "" && (err != nil || out.Done != (s.status.State == finetune.StateSucceeded)):
			t.Errorf("%s: %+v, %v", s.about, out, err)
		case s.kind != "" && (!errors.As(err, &app) || app.Type() != s.kind || app.NextRetryDelay() != s.delay):
			t.Errorf("%s: %v, next in %v", s.about, err, app.NextRetryDelay())
		case s.kind == ErrTypeTrainerFailed && !IsTrainerFailure(err):
			t.Errorf("%s: not told as a failure of the trainer", s.about)
		}
	}
}

// Every error that needs a person says what to do; the others are tried again.
func TestErrorsOfTrainers(t *testing.T) {
	t.Parallel()
	for class, way := range map[finetune.Class]string{
		finetune.ClassAuth: "key", finetune.ClassQuota: "quota", finetune.ClassPermanent: "objects to", finetune.ClassNotFound: "objects to",
	} {
		b := &backend{pollErr: &finetune.Error{Class: class, Message: "no"}}
		_, err := activityEnv(t, trainersWith(b)).ExecuteActivity("PollFinetune", PollInput{Job: TrainingJob{Trainer: "t"}})
		if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Way, way) || !strings.Contains(trouble.Way, "t") {
			t.Errorf("%v: %+v", class, trouble)
		}
	}
	b := &backend{pollErr: errors.New("connection refused")}
	_, err := activityEnv(t, trainersWith(b)).ExecuteActivity("PollFinetune", PollInput{Job: TrainingJob{Trainer: "t"}})
	if _, known := TroubleOf(err); known || err == nil {
		t.Errorf("a lost connection parks the run: %v", err)
	}
	for name, in := range map[string]any{
		"SubmitFinetune": SubmitInput{Model: config.Model{Trainer: "none"}},
		"PollFinetune":   PollInput{Job: TrainingJob{Trainer: "none"}},
		"CancelFinetune": TrainingJob{Trainer: "none"},
		"DeployModel":    DeployInput{Submit: SubmitInput{Model: config.Model{Trainer: "none"}}},
	} {
		_, err := activityEnv(t, trainersWith(b)).ExecuteActivity(name, in)
		if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Message, `"none"`) || !strings.Contains(trouble.Way, "worker's settings") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := activityEnv(t, trainersWith(b)).ExecuteActivity("CancelFinetune", TrainingJob{ID: "job-9", Trainer: "t"}); err != nil || b.cancelled[0] != "job-9" {
		t.Errorf("cancelled %v, %v", b.cancelled, err)
	}
}

func TestPaperHyperparametersFillWhatIsSilent(t *testing.T) {
	t.Parallel()
	paper := finetune.PaperHyper(3200)
	if got := hyper(config.Hyper{}, 3200); got != paper {
		t.Errorf("%+v, want the paper's %+v", got, paper)
	}
	got := hyper(config.Hyper{Epochs: 2, BatchSize: 8, LearningRate: 1e-4, LearningRateEnd: 1e-5, WeightDecay: 0.2, Dropout: 0.3}, 3200)
	if want := (finetune.Hyper{Epochs: 2, BatchSize: 8, LearningRate: 1e-4, LearningRateEnd: 1e-5, WeightDecay: 0.2, Dropout: 0.3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
