package activities

import (
	"context"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
)

// heart tells Temporal that an activity lives, with a count of what it has done.
type heart struct {
	ctx  context.Context
	n    atomic.Int64
	last time.Time
}

func newHeart(ctx context.Context) *heart { return &heart{ctx: ctx, last: time.Now()} }

// at counts n more things done and heartbeats at most once a second.
func (h *heart) at(n int64) {
	count := h.n.Add(n)
	if time.Since(h.last) >= time.Second {
		h.last = time.Now()
		h.beat(count)
	}
}

// beat tells Temporal, where there is one: what activities are made of may be used outside of them.
func (h *heart) beat(count int64) {
	if activity.IsActivity(h.ctx) {
		activity.RecordHeartbeat(h.ctx, count)
	}
}

// outlive returns a context that ends grace after ctx does.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

// keep heartbeats every second until the returned function is called, for work that cannot be counted.
func (h *heart) keep() (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.beat(h.n.Load())
			case <-done:
				return
			case <-h.ctx.Done():
				return
			}
		}
	}()
	return func() { close(done) }
}
