package activities

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// tidy is a trainer that can be cleaned up after.
type tidy struct {
	*backend
	cleaned []string
	err     error
}

func (b *tidy) Clean(_ context.Context, id string) error {
	b.cleaned = append(b.cleaned, id)
	return b.err
}

// A job is cleaned up after when it has ended, however it ended, and never before; what cannot be removed costs no run.
func TestCleaningUpAfterJobs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		about   string
		state   finetune.State
		cleaned bool
		fails   bool
	}{
		{"at work", finetune.StateRunning, false, true}, // an error "still at work"
		{"queued", finetune.StateQueued, false, true},
		{"done", finetune.StateSucceeded, true, false},
		{"failed", finetune.StateFailed, true, true},
		{"cancelled", finetune.StateCancelled, true, true},
	} {
		for _, refuses := range []error{nil, errors.New("cannot be removed")} {
			b := &tidy{backend: &backend{status: finetune.Status{State: c.state, Model: "ft"}}, err: refuses}
			trainers := trainersWith(b.backend)
			trainers.Trainers["t"] = Trainer{Backend: b, Poll: time.Minute}
			env := activityEnv(t, trainers)
			_, err := env.ExecuteActivity("PollFinetune", PollInput{Job: TrainingJob{ID: "job-1", Trainer: "t"}, Shown: -1})
			if (err != nil) != c.fails || slices.Equal(b.cleaned, []string{"job-1"}) != c.cleaned {
				t.Errorf("%s: %v, cleaned up %v", c.about, err, b.cleaned)
			}
		}
	}
	b := &tidy{backend: &backend{status: finetune.Status{State: finetune.StateCancelled}}}
	trainers := trainersWith(b.backend)
	trainers.Trainers["t"] = Trainer{Backend: b, Poll: time.Minute}
	if _, err := activityEnv(t, trainers).ExecuteActivity("CancelFinetune", TrainingJob{ID: "job-2", Trainer: "t"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(b.cancelled, []string{"job-2"}) || !slices.Equal(b.cleaned, []string{"job-2"}) {
		t.Errorf("cancelled %v, cleaned up %v", b.cancelled, b.cleaned)
	}
}

// What a job may cost, and where its end can be told, reach the trainer.
func TestBudgetAndCallbackReachTheTrainer(t *testing.T) {
	t.Parallel()
	b := &backend{}
	trainers := trainersWith(b)
	trainers.Callback = func(trainer, workflow string) string { return "https://here/" + trainer + "/" + workflow }
	env := activityEnv(t, trainers)
	in := submission()
	left := int64(1_500_000)
	in.MaxMicroUSD = &left
	for _, in := range []SubmitInput{in, submission()} {
		if _, err := env.ExecuteActivity("SubmitFinetune", in); err != nil {
			t.Fatal(err)
		}
	}
	if job := b.jobs[0]; job.MaxMicroUSD == nil || *job.MaxMicroUSD != left || job.Callback != "https://here/t/default-test-workflow-id" {
		t.Errorf("%+v", job)
	}
	if b.jobs[1].MaxMicroUSD != nil {
		t.Errorf("a bound from nowhere: %d", *b.jobs[1].MaxMicroUSD)
	}
}
