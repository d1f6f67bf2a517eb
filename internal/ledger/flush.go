package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	flushBytes = 4 << 20 // unflushed text that does not wait for its second to be over
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	minTry     = 5 * time.Second // of one request, with what the store's client repeats; it doubles up to maxTry
	maxTry     = 80 * time.Second
	busy       = 100 // calls per second from which flushes come twice as often
)

// flusher writes entries behind the callers' backs, one object at a time. It is part of a Book, under its lock, but for
// pending, which belongs to who flushes.
type flusher struct {
	state      epochState // as of the last durable object
	n          int64      // entries recorded
	durable    int64      // entries flushed
	own        []*Entry   // all entries recorded
	flushed    []object   // objects written
	reservedAt int64      // calls admitted when the standing reservation was made

	unflushed      []*Entry
	unflushedBytes int
	oldest         time.Time // of the unflushed; meaningless when there are none
	putting        time.Time // oldest entry of pending; zero: nothing is pending
	urgent         bool      // flush now
	trouble        error     // why the last try did not succeed
	lastPut        time.Time

	pending *flush
	kicked  chan struct{}
	stop    context.CancelFunc // nil: not running
	stopped chan struct{}
	done    bool // compacted: nothing remains to be written
}

// flush is an object to be written. Once made it does not change, so that a try whose reply was lost can be repeated.
type flush struct {
	object object
	body   []byte
	state  epochState
	batch  []*Entry
	made   time.Time
}

func (b *Book) startFlushing() {
	ctx, cancel := context.WithCancel(context.Background())
	b.mu.Lock()
	b.kicked, b.stopped, b.stop = make(chan struct{}, 1), make(chan struct{}), cancel
	b.lastPut, b.reservedAt = time.Now(), 0
	b.mu.Unlock()
	go func() {
		defer close(b.stopped)
		b.keepFlushing(ctx)
	}()
}

// stopFlushing returns when nobody but the caller flushes.
func (b *Book) stopFlushing() {
	b.mu.Lock()
	stop := b.stop
	b.mu.Unlock()
	if stop != nil {
		stop()
		<-b.stopped
	}
}

// kick makes the flusher look whether something is due. The caller holds the lock.
func (b *Book) kick() {
	select {
	case b.kicked <- struct{}{}:
	default:
	}
}

// stale reports whether an entry waits for too long to be durable.
func (b *Book) stale(now time.Time) bool {
	if !b.putting.IsZero() {
		return now.Sub(b.putting) > b.opts.MaxUnflushed
	}
	return len(b.unflushed) > 0 && now.Sub(b.oldest) > b.opts.MaxUnflushed
}

func (b *Book) keepFlushing(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		b.mu.Lock()
		due := b.lastPut.Add(idleFlush)
		if len(b.unflushed) > 0 {
			due = b.oldest.Add(b.flushDelay())
		}
		if b.urgent {
			due = time.Time{}
		}
		b.mu.Unlock()
		wait := time.Until(due)
		if wait <= 0 {
			if b.flushOnce(ctx, false) != nil {
				return // the context ended: who stopped us flushes what is left
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-b.kicked:
		case <-ctx.Done():
			return
		}
	}
}

// flushDelay is how long an entry waits for others to come along. Where many come, objects are full sooner, and a crash would
// lose more.
func (b *Book) flushDelay() time.Duration {
	if b.rate > busy {
		return b.opts.FlushEvery / 2
	}
	return b.opts.FlushEvery
}

// flushOnce writes what is unflushed together with a new reservation. It waits out whatever is wrong with the store; the
// only error is the context's. Only one may flush at a time.
func (b *Book) flushOnce(ctx context.Context, closing bool) error {
	if b.pending != nil { // of a flush that was broken off
		if err := b.finish(ctx); err != nil {
			return err
		}
	}
	if err := b.checkFence(ctx); err != nil {
		return err
	}
	if worth, err := b.prepare(closing); err != nil || !worth {
		return err
	}
	return b.finish(ctx)
}

// prepare makes the next flush, unless it would say nothing new.
func (b *Book) prepare(closing bool) (bool, error) {
	b.mu.Lock()
	batch := b.unflushed
	state := b.nextState(closing)
	idle := time.Since(b.lastPut) >= idleFlush
	b.urgent = false
	b.reservedAt = b.admitted.Calls
	if len(batch) == 0 && !closing && !idle && covers(b.limit, state.Reserved) {
		b.mu.Unlock()
		return false, nil
	}
	b.unflushed, b.unflushedBytes = nil, 0
	if len(batch) > 0 {
		b.putting = b.oldest
	}
	b.limit = least(b.limit, state.Reserved)
	b.mu.Unlock()
	f := &flush{object: object{kindWAL, state.Epoch, state.Seq}, state: state, batch: batch, made: time.Now()}
	var err error
	if f.body, err = encode(b.header(state), batch); err != nil {
		return false, err // cannot happen: entries are plain data
	}
	b.pending = f
	return true, nil
}

// nextState is the account as the next object will state it. The caller holds the lock.
func (b *Book) nextState(closing bool) epochState {
	now := time.Now()
	if since := now.Sub(b.ratedAt).Seconds(); since > 0.01 {
		present := float64(b.admitted.Calls-b.ratedCall) / since
		b.rate = max(present, b.rate*0.7)
		b.ratedAt, b.ratedCall = now, b.admitted.Calls
	}
	s := b.state
	s.Seq++
	s.Reserved = b.reserve()
	s.Settled, s.Doubtful = b.settled, b.doubtful
	s.Closed = closing
	s.At = now.UTC()
	return s
}

// finish writes the pending flush.
func (b *Book) finish(ctx context.Context) error {
	f := b.pending
	key := b.shelf.key(f.object)
	err := b.insist(ctx, func(ctx context.Context) error { return b.putOwn(ctx, key, f.body) })
	if err != nil {
		return err
	}
	b.pending = nil
	b.mu.Lock()
	b.state = f.state
	b.own = append(b.own, f.batch...)
	b.durable += int64(len(f.batch))
	b.flushed = append(b.flushed, f.object)
	slept := !b.lastPut.IsZero() && time.Since(b.lastPut) > aliveFor
	b.putting, b.lastPut = time.Time{}, time.Now()
	b.slowness = max(min(b.lastPut.Sub(f.made), maxSlowness), b.slowness*9/10)
	if b.fenced == nil {
		b.limit = f.state.Reserved
	}
	b.wake()
	b.mu.Unlock()
	if slept {
		if err := b.lookAround(ctx); err != nil {
			return err
		}
	}
	return b.checkFence(ctx)
}

// lookAround gives the partition up when another run took rows of it on a shelf of other bits, having taken us for dead. (Who
// takes over on our own shelf fences us.)
func (b *Book) lookAround(ctx context.Context) error {
	return b.insist(ctx, func(ctx context.Context) error {
		foreign, err := b.others.look(ctx, b.st, b.shelf)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.learn(foreign)
		b.mu.Unlock()
		if held := b.others.heldFrom(b.opts.Run); held != nil {
			b.fence("for run " + held.Run)
		}
		return nil
	})
}

// checkFence looks whether somebody claimed the partition after us.
func (b *Book) checkFence(ctx context.Context) error {
	if b.fencedErr() != nil {
		return nil //nolint:nilerr // known already
	}
	next := b.shelf.key(object{kind: kindLease, epoch: b.state.Epoch + 1})
	return b.insist(ctx, func(ctx context.Context) error {
		_, err := b.st.Stat(ctx, next)
		if errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		if err == nil {
			b.fence(b.st.URI(next))
		}
		return err
	})
}

// insist repeats an operation until it succeeds or the context ends. Stores that are away come back.
func (b *Book) insist(ctx context.Context, do func(context.Context) error) error {
	backoff, limit := minBackoff, minTry
	for {
		try, cancel := context.WithTimeout(ctx, limit)
		err := do(try)
		cancel()
		b.mu.Lock()
		if ctx.Err() == nil {
			b.trouble = err
		}
		b.mu.Unlock()
		if err == nil {
			return nil
		}
		if err := sleep(ctx, backoff); err != nil {
			return err
		}
		backoff, limit = min(2*backoff, maxBackoff), min(2*limit, maxTry)
	}
}

// Trouble returns why answers wait to be written for too long, and nil while all is well. The book goes on trying.
func (b *Book) Trouble() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.trouble != nil || !b.stale(now) {
		return b.trouble
	}
	since := b.oldest
	if !b.putting.IsZero() {
		since = b.putting
	}
	return fmt.Errorf("the store is not done with a request of %s ago", now.Sub(since).Round(time.Second))
}

// Flush returns when all that was recorded before is durable, or with the context's error.
func (b *Book) Flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.claimed || b.done {
		return nil
	}
	for target := b.n; b.durable < target; {
		b.urgent = true
		b.kick()
		if err := b.await(ctx); err != nil {
			return fmt.Errorf("flush ledger: %w", err)
		}
	}
	return nil
}

// Close stops admission, writes what is left with a closing record, and lets the partition go. Calls that were admitted and
// neither recorded nor dropped stay in doubt. An error means that entries were lost: the store was away until the context ended.
func (b *Book) Close(ctx context.Context) error {
	b.mu.Lock()
	b.closing = true
	b.wake()
	b.mu.Unlock()
	b.stopFlushing()
	defer b.release()
	b.mu.Lock()
	open := b.claimed && !b.done
	b.done = true
	b.mu.Unlock()
	if !open {
		return nil
	}
	if err := b.flushOnce(ctx, true); err != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		return fmt.Errorf("close ledger: %d answers are not written: %w", b.n-b.durable, errors.Join(err, b.trouble))
	}
	return nil
}
