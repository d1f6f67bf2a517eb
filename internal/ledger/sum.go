package ledger

import (
	"context"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

// Totals are the sums over a scope.
type Totals struct {
	Spending
	Runs    map[string]Spending `json:"runs,omitempty"`
	Entries int64               `json:"entries"` // payments and failures
	Objects int64               `json:"objects"`
	Bytes   int64               `json:"bytes"` // of the objects, compressed
}

const shelvesAtOnce = 4

// Sum adds up what a scope cost, partition by partition; memory grows with the largest partition and the number of objects.
// It claims nothing and may run beside writers.
func Sum(ctx context.Context, st *blob.Store, scope string) (Totals, error) {
	t := Totals{Runs: map[string]Spending{}}
	shelves := map[shelf][]listed{}
	err := st.List(ctx, scopeDir(scope), func(i blob.Info) error {
		s, ok := parseShelf(scope, i.Key)
		if !ok {
			return nil
		}
		if o, ok := s.parse(i.Key); ok {
			shelves[s] = append(shelves[s], listed{o, i.Modified})
			t.Objects++
			t.Bytes += i.Size
		}
		return nil
	})
	if err != nil {
		return Totals{}, err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(shelvesAtOnce)
	for s, objects := range shelves {
		group.Go(func() error {
			v := newView(s)
			if _, err := v.refreshFrom(ctx, st, objects); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			t.Entries += int64(len(v.entries))
			t.Spending = t.Spending.Add(v.spending(""))
			for _, run := range v.runs() {
				t.Runs[run] = t.Runs[run].Add(v.spending(run))
			}
			return nil
		})
	}
	return t, group.Wait()
}

// runs names the runs that claimed the shelf.
func (v *view) runs() []string {
	names := map[string]bool{}
	for _, s := range v.epochs {
		if s.Run != "" {
			names[s.Run] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Paid returns what a run paid on one partition; run "" is every run. It claims nothing.
func Paid(ctx context.Context, st *blob.Store, scope string, bits, part int, run string) (Spending, error) {
	v := newView(shelf{scope, bits, part})
	if _, err := v.refresh(ctx, st); err != nil {
		return Spending{}, err
	}
	return v.spending(run), nil
}
