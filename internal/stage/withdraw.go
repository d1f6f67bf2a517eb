package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
)

// withdrawnAgain is when a batch that is being cancelled is looked at again. An endpoint may take ten minutes for it.
const withdrawnAgain = 5 * time.Second

// Withdraw has the endpoint cancel the batches that the work's run has there for the partition, and records what they
// answered, which is paid. It asks nothing, and may be repeated. While the endpoint is still at it the error is an *Error of
// llm.ClassYield; when it is nil, nothing of the run is at the endpoint any more.
func Withdraw(ctx context.Context, d Deps, w Work) error {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	t, err := w.check()
	if err != nil {
		return &Error{Class: ClassSetting, Err: err, Way: "correct the run's spec"}
	}
	if err := w.settleChat(ctx, &d); err != nil {
		return err
	}
	handed, err := ledger.Handed(ctx, d.Store, Scope(w), w.Input.Bits, w.Partition, w.Output)
	if err != nil || len(handed.Open) == 0 {
		return err
	}
	_, err = withdraw(ctx, d, w, t, func(Progress) {})
	return err
}

// withdraw is one round of taking batches back.
func withdraw(ctx context.Context, d Deps, w Work, t runner, progress func(Progress)) (Result, error) {
	p, err := newPost(d, w)
	if err != nil {
		return Result{}, err
	}
	defer p.client.Close()
	w.Budget = Unlimited() // what is harvested is paid already, whatever a model's price
	p.work, p.withdraw, d.post = w, true, p
	r, err := t.run(ctx, d, w, progress)
	if errors.Is(err, errSent) {
		err = &Error{
			Class: llm.ClassYield, RetryAfter: withdrawnAgain, Way: "wait: it may take some minutes",
			Err: fmt.Errorf("provider %s is cancelling batches", w.Model.Provider),
		}
	}
	return r, err
}

// takeHome has the endpoint cancel what an earlier attempt handed over by batch, where the rest is asked live: the spec, the
// worker's settings or the provider changed meanwhile. Nothing is asked while a question may be answered there. It returns an
// empty result and no error when nothing is out any more.
func takeHome(ctx context.Context, d Deps, w Work, t runner, progress func(Progress)) (Result, error) {
	p := &post{deps: d, work: w, begun: time.Now()}
	for {
		r, err := withdraw(ctx, d, w, t, progress)
		var e *Error
		switch {
		case ctx.Err() != nil || err != nil && (!errors.As(err, &e) || e.Class != llm.ClassYield):
			return r, err
		case err == nil:
			return Result{}, nil
		}
		says := Progress{Partition: w.Partition, Waiting: short(e.Err.Error() + ", whose questions are then asked live")}
		pause := min(e.RetryAfter, cmp.Or(d.BatchPoll, withdrawnAgain))
		if err := p.sleep(ctx, pause, time.Since(p.begun), e.RetryAfter, says, progress); err != nil {
			return p.stopped(ctx, err)
		}
	}
}

// takeBack cancels a batch that is not over. errSent says that the endpoint is at it.
func (a *attempt[In, Out, Value]) takeBack(ctx context.Context, b ledger.Batch, s batch.Status) error {
	p := a.deps.post
	if s.Said != batch.SaidCancelling {
		if err := p.client.Cancel(ctx, b.ID); err != nil {
			return p.explain(ctx, &b, err)
		}
	}
	return errSent
}

// identify finds the endpoint's name for a batch of which it is not known whether it was taken, and returns nil when there
// is none to take back.
func (a *attempt[In, Out, Value]) identify(ctx context.Context, b ledger.Batch) (*ledger.Batch, error) {
	if err := a.findSent(ctx, b); !errors.Is(err, errSent) {
		return nil, err
	}
	for _, known := range a.book.Batches().Open {
		if known.Seq == b.Seq && known.ID != "" {
			return &known, nil
		}
	}
	return nil, errSent
}
