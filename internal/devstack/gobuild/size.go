package gobuild

import (
	"os"
	"path/filepath"
)

// sourceSize is the size of what is compiled, in bytes. C costs more than Go.
func sourceSize(p listed) int64 {
	var total int64
	for factor, files := range map[int64][]string{1: append(p.GoFiles, p.CgoFiles...), 5: p.CFiles} {
		for _, name := range files {
			if info, err := os.Stat(filepath.Join(p.Dir, name)); err == nil {
				total += factor * info.Size()
			}
		}
	}
	return total
}
