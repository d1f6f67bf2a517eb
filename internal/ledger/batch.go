package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Questions that travel together through an endpoint's Batch API are paid for hours after they were handed over, by whoever
// is alive then. So their money is not part of an epoch's reservation. Three small JSON objects on the shelf, each written
// once, say how far a batch has come:
//
//	batch/<seq>-asked.json   before anything is sent: the questions and their worst cost, which is in doubt from now on
//	batch/<seq>-sent.json    the endpoint's name for the batch
//	batch/<seq>-done.json    its answers are entries, or it will never bring any; what stays in doubt

const batchFolder = "batch/"

// Batch is a set of questions that is handed to the endpoint as a whole.
type Batch struct {
	Seq       int64
	Key       string // our name for it at the endpoint: 32 hexadecimal characters, another one for every batch
	Run       string // who pays
	Questions []Key
	Worst     dataset.Usage // of all questions
	Most      dataset.Usage // of the dearest question
	At        time.Time
	ID        string // the endpoint's name for it; "": not known to have been taken
}

// What may have become of a batch.
const (
	BatchHarvested = "harvested" // what was answered is in the ledger
	BatchRefused   = "refused"   // the endpoint did not take it: nothing was asked
)

// Settlement is the end of a batch.
type Settlement struct {
	Key      string        `json:"key"`
	Run      string        `json:"run"`
	Outcome  string        `json:"outcome"`
	Answered int64         `json:"answered"`         // questions that are settled by it
	InDoubt  dataset.Usage `json:"in_doubt"`         // may have been billed without an entry; stays in doubt
	Reason   string        `json:"reason,omitempty"` // for people
	At       time.Time     `json:"at"`
}

// Batches is what a run has handed over on a partition.
type Batches struct {
	Open      []Batch   // in order of Seq
	Harvested int64     // batches that brought answers
	Fruitless int       // batches at the end that brought none
	Last      time.Time // end of the last one
}

// wireBatch is an asked object. The questions' keys are joined.
type wireBatch struct {
	Format    int           `json:"selfalign_batch"`
	Key       string        `json:"key"`
	Run       string        `json:"run"`
	Questions string        `json:"questions"`
	Worst     dataset.Usage `json:"worst"`
	Most      dataset.Usage `json:"most"`
	At        time.Time     `json:"at"`
}

type wireSent struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

const keyLength = 32

func (w wireBatch) batch(seq int64) (*Batch, error) {
	if w.Format != format || w.Key == "" || len(w.Questions)%keyLength != 0 {
		return nil, fmt.Errorf("%w: not a batch", ErrCorrupt)
	}
	b := &Batch{Seq: seq, Key: w.Key, Run: w.Run, Worst: w.Worst, Most: w.Most, At: w.At}
	for i := 0; i < len(w.Questions); i += keyLength {
		b.Questions = append(b.Questions, Key(w.Questions[i:i+keyLength]))
	}
	return b, nil
}

func (s shelf) batchKey(seq int64, what string) string {
	return fmt.Sprintf("%s%s%06d-%s.json", s.dir(), batchFolder, seq, what)
}

// Handed returns what a run has handed over on a partition. It claims nothing.
func Handed(ctx context.Context, st *blob.Store, scope string, bits, part int, run string) (Batches, error) {
	v := newView(shelf{scope, bits, part})
	if err := v.readBatches(ctx, st); err != nil {
		return Batches{}, err
	}
	return v.handed(run), nil
}

// Batches returns what the book's run has handed over on the partition, as of Open or Claim and with what the book did since.
func (b *Book) Batches() Batches {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view.handed(b.opts.Run)
}

// Fits reports whether u can be spent under the cap.
func (b *Book) Fits(u dataset.Usage) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.demand.Cap.room(b.used(), u, 1) == 1
}

// Hand notes that questions are about to be handed over, and returns when that is durable: from then on their worst cost is
// in doubt until Settle. Nothing may be sent before. Errors: ErrBudget when they could cross the cap; ErrFenced;
// ErrClosed; the store's.
func (b *Book) Hand(ctx context.Context, questions []Key, worst, most dataset.Usage) (Batch, error) {
	b.mu.Lock()
	err := b.mayHand(worst)
	batch := &Batch{Run: b.opts.Run, Questions: questions, Worst: worst, Most: most, At: time.Now().UTC(), Seq: 1}
	for seq := range b.view.batches {
		batch.Seq = max(batch.Seq, seq+1)
	}
	b.mu.Unlock()
	if err != nil {
		return Batch{}, err
	}
	var joined strings.Builder
	joined.Grow(keyLength * len(questions))
	for _, q := range questions {
		if len(q) != keyLength {
			return Batch{}, fmt.Errorf("hand over: %q is not a key", q)
		}
		joined.WriteString(string(q))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "selfalign batch 1\n%s%d\n%q\n%s", b.shelf.dir(), batch.Seq, batch.Run, joined.String()))
	batch.Key = hex.EncodeToString(sum[:16])
	w := wireBatch{format, batch.Key, batch.Run, joined.String(), worst, most, batch.At}
	err = b.putBatch(ctx, batch.Seq, "asked", w)
	if errors.Is(err, blob.ErrExists) {
		return Batch{}, fmt.Errorf("%w: it handed batch %d over", ErrFenced, batch.Seq)
	}
	if err != nil {
		return Batch{}, err
	}
	b.mu.Lock()
	b.view.batches[batch.Seq] = &batchRecord{asked: batch}
	b.open[batch.Seq] = worst
	b.mu.Unlock()
	return *batch, b.StillOurs(ctx)
}

func (b *Book) mayHand(worst dataset.Usage) error {
	switch {
	case b.fenced != nil:
		return b.fenced
	case !b.claimed || b.closing:
		return ErrClosed
	case b.demand.Cap.room(b.used(), worst, 1) < 1:
		return ErrBudget
	}
	return nil
}

// StillOurs returns ErrFenced when another attempt has claimed the partition, as of now. It is asked before something is
// sent that cannot be taken back.
func (b *Book) StillOurs(ctx context.Context) error {
	b.mu.Lock()
	fenced, epoch := b.fenced, b.state.Epoch
	b.mu.Unlock()
	if fenced != nil {
		return fenced
	}
	next := b.shelf.key(object{kind: kindLease, epoch: epoch + 1})
	_, err := b.st.Stat(ctx, next)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for another attempt: %w", err)
	}
	b.fence(b.st.URI(next))
	return b.fencedErr()
}

// Sent notes the endpoint's name for a batch.
func (b *Book) Sent(ctx context.Context, seq int64, id string) error {
	err := b.putBatch(ctx, seq, "sent", wireSent{id, time.Now().UTC()})
	if err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.view.batches[seq]; r != nil && r.asked != nil && err == nil {
		asked := *r.asked
		asked.ID = id
		r.asked = &asked
	}
	return nil
}

// Adopt records what became of a question of an open batch. worst is what was counted for it. An entry of the same batch and
// question that is there already is not paid for twice: nothing happens. It waits while too much is unflushed.
func (b *Book) Adopt(ctx context.Context, batch Batch, e Entry, worst dataset.Usage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.fenced == nil && b.unflushedBytes > 2*flushBytes {
		if err := b.await(ctx); err != nil {
			return err
		}
	}
	switch {
	case b.fenced != nil:
		return b.fenced
	case !b.claimed || b.closing:
		return ErrClosed
	}
	e.Batch = batch.Key
	if item := (batchItem{e.Batch, e.Key}); b.view.adopted[item] {
		return nil
	} else if e.Billed() || e.Status != StatusFailed {
		b.view.adopted[item] = true
	}
	if left, ok := b.open[batch.Seq]; ok {
		b.open[batch.Seq] = left.Minus(least(left, worst))
	}
	b.note(e)
	return nil
}

// batchItem names one payment that a batch can cause.
type batchItem struct {
	batch string
	key   Key
}

// Settle ends a batch, when all that was adopted of it is durable.
func (b *Book) Settle(ctx context.Context, seq int64, s Settlement) error {
	if err := b.Flush(ctx); err != nil {
		return err
	}
	if err := b.StillOurs(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	r := b.view.batches[seq]
	b.mu.Unlock()
	if r == nil || r.asked == nil {
		return fmt.Errorf("settle batch %d: there is none", seq)
	}
	s.Key, s.Run, s.At = r.asked.Key, r.asked.Run, cmp.Or(s.At, time.Now()).UTC()
	if err := b.putBatch(ctx, seq, "done", s); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r.done = &s
	delete(b.open, seq)
	if s.Run == b.opts.Run {
		b.prior.InDoubt = b.prior.InDoubt.Add(s.InDoubt)
	}
	return nil
}

func (b *Book) putBatch(ctx context.Context, seq int64, what string, v any) error {
	body, err := json.Marshal(v)
	if err == nil {
		err = b.putOwn(ctx, b.shelf.batchKey(seq, what), body)
	}
	if err != nil {
		return fmt.Errorf("note batch %d as %s: %w", seq, what, err)
	}
	return nil
}

// recount sets what the run paid in earlier epochs and what it has handed over, from the view. The caller holds the lock or
// is alone.
func (b *Book) recount() {
	b.prior = b.view.paid(b.opts.Run)
	b.open = map[int64]dataset.Usage{}
	for _, batch := range b.view.handed(b.opts.Run).Open {
		b.open[batch.Seq] = batch.Worst
	}
}

// handedOver is the worst cost of open batches that is not settled.
func (b *Book) handedOver() (u dataset.Usage) {
	for _, left := range b.open {
		u = u.Add(left)
	}
	return u
}

// BatchObject returns the key of the object that says that a batch was handed over.
func BatchObject(scope string, bits, part int, seq int64) string {
	return shelf{scope, bits, part}.batchKey(seq, "asked")
}
