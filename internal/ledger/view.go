package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	readAtOnce = 16 // objects of one shelf that are fetched at once
	readTries  = 8  // readings of a shelf that changes while it is read
)

// errMoved says that a shelf changed while it was read: somebody compacted it.
var errMoved = errors.New("the shelf changed while it was read")

// view is what one reading of a shelf found. A view can be brought up to date.
type view struct {
	shelf    shelf
	epochs   map[int64]epochState
	entries  []*Entry        // every payment once, in order of epoch and number
	seen     map[object]bool // objects that were read
	standing []object        // objects of the last listing but leases
	epoch    int64           // the highest that was ever claimed
	active   time.Time       // when the holder of epoch last wrote
	batches  map[int64]*batchRecord
	adopted  map[batchItem]bool // payments of batches that are among entries
}

func newView(s shelf) *view {
	return &view{shelf: s, epochs: map[int64]epochState{}, seen: map[object]bool{}, batches: map[int64]*batchRecord{}, adopted: map[batchItem]bool{}}
}

// listed is an object of a shelf with the time it was written.
type listed struct {
	object
	at time.Time
}

func listShelf(ctx context.Context, st *blob.Store, s shelf) ([]listed, error) {
	var objects []listed
	err := st.List(ctx, s.dir(), func(i blob.Info) error {
		if o, ok := s.parse(i.Key); ok {
			objects = append(objects, listed{o, i.Modified})
		}
		return nil
	})
	return objects, err
}

// refresh reads what was added to the shelf since the view was last brought up to date. It returns the entries that are new.
func (v *view) refresh(ctx context.Context, st *blob.Store) ([]*Entry, error) {
	return v.refreshFrom(ctx, st, nil)
}

// refreshFrom is refresh with a listing that may be stale; nil: none.
func (v *view) refreshFrom(ctx context.Context, st *blob.Store, objects []listed) ([]*Entry, error) {
	var fresh []*Entry
	var err error
	for try := range readTries {
		if objects == nil {
			if objects, err = listShelf(ctx, st, v.shelf); err != nil {
				return nil, err
			}
		}
		var more []*Entry
		more, err = v.read(ctx, st, objects)
		fresh = append(fresh, more...)
		if !errors.Is(err, errMoved) && !errors.Is(err, blob.ErrNotFound) {
			break
		}
		objects = nil
		if try > 0 {
			if err := sleep(ctx, time.Duration(try)*50*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	if err == nil {
		err = v.readBatches(ctx, st)
	}
	if err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", st.URI(v.shelf.dir()), err)
	}
	return fresh, nil
}

type piece struct {
	header  header
	entries []*Entry
}

// read fetches the listed objects that were not seen, in parallel, and merges them.
func (v *view) read(ctx context.Context, st *blob.Store, objects []listed) ([]*Entry, error) {
	var unseen, standing []object
	epoch, active := v.epoch, v.active
	for _, o := range objects {
		if o.epoch > epoch {
			epoch, active = o.epoch, time.Time{}
		}
		if o.epoch == epoch && o.at.After(active) {
			active = o.at
		}
		if o.kind != kindLease {
			standing = append(standing, o.object)
		}
		if !v.seen[o.object] {
			unseen = append(unseen, o.object)
		}
	}
	pieces := make([]piece, len(unseen))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readAtOnce)
	for i, o := range unseen {
		group.Go(func() error {
			key := v.shelf.key(o)
			body, err := st.Get(ctx, key)
			if err != nil {
				return err
			}
			h, entries, err := decode(body)
			if err == nil {
				err = v.shelf.check(h)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", st.URI(key), err)
			}
			pieces[i] = piece{h, entries}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	folded := map[int64]int64{}
	for e, s := range v.epochs {
		folded[e] = s.Seq
	}
	for i, o := range unseen {
		if o.whole() {
			for _, s := range pieces[i].header.Epochs {
				folded[s.Epoch] = max(folded[s.Epoch], s.Seq)
			}
		}
	}
	if err := v.contiguous(unseen, folded); err != nil {
		return nil, err
	}
	v.epoch, v.active, v.standing = epoch, active, standing
	for _, o := range unseen {
		v.seen[o] = true
	}
	return v.merge(pieces), nil
}

// check refuses an object that lies on a wrong shelf.
func (s shelf) check(h header) error {
	if h.Scope != s.scope || h.Bits != s.bits || h.Part != s.part {
		return fmt.Errorf("%w: belongs to %s/%02d/%05d", ErrCorrupt, h.Scope, h.Bits, h.Part)
	}
	return nil
}

// contiguous checks that no flush object is missing: flushes are written in order, so a gap is a loss.
func (v *view) contiguous(unseen []object, folded map[int64]int64) error {
	flushes := map[int64][]int64{}
	for _, o := range unseen {
		if o.kind == kindWAL && o.seq > folded[o.epoch] {
			flushes[o.epoch] = append(flushes[o.epoch], o.seq)
		}
	}
	for epoch, seqs := range flushes {
		slices.Sort(seqs)
		for i, seq := range seqs {
			if want := folded[epoch] + int64(i) + 1; seq != want {
				return fmt.Errorf("%w: %s is missing (%w)", ErrCorrupt, v.shelf.key(object{kindWAL, epoch, want}), errMoved)
			}
		}
	}
	return nil
}

// merge adds pieces to the view. An entry that is in several objects is taken once.
func (v *view) merge(pieces []piece) []*Entry {
	type payment struct{ epoch, n int64 }
	have := make(map[payment]bool, len(v.entries))
	for _, e := range v.entries {
		have[payment{e.Epoch, e.N}] = true
	}
	var fresh []*Entry
	for _, p := range pieces {
		for _, s := range p.header.Epochs {
			if old, ok := v.epochs[s.Epoch]; !ok || s.Seq > old.Seq {
				v.epochs[s.Epoch] = s
			}
		}
		for _, e := range p.entries {
			if id := (payment{e.Epoch, e.N}); !have[id] {
				have[id] = true
				fresh = append(fresh, e)
			}
		}
	}
	slices.SortFunc(fresh, inOrder)
	fresh = v.once(fresh)
	v.entries = append(v.entries, fresh...)
	slices.SortStableFunc(v.entries, inOrder)
	return fresh
}

// once takes out payments of batches that are there already: two attempts that did not know of each other harvested them.
func (v *view) once(fresh []*Entry) []*Entry {
	return slices.DeleteFunc(fresh, func(e *Entry) bool {
		if e.Batch == "" || !e.Billed() && e.Status == StatusFailed {
			return false
		}
		item := batchItem{e.Batch, e.Key}
		if v.adopted[item] {
			return true
		}
		v.adopted[item] = true
		return false
	})
}

func inOrder(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.N, b.N))
}

// spending sums what a run paid on the shelf, with open batches in doubt; "" is every run.
func (v *view) spending(run string) Spending {
	s := v.paid(run)
	for _, b := range v.handed(run).Open {
		s.InDoubt = s.InDoubt.Add(b.Worst)
	}
	return s
}

// paid is spending without open batches.
func (v *view) paid(run string) Spending {
	var s Spending
	for _, e := range v.entries {
		if run == "" || v.epochs[e.Epoch].Run == run {
			s.Spent = s.Spent.Add(e.Usage())
		}
	}
	for _, state := range v.epochs {
		if run == "" || state.Run == run {
			s.InDoubt = s.InDoubt.Add(state.inDoubt())
		}
	}
	s.InDoubt = s.InDoubt.Add(v.leftInDoubt(run))
	return s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
