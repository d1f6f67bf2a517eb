package flock

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// region is a byte far behind any content: locks of Windows keep others from reading what is locked.
func region() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

func try(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, region())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("LockFileEx", err)
}

func free(f *os.File) { _ = windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, region()) }
