package slurm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/flock"
)

// fake returns a world over a fake Slurm, and the folder that it lives in.
func fake(t *testing.T, change ...func(*Config)) (w finetunetest.World, cfg Config) {
	t.Helper()
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range commands {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	cfg = Config{
		Name: "test", Template: template(t), Dir: t.TempDir(), Bin: bin, Resumes: 2, Grace: 300 * time.Millisecond,
		Rate: finetune.Rate{USDPerHour: 36},
		Env:  []string{"HUB_TOKEN=" + secret, "GORACE=atexit_sleep_ms=0"}, // the race detector has programs wait a second before they end
	}
	for _, c := range change {
		c(&cfg)
	}
	t.Cleanup(func() {
		mend(t, bin)
		for _, j := range load(bin) {
			scancel(bin, []string{j.ID})
		}
		// Nodes leave once their jobs are cancelled.
		for i := 0; i < 500 && anyAlive(bin); i++ {
			time.Sleep(10 * time.Millisecond)
		}
	})
	return world(t, cfg, finetunetest.World{Store: s3test.Store(t)}), cfg
}

func anyAlive(bin string) bool {
	for _, j := range load(bin) {
		if j.PID > 1 && syscall.Kill(-j.PID, 0) == nil {
			return true
		}
	}
	return false
}

func mend(t *testing.T, bin string) {
	t.Helper()
	for _, f := range []string{faultDown, faultForget, faultLost, faultHold} {
		if err := os.Remove(filepath.Join(bin, f)); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

func set(t *testing.T, bin, fault string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(bin, fault), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		w, _ := fake(t)
		return w
	})
}

// TestDiedBetweenSubmissionAndNote has sbatch submit and its answer be lost, and every trace of it in the folder too.
func TestDiedBetweenSubmissionAndNote(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	set(t, cfg.Bin, faultLost)
	job := finetunetest.NewJob(t, w, "lost", "quick", 12)
	if _, err := w.Backend(t).Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPassing {
		t.Fatalf("%v", err)
	}
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if st := finetunetest.Await(t, b, id, finetunetest.Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
	if n, s := len(load(cfg.Bin)), len(startsOf(cfg.Dir, job.Key)); n != 1 || s != 1 {
		t.Errorf("%d batch jobs, %d starts", n, s)
	}
}

// TestTwinLeaves submits a second batch job under one attempt by hand.
func TestTwinLeaves(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "twin", "endless", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 })
	if code := sbatch(cfg.Bin, []string{"--job-name=" + load(cfg.Bin)[0].Name, filepath.Join(cfg.Dir, id, fileBatch)}); code != 0 {
		t.Fatal(code)
	}
	for i := 0; i < 1000 && !load(cfg.Bin)[1].ended(); i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if s := startsOf(cfg.Dir, job.Key); len(s) != 1 || load(cfg.Bin)[1].State != "COMPLETED" {
		t.Errorf("%q, %+v", s, load(cfg.Bin)[1])
	}
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// awaitStart waits until a job's trainer has begun and the fake's node knows its process.
func awaitStart(t *testing.T, cfg Config, key string) {
	t.Helper()
	for range 3000 {
		if len(startsOf(cfg.Dir, key)) > 0 && load(cfg.Bin)[0].PID > 1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no trainer began; Slurm's jobs: %+v", load(cfg.Bin))
}

// TestPreempted has Slurm requeue the batch job: the same attempt goes on from its checkpoint.
func TestPreempted(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "preempted", "patient", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	awaitStart(t, cfg, job.Key)
	set(t, cfg.Bin, faultHold)
	locked(cfg.Bin, func() {
		j := load(cfg.Bin)[0]
		j.Requeue = true
		j.save(cfg.Bin)
		_ = syscall.Kill(-j.PID, syscall.SIGKILL)
	})
	finetunetest.Await(t, b, id, func(st finetune.Status) bool {
		return st.State == finetune.StateQueued && strings.Contains(st.Message, "PENDING")
	})
	mend(t, cfg.Bin)
	if st := finetunetest.Await(t, b, id, finetunetest.Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
	if s := startsOf(cfg.Dir, job.Key); len(s) != 2 || !strings.Contains(s[1], "resumed=true") || len(load(cfg.Bin)) != 1 {
		t.Errorf("%q in %d batch jobs", s, len(load(cfg.Bin)))
	}
}

func TestWhatSlurmGivesUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state  string
		want   finetune.State
		starts int
		words  string
	}{
		{"NODE_FAIL", finetune.StateSucceeded, 2, ""},
		{"TIMEOUT", finetune.StateSucceeded, 2, ""},
		{"PREEMPTED", finetune.StateSucceeded, 2, ""},
		{"OUT_OF_MEMORY", finetune.StateFailed, 1, "more memory"},
		{"CANCELLED", finetune.StateCancelled, 1, "somebody"},
	} {
		t.Run(c.state, func(t *testing.T) {
			t.Parallel()
			w, cfg := fake(t)
			b := w.Backend(t)
			job := finetunetest.NewJob(t, w, c.state, "patient", 12)
			id, err := b.Submit(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			awaitStart(t, cfg, job.Key)
			locked(cfg.Bin, func() {
				j := load(cfg.Bin)[0]
				j.State = c.state
				j.save(cfg.Bin)
				_ = syscall.Kill(-j.PID, syscall.SIGKILL)
			})
			st := finetunetest.Await(t, b, id, finetunetest.Ended)
			if st.State != c.want || !strings.Contains(st.Message, c.words) {
				t.Errorf("%+v", st)
			}
			if s := startsOf(cfg.Dir, job.Key); len(s) != c.starts {
				t.Errorf("%q", s)
			}
		})
	}
}

// TestControllerIsAway takes the controller away in mid-training: no word of it is taken for the job's end.
func TestControllerIsAway(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "away", "endless", 12)
	set(t, cfg.Bin, faultDown)
	if _, err := b.Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassPassing {
		t.Errorf("submit: %v", err)
	}
	mend(t, cfg.Bin)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 })
	set(t, cfg.Bin, faultDown)
	if st, err := b.Poll(t.Context(), id); finetune.ClassOf(err) != finetune.ClassPassing {
		t.Errorf("%+v, %v", st, err)
	}
	mend(t, cfg.Bin)
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 1 })
	if s := startsOf(cfg.Dir, job.Key); len(s) != 1 {
		t.Errorf("%q", s)
	}
}

// TestForgotten has Slurm forget the job when it ends: what the batch job noted tells.
func TestForgotten(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"quick", "dies once", "again once"} {
		w, cfg := fake(t)
		set(t, cfg.Bin, faultForget)
		b := w.Backend(t)
		job := finetunetest.NewJob(t, w, base, base, 12)
		id, err := b.Submit(t.Context(), job)
		if err != nil {
			t.Fatal(err)
		}
		if st := finetunetest.Await(t, b, id, finetunetest.Ended); st.State != finetune.StateSucceeded {
			t.Errorf("%s: %+v", base, st)
		}
	}
}

func TestQueuedJobIsCancelled(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	set(t, cfg.Bin, faultHold)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "held", "quick", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := b.Poll(t.Context(), id); err != nil || st.State != finetune.StateQueued {
		t.Errorf("%+v, %v", st, err)
	}
	if err := b.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if st, err := b.Poll(t.Context(), id); err != nil || st.State != finetune.StateCancelled || len(startsOf(cfg.Dir, job.Key)) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestRefusedTemplateCostsNoAttempt(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t, func(c *Config) { c.Template = "#!/bin/bash\n#SBATCH --partition=nope\nexit 0\n" })
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "refused", "quick", 12)
	_, err := b.Submit(t.Context(), job)
	if finetune.ClassOf(err) != finetune.ClassPermanent || !strings.Contains(err.Error(), "Invalid partition name") {
		t.Fatalf("%v", err)
	}
	cfg.Template = template(t) // mended
	mended := world(t, cfg, w).Backend(t)
	id, err := mended.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if st := finetunetest.Await(t, mended, id, finetunetest.Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
}

func TestStatesAreReadAsAliveWhenUnknown(t *testing.T) {
	t.Parallel()
	c := &cluster{}
	for state, alive := range map[string]bool{
		"PENDING": true, "RUNNING": true, "COMPLETING": true, "SUSPENDED": true, "STAGE_OUT": true, "NEW_IN_2040": true, "": true,
		"COMPLETED": false, "FAILED": false, "TIMEOUT": false, "CANCELLED by 1000": false,
	} {
		if got := c.life(command.Attempt{Dir: t.TempDir()}, "1", state, "0:0", ""); got.Alive != alive {
			t.Errorf("%s: %+v", state, got)
		}
	}
	for code, want := range map[string]int{"0:0": 0, "3:0": 3, "0:9": 137, "x": -1, "": -1} {
		got := -1
		if p := exitOf(code); p != nil {
			got = *p
		}
		if got != want {
			t.Errorf("%q: %s", code, strconv.Itoa(got))
		}
	}
}

// TestRunLockIsHeldAtSubmission has something hold the run lock for a moment, as a process that is between fork and exec does:
// the job begins when it is looked at.
func TestRunLockIsHeldAtSubmission(t *testing.T) {
	t.Parallel()
	w, cfg := fake(t)
	job := finetunetest.NewJob(t, w, "lock held", "quick", 12)
	if err := os.MkdirAll(filepath.Join(cfg.Dir, job.Name()), 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := os.Create(filepath.Join(cfg.Dir, job.Name(), "run.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := flock.Try(held); err != nil || !got {
		t.Fatal(got, err)
	}
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := b.Poll(t.Context(), id); err != nil || st.State != finetune.StateQueued || len(startsOf(cfg.Dir, job.Key)) != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	_ = held.Close()
	if st := finetunetest.Await(t, b, id, finetunetest.Ended); st.State != finetune.StateSucceeded {
		t.Errorf("%+v", st)
	}
	if s := startsOf(cfg.Dir, job.Key); len(s) != 1 {
		t.Errorf("%q", s)
	}
}
