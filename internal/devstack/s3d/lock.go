package s3d

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/selfalign/selfalign/internal/flock"
)

// lockFolder makes this process the only server of dir. The kernel lets go of the lock when the process dies.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	got, err := flock.Try(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	if !got {
		f.Close()
		return nil, fmt.Errorf("folder %s is served by another process. Try: stop it, or use another folder", dir)
	}
	return f, nil
}
