package stage

import (
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
	handed, err := ledger.Handed(ctx, d.Store, Scope(w), w.Input.Bits, w.Partition, w.Output)
	if err != nil || len(handed.Open) == 0 {
		return err
	}
	provider, err := d.Models.Provider(w.Model.Provider)
	if err != nil {
		return &Error{Class: ClassSetting, Err: err, Way: "name a provider of the worker's settings"}
	}
	client, err := batch.New(provider, batch.Options{})
	if err != nil {
		return &Error{Class: ClassSetting, Err: err, Way: "correct the worker's settings"}
	}
	defer client.Close()
	w.Budget = Unlimited() // what is harvested is paid already, whatever a model's price
	d.post = &post{client: client, deps: d, work: w, begun: time.Now(), sizes: d.batchSizes, withdraw: true}
	_, err = t.run(ctx, d, w, func(Progress) {})
	if errors.Is(err, errSent) {
		err = &Error{
			Class: llm.ClassYield, RetryAfter: withdrawnAgain, Way: "wait: it may take some minutes",
			Err: fmt.Errorf("provider %s is cancelling batches", w.Model.Provider),
		}
	}
	return err
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
