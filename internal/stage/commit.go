package stage

import (
	"context"

	"github.com/selfalign/selfalign/internal/dataset"
)

// ReasonContaminated is that of a row whose written text shares an n-gram with an evaluation set.
const ReasonContaminated = "contaminated"

// found returns the evaluation sets that what was written for a row is found in.
func (a *attempt[In, Out, Value]) found(out Out, ok bool) (sets []string, detail string) {
	if !ok || a.clean.Find == nil {
		return nil, ""
	}
	return a.clean.Find(a.task.written(out))
}

// commit writes the partition.
func (a *attempt[In, Out, Value]) commit(ctx context.Context) (Result, error) {
	var rows []Out
	var rejects []dataset.Reject
	contaminated := a.clean.Count()
	for i := range a.left {
		out, ok := a.made(i)
		sets, detail := a.found(out, ok)
		if ok && len(sets) == 0 {
			rows = append(rows, out)
			continue
		}
		r := a.task.reject(a.of(i))
		r.Stage = a.task.name
		if ok {
			r.Reason, r.Detail, r.Instruction = ReasonContaminated, detail, a.task.written(out)
			for _, set := range sets {
				contaminated[set]++
			}
			rejects = append(rejects, r)
			continue
		}
		for _, s := range a.samples(i) {
			if s.outcome.state == rejected {
				r.Reason, r.Detail = s.outcome.reason, s.outcome.detail
				if s.outcome.text != "" {
					r.Text = s.outcome.text
				}
				break
			}
		}
		rejects = append(rejects, r)
	}
	paid := a.book.Paid()
	receipt := dataset.Receipt{
		Input: int64(len(a.left)), Usage: paid.Spent, InDoubt: paid.InDoubt, Reused: a.snapshot().Reused, Answers: a.answers(),
		Contaminated: contaminated,
	}
	w := a.work
	receipt, err := dataset.WritePartition(ctx, a.deps.Store, w.Output, w.Input.Bits, w.Partition, rows, rejects, receipt)
	if err != nil {
		return Result{}, err
	}
	return Result{Receipt: receipt, Done: true}, nil
}

// answers counts what became of the answers to all questions. It follows from the ledger alone.
func (a *attempt[In, Out, Value]) answers() (n dataset.Answers) {
	for i := range a.slots {
		s := &a.slots[i]
		n.Unreadable += int64(s.attempt - 1)
		switch {
		case s.outcome.state == answered:
			n.Read++
			if a.task.makeDo != nil && a.task.makeDo(s.outcome.value) {
				n.TextScore++
			}
		case s.outcome.unread:
			n.Unreadable++
		}
	}
	return n
}
