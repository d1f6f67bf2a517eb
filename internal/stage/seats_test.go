package stage

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Two partitions lend each other their seats, and never have more than both of them together.
func TestPartitionsLendSeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hall{rooms: map[string]*room{}}
		var flying, peak atomic.Int64
		partition := func(calls int, latency time.Duration) {
			table := h.join("out", 10)
			defer h.leave("out", table)
			var next atomic.Int64
			var workers sync.WaitGroup
			for range 20 {
				workers.Go(func() {
					for int(next.Add(1)) <= calls {
						s := &seat{table: table}
						if err := s.Take(t.Context()); err != nil {
							t.Error(err)
							return
						}
						peak.Store(max(peak.Load(), flying.Add(1)))
						time.Sleep(latency)
						flying.Add(-1)
						s.Leave()
					}
				})
			}
			workers.Wait()
			if n := table.flying.Load(); n != 0 {
				t.Errorf("%d seats are taken for ever", n)
			}
		}
		began := time.Now()
		var both sync.WaitGroup
		both.Go(func() { partition(1, 100*time.Second) }) // waits for its last call
		both.Go(func() {
			for range 5 {
				partition(190, time.Second)
				time.Sleep(100 * time.Millisecond) // until the next is started
			}
		})
		both.Wait()
		if took := time.Since(began); took != 100*time.Second {
			t.Errorf("took %s", took)
		}
		if peak.Load() != 20 {
			t.Errorf("%d in flight", peak.Load())
		}
		time.Sleep(2 * lingers)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.rooms) != 0 {
			t.Error("a room stays")
		}
	})
}

func TestSeatsAreGivenBackWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &hall{rooms: map[string]*room{}}
		table := h.join("out", 1)
		first := &seat{table: table}
		if err := first.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := (&seat{table: table}).Take(ctx); err == nil {
			t.Error("a second call on one seat")
		}
		first.Leave()
		first.Leave()
		if table.room.taken != 0 || len(table.waiting) != 0 {
			t.Errorf("%+v", table.room)
		}
		h.leave("out", table)
		time.Sleep(2 * lingers)
	})
}
