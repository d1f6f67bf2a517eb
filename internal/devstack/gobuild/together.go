package gobuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Together builds packages into the folder out and programs that are missing into the cache, all in one go, so that the
// progress and the time left are those of the whole. Packages are folders relative to the module's root.
func Together(ctx context.Context, root, cache, out string, packages []string, programs []Program, progress func(Progress)) (err error) {
	all, missing := append([]string(nil), packages...), map[string]string{}
	for _, p := range programs {
		binary, ok, err := find(ctx, root, cache, p)
		if err != nil {
			return err
		}
		if !ok {
			all = append(all, p.Package)
			missing[p.Name] = binary
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make folder for programs: %w", err)
	}
	unlock, err := waitLock(ctx, filepath.Join(out, "build.lock"), progress)
	if err != nil {
		return err
	}
	defer unlock()
	if err := Build(ctx, root, all, out+string(filepath.Separator), progress); err != nil {
		return err
	}
	for name, binary := range missing {
		if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
			return fmt.Errorf("make cache folder: %w", err)
		}
		if err := os.Rename(filepath.Join(out, name), binary); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put %s in place: %w", name, err)
		}
		sweep(cache, name, filepath.Dir(binary))
	}
	return nil
}
