package folder

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneHolderForEachName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "on", "the", "way")
	first, err := Acquire(dir, "a")
	require.NoError(t, err)
	other, err := Acquire(dir, "b")
	require.NoError(t, err)

	_, err = Acquire(dir, "a")
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("%s (process %d)", dir, os.Getpid()))
	require.ErrorContains(t, err, "Try:")

	require.NoError(t, first.Release())
	again, err := Acquire(dir, "a")
	require.NoError(t, err)
	require.NoError(t, again.Release())
	require.NoError(t, other.Release())
}

func TestForeignContentIsNoReasonToFail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.lock"), []byte("not a number, and much longer than one could ever be"), 0o600))
	l, err := Acquire(dir, "a")
	require.NoError(t, err)
	require.NoError(t, l.Release())

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Acquire(file, "a")
	require.Error(t, err)
}
