package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
)

const (
	roleEnv  = "SELFALIGN_TEST_ROLE"
	storeEnv = "SELFALIGN_TEST_STORE"
	secret   = "hush-hush-0123456789"
)

// TestMain lets the test binary be the trainer, and the worker that dies, too.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "trainer":
		os.Exit(train())
	case "worker":
		os.Exit(submitAndHang())
	}
	os.Exit(m.Run())
}

// train is a trainer that keeps to the contract. The base model says how it behaves.
func train() int {
	raw, err := os.ReadFile(os.Getenv("SELFALIGN_JOB"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var spec Spec
	if err := json.Unmarshal(raw, &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	resumed := os.Getenv("SELFALIGN_RESUME") == "1"
	starts, err := os.OpenFile(filepath.Dir(os.Getenv("SELFALIGN_JOB"))+".starts", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 2
	}
	fmt.Fprintf(starts, "%d resumed=%v argv=%v leak=%q\n", os.Getpid(), resumed, os.Args[1:], os.Getenv("WORKER_ONLY_KEY"))
	_ = starts.Close()
	say := func(l map[string]any) { _ = json.NewEncoder(os.Stdout).Encode(l) }
	fmt.Println("loading", spec.BaseModel)
	if data, err := os.ReadFile(spec.TrainingFile); err != nil || len(data) == 0 {
		fmt.Fprintln(os.Stderr, "no training file", err)
		return 2
	}
	steps := 3
	switch spec.BaseModel {
	case "broken":
		say(map[string]any{"step": 1, "steps": 3, "loss": 9.5})
		say(map[string]any{"error": "loss is NaN"})
		fmt.Fprintln(os.Stderr, strings.Repeat("noise\n", 3000)+"Traceback: CUDA out of memory, token "+os.Getenv("HUB_TOKEN"))
		return 3
	case "endless", "stubborn":
		if spec.BaseModel == "stubborn" {
			signal.Ignore(syscall.SIGTERM)
		}
		for i := 1; ; i++ {
			say(map[string]any{"step": i, "steps": 1_000_000, "loss": 2 + 1/float64(i)})
			time.Sleep(20 * time.Millisecond)
		}
	case "dies once":
		if !resumed {
			say(map[string]any{"step": 2, "steps": 3, "loss": 2.0})
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	case "again once":
		if !resumed {
			return ExitAgain
		}
	case "always dies":
		fmt.Fprintln(os.Stderr, "the GPU fell off the bus")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "leaves nothing":
		return 0
	case "slow":
		steps = 40
	}
	for i := 1; i <= steps; i++ {
		say(map[string]any{"step": i, "steps": steps, "loss": 3 / float64(i), "not_expressed": []string{"dropout: not in this model"}})
		time.Sleep(20 * time.Millisecond)
	}
	say(map[string]any{"tokens": 1234, "cost_usd": 0.25})
	if err := os.MkdirAll(filepath.Join(spec.Artifacts, "adapter"), 0o700); err != nil {
		return 2
	}
	for name, body := range map[string]string{"adapter/weights.bin": strings.Repeat("w", 100_000), "config.json": "{}"} {
		if err := os.WriteFile(filepath.Join(spec.Artifacts, name), []byte(body), 0o600); err != nil {
			return 2
		}
	}
	_ = os.Symlink("config.json", filepath.Join(spec.Artifacts, "link.json"))
	return 0
}

// submitAndHang is a worker that submits and is then killed.
func submitAndHang() int {
	var in struct {
		Store blob.Config
		Dir   string
		Job   finetune.Job
	}
	if err := json.Unmarshal([]byte(os.Getenv(storeEnv)), &in); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx := context.Background()
	st, err := blob.Open(ctx, in.Store)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	b, err := New(configFor(in.Dir), st)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	id, err := b.Submit(ctx, in.Job)
	fmt.Println("submitted", id, err)
	select {}
}
