package stage

import "sync"

// window hands out slots to workers: those to be asked again first, then the rest in order. It is a sliding window: a
// worker that is done takes the next slot at once.
type window struct {
	mu       sync.Mutex
	ready    sync.Cond
	again    []int
	rest     []int
	inFlight int
	parked   int  // slots that are given up for this attempt
	stopped  bool // nothing more is handed out
	stop     string
	err      error
	halt     func() // called once when the window stops
}

func newWindow(slots []int, halt func()) *window {
	w := &window{rest: slots, halt: halt}
	w.ready.L = &w.mu
	return w
}

// take waits for a slot. It is false when there will be none.
func (w *window) take() (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.stopped:
			return 0, false
		case len(w.again) > 0:
			i := w.again[len(w.again)-1]
			w.again = w.again[:len(w.again)-1]
			w.inFlight++
			return i, true
		case len(w.rest) > 0:
			i := w.rest[0]
			w.rest = w.rest[1:]
			w.inFlight++
			return i, true
		case w.inFlight == 0:
			return 0, false
		}
		w.ready.Wait()
	}
}

// done gives a slot back; again says that it is to be asked once more.
func (w *window) done(i int, again bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight--
	if again {
		w.again = append(w.again, i)
		w.ready.Signal()
	} else if w.inFlight == 0 {
		w.ready.Broadcast()
	}
}

// park gives a slot back that is not asked again in this attempt.
func (w *window) park() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.parked++
}

// end stops the window for a reason or an error. The first of several stands.
func (w *window) end(stop string, err error) {
	w.mu.Lock()
	first := !w.stopped
	if first {
		w.stopped, w.stop, w.err = true, stop, err
		w.ready.Broadcast()
	}
	w.mu.Unlock()
	if first {
		w.halt()
	}
}
