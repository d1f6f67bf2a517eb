package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// batchRecord is what a shelf says about one batch. Of one that is done the questions are not read.
type batchRecord struct {
	asked *Batch
	done  *Settlement
}

// readBatches brings the view's batches up to date.
func (v *view) readBatches(ctx context.Context, st *blob.Store) error {
	found := map[int64]map[string]bool{}
	err := st.List(ctx, v.shelf.dir()+batchFolder, func(i blob.Info) error {
		name, _ := strings.CutPrefix(i.Key, v.shelf.dir()+batchFolder)
		name, ok := strings.CutSuffix(name, ".json")
		number, what, _ := strings.Cut(name, "-")
		seq, err := strconv.ParseInt(number, 10, 63)
		if !ok || err != nil || seq < 1 || v.shelf.batchKey(seq, what) != i.Key {
			return nil //nolint:nilerr // a foreign object
		}
		if found[seq] == nil {
			found[seq] = map[string]bool{}
		}
		found[seq][what] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("list batches: %w", err)
	}
	for seq, has := range found {
		if err := v.readBatch(ctx, st, seq, has); err != nil {
			return fmt.Errorf("read batch %s: %w", st.URI(v.shelf.batchKey(seq, "asked")), err)
		}
	}
	return nil
}

func (v *view) readBatch(ctx context.Context, st *blob.Store, seq int64, has map[string]bool) error {
	get := func(what string, into any) error {
		body, err := st.Get(ctx, v.shelf.batchKey(seq, what))
		if err == nil {
			if err = json.Unmarshal(body, into); err != nil {
				err = fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
		}
		return err
	}
	r := v.batches[seq]
	if r == nil {
		r = &batchRecord{}
		v.batches[seq] = r
	}
	switch {
	case r.done != nil:
		return nil
	case has["done"]:
		var s Settlement
		if err := get("done", &s); err != nil {
			return err
		}
		r.done = &s
		return nil
	}
	if r.asked == nil {
		var w wireBatch
		if err := get("asked", &w); err != nil {
			return err
		}
		var err error
		if r.asked, err = w.batch(seq); err != nil {
			return err
		}
	}
	if r.asked.ID == "" && has["sent"] {
		var w wireSent
		if err := get("sent", &w); err != nil {
			return err
		}
		r.asked.ID = w.ID
	}
	return nil
}

// handed sums up what a run has handed over.
func (v *view) handed(run string) Batches {
	var out Batches
	for _, seq := range slices.Sorted(maps.Keys(v.batches)) {
		r := v.batches[seq]
		switch {
		case r.done != nil:
			if run != "" && r.done.Run != run {
				continue
			}
			out.Fruitless++
			if r.done.Answered > 0 {
				out.Harvested++
				out.Fruitless = 0
			}
			out.Last = r.done.At
		case r.asked != nil && (run == "" || r.asked.Run == run):
			out.Open = append(out.Open, *r.asked)
		}
	}
	return out
}

// leftInDoubt sums what batches of a run that are done left in doubt.
func (v *view) leftInDoubt(run string) (u dataset.Usage) {
	for _, r := range v.batches {
		if r.done != nil && (run == "" || r.done.Run == run) {
			u = u.Add(r.done.InDoubt)
		}
	}
	return u
}

// OpenShelves returns, in order, the partitions of a scope in which a run has handed over batches that are not settled.
func OpenShelves(ctx context.Context, st *blob.Store, scope string, bits int, run string) ([]int, error) {
	balance := map[int]int{} // asked less done
	err := st.List(ctx, fmt.Sprintf("%s%02d/", scopeDir(scope), bits), func(i blob.Info) error {
		s, ok := parseShelf(scope, i.Key)
		if !ok || s.bits != bits || !strings.HasPrefix(i.Key, s.dir()+batchFolder) {
			return nil
		}
		switch {
		case strings.HasSuffix(i.Key, "-asked.json"):
			balance[s.part]++
		case strings.HasSuffix(i.Key, "-done.json"):
			balance[s.part]--
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	var out []int
	for _, part := range slices.Sorted(maps.Keys(balance)) {
		if balance[part] == 0 {
			continue
		}
		b, err := Handed(ctx, st, scope, bits, part, run)
		if err != nil {
			return nil, err
		}
		if len(b.Open) > 0 {
			out = append(out, part)
		}
	}
	return out, nil
}
