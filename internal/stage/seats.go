package stage

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Partitions of one output that are in work in one process lend each other the calls in flight that they do not use: while one
// opens its ledger, waits for its last answers or commits, the others ask more. Together they never have more in flight than
// the sum of what each may have. The one that began first is served first, so that they do not come to their ends together.

// lingers is how long the seats of a partition that is done stay, unless the next one takes them over before.
const lingers = 2 * time.Second

// hall holds the seats of every output in work.
type hall struct {
	mu    sync.Mutex
	rooms map[string]*room
}

var seating = &hall{rooms: map[string]*room{}}

// room has the seats of one output.
type room struct {
	mu     sync.Mutex
	seats  int
	taken  int
	tables []*table // in order of arrival
	left   []*leaver
}

type ticket struct{ called chan struct{} }

// leaver is a table that is done.
type leaver struct {
	seats int
	timer *time.Timer
}

// table is one partition's place in the room of its output.
type table struct {
	room    *room
	seats   int
	waiting []*ticket    // in order of arrival
	flying  atomic.Int64 // seats that its calls have
}

// join adds a partition's seats, in the place of those of one that is done if there are such.
func (h *hall) join(output string, seats int) *table {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rooms[output]
	if r == nil {
		r = &room{}
		h.rooms[output] = r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.left) > 0 {
		gone := r.left[0]
		r.left = r.left[1:]
		gone.timer.Stop()
		r.seats -= gone.seats
	}
	t := &table{room: r, seats: seats}
	r.tables = append(r.tables, t)
	r.seats += seats
	r.call()
	return t
}

// leave takes the partition's seats away, after a while.
func (h *hall) leave(output string, t *table) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := t.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tables = slices.DeleteFunc(r.tables, func(other *table) bool { return other == t })
	gone := &leaver{seats: t.seats}
	r.left = append(r.left, gone)
	gone.timer = time.AfterFunc(lingers, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		if i := slices.Index(r.left, gone); i >= 0 {
			r.left = slices.Delete(r.left, i, i+1)
			r.seats -= gone.seats
		}
		if len(r.tables) == 0 && len(r.left) == 0 && h.rooms[output] == r {
			delete(h.rooms, output)
		}
	})
}

// call seats those who wait, as far as there are seats. The caller holds the lock.
func (r *room) call() {
	for _, t := range r.tables {
		for len(t.waiting) > 0 && r.taken < r.seats {
			close(t.waiting[0].called)
			t.waiting = t.waiting[1:]
			r.taken++
		}
	}
}

// seat is what a call at the endpoint needs. It is used by one goroutine at a time.
type seat struct {
	table *table
	taken bool
}

// Take waits for a seat. Errors: the context's.
func (s *seat) Take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := s.table.room
	mine := &ticket{called: make(chan struct{})}
	r.mu.Lock()
	s.table.waiting = append(s.table.waiting, mine)
	r.call()
	r.mu.Unlock()
	select {
	case <-mine.called:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		if i := slices.Index(s.table.waiting, mine); i >= 0 {
			s.table.waiting = slices.Delete(s.table.waiting, i, i+1)
		} else { // called in the same moment
			r.taken--
			r.call()
		}
		return ctx.Err()
	}
	s.taken = true
	s.table.flying.Add(1)
	return nil
}

// Leave gives the seat to the next, if it is taken.
func (s *seat) Leave() {
	if !s.taken {
		return
	}
	s.taken = false
	s.table.flying.Add(-1)
	r := s.table.room
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	r.call()
}
