package stage

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/pocketlm"
)

// until does the work over all partitions, coming back to those that another run holds, sooner than it is told to.
func until(t *testing.T, d Deps, w Work) {
	for p := range w.Input.Partitions() {
		w.Partition = p
		for {
			r, err := Run(t.Context(), d, w, nil)
			var e *Error
			if errors.As(err, &e) && e.Class == ClassHeld {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			if err != nil || !r.Done {
				t.Errorf("%s partition %d: %+v, %v", w.Output, p, r, err)
			}
			break
		}
	}
}

// Runs that ask the same rows at the same time in partitions of other sizes pay for each once.
func TestRunsAtOtherBitsAtTheSameTimePayOnce(t *testing.T) {
	t.Parallel()
	const rows = 400
	b := newBench(t, rows, 0)
	b.ref.delay = 20 * time.Millisecond
	var wg sync.WaitGroup
	for bits, output := range map[int]string{0: "one", 2: "two", 4: "three"} {
		w := b.backtranslate(output)
		w.Input = b.segments("segments-"+output, rows, bits)
		wg.Go(func() { until(t, b.dependencies(), w) })
	}
	wg.Wait()
	if answers, questions := b.ref.counts(); answers != rows || questions != rows {
		t.Errorf("%d answers to %d questions about %d rows", answers, questions, rows)
	}
	b.balanced(b.backtranslate("one"))
}

// Nor does it matter that one of them asks by batch and the others live.
func TestARunByBatchAndRunsBesideItPayOnce(t *testing.T) {
	t.Parallel()
	const rows = 100
	b := newPostBench(t, rows, pocketlm.Faults{BatchTime: 1500})
	first := b.byPost("first")
	b.handOver(first)
	var wg sync.WaitGroup
	for bits, output := range map[int]string{0: "same", 2: "finer"} {
		w := b.byPost(output)
		w.Delivery, w.Input = DeliveryLive, b.segments("segments-"+output, rows, bits)
		wg.Go(func() {
			until(t, Deps{Store: b.st, Models: llm.NewPool(map[string]llm.Provider{"p": postProvider(b.url)})}, w)
		})
	}
	time.Sleep(300 * time.Millisecond)
	b.run(first)
	wg.Wait()
	c := b.journal(first)
	if c.ByRoute[routePost].Answered != rows || c.ByRoute[routeLive].Answered != 0 {
		t.Errorf("routes: %+v", c.ByRoute)
	}
	for _, output := range []string{"same", "finer"} {
		if spent, err := Paid(t.Context(), b.st, b.byPost(output)); err != nil || spent.Spent != (dataset.Usage{}) {
			t.Errorf("%s paid %+v, %v", output, spent, err)
		}
	}
}
