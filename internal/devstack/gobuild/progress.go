package gobuild

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// Phase is what a build is doing.
type Phase string

// The phases, in order. A build that has nothing to compile goes straight to linking.
const (
	Waiting     Phase = "waiting for another build"
	Downloading Phase = "downloading modules"
	Looking     Phase = "looking what is built already"
	Compiling   Phase = "compiling"
	Linking     Phase = "linking"
)

// Progress is how far a build is.
type Progress struct {
	Phase Phase
	// Done and Total count packages that had to be compiled; while downloading, Done counts modules and Total is 0.
	Done, Total int
	// Elapsed since the phase began.
	Elapsed time.Duration
	// Left is the estimated rest of the whole build; 0: not known yet.
	Left time.Duration
	// Item is the package or module last heard of.
	Item string
}

// String is one line for a person.
func (p Progress) String() string {
	switch p.Phase {
	case Downloading:
		return fmt.Sprintf("%s: %d so far (%s)", p.Phase, p.Done, p.Item)
	case Compiling:
		text := fmt.Sprintf("%s: %d of %d packages", p.Phase, p.Done, p.Total)
		if p.Left > 0 {
			text += ", about " + round(p.Left) + " left"
		}
		return text
	default:
		return string(p.Phase)
	}
}

func round(d time.Duration) string {
	if d >= 90*time.Second {
		return fmt.Sprintf("%d min", int((d+30*time.Second)/time.Minute))
	}
	return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second)/time.Second)))
}

// plan is what a build has to compile.
type plan struct {
	// weight by import path: the size of the sources, which the time to compile follows well enough.
	weight map[string]int64
	total  int64
	// standard names packages of the standard library: go build -v lists them too.
	started time.Time
	now     func() time.Time
}

// base is added to each package's size: what it costs to start a compiler, in bytes of source.
const base = 20_000

// linkShare is the part of the time that comes after the last package.
const linkShare = 0.03

// newPlan asks the Go tool which packages are missing in the build cache. On a fresh machine that downloads the modules.
func newPlan(ctx context.Context, root string, packages []string, progress func(Progress)) (*plan, error) {
	args := append([]string{"list", "-deps", "-json=ImportPath,Dir,Stale,GoFiles,CgoFiles,CFiles,Standard"}, packages...)
	cmd := goTool(ctx, root, args...)
	var out, said bytes.Buffer
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	start := time.Now()
	progress(Progress{Phase: Looking})
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("go list: %w. Try: put the go command on PATH", err)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	followDownloads(io.TeeReader(stderr, &tail{buffer: &said, limit: 16 << 10}), start, progress)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("go list: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("go list: %w\n%s", err, strings.TrimSpace(said.String()))
	}
	p, err := readPlan(&out, sourceSize)
	if err != nil {
		return nil, err
	}
	p.started = p.now()
	progress(p.at(0, 0, ""))
	return p, nil
}

// followDownloads counts the modules that the Go tool says it fetches.
func followDownloads(r io.Reader, start time.Time, progress func(Progress)) {
	scanner := bufio.NewScanner(r)
	for n := 0; scanner.Scan(); {
		if item, ok := strings.CutPrefix(scanner.Text(), "go: downloading "); ok {
			n++
			progress(Progress{Phase: Downloading, Done: n, Elapsed: time.Since(start), Item: item})
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// listed is one package in the answer of go list.
type listed struct {
	ImportPath, Dir           string
	Stale                     bool
	GoFiles, CgoFiles, CFiles []string
}

// readPlan reads the answer of go list: a JSON object for each package.
func readPlan(r io.Reader, size func(listed) int64) (*plan, error) {
	p := &plan{weight: map[string]int64{}, now: time.Now}
	decoder := json.NewDecoder(r)
	for {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		if pkg.Stale && pkg.ImportPath != "unsafe" {
			p.weight[pkg.ImportPath] = base + size(pkg)
			p.total += p.weight[pkg.ImportPath]
		}
	}
}

// follow reads what go build -v says: an import path when a package's compilation begins, and whatever compilers complain.
func (p *plan) follow(r io.Reader, progress func(Progress)) {
	done, weight, seen := 0, int64(0), map[string]bool{}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		path := strings.TrimSpace(scanner.Text())
		w, ok := p.weight[path]
		if !ok || seen[path] {
			continue
		}
		seen[path] = true
		done, weight = done+1, weight+w
		progress(p.at(done, weight, path))
	}
	_, _ = io.Copy(io.Discard, r)
}

func (p *plan) at(done int, weight int64, item string) Progress {
	out := Progress{Phase: Compiling, Done: done, Total: len(p.weight), Elapsed: p.now().Sub(p.started), Item: item}
	if done == out.Total {
		out.Phase = Linking
	}
	// The first packages are small ones of the standard library: an estimate from them would frighten.
	if share := float64(weight) / float64(max(p.total, 1)); share > 0.03 && out.Elapsed > 2*time.Second {
		whole := time.Duration(float64(out.Elapsed) / share * (1 + linkShare))
		out.Left = max(time.Second, whole-out.Elapsed)
	}
	return out
}
