// Package endtoend holds whole runs to their promises: real services as child processes, the real worker, a run started as a
// user's command starts it, and kill -9 of any of it at any moment. It holds tests alone.
package endtoend

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/programs"
)

// update has the runs here write their histories to where the replay test of package workflows reads them:
//
//	go test ./endtoend -run 'TestUndisturbed|TestSteered' -update
var update = flag.Bool("update", false, "record the histories that workflows/replay_test.go replays")

// workerBinary is the worker as a user builds it.
var workerBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, name := range []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"} {
		_ = os.Unsetenv(name) // only what the tests start is used
	}
	dir, err := os.MkdirTemp("", "selfalign-endtoend-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(dir string) error {
	for _, p := range []gobuild.Program{programs.Temporald, programs.Localstack} {
		if _, err := gobuild.CachedPatiently(context.Background(), p); err != nil {
			return err
		}
	}
	root, err := gobuild.Root()
	if err != nil {
		return err
	}
	workerBinary = filepath.Join(dir, "worker")
	cmd := exec.Command("go", "build", "-o", workerBinary, "./worker")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build worker: %w", err)
	}
	return nil
}
