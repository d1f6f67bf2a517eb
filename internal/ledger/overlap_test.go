package ledger

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

func held(t *testing.T, err error, run string) *HeldError {
	t.Helper()
	var h *HeldError
	if !errors.As(err, &h) || h.Run != run || h.After <= 0 {
		t.Fatalf("not held by %s: %v", run, err)
	}
	return h
}

// Rows that another run has in work in partitions of another size are waited for, and taken over when it is done or dead.
func TestAnotherRunAtOtherBitsIsNotDisturbed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ first, second, beside shelf }{
		"coarser first": {shelf{"", 1, 0}, shelf{"", 3, 2}, shelf{"", 3, 5}},
		"finer first":   {shelf{"", 3, 2}, shelf{"", 1, 0}, shelf{"", 1, 1}},
		"much finer":    {shelf{"", 6, 3}, shelf{"", 0, 0}, shelf{"", 6, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := s3test.Store(t)
			a, z := newProcess(t, st, "a"), newProcess(t, st, "z")
			b := a.open(c.first.bits, c.first.part)
			if err := b.Claim(t.Context(), demand(5)); err != nil {
				t.Fatal(err)
			}
			late := z.open(c.second.bits, c.second.part)
			held(t, late.Claim(t.Context(), demand(5)), "a")
			closeBook(t, late)
			free := z.open(c.beside.bits, c.beside.part)
			if err := free.Claim(t.Context(), demand(5)); err != nil {
				t.Fatalf("rows that nobody has in work: %v", err)
			}
			closeBook(t, free)
			answer(t, b, 0)
			closeBook(t, b)
			late = z.open(c.second.bits, c.second.part)
			if err := late.Claim(t.Context(), demand(5)); err != nil {
				t.Fatal(err)
			}
			closeBook(t, late)
		})
	}
}

// Of runs that claim the same rows at the same time, at other bits, never two may ask.
func TestCrossingClaimsAtOtherBits(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	var holders, claims atomic.Int64
	var wg sync.WaitGroup
	deadline := time.Now().Add(20 * time.Second)
	for bits := range 4 { // partition 0 of each holds partition 0 of the next
		wg.Go(func() {
			p := newProcess(t, st, fmt.Sprintf("run %d", bits))
			for claims.Load() < 40 && time.Now().Before(deadline) {
				b, err := Open(t.Context(), st, scope, bits, 0, p.o)
				if err != nil {
					t.Error(err)
					return
				}
				var h *HeldError
				switch err := b.Claim(t.Context(), demand(1)); {
				case err == nil:
					claims.Add(1)
					if n := holders.Add(1); n > 1 {
						t.Errorf("%d may ask at once", n)
					}
					time.Sleep(5 * time.Millisecond)
					holders.Add(-1)
				case !errors.As(err, &h):
					t.Error(err)
				}
				if err := b.Close(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(bits+1) * 3 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	t.Logf("%d claims", claims.Load())
	if claims.Load() == 0 {
		t.Error("nobody gets hold of it")
	}
}

// Questions that another run handed over in a batch are waited for, on whichever shelf they lie, until the batch is settled.
func TestBatchesOfAnotherRunAreWaitedFor(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{0, 2} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			t.Parallel()
			st := s3test.Store(t)
			a, z := newProcess(t, st, "a"), newProcess(t, st, "z")
			b := a.claim(5)
			batch, err := b.Hand(t.Context(), []Key{key(1)}, oneCall, oneCall)
			if err != nil {
				t.Fatal(err)
			}
			closeBook(t, b)
			late := z.open(bits, 0)
			if h := held(t, late.Claim(t.Context(), demand(5)), "a"); h.Batch.IsZero() {
				t.Errorf("%+v", h)
			}
			closeBook(t, late)
			b = a.claim(5)
			if err := b.Settle(t.Context(), batch.Seq, Settlement{Outcome: BatchRefused, InDoubt: dataset.Usage{}}); err != nil {
				t.Fatal(err)
			}
			closeBook(t, b)
			late = z.open(bits, 0)
			if err := late.Claim(t.Context(), demand(5)); err != nil {
				t.Fatal(err)
			}
			closeBook(t, late)
		})
	}
}
