//go:build !linux

package corpus

import (
	"testing"
	"time"
)

// worked runs f and returns a tenth of the time that it took: a thread's processor time is only told on Linux.
func worked(t testing.TB, f func()) time.Duration {
	t.Helper()
	start := time.Now()
	f()
	return time.Since(start) / 10
}

// processTime stands for what is not asked of this system: the time on the clock.
func processTime(testing.TB) time.Duration { return time.Since(started) }

var started = time.Now()
