package child

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Spec says how a child is started.
type Spec struct {
	// Name appears in messages.
	Name string
	// Command is the program and its arguments.
	Command []string
	// Env is added to this process's environment.
	Env []string
	// Dir is the child's working folder; "" is this process's.
	Dir string
	// Log is the file to which the child's standard error, and what it prints after its ready line, are appended.
	Log string
	// Ready is the longest wait for the child's first line on standard output, which says that it serves; 0: it prints none.
	Ready time.Duration
}

// Process is a child that was started.
type Process struct {
	spec  Spec
	cmd   *exec.Cmd
	stdin io.Closer
	ready json.RawMessage
	done  chan struct{}
	err   error

	killOnce sync.Once
}

// ExitError is the error of a child that ended with a status other than 0, or by a signal.
type ExitError struct {
	Name string
	// Code is the exit status, -1 for a signal.
	Code int
	// Last is the last line of the child's standard error, which says why.
	Last string
	// Log is the file with the rest.
	Log string
}

// Error returns the child's own words where there are any.
func (e *ExitError) Error() string {
	if e.Code < 0 {
		return e.Name + " was killed"
	}
	text := fmt.Sprintf("%s ended with status %d", e.Name, e.Code)
	if e.Last != "" {
		text += ": " + e.Last
	}
	if e.Log != "" {
		text += " (log: " + e.Log + ")"
	}
	return text
}

// Start starts the child and, if it prints a ready line, waits for that. The child lives in a process group of its own, so
// that an interrupt typed at the terminal reaches it only through its parent. When the wait fails the child is killed; the
// error of one that ended by itself is an *ExitError. The context bounds the wait, not the child's life.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	log, err := openLog(spec.Log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer func() { _ = log.Close() }()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		from = 0
	}

	cmd := exec.Command(spec.Command[0], spec.Command[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr = append(os.Environ(), spec.Env...), spec.Dir, log
	OwnGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	var stdout io.ReadCloser
	if spec.Ready > 0 {
		if stdout, err = cmd.StdoutPipe(); err != nil {
			return nil, fmt.Errorf("start %s: %w", spec.Name, err)
		}
	} else {
		cmd.Stdout = log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}

	p := &Process{spec: spec, cmd: cmd, stdin: stdin, done: make(chan struct{})}
	line, drained := make(chan []byte, 1), make(chan struct{})
	go func() {
		defer close(drained)
		if stdout != nil {
			readReady(stdout, line)
		}
	}()
	go p.wait(from, drained)
	if spec.Ready == 0 {
		return p, nil
	}
	return p.awaitReady(ctx, line)
}

func (p *Process) awaitReady(ctx context.Context, line <-chan []byte) (*Process, error) {
	timer := time.NewTimer(p.spec.Ready)
	defer timer.Stop()
	select {
	case text, ok := <-line:
		if ok {
			p.ready = text
			return p, nil
		}
		select { // its standard output closed: it is ending
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.Kill()
		}
		if p.err == nil {
			return nil, fmt.Errorf("start %s: ended before it was ready (log: %s)", p.spec.Name, p.spec.Log)
		}
		return nil, p.err
	case <-ctx.Done():
		_ = p.Kill()
		return nil, fmt.Errorf("start %s: %w", p.spec.Name, context.Cause(ctx))
	case <-timer.C:
		_ = p.Kill()
		return nil, fmt.Errorf("start %s: not ready after %s (log: %s)", p.spec.Name, p.spec.Ready, p.spec.Log)
	}
}

// readReady sends the first line and reads the rest, so that the child never blocks on a full pipe.
func readReady(stdout io.Reader, line chan<- []byte) {
	reader := bufio.NewReaderSize(stdout, 64<<10)
	if text, err := reader.ReadBytes('\n'); err == nil {
		line <- bytes.TrimSpace(text)
	}
	close(line)
	_, _ = io.Copy(io.Discard, reader)
}

func (p *Process) wait(from int64, drained <-chan struct{}) {
	<-drained
	err := p.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		p.err = &ExitError{Name: p.spec.Name, Code: exit.ExitCode(), Last: lastLine(p.spec.Log, from), Log: p.spec.Log}
	case err != nil:
		p.err = fmt.Errorf("wait for %s: %w", p.spec.Name, err)
	}
	_ = p.stdin.Close()
	close(p.done)
}

// Ready is what the child said when it was ready: JSON, of children that use the function Ready.
func (p *Process) Ready() json.RawMessage { return p.ready }

// Pid is the child's process id, which is also its process group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is why the child ended: nil after status 0, else mostly an *ExitError. It may be asked once Done is closed.
func (p *Process) Err() error { return p.err }

// Stop closes the child's standard input and waits; after the grace the child and its own children are killed.
func (p *Process) Stop(grace time.Duration) {
	_ = p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(grace):
		_ = p.Kill()
	}
}

// Kill ends the child and its own children at once, as kill -9 does, and waits for the end.
func (p *Process) Kill() error {
	var err error
	p.killOnce.Do(func() {
		select {
		case <-p.done:
			return // the process id may be another's by now
		default:
		}
		err = EndGroup(p.Pid())
	})
	if err != nil {
		return fmt.Errorf("kill %s: %w", p.spec.Name, err)
	}
	<-p.done
	return nil
}

const maxLog = 32 << 20 // bytes; a larger log is put aside when its program starts

func openLog(path string) (*os.File, error) {
	if path == "" {
		path = os.DevNull
	} else {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make log folder: %w", err)
		}
		if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
			if err := os.Rename(path, path+".old"); err != nil {
				return nil, fmt.Errorf("put log aside: %w", err)
			}
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return file, nil
}

// lastLine returns the last line that is not empty of what was written to the file from an offset on.
func lastLine(path string, from int64) string {
	if path == "" {
		return ""
	}
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || info.Size() <= from {
		return ""
	}
	from = max(from, info.Size()-16<<10)
	text, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	return last[:min(len(last), 1000)]
}
