package llm

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// controller decides when a call may go to the endpoint. It is safe for concurrent use.
//
// Calls wait in order of arrival; those that were refused once come before those that were not. Waiting for a slot or for a
// declared rate is normal and lasts as long as it must. Waiting because the endpoint refuses, asked for a pause or cannot
// be reached is bounded by the caller's patience, after which the call yields.
type controller struct {
	mu       sync.Mutex
	win      window
	odds     odds
	brk      breaker
	rates    rates
	inFlight int
	next     uint64    // sequence number of the next admission
	paused   time.Time // nothing is admitted before
	trouble  time.Time // the first failure since the last answer; zero: all is well
	lastErr  string    // what the last failure said, for calls that yield without having asked
	again    fifo      // calls that were refused
	fresh    fifo      // calls not yet tried
	timer    *time.Timer
	stats    Stats
}

// ticket is leave to make one request. It is given back by done.
type ticket struct {
	seq   uint64
	need  float64 // tokens reckoned for
	probe bool

	answered int64 // answers that the endpoint had given when leave was given
}

// waiter is a call in line.
type waiter struct {
	next, prev *waiter
	in         *fifo
	granted    chan grant // holds one
	need       float64
	since      time.Time
	patience   time.Duration
}

type grant struct {
	ticket
	yield time.Duration // not zero: no leave; come back then
	why   string
}

func newController(l Limits) *controller {
	return &controller{win: newWindow(l.InFlight), rates: newRates(l), next: 1}
}

// acquire waits for leave to make one request of about need tokens. patience bounds waits that the endpoint causes.
func (c *controller) acquire(ctx context.Context, need float64, patience time.Duration, retry bool) (ticket, *Error) {
	if ctx.Err() != nil {
		return ticket{}, cancelled(ctx, "wait for admission")
	}
	now := time.Now()
	w := &waiter{need: need, since: now, patience: patience, granted: make(chan grant, 1)}
	c.mu.Lock()
	if retry {
		c.again.push(w)
	} else {
		c.fresh.push(w)
	}
	c.dispatch(now)
	c.mu.Unlock()

	select {
	case g := <-w.granted:
		return c.taken(g)
	default:
	}
	select {
	case g := <-w.granted:
		return c.taken(g)
	case <-ctx.Done():
		c.mu.Lock()
		waiting := w.in != nil
		if waiting {
			w.in.remove(w)
			c.dispatch(time.Now()) // the head may have changed
		}
		c.mu.Unlock()
		if !waiting {
			if g := <-w.granted; g.yield == 0 {
				c.done(g.ticket, kindAbandoned, 0, 0, "")
			}
		}
		return ticket{}, cancelled(ctx, "wait for admission")
	}
}

func (c *controller) taken(g grant) (ticket, *Error) {
	if g.yield > 0 {
		return ticket{}, &Error{Class: ClassYield, RetryAfter: max(g.yield, time.Second), Message: g.why}
	}
	return g.ticket, nil
}

// done gives a ticket back with what became of the request: pause is what the endpoint asked for (0: nothing), used the
// tokens it reported (0: unknown). It returns how many answers the endpoint has given so far, and whether a refusal came alone
// among answers: then nobody else is held back, and the call itself waits as long as it was asked to.
func (c *controller) done(t ticket, k kind, pause time.Duration, used float64, why string) (answers int64, alone bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.inFlight
	c.inFlight--
	c.rates.settle(t.need, used, k == kindAnswer)
	switch k {
	case kindAnswer:
		c.trouble, c.lastErr = time.Time{}, ""
		c.brk.answered()
		c.odds.note(false)
		c.win.answered(before, c.odds.wary)
	case kindAbandoned:
		if t.probe {
			c.brk.probing = false
		}
	default:
		alone = c.failed(now, t, k, pause, before, why)
	}
	c.count(k)
	c.dispatch(now)
	return c.stats.Answered, alone
}

func (c *controller) failed(now time.Time, t ticket, k kind, pause time.Duration, before int, why string) (alone bool) {
	if c.trouble.IsZero() {
		c.trouble = now
	}
	c.lastErr = why
	if k == kindOverload || k == kindTimeout {
		c.odds.note(true)
		alone = c.odds.alone(c.win.borne(t.seq, before), c.inFlight)
	}
	if (k == kindOverload || k == kindTimeout) && !alone {
		shrank := c.win.refused(t.seq, c.next, before)
		if pause >= time.Second && shrank {
			c.win.restart()
		}
		if pause > 0 {
			// A little later than asked, and not all workers at one moment.
			until := now.Add(pause + time.Duration(rand.Int64N(int64(min(pause, 10*time.Second))/10+1)))
			if until.After(c.paused) {
				c.paused = until
			}
		}
	}
	if c.brk.failed(now, t.probe) {
		c.stats.Opened++
		c.win.collapse()
	}
	return alone
}

func (c *controller) count(k kind) {
	c.stats.Attempts++
	switch k {
	case kindAnswer:
		c.stats.Answered++
	case kindOverload:
		c.stats.Throttled++
	case kindTimeout:
		c.stats.Timeouts++
	case kindBroken:
		c.stats.Broken++
	case kindUnreachable:
		c.stats.Unreachable++
	case kindAbandoned:
	}
}

// dispatch admits what may be admitted now, sends away whose patience is at its end, and sets the timer for the next look.
// The caller holds the lock.
func (c *controller) dispatch(now time.Time) {
	for {
		w := c.head()
		if w == nil {
			return
		}
		if now.Before(c.paused) {
			c.hold(now, c.paused)
			return
		}
		if !c.brk.closed() {
			if now.Before(c.brk.until) {
				c.hold(now, c.brk.until)
				return
			}
			if c.brk.probing {
				c.hold(now, time.Time{})
				return
			}
		} else if !c.win.allows(c.inFlight) {
			return // a call that ends dispatches again
		}
		if d := c.rates.delay(now, w.need); d > 0 {
			c.wakeAt(now, now.Add(d))
			return
		}
		c.rates.take(now, w.need)
		w.in.remove(w)
		t := ticket{seq: c.next, need: w.need, probe: !c.brk.closed(), answered: c.stats.Answered}
		c.brk.probing = c.brk.probing || t.probe
		c.next++
		c.inFlight++
		w.granted <- grant{ticket: t}
	}
}

// head is who comes next. To probe, a call that has not failed yet is the better witness.
func (c *controller) head() *waiter {
	if !c.brk.closed() && c.fresh.first != nil {
		return c.fresh.first
	}
	if c.again.first != nil {
		return c.again.first
	}
	return c.fresh.first
}

// hold keeps all waiters until the given time (zero: until the probe ends) and lets those yield whose patience ends before.
func (c *controller) hold(now, until time.Time) {
	look, since := until, c.trouble
	if since.IsZero() {
		since = now
	}
	for _, q := range []*fifo{&c.again, &c.fresh} {
		for w := q.first; w != nil; {
			following := w.next
			deadline := later(w.since, since).Add(w.patience)
			over := until.After(deadline)
			wait := until.Sub(now)
			if until.IsZero() {
				over, wait = !now.Before(deadline), breakerMost/2
				if !over && (look.IsZero() || deadline.Before(look)) {
					look = deadline
				}
			}
			if over {
				q.remove(w)
				c.stats.Yields++
				w.granted <- grant{yield: max(wait, 1), why: c.lastErr}
			}
			w = following
		}
	}
	if !look.IsZero() && c.head() != nil {
		c.wakeAt(now, look)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (c *controller) wakeAt(now, at time.Time) {
	d := max(at.Sub(now), time.Millisecond)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.dispatch(time.Now())
		})
		return
	}
	c.timer.Reset(d)
}

func (c *controller) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := c.stats, time.Now()
	s.InFlight, s.Waiting, s.Limit, s.MaxLimit = c.inFlight, c.again.n+c.fresh.n, c.win.limit, int(c.win.max)
	s.Breaker = "closed"
	until := c.paused
	if !c.brk.closed() {
		s.Breaker = "open"
		if c.brk.probing {
			s.Breaker = "probing"
		}
		if c.brk.until.After(until) {
			until = c.brk.until
		}
	}
	s.PausedFor = max(0, until.Sub(now))
	return s
}

// fifo is a line of waiters.
type fifo struct {
	first, last *waiter
	n           int
}

func (f *fifo) push(w *waiter) {
	w.in, w.prev, w.next = f, f.last, nil
	if f.last != nil {
		f.last.next = w
	} else {
		f.first = w
	}
	f.last = w
	f.n++
}

func (f *fifo) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		f.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		f.last = w.prev
	}
	w.in, w.next, w.prev = nil, nil, nil
	f.n--
}
