package ledger

import (
	"context"
	"path"
	"strconv"

	"github.com/selfalign/selfalign/internal/blob"
)

// fewShelves is up to how many shelves are looked at without asking first which exist.
const fewShelves = 8

// overlapping reads the entries of a partition's rows that lie on shelves of other bits: the dataset had another number of
// partitions when they were asked.
func overlapping(ctx context.Context, st *blob.Store, own shelf) ([]*Entry, error) {
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
			v := newView(s)
			v.foreign = true
			entries, err := v.refresh(ctx, st)
			if err != nil {
				return nil, err
			}
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
