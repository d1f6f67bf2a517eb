package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"-h"}, "go run ./quickstart -crash", exitOK},
		{[]string{"-nonsense"}, "flag provided but not defined", exitUsage},
		{[]string{"start"}, `what is "start"?`, exitUsage},
		{[]string{"-fresh", "-data", "x"}, "-fresh chooses a folder and -data names one", exitUsage},
		{[]string{"-port-base", "80"}, "between 1024 and 65532, or 0 (got 80)", exitUsage},
		{[]string{"-port-base", "65533"}, "(got 65533)", exitUsage},
		{[]string{"-data", "x", "-run-name", "no good/name"}, "no good/name", exitUsage},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if len(c.args) > 1 && c.args[0] == "-data" {
				c.args[1] = t.TempDir()
			}
			require.Equal(t, c.code, run(context.Background(), c.args, &stdout, &stderr))
			require.Contains(t, stderr.String(), c.want)
		})
	}
}

func TestLockedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := folder.Acquire(dir, "quickstart")
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitFailure, run(t.Context(), []string{"-once", "-data", dir}, &stdout, &stderr))
	require.Contains(t, stderr.String(), fmt.Sprintf("folder is in use by another process: %s (process %d)", dir, os.Getpid()))
	require.Contains(t, stderr.String(), "-data FOLDER, or -fresh")
	require.Contains(t, stdout.String(), dir, "the first line comes before anything can go wrong")
	require.NoError(t, lock.Release())
}

func TestAdviceForATakenPort(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	_, err = loopback.Resolve("S3", listener.Addr().(*net.TCPAddr).Port)
	require.ErrorContains(t, advise(err), "-port-base 18330, or -port-base 0 for free ones")
	require.ErrorIs(t, advise(err), loopback.ErrTaken)
}

func TestDataDir(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	now := time.Date(2026, 11, 22, 17, 5, 1, 0, time.UTC)
	for want, o := range map[string]options{
		"/state/selfalign/quickstart":                       {},
		"/state/selfalign/quickstart-20261122-170501":       {fresh: true},
		"/state/selfalign/quickstart-crash-20261122-170501": {crash: true},
		"/elsewhere": {data: "/elsewhere", crash: true},
	} {
		got, err := dataDir(o, now)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	t.Setenv("XDG_STATE_HOME", "relative counts for nothing")
	t.Setenv("HOME", "/home/somebody")
	got, err := dataDir(options{}, now)
	require.NoError(t, err)
	require.Equal(t, "/home/somebody/.local/state/selfalign/quickstart", got)
}

func TestSettingsAreWhatTheWorkerReads(t *testing.T) {
	t.Parallel()
	s := &devstack.Stack{
		TemporalAddress: "127.0.0.1:1", Namespace: "default", UIURL: "http://127.0.0.1:2", PocketURL: "http://127.0.0.1:4",
		S3: blob.Config{
			Bucket: "b", Endpoint: "http://127.0.0.1:3", PathStyle: true,
			AccessKeyEnv: devstack.AccessKeyEnv, SecretKeyEnv: devstack.SecretKeyEnv,
		},
	}
	path, w, err := writeSettings(t.TempDir(), s)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", w.Temporal.Address)
	require.Equal(t, "http://127.0.0.1:3", w.Store.Endpoint)
	require.Equal(t, "http://127.0.0.1:4/v1", w.Providers["pocketlm"].URL)
	price, known := w.Providers["pocketlm"].Price("pocketlm-base")
	require.True(t, known)
	require.Zero(t, price)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), devstack.KeysFile)
}

func TestConsole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := newConsole(&out)
	for done := range 100 {
		c.building("it", gobuild.Progress{Phase: gobuild.Compiling, Done: done, Total: 100})
	}
	c.building("it", gobuild.Progress{Phase: gobuild.Linking})
	c.say("built")
	require.Equal(t, "building it: compiling: 0 of 100 packages\nbuilding it: linking\nbuilt\n", out.String(), "a pipe gets few lines")

	out.Reset()
	c.tty = true
	for done := range 3 {
		c.building("it", gobuild.Progress{Phase: gobuild.Compiling, Done: done, Total: 2})
	}
	c.say("built")
	c.hold()
	c.say("held")
	require.NotContains(t, out.String(), "held", "somebody else paints")
	c.release()
	require.Equal(t, "\rbuilding it: compiling: 0 of 2 packages [                    ]\x1b[K"+
		"\rbuilding it: compiling: 1 of 2 packages [==========          ]\x1b[K"+
		"\rbuilding it: compiling: 2 of 2 packages [====================]\x1b[K"+
		"\r\x1b[Kbuilt\nheld\n", out.String())
}

func TestExampleIsThere(t *testing.T) {
	t.Parallel()
	root, err := gobuild.Root()
	require.NoError(t, err)
	spec, dir, err := loadSpec(root, "another")
	require.NoError(t, err)
	require.Equal(t, "another", spec.Name)
	require.FileExists(t, filepath.Join(dir, spec.Seeds[0].Path))
	require.DirExists(t, filepath.Join(dir, spec.Documents[0].Path))
}
