package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/programs"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

const asQuickstart = "SELFALIGN_TEST_QUICKSTART"

// TestMain lets the test binary be quickstart, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv(asQuickstart) == "1" {
		main()
	}
	if _, err := gobuild.CachedPatiently(context.Background(), programs.Temporald); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// started is a quickstart that runs.
type started struct {
	cmd   *exec.Cmd
	lines chan string
	said  []string
}

// launch starts quickstart with free ports, its state in a folder of the test.
func launch(t *testing.T, state string, args ...string) *started {
	t.Helper()
	s := &started{cmd: exec.Command(os.Args[0], append([]string{"-port-base", "0", "-no-ui"}, args...)...), lines: make(chan string, 10_000)}
	s.cmd.Env = append(os.Environ(), asQuickstart+"=1", "XDG_STATE_HOME="+state)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	s.cmd.Stdout, s.cmd.Stderr = w, w
	require.NoError(t, s.cmd.Start())
	require.NoError(t, w.Close())
	go func() {
		scanner := bufio.NewScanner(r)
		for scanner.Scan() {
			s.lines <- scanner.Text()
		}
		close(s.lines)
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = r.Close()
	})
	return s
}

// until reads on to a line that holds the text.
func (s *started) until(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(4 * time.Minute)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				t.Fatalf("never said %q, but:\n%s", text, strings.Join(s.said, "\n"))
			}
			s.said = append(s.said, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout:
			t.Fatalf("no %q in time, but:\n%s", text, strings.Join(s.said, "\n"))
		}
	}
}

// end waits for the exit status.
func (s *started) end(t *testing.T) int {
	t.Helper()
	state, err := s.cmd.Process.Wait()
	require.NoError(t, err)
	return state.ExitCode()
}

// holders are the processes that hold the locks of a data folder.
func holders(t *testing.T, dir string) (pids []int) {
	t.Helper()
	for _, name := range []string{"localstack.lock", "temporal/temporal.lock"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

func workerPid(t *testing.T, line string) int {
	t.Helper()
	var pid int
	_, err := fmt.Sscanf(line, "worker        process %d,", &pid)
	require.NoError(t, err)
	return pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func noted(t *testing.T, state string) []result {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(state, "selfalign", "quickstart-results.json"))
	require.NoError(t, err)
	var all []result
	require.NoError(t, json.Unmarshal(text, &all))
	return all
}

// One test, since each part compares with what the undisturbed run left.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	first := launch(t, state, "-once")
	pid := workerPid(t, first.until(t, "worker        process"))
	dir := filepath.Join(state, "selfalign", "quickstart")
	pids := append(holders(t, dir), pid)
	first.until(t, "run quickstart: completed")
	require.Zero(t, first.end(t))
	for _, pid := range pids {
		require.False(t, alive(pid), "something was left behind")
	}
	undisturbed := noted(t, state)
	require.Len(t, undisturbed, 1)
	rows, err := filepath.Glob(filepath.Join(dir, "s3", "selfalign", "runs", "quickstart", "02", "training", "part-*.parquet"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(rows), 8)

	t.Run("again it is found and told of", func(t *testing.T) {
		t.Parallel()
		again := launch(t, state, "-once")
		again.until(t, "run quickstart ended before (completed)")
		again.until(t, "dataset ")
		require.Zero(t, again.end(t))
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		crash := launch(t, state, "-crash")
		crash.until(t, "the worker was killed 2 times")
		crash.until(t, "0   for no such reason")
		crash.until(t, "row for row that of an undisturbed run")
		require.Zero(t, crash.end(t))
	})
	t.Run("kill of everything", func(t *testing.T) {
		t.Parallel()
		killEverything(t, state, undisturbed[0])
	})
}

func killEverything(t *testing.T, state string, undisturbed result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := launch(t, state, "-data", dir)
	pid := workerPid(t, s.until(t, "worker        process"))
	s.until(t, "1 rate: running")
	killed := append(holders(t, dir), pid)
	require.NoError(t, s.cmd.Process.Kill())
	for _, pid := range killed {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	_, _ = s.cmd.Process.Wait()

	s = launch(t, state, "-data", dir)
	s.until(t, "run quickstart goes on")
	s.until(t, "run quickstart: completed")
	s.until(t, "everything stays up")
	require.NoError(t, s.cmd.Process.Signal(os.Interrupt))
	require.Zero(t, s.end(t))

	all := noted(t, state)
	for _, r := range all {
		if r.Data == dir {
			t.Fatalf("another result than the undisturbed run's: %+v", r) // an equal one is not noted twice
		}
	}
	require.Equal(t, undisturbed, all[0])
	counts, err := pocketlm.ReadJournal(filepath.Join(dir, "pocketlm"))
	require.NoError(t, err)
	require.Less(t, counts.Repeated, int64(300))
}
