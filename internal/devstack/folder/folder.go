// Package folder makes sure that one process at a time works in a data folder.
package folder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/flock"
)

// ErrLocked is the error of a folder in which another process works.
var ErrLocked = errors.New("folder is in use by another process")

// Lock is a hold on a folder. It ends with the process, however the process ends.
type Lock struct{ file *os.File }

// Acquire makes the folder if need be and takes hold of it under the given name, so that parts which share a folder can
// each have their own hold. The error of a folder in use is ErrLocked, with the process that holds it.
func Acquire(dir, name string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	path := filepath.Join(dir, name+".lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	got, err := flock.Try(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !got {
		holder := readHolder(file)
		_ = file.Close()
		return nil, fmt.Errorf("%w: %s (%s). Try: stop that process, or use another folder", ErrLocked, dir, holder)
	}
	if err := writeHolder(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Lock{file: file}, nil
}

// Release gives the folder back. The lock file stays: removing it would let two processes hold two files of one name.
func (l *Lock) Release() error {
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("release lock: %w", err)
	}
	return nil
}

func readHolder(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return "process unknown"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "process unknown"
	}
	return fmt.Sprintf("process %d", pid)
}

func writeHolder(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	if _, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}
