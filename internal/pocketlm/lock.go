package pocketlm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/selfalign/selfalign/internal/flock"
)

// lockDir keeps a second server from the folder. The lock ends with the process, however that ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	got, err := flock.Try(f)
	if err == nil && !got {
		err = errors.New("it is used by another pocketlm")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder %s: %w", dir, err)
	}
	return f, nil
}
