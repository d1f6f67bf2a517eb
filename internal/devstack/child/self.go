// Package child runs programs that never outlive the one that started them: a child leaves when its standard input closes,
// which the kernel does for a parent that was killed.
package child

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Refused is the exit status of a child for which another start with the same settings is no remedy: a taken port, a locked
// folder, a database that it cannot read. Its last line on standard error says why.
const Refused = 3

// ParentStdin is the environment variable that tells programs which may also run by themselves that their standard input is
// their parent.
const ParentStdin = "SELFALIGN_PARENT_STDIN"

// Life returns a context that ends when standard input closes or the process is asked to stop (SIGTERM, SIGINT). The
// caller calls the returned function when it has shut down; if it has not done so within the grace, the process is ended:
// a hanging shutdown leaves nothing behind.
func Life(ctx context.Context, stdin io.Reader, grace time.Duration) (context.Context, func()) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithCancel(ctx)
	down := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	go func() {
		<-ctx.Done()
		select {
		case <-down:
		case <-time.After(grace):
			os.Exit(1)
		}
	}()
	return ctx, sync.OnceFunc(func() { close(down); cancel(); stop() })
}

// Ready tells the parent that the child serves: one line of JSON.
func Ready(stdout io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode ready line: %w", err)
	}
	if _, err := stdout.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("write ready line: %w", err)
	}
	return nil
}
