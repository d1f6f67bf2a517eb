package ledger

import (
	"context"
	"sync"
)

// flights lets one book at a time work on a shelf within a process. A second one of the same run is the first one's
// successor: the first is told to stop, so that it hands over within its calls in flight. One of another run waits its turn.
type flights struct {
	mu   sync.Mutex
	open map[string]*flight
}

type flight struct {
	run    string
	yield  func()
	landed chan struct{}
}

var inProcess = &flights{open: map[string]*flight{}}

// take waits until nobody has the shelf and takes it. yield is called, perhaps more than once and from another goroutine,
// when a successor waits.
func (f *flights) take(ctx context.Context, name, run string, yield func()) (release func(), err error) {
	for {
		f.mu.Lock()
		standing := f.open[name]
		if standing == nil {
			own := &flight{run: run, yield: yield, landed: make(chan struct{})}
			f.open[name] = own
			f.mu.Unlock()
			return sync.OnceFunc(func() {
				f.mu.Lock()
				delete(f.open, name)
				f.mu.Unlock()
				close(own.landed)
			}), nil
		}
		f.mu.Unlock()
		if standing.run == run {
			standing.yield()
		}
		select {
		case <-standing.landed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
