package slurm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
)

const (
	roleEnv = "SELFALIGN_TEST_ROLE"
	secret  = "hush-hush-0123456789"
)

// TestMain lets the test binary be the trainer and, under their names, Slurm's commands.
func TestMain(m *testing.M) {
	if run, ok := commands[filepath.Base(os.Args[0])]; ok {
		os.Exit(run(filepath.Dir(os.Args[0]), os.Args[1:]))
	}
	if os.Getenv(roleEnv) == "trainer" {
		os.Exit(train())
	}
	os.Exit(m.Run())
}

// train keeps the contract of package command. The base model says how it behaves.
func train() int {
	raw, err := os.ReadFile(os.Getenv("SELFALIGN_JOB"))
	var spec command.Spec
	if err != nil || json.Unmarshal(raw, &spec) != nil {
		fmt.Fprintln(os.Stderr, "no job", err)
		return 2
	}
	resumed := os.Getenv("SELFALIGN_RESUME") == "1"
	starts, err := os.OpenFile(filepath.Dir(os.Getenv("SELFALIGN_JOB"))+".starts", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	fmt.Fprintf(starts, "resumed=%v leak=%q\n", resumed, os.Getenv("WORKER_ONLY_KEY"))
	_ = starts.Close()
	if data, err := os.ReadFile(spec.TrainingFile); err != nil || len(data) == 0 {
		return 2
	}
	steps := 3
	term := make(chan os.Signal, 1)
	switch spec.BaseModel {
	case "broken":
		fmt.Fprintln(os.Stderr, "Traceback …\ntorch.OutOfMemoryError: CUDA out of memory, token "+secret)
		return 1
	case "endless":
		steps = 1 << 30
		signal.Notify(term, syscall.SIGTERM)
	case "dies once":
		if !resumed {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	case "again once":
		if !resumed {
			return command.ExitAgain
		}
	case "patient": // waits to be started a second time
		for i := 0; !resumed && i < 6000; i++ {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for step := 1; step <= steps; step++ {
		fmt.Printf("{\"step\":%d,\"steps\":%d,\"loss\":%g}\n", step, steps, 2/float64(step))
		select {
		case <-term:
			return command.ExitAgain
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := os.WriteFile(filepath.Join(spec.Artifacts, "adapter.bin"), []byte(spec.BaseModel), 0o600); err != nil {
		return 2
	}
	fmt.Println(`{"message":"done","tokens":99}`)
	return 0
}

// template trains with this very binary.
func template(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return "#!/bin/bash\n#SBATCH --ntasks=1\n# a comment\n" + roleEnv + "=trainer exec '" + self + "'\n"
}

// startsOf are the lines that trainers wrote as they began, whole ones only: between the file and its line a trainer may
// be killed.
func startsOf(dir, key string) []string {
	raw, err := os.ReadFile(filepath.Join(dir, finetune.NameOf(key)+".starts"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(raw), "\n")
	return lines[:len(lines)-1]
}

func world(t *testing.T, cfg Config, w finetunetest.World) finetunetest.World {
	t.Helper()
	w.Quick, w.Endless, w.Broken, w.LastWords = "quick", "endless", "broken", "CUDA out of memory"
	w.Secrets, w.Artifacts, w.Left, w.Estimates = []string{secret}, true, leftIn(cfg.Dir), cfg.Rate.USDPerHour > 0
	w.Started = func(t *testing.T, key string) int { return len(startsOf(cfg.Dir, key)) }
	w.Backend = func(t *testing.T) finetune.Backend {
		b, err := New(cfg, w.Store)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	return w
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
