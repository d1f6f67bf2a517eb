package stage

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// handOver has a first attempt send a batch of 100 questions that takes long, and gives it up.
func (b *postBench) handOver(w Work) {
	b.t.Helper()
	b.deps.BatchWait = 300 * time.Millisecond
	defer func() { b.deps.BatchWait = 0 }()
	var e *Error
	if r, err := Run(b.t.Context(), b.deps, w, nil); !errors.As(err, &e) || !e.Retryable() || r.InDoubt.Calls != 100 {
		b.t.Fatalf("%+v, %v", r, err)
	}
}

// takeBack withdraws as an activity would: again and again until the endpoint has nothing any more.
func (b *postBench) takeBack(w Work) {
	b.t.Helper()
	for range 100 {
		err := Withdraw(b.t.Context(), b.deps, w)
		var e *Error
		switch {
		case err == nil:
			return
		case !errors.As(err, &e) || e.Class != llm.ClassYield || e.RetryAfter <= 0:
			b.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Fatal("the batches are not taken back")
}

// Batches that nobody waits for any more are cancelled, what they answered is kept, and nothing stays in doubt.
func TestBatchesAreTakenBack(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"sent": false, "whose sending was not noted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPostBench(t, 100, pocketlm.Faults{BatchTime: 10_000})
			w := b.byPost("out")
			b.handOver(w)
			if open, err := OpenPartitions(t.Context(), b.st, w); err != nil || len(open) != 1 || open[0] != 0 {
				t.Fatalf("open: %v, %v", open, err)
			}
			stranger := w
			stranger.Output = "stranger"
			if open, err := OpenPartitions(t.Context(), b.st, stranger); err != nil || len(open) != 0 {
				t.Fatalf("of another run: %v, %v", open, err)
			}
			if err := Withdraw(t.Context(), b.deps, stranger); err != nil {
				t.Fatal(err)
			}
			if forget {
				b.forgetSent()
			}
			time.Sleep(500 * time.Millisecond) // some are answered
			b.takeBack(w)
			b.takeBack(w)
			c := b.journal(w) // nothing in doubt, and the ledger is the journal
			if n := c.ByRoute[routePost].Answered; n == 0 || n > 90 || c.ByRoute["batches"].Answered != 1 {
				t.Errorf("routes: %+v", c.ByRoute)
			}
			if open, err := OpenPartitions(t.Context(), b.st, w); err != nil || len(open) != 0 {
				t.Errorf("still open: %v, %v", open, err)
			}
			w.Delivery = DeliveryLive
			r := b.run(w)[0]
			if got := b.journal(w).ByRoute[routeLive].Answered + c.ByRoute[routePost].Answered; got != 100 || r.Receipt.Rows != 100 {
				t.Errorf("%d answers, %d rows", got, r.Receipt.Rows)
			}
		})
	}
}

// Batches that are out when questions are to be asked live, whatever the reason, come home before the rest is asked.
func TestBatchesComeHomeBeforeTheRestIsAskedLive(t *testing.T) {
	t.Parallel()
	want, _ := liveRows(t, 100, pocketlm.Faults{})
	for name, c := range map[string]struct {
		wish     string
		declared bool // the provider has the Batch API in the worker's settings
		forget   bool // the worker died before it noted that the batch was sent
	}{
		"by the spec":                     {DeliveryLive, true, false},
		"by the spec, sending not noted":  {DeliveryLive, true, true},
		"no spec":                         {"", true, false},
		"auto, settings removed":          {DeliveryAuto, false, false},
		"live, settings removed":          {DeliveryLive, false, false},
		"live, settings removed, unnoted": {DeliveryLive, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPostBench(t, 100, pocketlm.Faults{BatchTime: 4_000})
			w := b.byPost("out")
			b.handOver(w)
			if c.forget {
				b.forgetSent()
			}
			time.Sleep(300 * time.Millisecond) // some are answered
			w.Delivery = c.wish
			if !c.declared {
				b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": provider(b.url)})
			}
			b.run(w)
			time.Sleep(4 * time.Second) // a batch that was left there would be answered by now
			if d := cmp.Diff(want, rowsOf[dataset.Candidate](b.bench, w)); d != "" {
				t.Error("rows differ from those of live calls")
			}
			got := b.journal(w) // each question once, nothing in doubt, and the ledger is the journal
			if n := got.ByRoute[routePost].Answered; n == 0 || n > 90 || n+got.ByRoute[routeLive].Answered != 100 {
				t.Errorf("routes: %+v", got.ByRoute)
			}
		})
	}
}

// An endpoint that has no Batch API any more cannot say what became of the batches: nothing is asked until a person has looked.
func TestBatchesThatCannotBeAskedAfterBlock(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"sent": false, "whose sending was not noted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newPostBench(t, 100, pocketlm.Faults{BatchTime: 10_000})
			w := b.byPost("out")
			b.handOver(w)
			if forget {
				b.forgetSent()
			}
			ref := newReferee(t)
			mux := http.NewServeMux()
			mux.Handle("/v1/chat/", ref)
			plain := httptest.NewServer(mux)
			defer plain.Close()
			b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": provider(plain.URL + "/v1")})
			w.Delivery = DeliveryLive
			_, err := Run(t.Context(), b.deps, w, nil)
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassBatch || e.Retryable() || !strings.Contains(e.Way, "-asked.json") || ref.asked() != 0 {
				t.Fatalf("%v (%+v), %d asked", err, e, ref.asked())
			}
		})
	}
}

// forgetSent removes the note that a batch was sent, as if the worker had died before it.
func (b *postBench) forgetSent() {
	b.t.Helper()
	var notes []string
	if err := b.st.List(b.t.Context(), "ledger/", func(i blob.Info) error {
		if strings.HasSuffix(i.Key, "-sent.json") {
			notes = append(notes, i.Key)
		}
		return nil
	}); err != nil || len(notes) != 1 {
		b.t.Fatalf("%v, %v", notes, err)
	}
	if err := b.st.Delete(b.t.Context(), notes[0]); err != nil {
		b.t.Fatal(err)
	}
}

// A batch that never reached the endpoint is settled without one.
func TestABatchThatWasNeverSentIsForgotten(t *testing.T) {
	t.Parallel()
	b := newPostBench(t, 100, pocketlm.Faults{})
	closed := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		http.Error(rw, `{"error":{"message":"no"}}`, http.StatusUnauthorized)
	}))
	defer closed.Close()
	w, models := b.byPost("out"), b.deps.Models
	b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": postProvider(closed.URL + "/v1")})
	if _, err := Run(t.Context(), b.deps, w, nil); err == nil {
		t.Fatal("the endpoint took a batch that it refuses")
	}
	if paid := b.sum(w); paid.InDoubt.Calls != 100 {
		t.Fatalf("paid %+v", paid)
	}
	b.deps.Models = models
	b.takeBack(w)
	if paid := b.sum(w); paid.InDoubt != (dataset.Usage{}) || paid.Spent.Calls != 0 {
		t.Errorf("paid %+v", paid)
	}
	if c := b.journal(w); c.ByRoute["batches"].Received != 0 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
}
