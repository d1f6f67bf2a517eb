package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/child"
)

// guard runs a program until it ends or the context does, and returns its exit status. The program's output goes to
// standard error, since standard output carries the ready line, which says that the program runs.
func guard(ctx context.Context, command []string, stdout, stderr io.Writer) int {
	if len(command) == 0 {
		fmt.Fprintln(stderr, "localstack: -guard wants a program")
		return 2
	}
	runtime.LockOSThread() // the kernel ties the program's life to this thread's where it can
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = stderr, stderr
	cmd.SysProcAttr = withParent()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace / 2
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(stderr, "localstack: guard: %v\n", err)
		return 1
	}
	if err := child.Ready(stdout, map[string]time.Time{"guarding": time.Now()}); err != nil {
		fmt.Fprintf(stderr, "localstack: guard: %v\n", err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil, err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintf(stderr, "localstack: guard: %v\n", err)
		return 1
	}
}
