// Package gobuild builds programs of this module with the Go tool, once for each state of their sources, and says how far it is.
package gobuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/flock"
)

// Module is the path of this module.
const Module = "github.com/selfalign/selfalign"

// ErrNoSource is the error when the sources of this module are not found.
var ErrNoSource = errors.New("sources of selfalign not found")

// Root returns the folder with this module's go.mod: the one that the working folder lies in, else the one that this
// program was built from.
func Root() (string, error) {
	if dir, err := os.Getwd(); err == nil {
		for {
			if isRoot(dir) {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		dir := filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
		if isRoot(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w. Try: run it in the folder of the repository", ErrNoSource)
}

func isRoot(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first) == "module "+Module
}

// Program is a package main of this module that is built into the user's cache folder.
type Program struct {
	// Name of the binary.
	Name string
	// Package is the folder of the package main, relative to the module's root.
	Package string
	// Sources are the folders of this module that it is made of, relative to the module's root, its own among them.
	// With go.mod and go.sum they name the build; tests' files do not count.
	Sources []string
}

// Cached returns the path of the program's binary in the cache folder and builds it if it is not there. Of several
// processes that want it one builds and the others wait. Progress may be nil.
func Cached(ctx context.Context, root, cache string, p Program, progress func(Progress)) (string, error) {
	binary, ok, err := find(ctx, root, cache, p)
	if err != nil || ok {
		return binary, err
	}
	dir := filepath.Dir(binary)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := waitLock(ctx, dir+".lock", progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isFile(binary) {
		return binary, nil
	}
	aside := binary + ".new"
	if err := Build(ctx, root, []string{p.Package}, aside, progress); err != nil {
		return "", err
	}
	if err := os.Rename(aside, binary); err != nil {
		return "", fmt.Errorf("put %s in place: %w", p.Name, err)
	}
	sweep(cache, p.Name, dir)
	return binary, nil
}

// find returns where the program's binary is, or would be, and whether it is there.
func find(ctx context.Context, root, cache string, p Program) (string, bool, error) {
	key, err := digest(ctx, root, p)
	if err != nil {
		return "", false, err
	}
	binary := filepath.Join(cache, p.Name+"-"+key, p.Name)
	if !isFile(binary) {
		return binary, false, nil
	}
	touch(binary)
	return binary, true, nil
}

// Dir returns the cache folder of this user for built programs.
func Dir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w. Try: set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(dir, "selfalign", "bin"), nil
}

// Build builds packages into out: a file for one package, a folder (with a slash at its end) for several. A failed build's
// error holds the compiler's words. Progress may be nil.
func Build(ctx context.Context, root string, packages []string, out string, progress func(Progress)) error {
	if progress == nil {
		progress = func(Progress) {}
	}
	names := make([]string, len(packages))
	for i, p := range packages {
		names[i] = "./" + p
	}
	plan, err := newPlan(ctx, root, names, progress)
	if err != nil {
		return err
	}
	// The same sources shall give the same binary, whatever commit they are at.
	args := append([]string{"build", "-v", "-buildvcs=false", "-ldflags=-s -w", "-o", out}, names...)
	cmd := goTool(ctx, root, args...)
	var said bytes.Buffer
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		plan.follow(io.TeeReader(stderr, &tail{buffer: &said, limit: 16 << 10}), progress)
	}()
	<-done
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("go build: %w", context.Cause(ctx))
		}
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(packages, " "), err, complaints(said.String()))
	}
	return nil
}

// goTool runs the Go tool in a process group that dies with the context: the compilers that it started, too.
func goTool(ctx context.Context, root string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	child.OwnGroup(cmd)
	cmd.Cancel = func() error { return child.EndGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// digest names a build by all that goes into it.
func digest(ctx context.Context, root string, p Program) (string, error) {
	sum := sha256.New()
	version, err := goTool(ctx, root, "env", "GOVERSION", "GOOS", "GOARCH", "CGO_ENABLED", "GOFLAGS").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w. Try: install Go, or put it on PATH", err)
	}
	fmt.Fprintf(sum, "%s\n%s\n", version, p.Package)
	files := []string{"go.mod", "go.sum"}
	for _, source := range p.Sources {
		entries, err := os.ReadDir(filepath.Join(root, source))
		if err != nil {
			return "", fmt.Errorf("read sources of %s: %w", p.Name, err)
		}
		for _, entry := range entries {
			if !entry.IsDir() && !strings.HasSuffix(entry.Name(), "_test.go") {
				files = append(files, filepath.Join(source, entry.Name()))
			}
		}
	}
	sort.Strings(files)
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", fmt.Errorf("read sources of %s: %w", p.Name, err)
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(text))
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// waitLock waits for the right to build. The lock ends with the process that holds it.
func waitLock(ctx context.Context, path string, progress func(Progress)) (func(), error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open build lock: %w", err)
	}
	for start, said := time.Now(), false; ; {
		got, err := flock.Try(file)
		if err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("lock build: %w", err)
		}
		if got {
			return func() { _ = file.Close() }, nil
		}
		if !said && progress != nil && time.Since(start) > time.Second {
			progress(Progress{Phase: Waiting, Elapsed: time.Since(start)})
			said = true
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another build: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const keepBuilds = 30 * 24 * time.Hour

// sweep removes builds of the program that nobody has used for a month. What cannot be removed stays.
func sweep(cache, name, current string) {
	old, err := filepath.Glob(filepath.Join(cache, name+"-*"))
	if err != nil {
		return
	}
	for _, dir := range old {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || dir == current || time.Since(info.ModTime()) < keepBuilds {
			continue
		}
		_ = os.RemoveAll(dir)
		_ = os.Remove(dir + ".lock")
	}
}

func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeType == 0
}

// tail keeps the last bytes that were written.
type tail struct {
	buffer *bytes.Buffer
	limit  int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buffer.Write(p)
	if over := t.buffer.Len() - t.limit; over > 0 {
		t.buffer.Next(over)
	}
	return len(p), nil
}

// complaints leaves out the names of packages that were built well.
func complaints(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		line = strings.TrimRight(line, "\n")
		if strings.ContainsAny(line, " :#") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
