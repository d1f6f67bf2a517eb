package command

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

func configFor(dir string) Config {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Config{
		Rate: finetune.Rate{USDPerHour: 36},
		Name: "test", Command: []string{self, "--job", "{job}"}, Dir: dir, Grace: 300 * time.Millisecond, Resumes: 2,
		Env: []string{roleEnv + "=trainer", "GORACE=atexit_sleep_ms=0", "HUB_TOKEN=" + secret, "LEFT_OUT_ENTIRELY"},
	}
}

// world is a folder of jobs and a store. Whatever still runs at the end of the test is killed.
func world(t *testing.T) (finetunetest.World, string) {
	t.Helper()
	st := s3test.Store(t)
	dir := t.TempDir()
	t.Cleanup(func() { killAll(t, dir) })
	return finetunetest.World{
		Store: st, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "CUDA out of memory",
		Secrets: []string{secret}, Artifacts: true, Left: leftIn(dir), Estimates: true,
		Backend: func(t *testing.T) finetune.Backend { return backend(t, configFor(dir), st) },
		Started: func(t *testing.T, key string) int { return len(starts(t, dir, key)) },
	}, dir
}

func backend(t *testing.T, cfg Config, st *blob.Store) *Backend {
	t.Helper()
	b, err := New(cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// starts are the lines that trainers wrote as they began, whole ones only: between the file and its line a trainer may be
// killed.
func starts(t *testing.T, dir, key string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, finetune.NameOf(key)+".starts"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(raw), "\n")
	return lines[:len(lines)-1]
}

func killAll(t *testing.T, dir string) {
	t.Helper()
	jobs, _ := filepath.Glob(filepath.Join(dir, "*", fileRunLock))
	for _, path := range jobs {
		f := folder(filepath.Dir(path))
		deadline := time.Now().Add(10 * time.Second)
		for f.alive() {
			f.signal(killSignal)
			if time.Sleep(10 * time.Millisecond); time.Now().After(deadline) {
				t.Errorf("%s does not die", f)
				break
			}
		}
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		w, _ := world(t)
		return w
	})
}

// TestWorkerKilled kills the process that submitted, at several moments, with SIGKILL; another one adopts the
// program, which never noticed.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{-1, 0, 5 * time.Millisecond, 15 * time.Millisecond, 40 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			storeConfig := s3test.Config(t)
			st, err := blob.Open(t.Context(), storeConfig)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Cleanup(func() { killAll(t, dir) })
			w := finetunetest.World{Store: st}
			job := finetunetest.NewJob(t, w, "killed worker", "slow", 12)
			in, err := json.Marshal(map[string]any{"Store": storeConfig, "Dir": dir, "Job": job})
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			worker := exec.Command(self)
			worker.Env = append(os.Environ(), roleEnv+"=worker", storeEnv+"="+string(in), "WORKER_ONLY_KEY="+secret)
			out, err := worker.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := worker.Start(); err != nil {
				t.Fatal(err)
			}
			if after < 0 { // after it has submitted
				if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "<nil>") {
					t.Errorf("worker said %q, %v", line, err)
				}
			} else { // while it submits: the folder of the job is there first of all
				for range 2000 {
					if _, err := os.Stat(filepath.Join(dir, job.Name())); err == nil {
						break
					}
					time.Sleep(time.Millisecond)
				}
				time.Sleep(after)
			}
			if err := worker.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = worker.Wait()

			b := backend(t, configFor(dir), st)
			id, err := b.Submit(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			status := finetunetest.Await(t, b, id, finetunetest.Ended)
			if status.State != finetune.StateSucceeded || status.Step != 40 {
				t.Errorf("%+v", status)
			}
			got := starts(t, dir, job.Key)
			if len(got) != 1 {
				t.Errorf("started %d times: %q", len(got), got)
			}
			if strings.Contains(strings.Join(got, ""), secret) {
				t.Error("the worker's own key reached the trainer")
			}
		})
	}
}

func TestProgramThatDies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base   string
		state  finetune.State
		starts int
		words  string
	}{
		{"dies once", finetune.StateSucceeded, 2, ""},
		{"again once", finetune.StateSucceeded, 2, ""},
		{"always dies", finetune.StateFailed, 3, "fell off the bus"},
		{"leaves nothing", finetune.StateFailed, 1, "left no results"},
	} {
		t.Run(c.base, func(t *testing.T) {
			t.Parallel()
			w, dir := world(t)
			job := finetunetest.NewJob(t, w, c.base, c.base, 12)
			b := w.Backend(t)
			id, err := b.Submit(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			st := finetunetest.Await(t, b, id, finetunetest.Ended)
			if st.State != c.state || !strings.Contains(st.Message, c.words) {
				t.Errorf("%+v", st)
			}
			got := starts(t, dir, job.Key)
			if len(got) != c.starts {
				t.Fatalf("started %d times: %q", len(got), got)
			}
			for i, line := range got {
				if want := "resumed=" + strconv.FormatBool(i > 0); !strings.Contains(line, want) {
					t.Errorf("start %d: %q, want %s", i, line, want)
				}
				if !strings.Contains(line, filepath.Join(dir, id, fileJob)) {
					t.Errorf("start %d: %q does not name job.json", i, line)
				}
			}
		})
	}
}

// TestMachineLostPower leaves what a power cut leaves: a record, an empty exit file, nobody alive, a number that
// belongs to another process now.
func TestMachineLostPower(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	job := finetunetest.NewJob(t, w, "power", "endless", 12)
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 0 })
	killAll(t, dir)
	f := folder(filepath.Join(dir, id))
	if err := os.WriteFile(f.path(fileExit), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bystander := exec.Command("sleep", "60")
	bystander.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bystander.Process.Kill(); _ = bystander.Wait() })
	if err := f.write(fileProcess, process{PID: bystander.Process.Pid, Started: "another boot 1"}); err != nil {
		t.Fatal(err)
	}
	f.signal(killSignal)
	fresh := w.Backend(t)
	finetunetest.Await(t, fresh, id, func(finetune.Status) bool { return len(starts(t, dir, job.Key)) == 2 })
	if err := syscall.Kill(bystander.Process.Pid, 0); err != nil || startOf(bystander.Process.Pid) == "" {
		t.Errorf("a process that is not ours was hit: %v", err)
	}
	if err := fresh.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestStubbornProgramIsKilled(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, w, "stubborn", "stubborn", 12))
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, func(st finetune.Status) bool { return st.Step > 0 })
	// The wait for the end is cut short: the next poll goes on with it.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := b.Cancel(ctx, id); err == nil {
		t.Error("a program that ignores TERM ended at once")
	}
	st := finetunetest.Await(t, w.Backend(t), id, finetunetest.Ended)
	if st.State != finetune.StateCancelled {
		t.Errorf("%+v", st)
	}
	if folder(filepath.Join(dir, id)).alive() {
		t.Error("it lives on")
	}
}

func TestManifestNamesEveryResult(t *testing.T) {
	t.Parallel()
	w, _ := world(t)
	b := w.Backend(t)
	job := finetunetest.NewJob(t, w, "manifest", "dies once", 12)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	st := finetunetest.Await(t, b, id, finetunetest.Ended)
	raw, err := w.Store.Get(t.Context(), job.Artifacts+"/"+ManifestFile)
	if err != nil {
		t.Fatal(err)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range m.Files {
		paths = append(paths, f.Path)
		info, err := w.Store.Stat(t.Context(), job.Artifacts+"/"+f.Path)
		if err != nil || info.Size != f.Size {
			t.Errorf("%s: %+v, %v", f.Path, info, err)
		}
	}
	if diff := cmp.Diff([]string{"adapter/weights.bin", "config.json"}, paths); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(m.LeftOut, []string{"link.json"}) || m.Attempts != 2 || m.Model != st.Model || m.Job != job {
		t.Errorf("%+v", m)
	}
	if st.TrainedTokens != 1234 || !st.CostKnown || st.CostMicroUSD != 250_000 || len(st.NotExpressed) != 1 {
		t.Errorf("%+v", st)
	}
}

// TestAnotherMachineDoesNotTrainTheSame hands one key to two folders of jobs over one store.
func TestAnotherMachineDoesNotTrainTheSame(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	job := finetunetest.NewJob(t, w, "two machines", "quick", 12)
	b := w.Backend(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	_, err = backend(t, configFor(other), w.Store).Submit(t.Context(), job)
	if finetune.ClassOf(err) != finetune.ClassPassing || !strings.Contains(err.Error(), "Try:") {
		t.Errorf("the other machine: %v", err)
	}
	if _, err := os.Stat(filepath.Join(other, id, fileRecord)); err == nil {
		t.Error("the other machine took the job")
	}
	finetunetest.Await(t, b, id, finetunetest.Ended)
	if n := len(starts(t, dir, job.Key)); n != 1 {
		t.Errorf("%d starts", n)
	}
	stolen := job
	stolen.Key = "another key, same prefix"
	if _, err := b.Submit(t.Context(), stolen); finetune.ClassOf(err) != finetune.ClassPermanent {
		t.Errorf("artefacts of two jobs in one prefix: %v", err)
	}
}

func TestCommandThatIsNotThere(t *testing.T) {
	t.Parallel()
	w, dir := world(t)
	cfg := configFor(dir)
	cfg.Command = []string{"no-such-trainer-anywhere"}
	b := backend(t, cfg, w.Store)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, w, "absent", "quick", 12))
	if err != nil {
		t.Fatal(err)
	}
	st := finetunetest.Await(t, b, id, finetunetest.Ended)
	if st.State != finetune.StateFailed || !strings.Contains(st.Message, "no-such-trainer-anywhere") {
		t.Errorf("%+v", st)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for want, cfg := range map[string]Config{
		"no command": {Name: "x", Dir: t.TempDir()},
		"no folder":  {Name: "x", Command: []string{"true"}},
	} {
		if _, err := New(cfg, st); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzReadLines(f *testing.F) {
	f.Add("{\"step\":1,\"steps\":2,\"loss\":0.5}\nlog\n{\"message\":\"x\"")
	f.Add("{\"step\":-1}\r\n{\"loss\":1e999}\n{\"model\":\"\x00\"}\n{{{{\n")
	f.Fuzz(func(t *testing.T, text string) {
		var st finetune.Status
		readLines(strings.NewReader(text), func(l Line) { l.addTo(&st) })
		if st.Step < 0 || st.Steps < 0 || st.Loss < 0 || st.CostMicroUSD < 0 || len(st.Message) > finetune.MaxMessage {
			t.Fatalf("%+v", st)
		}
	})
}

// leftIn lists what Clean takes away.
func leftIn(dir string) func(t *testing.T, key string) []string {
	return func(t *testing.T, key string) (left []string) {
		for _, name := range []string{"train.jsonl", "checkpoints"} {
			if _, err := os.Stat(filepath.Join(dir, finetune.NameOf(key), name)); err == nil {
				left = append(left, name)
			}
		}
		return left
	}
}
