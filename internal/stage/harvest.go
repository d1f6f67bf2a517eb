package stage

import (
	"context"
	"errors"
	"fmt"

	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
)

// harvest records what a batch brought.
func (a *attempt[In, Out, Value]) harvest(ctx context.Context, b ledger.Batch, s batch.Status, known map[ledger.Key]postQuestion) error {
	p := a.deps.post
	mine := make(map[ledger.Key]bool, len(b.Questions))
	for _, k := range b.Questions {
		mine[k] = true
	}
	h := reaping{batch: b, settlement: ledger.Settlement{Outcome: ledger.BatchHarvested}}
	tally, err := p.client.Harvest(ctx, s, func(id string) bool { return mine[ledger.Key(id)] }, func(r batch.Result) error {
		return a.reap(ctx, &h, r, known)
	})
	lost := s.Counts.Completed - tally.Replies
	if s.Counts.Failed == 0 {
		lost -= tally.Refusals // some endpoints count those as completed
	}
	switch {
	case batch.IsNotFound(err): // the endpoint threw the answers away
		h.settlement.Reason = wordsOf(err)
	case err != nil:
		var e *llm.Error
		if errors.As(err, &e) {
			return p.explain(ctx, &b, err)
		}
		return err
	}
	for range min(max(0, lost), int64(len(b.Questions))) { // billed, as the endpoint counts, and not to be had
		h.settlement.InDoubt = h.settlement.InDoubt.Add(b.Most)
	}
	if n := tally.Duplicates + tally.Unknown + tally.Broken; n > 0 || lost > 0 || h.settlement.Reason != "" {
		a.deps.Log.WarnContext(ctx, "batch with odd results", "run", a.work.Run, "batch", b.ID, "partition", a.work.Partition, "duplicates", tally.Duplicates,
			"unknown", tally.Unknown, "unreadable", tally.Broken, "lost", max(0, lost), "reason", h.settlement.Reason)
	}
	if err := a.book.Settle(ctx, b.Seq, h.settlement); err != nil {
		return err
	}
	if err := p.client.Forget(ctx, s); err != nil {
		a.deps.Log.InfoContext(ctx, "input file of a batch stays at the endpoint", "batch", b.ID, "error", err)
	}
	return h.fatal
}

// reaping is a harvest under way.
type reaping struct {
	batch      ledger.Batch
	settlement ledger.Settlement
	fatal      error // stops the stage when the rest is recorded
}

// reap records one result.
func (a *attempt[In, Out, Value]) reap(ctx context.Context, h *reaping, r batch.Result, known map[ledger.Key]postQuestion) error {
	if !r.Asked() {
		return nil
	}
	k := ledger.Key(r.ID)
	q, ok := known[k]
	if !ok {
		h.settlement.InDoubt = h.settlement.InDoubt.Add(h.batch.Most) // paid for, and nobody asks any more
		return nil
	}
	turns, err := a.render(q.slot)
	if err != nil {
		return err
	}
	worst := a.worst(turns)
	e := a.entry(q.slot)
	e.Key, e.Attempt, e.Tries = k, q.attempt, 1
	resp, failure := a.decode(k, turns, r)
	if failure == nil {
		e.Status, e.Text, e.FinishReason, e.Model = ledger.StatusAnswered, resp.Text, resp.FinishReason, resp.Model
		e.LogProbs = a.work.logProbs(&resp)
		a.cost(&e, resp.Usage)
		a.proved.Store(true)
		h.settlement.Answered++
		return a.book.Adopt(ctx, h.batch, e, worst)
	}
	if failure.InDoubt {
		h.settlement.InDoubt = h.settlement.InDoubt.Add(worst)
	}
	switch a.blames(failure) {
	case refusesMethod:
		h.fatal = a.methodRefused(failure)
		return nil
	case refusesMaybe:
		return nil
	case refusesRow:
	}
	switch failure.Class {
	case llm.ClassPermanent:
		e.Status = ledger.StatusRefused
		h.settlement.Answered++
	case llm.ClassPassing:
		e.Status = ledger.StatusFailed
		a.mu.Lock()
		a.failure = failure
		a.mu.Unlock()
	default:
		h.fatal = fatal(failure, a.work.Model.Provider, a.work.Model.Name)
		return nil
	}
	e.ErrorClass, e.ErrorMessage = failure.Code, failure.Message
	if e.ErrorClass == "" {
		e.ErrorClass = string(failure.Class)
	}
	a.cost(&e, failure.Usage)
	return a.book.Adopt(ctx, h.batch, e, worst)
}

func (a *attempt[In, Out, Value]) decode(k ledger.Key, turns []ledger.Turn, r batch.Result) (llm.Response, *llm.Error) {
	if r.Status == 0 {
		return llm.Response{}, &llm.Error{Class: llm.ClassPassing, Code: r.Code, Message: short(r.Words)}
	}
	resp, err := a.client.Decode(a.request(k, turns), r.Status, r.Body)
	if err == nil {
		return resp, nil
	}
	var e *llm.Error
	if !errors.As(err, &e) {
		e = &llm.Error{Class: llm.ClassPassing, Message: fmt.Sprint(err)}
	}
	return llm.Response{}, e
}
