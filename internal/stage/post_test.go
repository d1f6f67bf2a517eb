package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// postBench is a bench whose endpoint has the Batch API.
type postBench struct {
	*bench
	dir string
	url string
}

func newPostBench(t *testing.T, rows int, f pocketlm.Faults) *postBench {
	t.Helper()
	b := &postBench{bench: &bench{t: t, st: s3test.Store(t)}, dir: t.TempDir()}
	b.serve(f)
	b.deps = Deps{Store: b.st, Models: llm.NewPool(map[string]llm.Provider{"p": postProvider(b.url)}), BatchPoll: 100 * time.Millisecond}
	b.in = b.segments("segments", rows, 0)
	return b
}

func postProvider(url string) llm.Provider {
	p := provider(url)
	p.Prices = map[string]llm.Price{pocketlm.BaseModel: {Input: price, Output: price}}
	p.Batch, p.BatchDiscount = true, 0.5
	return p
}

func (b *postBench) serve(f pocketlm.Faults) {
	b.t.Helper()
	f.Canned = f.Unparsable == 0 // canned answers can always be read
	srv, err := pocketlm.Open(pocketlm.Options{Dir: b.dir, Faults: f})
	if err != nil {
		b.t.Fatal(err)
	}
	front := httptest.NewServer(srv.Handler())
	b.t.Cleanup(func() {
		front.Close()
		if err := srv.Close(); err != nil {
			b.t.Error(err)
		}
	})
	b.url = front.URL + "/v1"
}

func (b *postBench) faults(f pocketlm.Faults) {
	b.t.Helper()
	f.Canned = f.Unparsable == 0
	body, err := json.Marshal(f)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, strings.TrimSuffix(b.url, "/v1")+"/pocketlm/faults", strings.NewReader(string(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.t.Fatalf("faults: %s", res.Status)
	}
}

func (b *postBench) byPost(output string) Work {
	w := b.backtranslate(output)
	w.Model.Name, w.Delivery = pocketlm.BaseModel, DeliveryBatch
	return w
}

// journal wants every question answered once, and as often as the ledger says.
func (b *postBench) journal(w Work) pocketlm.Counts {
	b.t.Helper()
	c, err := pocketlm.ReadJournal(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	if c.Repeated != 0 {
		b.t.Errorf("%d answers to questions that were answered before", c.Repeated)
	}
	paid := b.sum(w)
	if got := paid.Spent.PromptTokens + paid.Spent.CompletionTokens; got != c.PromptTokens+c.CompletionTokens {
		b.t.Errorf("%d tokens in the ledger, %d in the journal", got, c.PromptTokens+c.CompletionTokens)
	}
	if paid.InDoubt != (dataset.Usage{}) {
		b.t.Errorf("in doubt: %+v", paid.InDoubt)
	}
	return c
}

const (
	routeLive = "chat.completions"
	routePost = "batch:chat.completions"
)

func liveRows(t *testing.T, rows int, f pocketlm.Faults) ([]dataset.Candidate, dataset.Usage) {
	t.Helper()
	b := newPostBench(t, rows, f)
	w := b.byPost("out")
	w.Delivery = DeliveryLive
	r := b.run(w)
	return rowsOf[dataset.Candidate](b.bench, w), r[0].Spent
}

func TestABatchBringsTheRowsOfLiveCallsAtHalfThePrice(t *testing.T) {
	t.Parallel()
	want, live := liveRows(t, 120, pocketlm.Faults{})
	b := newPostBench(t, 120, pocketlm.Faults{})
	w := b.byPost("out")
	r := b.run(w)[0]
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
		t.Fatal("rows differ from those of live calls")
	}
	c := b.journal(w)
	if c.ByRoute[routeLive].Received != 0 || c.ByRoute[routePost].Answered != 120 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
	half := live
	half.MicroUSD = r.Spent.MicroUSD
	if r.Spent != half || r.Spent.MicroUSD < live.MicroUSD/2 || r.Spent.MicroUSD > live.MicroUSD/2+120 {
		t.Errorf("spent %+v, live %+v", r.Spent, live)
	}
	again := w
	again.Output, again.Delivery = "again", DeliveryAuto
	b.run(again)
	if got := b.journal(w); got.Received != c.Received {
		t.Errorf("asked again: %+v", got)
	}
}

func TestPartsOfExpiredBatchesAreKept(t *testing.T) {
	t.Parallel()
	want, _ := liveRows(t, 200, pocketlm.Faults{})
	b := newPostBench(t, 200, pocketlm.Faults{BatchExpires: 0.4})
	w := b.byPost("out")
	b.run(w)
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
		t.Fatal("rows differ from those of live calls")
	}
	// 200: 80 are left over; of them 32, which are few.
	c := b.journal(w)
	if c.ByRoute[routePost].Answered != 168 || c.ByRoute[routeLive].Answered != 32 || c.ByRoute["batches"].Answered != 2 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
}

func TestUnreadableAnswersAreAskedAgainInTheNextBatch(t *testing.T) {
	t.Parallel()
	f := pocketlm.Faults{Unparsable: 0.4, BadRequest: 0.05, ServerError: 0.1}
	ratings := func(delivery string) (*postBench, Work, []dataset.Rating) {
		b := newPostBench(t, 250, pocketlm.Faults{})
		first := b.byPost("candidates")
		first.Delivery = DeliveryLive
		b.run(first)
		b.faults(f)
		w := b.rate("candidates", "ratings")
		w.Model.Name, w.Delivery = pocketlm.BaseModel, delivery
		b.deps.batchSizes = batch.Sizes{Requests: 110}
		b.run(w)
		return b, w, rowsOf[dataset.Rating](b.bench, w)
	}
	_, _, want := ratings(DeliveryLive)
	b, w, got := ratings(DeliveryBatch)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal("rows differ from those of live calls")
	}
	c, err := pocketlm.ReadJournal(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	paid := b.sum(w)
	// Three batches at first, and more for what could not be read.
	if c.Repeated != 0 || c.ByRoute["batches"].Answered < 4 || paid.InDoubt != (dataset.Usage{}) {
		t.Errorf("routes: %+v, paid %+v", c.ByRoute, paid)
	}
	if calls := c.ByRoute[routePost].Answered + c.ByRoute[routeLive].Answered - 250; paid.Spent.Calls != calls {
		t.Errorf("%d calls in the ledger, %d in the journal", paid.Spent.Calls, calls)
	}
}

func TestABudgetStopsBeforeABatchIsSent(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 100, pocketlm.Faults{})
	w := b.byPost("out")
	for _, budget := range []Budget{
		{Calls: 0, Tokens: NoCap, MicroUSD: NoCap},
		{Calls: NoCap, Tokens: 100, MicroUSD: NoCap},
		{Calls: NoCap, Tokens: NoCap, MicroUSD: 10},
	} {
		w.Budget = budget
		r, err := Run(t.Context(), b.deps, w, nil)
		if err != nil || r.Stop != StopBudget || r.Spent != (dataset.Usage{}) || r.InDoubt != (dataset.Usage{}) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if c := b.journal(w); c.Received != 0 {
		t.Errorf("asked: %+v", c)
	}
	w.Budget = Budget{Calls: 70, Tokens: NoCap, MicroUSD: NoCap}
	r, err := Run(t.Context(), b.deps, w, nil)
	if err != nil || r.Stop != StopBudget || r.Spent.Calls != 70 {
		t.Fatalf("%+v, %v", r, err)
	}
	w.Budget = Unlimited()
	b.run(w)
	b.journal(w)
}

func TestTheEnqueuedTokenLimitIsWaitedOut(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 100, pocketlm.Faults{EnqueuedTokens: 50})
	w := b.byPost("out")
	lift := time.AfterFunc(1500*time.Millisecond, func() { b.faults(pocketlm.Faults{}) })
	defer lift.Stop()
	b.run(w)
	if c := b.journal(w); c.ByRoute["batches"].Answered < 2 || c.ByRoute[routePost].Answered != 100 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
}

func TestABatchGoesOnWhileNobodyWaits(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 100, pocketlm.Faults{BatchTime: 3000})
	w := b.byPost("out")
	b.deps.BatchWait = 300 * time.Millisecond
	var e *Error
	if r, err := Run(t.Context(), b.deps, w, nil); !errors.As(err, &e) || !e.Retryable() || e.RetryAfter <= 0 || r.InDoubt.Calls != 100 {
		t.Fatalf("%+v, %v", r, err)
	}
	paused, cancel := context.WithCancel(t.Context())
	b.deps.BatchWait = 0
	told := ""
	r, err := Run(paused, b.deps, w, func(p Progress) {
		if p.InFlight == 100 {
			told = p.Waiting
			cancel()
		}
	})
	if err != nil || r.Stop != StopCancelled || r.InDoubt.Calls != 100 || !strings.Contains(told, "a batch at provider p") {
		t.Fatalf("%+v, %v, told %q", r, err, told)
	}
	// What is out counts against the budget, and what comes back is not in the way of it.
	w.Budget = Budget{Calls: 100, Tokens: NoCap, MicroUSD: NoCap}
	b.run(w)
	if c := b.journal(w); c.ByRoute["batches"].Answered != 1 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
}

func TestARefusedBatchIsToldInTheEndpointsWords(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 60, pocketlm.Faults{})
	target, err := url.Parse(strings.TrimSuffix(b.url, "/v1"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/v1/batches/batch_") {
			fmt.Fprintf(rw, `{"id":%q,"status":"failed","errors":{"data":[{"code":"model_not_in_plan","message":"not for you","line":1}]}}`, req.URL.Path[len("/v1/batches/"):])
			return
		}
		proxy.ServeHTTP(rw, req)
	}))
	defer front.Close()
	b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": postProvider(front.URL + "/v1")})
	_, err = Run(t.Context(), b.deps, b.byPost("out"), nil)
	var e *Error
	if !errors.As(err, &e) || e.Class != ClassBatch || e.Retryable() || !strings.Contains(err.Error(), "line 1: model_not_in_plan: not for you") {
		t.Fatalf("%v", err)
	}
}

func TestDeliveryOf(t *testing.T) {
	t.Parallel()
	has, hasNot := llm.Provider{Batch: true, BatchDiscount: 0.5}, llm.Provider{BatchDiscount: 0.5}
	dear := llm.Provider{Batch: true} // takes nothing off
	own := llm.Provider{Batch: true, BatchDiscount: 0.5, Prices: map[string]llm.Price{"m": {}}}
	const day = 24 * time.Hour
	for _, c := range []struct {
		wish   string
		p      llm.Provider
		within time.Duration
		want   string
	}{
		{"", has, 0, DeliveryLive},
		{DeliveryLive, has, 0, DeliveryLive},
		{DeliveryAuto, has, 0, DeliveryBatch},
		{DeliveryAuto, has, day, DeliveryBatch},
		{DeliveryAuto, has, day - time.Minute, DeliveryLive},
		{DeliveryAuto, hasNot, 0, DeliveryLive},
		{DeliveryAuto, dear, 0, DeliveryLive},
		{DeliveryAuto, own, 0, DeliveryLive},
		{DeliveryBatch, hasNot, 0, DeliveryBatch},
		{DeliveryBatch, dear, time.Minute, DeliveryBatch},
	} {
		if got := Delivery(c.wish, c.p, "m", c.within); got != c.want {
			t.Errorf("%q at %+v within %s is %s, want %s", c.wish, c.p, c.within, got, c.want)
		}
	}
	live, post := Work{Task: TaskRate}, Work{Task: TaskRate, Delivery: DeliveryBatch}
	if Scope(live) != Scope(post) || Fingerprint(live) != Fingerprint(post) {
		t.Error("the way of delivery changes what answers are looked for")
	}
}

// What an expired batch left is asked live where another batch would miss the deadline, each question once.
func TestADeadlineEndsBatches(t *testing.T) {
	t.Parallel()
	want, _ := liveRows(t, 200, pocketlm.Faults{})
	for name, c := range map[string]struct {
		until     time.Duration // before or after a batch's window
		post, all int64
	}{
		"in time":             {time.Hour, 168, 2},
		"just begun":          {-time.Minute, 168, 2},
		"no time for another": {-2 * time.Hour, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPostBench(t, 200, pocketlm.Faults{BatchExpires: 0.4})
			w := b.byPost("out")
			w.Until = time.Now().Add(batch.Window + c.until)
			b.run(w)
			if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
				t.Fatal("rows differ from those of live calls")
			}
			got := b.journal(w)
			if got.ByRoute[routePost].Answered != c.post || got.ByRoute[routeLive].Answered != 200-c.post || got.ByRoute["batches"].Answered != c.all {
				t.Errorf("routes: %+v", got.ByRoute)
			}
		})
	}
}

// A batch that was handed over in time is waited for and harvested, though by then it is late.
func TestALateStageHarvestsWhatItSent(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 100, pocketlm.Faults{BatchTime: 1500, BatchExpires: 0.6})
	w := b.byPost("out")
	b.handOver(w)
	w.Until = time.Now()
	b.run(w)
	got := b.journal(w)
	if got.ByRoute[routePost].Answered != 40 || got.ByRoute[routeLive].Answered != 60 || got.ByRoute["batches"].Answered != 1 {
		t.Errorf("routes: %+v", got.ByRoute)
	}
}
