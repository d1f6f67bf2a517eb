// Package finetunetest holds every fine-tuning backend to the promises of finetune.Backend.
package finetunetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
)

// Patience is how long a job may take to reach a state. Generous: machines are slow and shared.
const Patience = 60 * time.Second

// World is one outside world with a trainer in it.
type World struct {
	// Store holds training files and artefacts.
	Store *blob.Store
	// Backend returns a fresh value over this world, as a newly started process would make it.
	Backend func(t *testing.T) finetune.Backend
	// Quick, Endless and Broken are base models: whose training succeeds soon; that trains until it is
	// cancelled and tells steps and loss meanwhile; whose training fails saying LastWords.
	Quick, Endless, Broken string
	LastWords              string
	// Started returns how many trainings have begun under the key so far, those that ended included.
	Started func(t *testing.T, key string) int
	// Secrets must not be found in any error or status.
	Secrets []string
	// Artifacts says whether results come to the job's blob prefix.
	Artifacts bool
	// NotExpressed says whether the backend is known to leave out parts of the paper's recipe.
	NotExpressed bool
	// Estimates says whether the backend tells a price before it spends: every job here costs more than nothing.
	Estimates bool
	// Left lists what the job has left at the trainer that cleaning up takes away; nil where there is nothing.
	Left func(t *testing.T, key string) []string
}

// Exercise runs the conformance suite. fresh returns a new world for each test.
func Exercise(t *testing.T, fresh func(t *testing.T) World) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w World)
	}{
		{"a job succeeds and names its result", succeeds},
		{"submitting a key twice is one job", submitTwice},
		{"a job is found again by a process that never heard of it", foundAgain},
		{"submissions of one key at once are one job", submitAtOnce},
		{"other keys are other jobs", otherKeys},
		{"a job that ended is still the job of its key", endedStands},
		{"progress", tellsProgress},
		{"cancel", cancels},
		{"cancel after the end changes nothing", cancelsLate},
		{"failure carries the trainer's last words", fails},
		{"an unknown id is not found", unknown},
		{"a job that makes no sense is refused for good", refuses},
		{"another key after a failure is another training", resubmits},
		{"cleaning up takes what nobody needs and leaves the job", cleans},
		{"cleaning up after a cancel", cleansCancelled},
		{"a job that costs more than it may is not begun", affords},
		{"a context that is over stops a call", stops},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, fresh(t))
		})
	}
}

// NewJob puts a training file of n examples into the world and returns a job on it.
func NewJob(t *testing.T, w World, key, base string, n int) finetune.Job {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		type message struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		}
		err := json.NewEncoder(&b).Encode(map[string]any{"messages": []message{
			{"system", "Answer in the style of an assistant."},
			{"user", fmt.Sprintf("What is %d plus %d?", i, i)},
			{"assistant", fmt.Sprintf("The sum of %d and %d is %d.", i, i, 2*i)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	name := finetune.NameOf(key)
	training := "training/" + name + "/train.jsonl"
	if err := w.Store.Put(t.Context(), training, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	return finetune.Job{
		Key: key, BaseModel: base, Suffix: "test run", Training: training, Examples: int64(n),
		Hyper: finetune.PaperHyper(int64(n)), Seed: 7, Artifacts: "models/" + name,
	}
}

// Await polls with one backend until the condition holds and returns the status.
func Await(t *testing.T, b finetune.Backend, id string, until func(finetune.Status) bool) finetune.Status {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		st, err := b.Poll(t.Context(), id)
		if err != nil {
			t.Fatalf("poll %s: %v", id, err)
		}
		if until(st) {
			return st
		}
		if st.State.Terminal() || time.Now().After(deadline) {
			t.Fatalf("job %s did not get there: %+v", id, st)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Ended is a condition for Await.
func Ended(st finetune.Status) bool { return st.State.Terminal() }

func submit(t *testing.T, b finetune.Backend, job finetune.Job) string {
	t.Helper()
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatalf("submit: %v", err)
	}
	if id == "" {
		t.Fatal("submit: empty id without an error")
	}
	return id
}

func started(t *testing.T, w World, key string, want int) {
	t.Helper()
	if got := w.Started(t, key); got != want {
		t.Errorf("%d trainings began under key %q, want %d", got, key, want)
	}
}

func noSecrets(t *testing.T, w World, words string) {
	t.Helper()
	for _, s := range w.Secrets {
		if strings.Contains(words, s) {
			t.Errorf("a secret shows in %q", words)
		}
	}
}

func succeeds(t *testing.T, w World) {
	job := NewJob(t, w, "succeeds/M_0", w.Quick, 12)
	b := w.Backend(t)
	id := submit(t, b, job)
	st := Await(t, b, id, Ended)
	if st.State != finetune.StateSucceeded || st.Model == "" {
		t.Fatalf("%+v", st)
	}
	if again, err := w.Backend(t).Poll(t.Context(), id); err != nil || again.Model != st.Model || again.State != st.State {
		t.Errorf("another process sees %+v, %v; this one saw %+v", again, err, st)
	}
	if w.NotExpressed && len(st.NotExpressed) == 0 {
		t.Error("what the backend cannot express of the recipe is not told")
	}
	if !w.Artifacts {
		return
	}
	if st.Artifact == "" {
		t.Fatal("no artefact")
	}
	var keys []string
	err := w.Store.List(t.Context(), st.Artifact+"/", func(i blob.Info) error { keys = append(keys, i.Key); return nil })
	if err != nil || len(keys) < 2 || !slices.ContainsFunc(keys, func(k string) bool { return strings.HasSuffix(k, "manifest.json") }) {
		t.Errorf("artefacts %v, %v", keys, err)
	}
}

func submitTwice(t *testing.T, w World) {
	job := NewJob(t, w, "twice", w.Quick, 12)
	b := w.Backend(t)
	first := submit(t, b, job)
	if second := submit(t, b, job); second != first {
		t.Errorf("%s, then %s", first, second)
	}
	Await(t, b, first, Ended)
	started(t, w, job.Key, 1)
}

// foundAgain is the crash between submitting and noting the id: all that the first process knew is lost.
func foundAgain(t *testing.T, w World) {
	job := NewJob(t, w, "found again", w.Quick, 12)
	first := submit(t, w.Backend(t), job)
	b := w.Backend(t)
	if second := submit(t, b, job); second != first {
		t.Errorf("%s, then %s", first, second)
	}
	if st := Await(t, b, first, Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
	started(t, w, job.Key, 1)
}

func submitAtOnce(t *testing.T, w World) {
	job := NewJob(t, w, "at once", w.Quick, 12)
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range ids {
		b := w.Backend(t)
		wg.Go(func() {
			id, err := b.Submit(t.Context(), job)
			if err != nil {
				t.Errorf("submit: %v", err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	b := w.Backend(t)
	// Where the trainer makes jobs without looking at keys, twins may have been made; all but one are stopped.
	kept := submit(t, b, job)
	if st := Await(t, b, kept, Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
	for _, id := range ids {
		if id != kept {
			t.Errorf("submissions do not agree: %v, now %s", ids, kept)
			break
		}
	}
}

func otherKeys(t *testing.T, w World) {
	b := w.Backend(t)
	one := submit(t, b, NewJob(t, w, "key", w.Quick, 12))
	other := submit(t, b, NewJob(t, w, "key/2", w.Quick, 12))
	if one == other {
		t.Errorf("two keys, one job %s", one)
	}
	Await(t, b, one, Ended)
	Await(t, b, other, Ended)
}

func endedStands(t *testing.T, w World) {
	for _, base := range []string{w.Quick, w.Broken} {
		job := NewJob(t, w, "ended/"+base, base, 12)
		b := w.Backend(t)
		id := submit(t, b, job)
		Await(t, b, id, Ended)
		if again := submit(t, w.Backend(t), job); again != id {
			t.Errorf("%s, then %s", id, again)
		}
		started(t, w, job.Key, 1)
	}
}

func tellsProgress(t *testing.T, w World) {
	b := w.Backend(t)
	id := submit(t, b, NewJob(t, w, "progress", w.Endless, 120))
	st := Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 && st.Loss > 0 })
	if st.State != finetune.StateRunning || st.Steps < st.Step {
		t.Errorf("%+v", st)
	}
	seen := st.Step
	Await(t, w.Backend(t), id, func(st finetune.Status) bool { return st.Step > seen })
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	Await(t, b, id, Ended)
}

func cancels(t *testing.T, w World) {
	job := NewJob(t, w, "cancel", w.Endless, 12)
	id := submit(t, w.Backend(t), job)
	b := w.Backend(t)
	for range 2 {
		if err := b.Cancel(t.Context(), id); err != nil {
			t.Fatalf("cancel: %v", err)
		}
	}
	if st := Await(t, b, id, Ended); st.State != finetune.StateCancelled {
		t.Errorf("%+v", st)
	}
	if err := w.Backend(t).Cancel(t.Context(), id); err != nil {
		t.Errorf("cancel once more: %v", err)
	}
	// Cancelled at once, a training may have ended before it began.
	if got := w.Started(t, job.Key); got > 1 {
		t.Errorf("%d trainings began under key %q, want one at most", got, job.Key)
	}
}

func cancelsLate(t *testing.T, w World) {
	b := w.Backend(t)
	id := submit(t, b, NewJob(t, w, "late", w.Quick, 12))
	before := Await(t, b, id, Ended)
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Errorf("cancel: %v", err)
	}
	after, err := b.Poll(t.Context(), id)
	if err != nil || after.State != finetune.StateSucceeded || after.Model != before.Model {
		t.Errorf("%+v, %v; before %+v", after, err, before)
	}
}

func fails(t *testing.T, w World) {
	b := w.Backend(t)
	id := submit(t, b, NewJob(t, w, "fails", w.Broken, 12))
	st := Await(t, b, id, Ended)
	if st.State != finetune.StateFailed || !strings.Contains(st.Message, w.LastWords) {
		t.Errorf("want %q in %+v", w.LastWords, st)
	}
	if len(st.Message) > finetune.MaxMessage {
		t.Errorf("a message of %d bytes", len(st.Message))
	}
	noSecrets(t, w, fmt.Sprintf("%+v", st))
}

func unknown(t *testing.T, w World) {
	b := w.Backend(t)
	for _, id := range []string{"ftjob-doesnotexist", "", "../../etc", "a/b", "%2e%2e", strings.Repeat("x", 300)} {
		_, err := b.Poll(t.Context(), id)
		if finetune.ClassOf(err) != finetune.ClassNotFound {
			t.Errorf("poll %.20q: %v", id, err)
		}
		if err != nil {
			noSecrets(t, w, err.Error())
		}
		if err := b.Cancel(t.Context(), id); finetune.ClassOf(err) != finetune.ClassNotFound {
			t.Errorf("cancel %.20q: %v", id, err)
		}
	}
}

func refuses(t *testing.T, w World) {
	b := w.Backend(t)
	good := NewJob(t, w, "refused", w.Quick, 12)
	for name, spoil := range map[string]func(*finetune.Job){
		"no key":           func(j *finetune.Job) { j.Key = "" },
		"no base model":    func(j *finetune.Job) { j.BaseModel = "" },
		"no training file": func(j *finetune.Job) { j.Training = "" },
		"training file that is not there": func(j *finetune.Job) {
			j.Key, j.Training, j.Artifacts = "refused/absent", "training/absent.jsonl", "models/absent"
		},
	} {
		job := good
		spoil(&job)
		_, err := b.Submit(t.Context(), job)
		if finetune.ClassOf(err) != finetune.ClassPermanent {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			noSecrets(t, w, err.Error())
		}
	}
	started(t, w, good.Key, 0)
}

func stops(t *testing.T, w World) {
	job := NewJob(t, w, "stopped", w.Quick, 12)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := w.Backend(t)
	if _, err := b.Submit(ctx, job); !errors.Is(err, context.Canceled) {
		t.Errorf("submit: %v", err)
	}
	started(t, w, job.Key, 0)
}

// resubmits is the policy of resubmission: the old key keeps the failure, a new one trains again.
func resubmits(t *testing.T, w World) {
	b := w.Backend(t)
	failed := NewJob(t, w, "resubmitted/0", w.Broken, 12)
	id := submit(t, b, failed)
	Await(t, b, id, Ended)
	again := NewJob(t, w, "resubmitted/1", w.Quick, 12)
	other := submit(t, b, again)
	if st := Await(t, b, other, Ended); other == id || st.State != finetune.StateSucceeded {
		t.Errorf("%s after %s: %+v", other, id, st)
	}
	if st, err := b.Poll(t.Context(), id); err != nil || st.State != finetune.StateFailed {
		t.Errorf("the failure is now %+v, %v", st, err)
	}
	started(t, w, failed.Key, 1)
	started(t, w, again.Key, 1)
}
