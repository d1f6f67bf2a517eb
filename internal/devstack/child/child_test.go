package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const role = "SELFALIGN_TEST_ROLE"

// TestMain lets the test binary be the child.
func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "good":
		ctx, down := Life(context.Background(), os.Stdin, 5*time.Second)
		defer down()
		_ = Ready(os.Stdout, map[string]int{"pid": os.Getpid()})
		fmt.Println(strings.Repeat("more than a pipe holds ", 10_000))
		<-ctx.Done()
	case "hanging":
		ctx, _ := Life(context.Background(), os.Stdin, 100*time.Millisecond)
		_ = Ready(os.Stdout, 1)
		<-ctx.Done()
		select {}
	case "deaf":
		_ = Ready(os.Stdout, 1)
		time.Sleep(time.Hour)
	case "silent":
		time.Sleep(time.Hour)
	case "refusing":
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprintln(os.Stderr, "the port is taken")
		os.Exit(Refused)
	case "failing":
		os.Exit(1)
	case "once": // serves the first time, refuses from then on
		if _, err := os.Stat(os.Getenv("FLAG")); err == nil {
			os.Exit(Refused)
		}
		_ = os.WriteFile(os.Getenv("FLAG"), nil, 0o600)
		_ = Ready(os.Stdout, 1)
	}
}

func spec(t *testing.T, r string, env ...string) Spec {
	t.Helper()
	return Spec{
		Name: r, Command: []string{os.Args[0]}, Env: append(env, role+"="+r),
		Log: filepath.Join(t.TempDir(), "logs", "child.log"), Ready: 20 * time.Second,
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStartWaitsForTheReadyLine(t *testing.T) {
	t.Parallel()
	p, err := Start(t.Context(), spec(t, "good"))
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"pid":%d}`, p.Pid()), string(p.Ready()))
	p.Stop(10 * time.Second)
	require.NoError(t, p.Err())
	require.False(t, alive(p.Pid()))
	require.NoError(t, p.Kill(), "killing what is gone is fine")
}

func TestStop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		role  string
		grace time.Duration
	}{{"hanging", 10 * time.Second}, {"deaf", 100 * time.Millisecond}} {
		t.Run(c.role, func(t *testing.T) {
			t.Parallel()
			p, err := Start(t.Context(), spec(t, c.role))
			require.NoError(t, err)
			p.Stop(c.grace)
			require.Error(t, p.Err())
			require.False(t, alive(p.Pid()))
		})
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	t.Run("the child's own words", func(t *testing.T) {
		t.Parallel()
		_, err := Start(t.Context(), spec(t, "refusing"))
		var exit *ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, Refused, exit.Code)
		require.Equal(t, "the port is taken", exit.Last)
		require.Contains(t, err.Error(), "refusing ended with status 3: the port is taken (log: ")
	})
	t.Run("too late", func(t *testing.T) {
		t.Parallel()
		s := spec(t, "silent")
		s.Ready = 200 * time.Millisecond
		_, err := Start(t.Context(), s)
		require.ErrorContains(t, err, "not ready after 200ms")
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := Start(ctx, spec(t, "silent"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("no such program", func(t *testing.T) {
		t.Parallel()
		_, err := Start(t.Context(), Spec{Name: "x", Command: []string{filepath.Join(t.TempDir(), "nothing")}})
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestKeeperStartsAgainAfterKill(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var events []string
	k, err := Keep(t.Context(), spec(t, "good"), func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e.String())
	})
	require.NoError(t, err)
	for range 2 {
		before := k.Process()
		require.NoError(t, before.Kill())
		require.Eventually(t, func() bool { return k.Process() != before }, 20*time.Second, 10*time.Millisecond)
	}
	last := k.Process().Pid()
	k.Stop(10 * time.Second)
	require.NoError(t, k.Err())
	require.False(t, alive(last))
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{
		"good was killed; starting it again in 200ms", "good is running again",
		"good was killed; starting it again in 400ms", "good is running again",
	}, events)
}

func TestKeeperGivesUpAChildThatRefuses(t *testing.T) {
	t.Parallel()
	k, err := Keep(t.Context(), spec(t, "once", "FLAG="+filepath.Join(t.TempDir(), "flag")), nil)
	require.NoError(t, err)
	select {
	case <-k.Done():
	case <-time.After(60 * time.Second):
		t.Fatal("still trying")
	}
	var exit *ExitError
	require.True(t, errors.As(k.Err(), &exit))
	require.Equal(t, Refused, exit.Code)
}

func TestKeepReturnsTheErrorOfTheFirstStart(t *testing.T) {
	t.Parallel()
	_, err := Keep(t.Context(), spec(t, "failing"), nil)
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.Code)
}

func TestLargeLogIsPutAside(t *testing.T) {
	t.Parallel()
	s := spec(t, "refusing")
	require.NoError(t, os.MkdirAll(filepath.Dir(s.Log), 0o700))
	require.NoError(t, os.WriteFile(s.Log, nil, 0o600))
	require.NoError(t, os.Truncate(s.Log, maxLog+1))
	_, err := Start(t.Context(), s)
	require.ErrorContains(t, err, "the port is taken")
	info, err := os.Stat(s.Log)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(1000))
	require.FileExists(t, s.Log+".old")
}

func TestLastLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"": "", "\n\n": "", "a": "a", "a\nb\n": "b", "a\n b \n\n": "b", strings.Repeat("x", 20_000): strings.Repeat("x", 1000),
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		require.Equal(t, want, lastLine(path, 0), strconv.Quote(text[:min(20, len(text))]))
	}
	require.Empty(t, lastLine(filepath.Join(t.TempDir(), "none"), 0))
}
