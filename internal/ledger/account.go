package ledger

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Demand says what a holder expects to ask. It sets the size of reservations, which is what a crash leaves in doubt.
type Demand struct {
	Window int           // calls in flight at once
	Expect int64         // calls that are foreseen
	Each   dataset.Usage // worst case of one call, with Calls = 1; it is raised when larger ones come
	Cap    Cap           // what the run may spend on the partition, over all its attempts
}

// account is who may ask how much more. All amounts are of the claimed epoch unless they say otherwise; those in worst
// cases are cumulative. It is part of a Book, under its lock.
type account struct {
	claimed bool
	closing bool
	demand  Demand
	prior   Spending                // of the same run in earlier epochs
	open    map[int64]dataset.Usage // what is not settled of batches of the same run, by sequence number

	limit    dataset.Usage // admitted may not pass it: every durable reservation allows at least this
	admitted dataset.Usage // worst case
	settled  dataset.Usage // worst case
	doubtful dataset.Usage // worst case of lost tries of settled calls
	spent    dataset.Usage // what settled calls really cost
	need     dataset.Usage // worst case of a call that waits for a larger reservation
	needRoom bool          // a call waits for calls in flight to cost less than their worst
	holding  int64         // calls in flight that wait to be repeated

	rate      float64       // calls per second
	slowness  time.Duration // of a flush
	ratedAt   time.Time
	ratedCall int64
}

// begin sets the demand. It is called before the book is claimed.
func (b *Book) begin(d Demand) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d.Window = max(1, d.Window)
	d.Each.Calls = 1
	b.demand = d
	b.recount()
	b.ratedAt = time.Now()
}

// Expect changes the number of calls that are foreseen.
func (b *Book) Expect(more int64) {
	b.mu.Lock()
	b.demand.Expect += more
	b.mu.Unlock()
}

// used is what counts against the cap: what the run paid, what is in doubt, and calls in flight at their worst.
func (b *Book) used() dataset.Usage {
	u := b.prior.Spent.Add(b.prior.InDoubt).Add(b.spent).Add(b.doubtful).Add(b.handedOver())
	return u.Add(b.admitted.Minus(b.settled))
}

const (
	reserveMargin = 300 * time.Millisecond
	maxSlowness   = time.Second
)

// callsIn returns how many calls are admitted in some time at the present rate.
func (b *Book) callsIn(d time.Duration) int64 { return int64(math.Ceil(b.rate * d.Seconds())) }

// reserve returns the reservation to be written with the next flush: what was admitted, and what may be until the flush
// after it. Reservations never allow more than the cap. The caller holds the lock or is alone.
func (b *Book) reserve() dataset.Usage {
	if b.fenced != nil || b.closing || (b.demand.Expect <= 0 && b.need.Calls == 0) {
		return b.admitted
	}
	calls := b.callsIn(b.flushDelay() + 3*b.slowness + reserveMargin) // until the flush after this one is durable
	calls = max(calls, int64(2*b.demand.Window))
	calls = min(calls, max(b.demand.Expect, 1))
	used := b.used()
	each := b.demand.Each
	n := b.demand.Cap.room(used, each, calls)
	if n == 0 && b.need.Calls > 0 {
		each = b.need
		n = b.demand.Cap.room(used, each, 1)
	}
	return b.admitted.Add(times(each, n))
}

// Admit waits until a call that costs at most worst may be made. Every admitted call must end in Record or Drop.
// Errors: ErrFenced; ErrBudget when the call could cross the cap, whatever the calls in flight turn out to cost;
// ErrClosed; the context's.
func (b *Book) Admit(ctx context.Context, worst dataset.Usage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.admit(ctx, worst)
}

// Again waits until a request of an admitted call may be repeated although an earlier try may have been billed. That try is
// in doubt from then on; Record and Drop are told of later ones only. After an error the call is to be ended by Drop.
func (b *Book) Again(ctx context.Context, worst dataset.Usage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holding++
	if b.needRoom {
		b.needRoom = false
		b.wake()
	}
	err := b.admit(ctx, worst)
	b.holding--
	if err != nil {
		return err
	}
	b.demand.Expect++
	worst.Calls = 1
	b.settle(worst, worst)
	return nil
}

// admit is Admit under the lock.
func (b *Book) admit(ctx context.Context, worst dataset.Usage) error {
	worst.Calls = 1
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		switch {
		case b.fenced != nil:
			return b.fenced
		case !b.claimed || b.closing:
			return ErrClosed
		case b.demand.Cap.room(b.used(), worst, 1) < 1:
			if b.admitted.Calls-b.settled.Calls == b.holding {
				return ErrBudget
			}
			b.needRoom = true
		case b.stale(time.Now()):
		case covers(b.limit, b.admitted.Add(worst)):
			b.admitted = b.admitted.Add(worst)
			b.demand.Expect--
			if b.low() {
				b.kick()
			}
			return nil
		default:
			b.need = worst
			b.demand.Each = most(b.demand.Each, worst)
			b.urgent = true
			b.kick()
		}
		if err := b.await(ctx); err != nil {
			return err
		}
	}
}

// low marks the reservation as urgent when it will soon be used up and a larger one is to be had.
func (b *Book) low() bool {
	left := b.limit.Calls - b.admitted.Calls
	mark := max((b.limit.Calls-b.reservedAt)/4, b.callsIn(2*b.slowness+reserveMargin/3))
	if b.urgent || left > mark || b.demand.Expect <= left {
		return false
	}
	b.urgent = true
	return true
}

// Record notes the outcome of an admitted call. worst is what was admitted for it, lost the worst case of its failed tries
// that may have been billed. The entry is durable after the next flush.
func (b *Book) Record(e Entry, worst, lost dataset.Usage) {
	worst.Calls = 1
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(worst, lost)
	b.note(e)
}

// note makes an entry part of the book. The caller holds the lock.
func (b *Book) note(e Entry) {
	b.n++
	e.Epoch, e.N = b.state.Epoch, b.n
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.At = e.At.UTC()
	if len(e.LogProbs) > 0 && !json.Valid(e.LogProbs) {
		e.LogProbs = nil // an entry that cannot be written would block all others
	}
	b.spent = b.spent.Add(e.Usage())
	kept := &e
	b.stand(kept)
	if len(b.unflushed) == 0 {
		b.oldest = time.Now()
		b.kick()
	}
	b.unflushed = append(b.unflushed, kept)
	b.unflushedBytes += len(e.Text) + len(e.LogProbs) + 256
	if b.unflushedBytes > flushBytes {
		b.urgent = true
		b.kick()
	}
}

// Drop gives an admitted call back that brought nothing to record. lost is the worst case of its tries that may have been billed.
func (b *Book) Drop(worst, lost dataset.Usage) {
	worst.Calls = 1
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(worst, lost)
	b.demand.Expect++
}

func (b *Book) settle(worst, lost dataset.Usage) {
	b.settled = b.settled.Add(worst)
	b.doubtful = b.doubtful.Add(lost)
	if b.needRoom {
		b.needRoom = false
		b.wake()
	}
}
