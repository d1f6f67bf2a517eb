//go:build !unix

package pocketlm

import (
	"os"
	"path/filepath"
)

// lockDir only opens the lock file: this system has no advisory locks that end with the process.
func lockDir(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
}
