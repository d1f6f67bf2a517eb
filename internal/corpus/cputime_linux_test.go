package corpus

import (
	"runtime"
	"syscall"
	"testing"
	"time"
)

// worked runs f and returns the processor time that it took, which does not grow with what else the machine does.
func worked(t testing.TB, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread() // so that the thread's time is this goroutine's
	defer runtime.UnlockOSThread()
	before := threadTime(t)
	f()
	return threadTime(t) - before
}

func threadTime(t testing.TB) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	return usedBy(t, thread)
}

// processTime is the processor time that this process used, which does not grow with what else the machine does.
func processTime(t testing.TB) time.Duration { return usedBy(t, syscall.RUSAGE_SELF) }

func usedBy(t testing.TB, who int) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(who, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
