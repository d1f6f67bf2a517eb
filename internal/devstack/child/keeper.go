package child

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Event says that a kept child ended, and what happens next.
type Event struct {
	// Name of the child.
	Name string
	// Err is why it ended, or why it did not start.
	Err error
	// Wait is the time until it is started again.
	Wait time.Duration
	// Restarted says that it is running again; Err is nil then.
	Restarted bool
	// GaveUp says that it is not started any more.
	GaveUp bool
}

// String is one line for a person.
func (e Event) String() string {
	switch {
	case e.Restarted:
		return e.Name + " is running again"
	case e.GaveUp:
		return fmt.Sprintf("%s is not started again: %v", e.Name, e.Err)
	case e.Err == nil:
		return fmt.Sprintf("%s ended; starting it again in %s", e.Name, e.Wait)
	default:
		return fmt.Sprintf("%v; starting it again in %s", e.Err, e.Wait)
	}
}

// Keeper starts a child again whenever it dies, waiting longer each time, and gives up when the child refuses.
type Keeper struct {
	spec   Spec
	notify func(Event)
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	process *Process
	err     error
}

const (
	shortestWait = 200 * time.Millisecond
	longestWait  = 10 * time.Second
	longLife     = 30 * time.Second // after which a death begins a new count
	refusals     = 5                // in a row, after which it gives up
)

// Keep starts the child and keeps it. An error of the first start is returned and nothing is kept. The context bounds the
// first start alone.
func Keep(ctx context.Context, spec Spec, notify func(Event)) (*Keeper, error) {
	process, err := Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	if notify == nil {
		notify = func(Event) {}
	}
	life, stop := context.WithCancel(context.Background())
	k := &Keeper{spec: spec, notify: notify, stop: stop, done: make(chan struct{}), process: process}
	go k.keep(life)
	return k, nil
}

// Process is the child as it was started last. It may have died.
func (k *Keeper) Process() *Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.process
}

// Done is closed when the child is not kept any more: stopped, or given up.
func (k *Keeper) Done() <-chan struct{} { return k.done }

// Err is why the child was given up. It may be asked once Done is closed.
func (k *Keeper) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// Stop ends the child for good. It has the grace to shut down.
func (k *Keeper) Stop(grace time.Duration) {
	k.stop()
	k.Process().Stop(grace)
	<-k.done
	k.Process().Stop(grace) // one that was just being started
}

func (k *Keeper) keep(ctx context.Context) {
	defer close(k.done)
	wait, refused := shortestWait, 0
	for {
		born, process := time.Now(), k.Process()
		select {
		case <-ctx.Done():
			return
		case <-process.Done():
		}
		if ctx.Err() != nil {
			return
		}
		err := process.Err()
		if time.Since(born) > longLife {
			wait, refused = shortestWait, 0
		}
		for {
			if isRefusal(err) {
				refused++
			} else {
				refused = 0
			}
			if refused >= refusals {
				k.giveUp(err)
				return
			}
			k.notify(Event{Name: k.spec.Name, Err: err, Wait: wait})
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, longestWait)
			if process, err = Start(ctx, k.spec); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
		}
		k.mu.Lock()
		k.process = process
		k.mu.Unlock()
		k.notify(Event{Name: k.spec.Name, Restarted: true})
	}
}

func (k *Keeper) giveUp(err error) {
	k.mu.Lock()
	k.err = fmt.Errorf("given up: %w", err)
	k.mu.Unlock()
	k.notify(Event{Name: k.spec.Name, Err: err, GaveUp: true})
}

func isRefusal(err error) bool {
	var exit *ExitError
	return errors.As(err, &exit) && exit.Code == Refused
}
