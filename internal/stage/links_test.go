package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/links"
	"github.com/selfalign/selfalign/internal/llm"
)

// TestLinksAreCutSlowedAndReset does to the links of a partition in work, to S3 and to the endpoint, all that happens to
// links, in an order that chance decides. What comes out is as without, no question is lost, and what may have been billed twice
// is in doubt.
func TestLinksAreCutSlowedAndReset(t *testing.T) {
	t.Parallel()
	b, cfg, want := crashBench(t, 3000)
	wires := map[string]*links.Wire{}
	through := func(name, target string) string {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		w, err := links.Lay(name, u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Close)
		wires[name] = w
		u.Host = w.Addr()
		return u.String()
	}
	cfg.Endpoint = through("store", cfg.Endpoint)
	var err error
	if b.deps.Store, err = blob.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	b.deps.Models = llm.NewPool(map[string]llm.Provider{"p": provider(through("endpoint", b.ref.url))})
	w := b.backtranslate("out")
	w.InFlight = 16
	done := make(chan error, 1)
	go func() {
		for { // as Temporal would
			r, err := Run(context.Background(), b.deps, w, nil)
			var e *Error
			if errors.As(err, &e) && e.Retryable() {
				time.Sleep(min(e.RetryAfter, time.Second))
				continue
			}
			if err == nil && !r.Done {
				err = fmt.Errorf("not done: %+v", r)
			}
			done <- err
			return
		}
	}()
	type hurt struct{ wire, kind string }
	var hurts []hurt
	for name := range wires {
		for _, kind := range links.Kinds() {
			hurts = append(hurts, hurt{name, kind})
		}
	}
	rand.Shuffle(len(hurts), func(i, j int) { hurts[i], hurts[j] = hurts[j], hurts[i] })
	under := 0
	for _, h := range hurts {
		before := b.ref.asked()
		for deadline := time.Now().Add(20 * time.Second); b.ref.asked() < before+50 && b.ref.asked() < len(want) && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
		if b.ref.asked() < len(want) {
			under++
		}
		mend, err := wires[h.wire].Hurt(h.kind)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * time.Millisecond)
		if err := mend(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the partition does not go on")
	}
	if under < len(hurts)/2 {
		t.Errorf("only %d of %d happened under load", under, len(hurts))
	}
	if d := cmp.Diff(want, rowsOf[dataset.Candidate](b, w)); d != "" {
		t.Fatal("rows differ from an undisturbed run")
	}
	spent, doubt := b.balanced(w)
	answers, questions := b.ref.counts()
	t.Logf("%v: %d questions, %d answers, ledger %d, in doubt %d calls", hurts, questions, answers, spent.Calls, doubt.Calls)
	if questions != len(want) {
		t.Fatalf("%d questions about %d rows", questions, len(want))
	}
}
