package main

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMemoryLimit holds the limit to what is wanted while little is in use, and lets it give way before collections come too often.
func TestMemoryLimit(t *testing.T) { //nolint:paralleltest // the limit is the process's
	require.EqualValues(t, memoryWanted, memoryLimit(0))
	require.EqualValues(t, memoryWanted, memoryLimit(100<<20))
	require.Greater(t, memoryLimit(400<<20), int64(499<<20))

	runtime.GC()
	require.Positive(t, inUse(), "the runtime knows these metrics")

	before, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(123)
	defer func() {
		debug.SetMemoryLimit(before)
		debug.SetGCPercent(percent)
	}()
	t.Setenv("GOMEMLIMIT", "1GiB")
	t.Setenv("GOGC", "")
	limitMemory(t.Context())
	require.Equal(t, before, debug.SetMemoryLimit(-1), "who sets GOMEMLIMIT has the last word")
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "123")
	limitMemory(t.Context())
	require.EqualValues(t, memoryWanted, debug.SetMemoryLimit(-1))
	require.Equal(t, 123, debug.SetGCPercent(123), "who sets GOGC too")
	t.Setenv("GOGC", "")
	limitMemory(t.Context())
	require.Equal(t, collectAt, debug.SetGCPercent(123))
}
