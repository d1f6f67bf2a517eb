package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

const scope = "0123456789abcdef"

var oneCall = dataset.Usage{Calls: 1, PromptTokens: 10, CompletionTokens: 20, MicroUSD: 100}

func demand(expect int64) Demand {
	return Demand{Window: 4, Expect: expect, Each: oneCall, Cap: Uncapped}
}

// process stands for one process: books of different ones do not see each other but through the store.
type process struct {
	t  *testing.T
	st *blob.Store
	o  Options
}

func newProcess(t *testing.T, st *blob.Store, run string) *process {
	return &process{t, st, Options{Run: run, FlushEvery: 20 * time.Millisecond, flights: &flights{open: map[string]*flight{}}}}
}

func (p *process) open(bits, part int) *Book {
	p.t.Helper()
	b, err := Open(p.t.Context(), p.st, scope, bits, part, p.o)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *process) claim(expect int64) *Book {
	p.t.Helper()
	b := p.open(0, 0)
	if err := b.Claim(p.t.Context(), demand(expect)); err != nil {
		p.t.Fatal(err)
	}
	return b
}

// kill drops a book as a dying process does.
func kill(b *Book) {
	b.stopFlushing()
	b.release()
}

func row(i int) string { return fmt.Sprintf("%08x%024x", i*0x01010101, i) }
func key(i int) Key    { return Key(fmt.Sprintf("%032x", i)) }

func answer(t *testing.T, b *Book, i int) {
	t.Helper()
	if err := b.Admit(t.Context(), oneCall); err != nil {
		t.Fatal(err)
	}
	b.Record(entry(i), oneCall, dataset.Usage{})
}

func entry(i int) Entry {
	return Entry{
		Key: key(i), Row: row(i), Sample: 1, Attempt: 1, Status: StatusAnswered, Text: fmt.Sprintf("answer %d", i),
		PromptTokens: 5, CompletionTokens: 7, MicroUSD: 30, CostKnown: true,
	}
}

func closeBook(t *testing.T, b *Book) {
	t.Helper()
	if err := b.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func objects(t *testing.T, st *blob.Store) (names []string) {
	t.Helper()
	if err := st.List(t.Context(), root, func(i blob.Info) error { names = append(names, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return names
}

func sum(t *testing.T, st *blob.Store) Totals {
	t.Helper()
	total, err := Sum(t.Context(), st, scope)
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func TestAnswersAreFoundAgain(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for _, compact := range []bool{false, true, true} {
		b := newProcess(t, st, "run").claim(100)
		for i := range 50 {
			answer(t, b, i)
			if i%20 == 0 {
				if err := b.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if compact {
			if err := b.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		closeBook(t, b)
		again := newProcess(t, st, "other").open(0, 0)
		for i := range 50 {
			e, ok := again.Find(key(i))
			if !ok || e.Text != fmt.Sprintf("answer %d", i) || again.Ours(e) {
				t.Fatalf("entry %d is %+v, %t", i, e, ok)
			}
		}
		if _, ok := again.Find(key(50)); ok {
			t.Fatal("found what was never asked")
		}
		closeBook(t, again)
	}
	total := sum(t, st)
	want := dataset.Usage{Calls: 150, PromptTokens: 750, CompletionTokens: 1050, MicroUSD: 4500}
	if total.Spent != want || total.InDoubt != (dataset.Usage{}) || total.Runs["run"].Spent != want || total.Entries != 150 {
		t.Fatalf("sum is %+v", total)
	}
	if names := objects(t, st); len(names) != 4 { // three leases and a whole
		t.Fatalf("objects are %v", names)
	}
}

func TestReadersWriteNothing(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	closeBook(t, newProcess(t, st, "run").open(3, 5))
	if names := objects(t, st); len(names) != 0 {
		t.Fatalf("objects are %v", names)
	}
}

func TestSmallPartitionsTakeFewObjects(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	p := newProcess(t, st, "run")
	p.o.FlushEvery = time.Hour
	b := p.claim(8)
	for i := range 8 {
		answer(t, b, i)
	}
	if err := b.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeBook(t, b)
	if names := objects(t, st); len(names) != 2 {
		t.Fatalf("objects are %v", names)
	}
}

func TestOtherBitsFindTheirRows(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	for part := range 4 {
		b := newProcess(t, st, "run").open(2, part)
		if err := b.Claim(t.Context(), demand(100)); err != nil {
			t.Fatal(err)
		}
		for i := range 256 {
			if p, err := partOf(row(i), 2); err == nil && p == part {
				answer(t, b, i)
			}
		}
		closeBook(t, b)
	}
	for _, bits := range []int{0, 1, 2, 3, 7} {
		found := 0
		for part := range 1 << bits {
			b := newProcess(t, st, "run").open(bits, part)
			for i := range 256 {
				p, err := partOf(row(i), bits)
				if err != nil {
					t.Fatal(err)
				}
				e, ok := b.Find(key(i))
				if ok != (p == part) {
					t.Fatalf("row %d in partition %d of 2^%d: found is %t", i, part, bits, ok)
				}
				if ok {
					found++
					if b.Ours(e) != (bits == 2) {
						t.Fatalf("row %d at %d bits: ours is %t", i, bits, b.Ours(e))
					}
				}
			}
			closeBook(t, b)
		}
		if found != 256 {
			t.Fatalf("%d rows found at %d bits", found, bits)
		}
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	b := newProcess(t, st, "run").claim(100)
	for i := range 3 {
		answer(t, b, i)
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kill(b)
	s := shelf{scope, 0, 0}
	middle := s.key(object{kindWAL, 1, 2})
	whole, err := st.Get(t.Context(), middle)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(what string) {
		t.Helper()
		_, err := Open(t.Context(), st, scope, 0, 0, newProcess(t, st, "run").o)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "00000001-000002") {
			t.Fatalf("%s: error is %v", what, err)
		}
	}
	if err := st.Put(t.Context(), middle, whole[:len(whole)-3]); err != nil {
		t.Fatal(err)
	}
	fails("torn")
	if err := st.Delete(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	fails("missing")
	first, err := st.Get(t.Context(), s.key(object{kindWAL, 1, 1}))
	if err != nil {
		t.Fatal(err)
	}
	other := shelf{scope, 1, 1}
	if err := st.Put(t.Context(), other.key(object{kindWAL, 1, 1}), first); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), st, scope, 1, 1, newProcess(t, st, "run").o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("misplaced: error is %v", err)
	}
}

func TestSuccessorFencesItsPredecessor(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	first := newProcess(t, st, "run").claim(1000)
	answer(t, first, 1)
	if err := first.Admit(t.Context(), oneCall); err != nil { // in flight when the successor comes
		t.Fatal(err)
	}
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := newProcess(t, st, "run").claim(1000)
	if _, ok := second.Find(key(1)); !ok {
		t.Fatal("the successor does not know what was flushed")
	}
	first.Record(entry(2), oneCall, dataset.Usage{})
	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 3000 && first.fencedErr() == nil; i++ { // it looks for a successor after it has flushed
		time.Sleep(10 * time.Millisecond)
	}
	if err := first.Admit(t.Context(), oneCall); !errors.Is(err, ErrFenced) {
		t.Fatalf("error is %v", err)
	}
	if err := first.Compact(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatalf("error is %v", err)
	}
	closeBook(t, first)
	answer(t, second, 2) // it could not know: the price of a takeover
	if err := second.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	closeBook(t, second)
	total := sum(t, st)
	if total.Spent.Calls != 3 || total.InDoubt != (dataset.Usage{}) {
		t.Fatalf("sum is %+v", total)
	}
}

func TestAnotherRunIsNotDisturbed(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	first := newProcess(t, st, "one").claim(1000)
	b := newProcess(t, st, "two").open(0, 0)
	var held *HeldError
	if err := b.Claim(t.Context(), demand(10)); !errors.As(err, &held) || held.Run != "one" || held.After <= 0 {
		t.Fatalf("error is %v", err)
	}
	closeBook(t, b)
	answer(t, first, 1)
	closeBook(t, first)
	b = newProcess(t, st, "two").open(0, 0)
	if err := b.Claim(t.Context(), demand(10)); err != nil {
		t.Fatal(err)
	}
	if p := b.Paid(); p != (Spending{}) {
		t.Fatalf("paid is %+v", p)
	}
	closeBook(t, b)
}

func TestOneBookAtATimeInAProcess(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	p := newProcess(t, st, "run")
	first := p.claim(1000)
	opened := make(chan *Book)
	go func() {
		b, err := Open(context.Background(), st, scope, 0, 0, p.o)
		if err != nil {
			t.Error(err)
		}
		opened <- b
	}()
	for {
		err := first.Admit(t.Context(), oneCall)
		if errors.Is(err, ErrFenced) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		first.Record(entry(1), oneCall, dataset.Usage{})
	}
	select {
	case <-opened:
		t.Fatal("the second did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	closeBook(t, first)
	second := <-opened
	if _, ok := second.Find(key(1)); !ok {
		t.Fatal("the second does not know what the first asked")
	}
	closeBook(t, second)

	third := p.open(0, 0)
	q := *p
	q.o.Run = "other"
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, st, scope, 0, 0, q.o); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	if err := third.Claim(t.Context(), demand(1)); err != nil {
		t.Fatalf("another run that waits disturbs: %v", err)
	}
	closeBook(t, third)
}

func TestAdmissionWaitsForSlowFlushes(t *testing.T) {
	t.Parallel()
	p := newProcess(t, s3test.Store(t), "run")
	p.o.FlushEvery, p.o.MaxUnflushed = time.Hour, 30*time.Millisecond
	b := p.claim(1000)
	answer(t, b, 1)
	time.Sleep(50 * time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.Admit(ctx, oneCall); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error is %v", err)
	}
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	answer(t, b, 2)
	closeBook(t, b)
}

func TestEntriesAreFlushedInTime(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	b := newProcess(t, st, "run").claim(1000)
	answer(t, b, 1)
	deadline := time.Now().Add(30 * time.Second)
	for sum(t, st).Entries == 0 {
		if time.Now().After(deadline) {
			t.Fatal("not flushed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	closeBook(t, b)
}

func TestBudgetStopsBeforeTheCap(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cap  Cap
		want int64
	}{
		"calls":  {Cap{Calls: 7, Tokens: -1, MicroUSD: -1}, 7},
		"tokens": {Cap{Calls: -1, Tokens: 99, MicroUSD: -1}, 6}, // 12 each, and the last must have room for 30
		"money":  {Cap{Calls: -1, Tokens: -1, MicroUSD: 310}, 8},
		"none":   {Uncapped, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := s3test.Store(t)
			var asked int64
			var mu sync.Mutex
			for range 2 { // the cap holds over all attempts
				b := newProcess(t, st, "run").open(0, 0)
				d := demand(1000)
				d.Cap = c.cap
				if err := b.Claim(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				var workers sync.WaitGroup
				for range 4 {
					workers.Go(func() {
						for {
							mu.Lock()
							enough := asked >= 20
							mu.Unlock()
							if enough {
								return
							}
							err := b.Admit(t.Context(), oneCall)
							if errors.Is(err, ErrBudget) {
								return
							}
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							asked++
							i := int(asked)
							mu.Unlock()
							b.Record(entry(i), oneCall, dataset.Usage{})
						}
					})
				}
				workers.Wait()
				closeBook(t, b)
			}
			if asked < c.want || asked > c.want+3 || (c.want < 20 && asked != c.want) {
				t.Fatalf("%d calls, want %d", asked, c.want)
			}
		})
	}
}
