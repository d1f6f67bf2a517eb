package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
)

// Defaults of Options.
const (
	DefaultFlushEvery   = time.Second
	DefaultMaxUnflushed = 2 * time.Second
)

const (
	aliveFor   = 60 * time.Second // a holder that wrote within this time is alive
	idleFlush  = 20 * time.Second // a holder that has nothing to write says so this often
	askAgain   = 10 * time.Second // when to look again for a partition that another run holds, at the earliest
	awaited    = 25 * time.Hour   // for so long others wait for a batch: its window, and some time to harvest it
	claimTries = 5
)

// Options of a book. The zero value is usable.
type Options struct {
	Run          string        // who pays; attempts of the same run take a partition over from each other
	Owner        string        // for people who look at a lease; "" is host and process
	FlushEvery   time.Duration // an entry waits at most this long for its flush to begin; 0: 1 s
	MaxUnflushed time.Duration // no call is admitted while an entry waits longer; 0: 2 s

	flights *flights // tests stand in for another process with their own
	piece   int      // raw size at which a base object is split
}

// Book is the ledger of one partition in one scope. It is safe for concurrent use.
//
// A book is opened for reading; Claim makes its holder the only one who may pay on the partition. Close must be called
// in any case.
type Book struct {
	st      *blob.Store
	shelf   shelf
	opts    Options
	release func()

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when what somebody waits for may have come
	waiting int
	view    *view
	others  neighbours
	answers map[Key]*Entry // what stands for a question
	fenced  error
	account
	flusher
}

// Open reads what is known about a partition: its own shelf, and from shelves of other bits what overlaps. Within the
// process it waits until no other book has the partition open; one of the same run is told to stop.
// It takes three LIST requests when no shelf of other bits exists, and Claim as many.
func Open(ctx context.Context, st *blob.Store, scope string, bits, part int, opts Options) (*Book, error) {
	if opts.FlushEvery <= 0 {
		opts.FlushEvery = DefaultFlushEvery
	}
	if opts.MaxUnflushed <= 0 {
		opts.MaxUnflushed = DefaultMaxUnflushed
	}
	if opts.Owner == "" {
		host, _ := os.Hostname() // for people only
		opts.Owner = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	opts.Owner += "/" + rand.Text()[:8] // tells our lease from anybody else's
	if opts.piece <= 0 {
		opts.piece = pieceSize
	}
	if opts.flights == nil {
		opts.flights = inProcess
	}
	s := shelf{scope, bits, part}
	b := &Book{st: st, shelf: s, opts: opts, changed: make(chan struct{}), view: newView(s), others: neighbours{}, answers: map[Key]*Entry{}}
	release, err := opts.flights.take(ctx, st.URI(s.dir()), opts.Run, func() { b.fence("in this process") })
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	b.release = release
	if err := b.load(ctx); err != nil {
		release()
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	return b, nil
}

func (b *Book) load(ctx context.Context) error {
	fresh, err := b.view.refresh(ctx, b.st)
	if err != nil {
		return err
	}
	b.learn(fresh)
	b.recount()
	foreign, err := b.others.look(ctx, b.st, b.shelf)
	if err != nil {
		return err
	}
	b.learn(foreign)
	return nil
}

// learn takes entries up as answers. Of several to one question the first stands, an answer before a refusal. A refusal that
// cost nothing binds only the run that met it: for another one, the endpoint may have been put right.
func (b *Book) learn(entries []*Entry) {
	for _, e := range entries {
		if e.Status == StatusRefused && !e.Billed() && (e.foreign || b.view.epochs[e.Epoch].Run != b.opts.Run) {
			continue
		}
		b.stand(e)
	}
}

func (b *Book) stand(e *Entry) {
	if e.Status != StatusAnswered && e.Status != StatusRefused {
		return
	}
	if old, ok := b.answers[e.Key]; !ok || (old.Status == StatusRefused && e.Status == StatusAnswered) {
		b.answers[e.Key] = e
	}
}

// Find returns what stands for a question: an answer or a refusal. The entry must not be changed.
func (b *Book) Find(k Key) (*Entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.answers[k]
	return e, ok
}

// Empty reports whether nothing stands for any question.
func (b *Book) Empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.answers) == 0
}

// Ours reports whether the book's own run paid for an entry that Find returned.
func (b *Book) Ours(e *Entry) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.foreign {
		return false
	}
	if b.claimed && e.Epoch == b.state.Epoch {
		return true
	}
	return b.view.epochs[e.Epoch].Run == b.opts.Run
}

// Paid returns what the book's run has paid on the partition over all its attempts, and what is in doubt. Of the epoch in
// work, calls in flight are in doubt and the rest of its reservation is not.
func (b *Book) Paid() Spending {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.prior.Add(Spending{Spent: b.spent, InDoubt: b.doubtful.Add(b.handedOver())})
	s.InDoubt = s.InDoubt.Add(b.admitted.Minus(b.settled))
	return s
}

// Scattered returns how many objects the partition's entries are spread over.
func (b *Book) Scattered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.view.standing)
}

// Claim makes the book the only holder of the partition, and of its rows on shelves of other bits. Whoever of its own run held it
// before is fenced: it notices at its next flush. A holder of another run that is alive is not disturbed, nor one whose batches
// are at the endpoint; Claim then returns a *HeldError, and only Close may follow.
func (b *Book) Claim(ctx context.Context, d Demand) error {
	for range claimTries {
		if err := b.fencedErr(); err != nil {
			return err
		}
		if held := b.heldByOther(); held != nil {
			return held
		}
		err := b.claim(ctx, d)
		if errors.Is(err, blob.ErrExists) {
			if _, err = b.view.refresh(ctx, b.st); err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("claim %s: %w", b.st.URI(b.shelf.dir()), err)
		}
		return nil
	}
	return fmt.Errorf("claim %s: %w", b.st.URI(b.shelf.dir()), ErrFenced)
}

func (b *Book) heldByOther() *HeldError {
	if held := b.view.heldFrom(b.opts.Run); held != nil {
		return held
	}
	return b.others.heldFrom(b.opts.Run)
}

// heldFrom says which other run than the given one has the shelf in work. A run with batches of its own there harvests them
// whatever others handed over.
func (v *view) heldFrom(run string) *HeldError {
	after := askAgain + time.Duration(mathrand.Int64N(int64(askAgain/2))) // two who met do not meet again
	last, ok := v.epochs[v.epoch]
	if ok && !last.Closed && last.Run != run && time.Since(v.active) < aliveFor {
		return &HeldError{Run: last.Run, After: after}
	}
	if len(v.handed(run).Open) > 0 {
		return nil
	}
	for _, b := range v.handed("").Open {
		if time.Since(b.At) < awaited {
			return &HeldError{Run: b.Run, Batch: b.At, After: 4 * after}
		}
	}
	return nil
}

// claim takes the next epoch and reads what its predecessor wrote in the meantime. Then it looks at shelves of other bits: of two
// who claim overlapping ones at a time, at least one finds the other's lease, and lets go.
func (b *Book) claim(ctx context.Context, d Demand) error {
	b.begin(d)
	state := epochState{Epoch: b.view.epoch + 1, Run: b.opts.Run, Owner: b.opts.Owner, At: time.Now().UTC()}
	state.Reserved = b.reserve()
	o := object{kind: kindLease, epoch: state.Epoch}
	body, err := encode(b.header(state), nil)
	if err != nil {
		return err
	}
	if err := b.putOwn(ctx, b.shelf.key(o), body); err != nil {
		return err
	}
	b.view.seen[o] = true
	b.mu.Lock()
	b.claimed, b.state = true, state // from now on Close writes a closing record
	b.mu.Unlock()
	fresh, err := b.view.refresh(ctx, b.st)
	if err != nil {
		return err
	}
	foreign, err := b.others.look(ctx, b.st, b.shelf)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.learn(fresh)
	b.learn(foreign)
	b.recount()
	b.mu.Unlock()
	if held := b.heldByOther(); held != nil {
		return held
	}
	b.mu.Lock()
	b.limit = state.Reserved
	b.mu.Unlock()
	b.startFlushing()
	return nil
}

func (b *Book) header(states ...epochState) header {
	return header{Scope: b.shelf.scope, Bits: b.shelf.bits, Part: b.shelf.part, Epochs: states}
}

// putOwn puts an object under a name that is ours alone. An equal one that stands is ours from a try whose reply was lost.
func (b *Book) putOwn(ctx context.Context, key string, body []byte) error {
	err := b.st.PutIfAbsent(ctx, key, body)
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	standing, getErr := b.st.Get(ctx, key)
	if getErr != nil {
		return getErr
	}
	if string(standing) == string(body) {
		return nil
	}
	return err
}

func (b *Book) fence(where string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fenceLocked(where)
}

func (b *Book) fenceLocked(where string) {
	if b.fenced == nil {
		b.fenced = fmt.Errorf("%w: %s", ErrFenced, where)
		b.wake()
	}
}

func (b *Book) fencedErr() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fenced
}

// wake lets all who wait look again. The caller holds the lock.
func (b *Book) wake() {
	if b.waiting > 0 {
		close(b.changed)
		b.changed = make(chan struct{})
		b.waiting = 0
	}
}

// await waits for the next wake. The caller holds the lock, which is given up meanwhile.
func (b *Book) await(ctx context.Context) error {
	ch := b.changed
	b.waiting++
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
