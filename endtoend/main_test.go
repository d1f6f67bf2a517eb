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

// recording has the runs here add their histories, under this name, to those that the replay test of package workflows reads.
// Those of earlier names stay as long as runs begun with that code may be open:
//
//	go test ./endtoend -run 'TestUndisturbed|TestSteered' -record NAME
var recording = flag.String("record", "", "`name` under which histories are recorded for workflows/replay_test.go")

// workerBinary is the worker as a user builds it.
var workerBinary string

// atOnce is how many labs work at the same time: most of the time they wait until a death is noticed.
const atOnce = "8"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err) // go test has had this flag for ever
	}
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
