package ledger

import (
	"context"
	"path"
	"strconv"

	"github.com/selfalign/selfalign/internal/blob"
)

// fewShelves is up to how many shelves are looked at without asking first which exist.
const fewShelves = 8

// neighbours are the shelves of other bits that hold rows of a partition, as of the last look: the dataset has, or had, another
// number of partitions for another run.
type neighbours map[shelf]*view

// look brings them up to date and returns entries of the partition's rows that were not returned before.
func (n neighbours) look(ctx context.Context, st *blob.Store, own shelf) ([]*Entry, error) {
	folders, err := st.Prefixes(ctx, scopeDir(own.scope))
	if err != nil {
		return nil, err
	}
	var found []*Entry
	for _, folder := range folders {
		bits, err := strconv.Atoi(path.Base(folder))
		if err != nil || bits == own.bits || bits < 0 || bits > 32 {
			continue
		}
		shelves, err := shelvesUnder(ctx, st, own, bits)
		if err != nil {
			return nil, err
		}
		for _, s := range shelves {
			if n[s] == nil {
				n[s] = newView(s)
			}
			entries, err := n[s].refresh(ctx, st)
			if err != nil {
				return nil, err
			}
			n[s].entries = nil // most are not ours
			for _, e := range entries {
				if p, err := partOf(e.Row, own.bits); err == nil && p == own.part {
					e.foreign = true
					found = append(found, e)
				}
			}
		}
	}
	return found, nil
}

// heldFrom says which of them another run than the given one has in work.
func (n neighbours) heldFrom(run string) *HeldError {
	for _, v := range n {
		if held := v.heldFrom(run); held != nil {
			return held
		}
	}
	return nil
}

// shelvesUnder returns the shelves of 2^bits that hold rows of own.
func shelvesUnder(ctx context.Context, st *blob.Store, own shelf, bits int) ([]shelf, error) {
	if bits < own.bits {
		return []shelf{{own.scope, bits, own.part >> (own.bits - bits)}}, nil
	}
	finer := bits - own.bits
	from, to := own.part<<finer, (own.part+1)<<finer
	var shelves []shelf
	if to-from <= fewShelves {
		for p := from; p < to; p++ {
			shelves = append(shelves, shelf{own.scope, bits, p})
		}
		return shelves, nil
	}
	folders, err := st.Prefixes(ctx, path.Dir(path.Clean(shelf{own.scope, bits, 0}.dir())))
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if p, err := strconv.Atoi(path.Base(folder)); err == nil && p >= from && p < to {
			shelves = append(shelves, shelf{own.scope, bits, p})
		}
	}
	return shelves, nil
}
