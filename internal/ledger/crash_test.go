package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// bill is what an endpoint charged.
type bill struct {
	mu sync.Mutex
	dataset.Usage
}

func (b *bill) add(u dataset.Usage) {
	b.mu.Lock()
	b.Usage = b.Usage.Add(u)
	b.mu.Unlock()
}

// within checks ledger ≤ billed ≤ ledger + in doubt.
func (b *bill) within(t *testing.T, total Totals) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !covers(b.Usage, total.Spent) || !covers(total.Spent.Add(total.InDoubt), b.Usage) {
		t.Fatalf("billed %+v\nledger %+v\ndoubt  %+v", b.Usage, total.Spent, total.InDoubt)
	}
}

// attempt asks for what is missing of n questions with some calls in flight, and dies after some time if it is told to.
func attempt(t *testing.T, b *Book, n int, charged *bill, r *rand.Rand, dies bool) {
	ctx, die := context.WithCancel(context.Background())
	defer die()
	if dies {
		time.AfterFunc(time.Duration(r.IntN(60))*time.Millisecond, die)
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		r := rand.New(rand.NewPCG(r.Uint64(), 0))
		workers.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if _, ok := b.Find(key(i)); ok {
					continue
				}
				if err := b.Admit(ctx, oneCall); err != nil {
					if ctx.Err() == nil && !errors.Is(err, ErrFenced) {
						t.Error(err)
					}
					return
				}
				e := entry(i)
				u := e.Usage()
				if r.IntN(10) == 0 { // a try whose reply was lost
					charged.add(u)
					if b.Again(ctx, oneCall) != nil {
						b.Drop(oneCall, oneCall)
						return
					}
				}
				time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond)
				if ctx.Err() != nil && r.IntN(2) == 0 {
					return // died before the request was answered
				}
				charged.add(u)
				if ctx.Err() != nil {
					return // died before the answer was recorded
				}
				b.Record(e, oneCall, dataset.Usage{})
			}
		})
	}
	workers.Wait()
}

func TestNothingIsLostWhoeverDies(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			st := s3test.Store(t)
			const n = 300
			var charged bill
			for try := 0; ; try++ {
				p := newProcess(t, st, fmt.Sprint("run", try%2))
				b := p.open(0, 0)
				b.view.active = time.Time{} // the other run is dead
				if err := b.Claim(t.Context(), demand(n)); err != nil {
					t.Fatal(err)
				}
				dies := try < 8
				attempt(t, b, n, &charged, r, dies)
				if dies {
					if r.IntN(3) == 0 {
						halfCompact(t, b, r)
					}
					kill(b)
					charged.within(t, sum(t, st))
					continue
				}
				if err := b.Compact(t.Context()); err != nil {
					t.Fatal(err)
				}
				closeBook(t, b)
				break
			}
			total := sum(t, st)
			charged.within(t, total)
			b := newProcess(t, st, "run").open(0, 0)
			for i := 1; i <= n; i++ {
				if _, ok := b.Find(key(i)); !ok {
					t.Fatalf("answer %d is lost", i)
				}
			}
			closeBook(t, b)
			t.Logf("billed %d, ledger %d, in doubt %d calls", charged.Calls, total.Spent.Calls, total.InDoubt.Calls)
		})
	}
}

// halfCompact does what Compact does up to a random point.
func halfCompact(t *testing.T, b *Book, r *rand.Rand) {
	t.Helper()
	b.stopFlushing()
	b.opts.piece = 4 << 10
	b.mu.Lock()
	b.closing = true
	b.mu.Unlock()
	if err := b.flushOnce(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	state, bodies, err := b.fold()
	if err != nil {
		t.Fatal(err)
	}
	if len(bodies) < 2 && len(b.own) > 50 {
		t.Fatal("one piece only")
	}
	stop := r.IntN(len(bodies) + 1)
	for i, body := range bodies {
		if i == stop {
			return
		}
		if err := b.st.PutIfAbsent(t.Context(), b.shelf.key(object{kindWhole, state.Epoch, int64(i) + 1}), body); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range b.flushed[:r.IntN(len(b.flushed)+1)] {
		if err := b.st.Delete(t.Context(), b.shelf.key(o)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadingBesideCompaction(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var flushed atomic.Int64
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := flushed.Load()
				total, err := Sum(t.Context(), st, scope)
				if err != nil {
					t.Error(err)
					return
				}
				if total.Entries < least {
					t.Errorf("%d entries, there were %d", total.Entries, least)
					return
				}
			}
		})
	}
	for round := range 4 {
		b := newProcess(t, st, "run").claim(100)
		for i := range 10 {
			answer(t, b, round*10+i)
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			flushed.Add(1)
		}
		if err := b.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		closeBook(t, b)
	}
	close(stop)
	readers.Wait()
}

// A listing comes in order of names, page by page: it may show the first names as they stood before a compaction, or in its
// midst, and the others as they stand later. Whatever it shows, no entry is missed.
func TestListingAcrossACompaction(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	p := newProcess(t, st, "run")
	p.o.FlushEvery = time.Hour
	at, entries := shelf{scope, 0, 0}, 0
	for range 2 { // the second folds up what the first left
		b := p.claim(100)
		for range 2 {
			answer(t, b, entries)
			if err := b.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			entries++
		}
		var earlier [][]listed
		look := func() {
			now, err := listShelf(t.Context(), st, at)
			if err != nil {
				t.Fatal(err)
			}
			for step, then := range earlier {
				for cut := range len(then) + 1 {
					mixed := slices.Clone(then[:cut])
					for _, o := range now {
						if cut == 0 || at.key(o.object) > at.key(then[cut-1].object) {
							mixed = append(mixed, o)
						}
					}
					v := newView(at)
					if _, err := v.refreshFrom(t.Context(), st, mixed); err != nil || len(v.entries) != entries {
						t.Fatalf("%d of %d entries in a listing from step %d to %d, cut after %d: %v", len(v.entries), entries, step, len(earlier), cut, err)
					}
				}
			}
			earlier = append(earlier, now)
		}
		b.stopFlushing()
		b.opts.piece = 1
		state, bodies, err := b.fold()
		if err != nil || len(bodies) < 2 {
			t.Fatalf("%d pieces, %v", len(bodies), err)
		}
		small := slices.Concat(b.view.standing, b.flushed)
		look()
		for i, body := range bodies {
			if err := st.PutIfAbsent(t.Context(), at.key(object{kindWhole, state.Epoch, int64(i) + 1}), body); err != nil {
				t.Fatal(err)
			}
			look()
		}
		for i := range small { // an endpoint deletes in any order
			if err := st.Delete(t.Context(), at.key(small[len(small)-1-i])); err != nil {
				t.Fatal(err)
			}
			look()
		}
		kill(b)
	}
}

// A store that is away for some time: nothing is lost, and admission stops meanwhile.
func TestStoreIsWaitedFor(t *testing.T) {
	t.Parallel()
	cfg := s3test.Config(t)
	target, err := url.Parse(cfg.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host // the Host header stays: it is signed
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	cfg.Endpoint = server.URL
	st, err := blob.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, st, "run")
	p.o.MaxUnflushed = 200 * time.Millisecond
	b := p.claim(100000)
	var asked atomic.Int64
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			if b.Admit(context.Background(), oneCall) != nil {
				return
			}
			b.Record(entry(i), oneCall, dataset.Usage{})
			asked.Store(int64(i))
			time.Sleep(time.Millisecond)
		}
	}()
	for asked.Load() == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(300 * time.Millisecond)
	away.Store(true)
	before := asked.Load()
	for still, late := time.Now(), time.Now().Add(30*time.Second); time.Since(still) < 500*time.Millisecond; time.Sleep(5 * time.Millisecond) {
		if n := asked.Load(); n != before {
			before, still = n, time.Now()
		}
		if time.Now().After(late) {
			t.Fatalf("calls are admitted while nothing can be written, %d so far", before)
		}
	}
	away.Store(false)
	for deadline := time.Now().Add(30 * time.Second); asked.Load() < before+100; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not go on: %v", b.Trouble())
		}
	}
	close(quit)
	<-done
	closeBook(t, b)
	if total := sum(t, st); total.Spent.Calls != asked.Load() || total.InDoubt != (dataset.Usage{}) {
		t.Fatalf("sum is %+v, asked %d", total, asked.Load())
	}
}

func TestCloseSaysWhatIsLost(t *testing.T) {
	t.Parallel()
	p := newProcess(t, s3test.Store(t), "run")
	p.o.FlushEvery = time.Hour
	b := p.claim(10)
	answer(t, b, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
}
