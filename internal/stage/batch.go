package stage

import (
	"context"
	"errors"
	"iter"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
)

// askByPost claims the partition, harvests the batches that are done, and hands over what is missing. It returns errSent
// while batches are at the endpoint, errLate when what is missing has no time for one, and nothing when no question is open.
func (a *attempt[In, Out, Value]) askByPost(ctx context.Context) (stop string, err error) {
	a.byPost = true
	if err := a.claim(ctx, nil); err != nil { // no live calls are foreseen
		return "", err
	}
	if err := a.settleBatches(ctx); err != nil {
		return "", err
	}
	if a.deps.post.withdraw {
		return StopCancelled, nil
	}
	missing, err := a.openSlots()
	if err != nil || len(missing) == 0 {
		return "", err
	}
	if a.deps.post.late() {
		return "", errLate
	}
	handed := a.book.Batches()
	if a.deps.post.pause(handed) > 0 {
		return "", errSent
	}
	if handed.Harvested > 0 && len(missing) <= fewLeft {
		a.byPost = false
		a.book.Expect(int64(len(missing)))
		return a.ask(ctx, missing)
	}
	return a.handOver(ctx, missing)
}

// openSlots brings all slots up to date and returns those that are to be asked.
func (a *attempt[In, Out, Value]) openSlots() (missing []int, err error) {
	for i := range a.slots {
		if a.slots[i].outcome.state != open {
			continue
		}
		if err := a.look(i); err != nil {
			return nil, err
		}
		if a.slots[i].outcome.state == open {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

// postQuestion is a question that a batch holds.
type postQuestion struct {
	slot    int
	attempt int
}

// questions names the questions of all slots and attempts that batches hold.
func (a *attempt[In, Out, Value]) questions(batches []ledger.Batch) (map[ledger.Key]postQuestion, error) {
	wanted := map[ledger.Key]bool{}
	for _, b := range batches {
		for _, k := range b.Questions {
			wanted[k] = true
		}
	}
	found := make(map[ledger.Key]postQuestion, len(wanted))
	for i := range a.slots {
		turns, err := a.render(i)
		if err != nil {
			return nil, err
		}
		for n := 1; n <= a.work.Attempts && len(found) < len(wanted); n++ {
			if k := a.keyOf(i, n, turns); wanted[k] {
				found[k] = postQuestion{i, n}
			}
		}
	}
	return found, nil
}

// settleBatches brings every open batch as far as it comes without waiting. It returns errSent when one is under way.
func (a *attempt[In, Out, Value]) settleBatches(ctx context.Context) error {
	batches := a.book.Batches().Open
	if len(batches) == 0 {
		return nil
	}
	known, err := a.questions(batches)
	if err != nil {
		return err
	}
	var waiting error
	for _, b := range batches {
		switch err := a.settleBatch(ctx, b, known); {
		case errors.Is(err, errSent):
			waiting = err
		case err != nil:
			return a.explain(err)
		}
	}
	return waiting
}

func (a *attempt[In, Out, Value]) settleBatch(ctx context.Context, b ledger.Batch, known map[ledger.Key]postQuestion) error {
	p := a.deps.post
	switch {
	case b.ID == "" && p.withdraw:
		found, err := a.identify(ctx, b)
		if err != nil || found == nil {
			return err
		}
		b = *found
	case b.ID == "":
		return a.send(ctx, b, known, false)
	}
	s, err := p.client.Status(ctx, b.ID)
	if err != nil {
		return p.explain(ctx, &b, err)
	}
	switch s.State {
	case batch.StateRunning:
		if p.withdraw {
			return a.takeBack(ctx, b, s)
		}
		return errSent
	case batch.StateFailed:
		return a.refused(ctx, b, s.Err)
	}
	return a.harvest(ctx, b, s, known)
}

// refused notes that the endpoint did not take a batch. Where waiting helps it is no error.
func (a *attempt[In, Out, Value]) refused(ctx context.Context, b ledger.Batch, e *llm.Error) error {
	err := a.book.Settle(ctx, b.Seq, ledger.Settlement{Outcome: ledger.BatchRefused, Reason: wordsOf(e)})
	if err != nil || e.Code == batch.CodeEnqueued || a.deps.post.withdraw {
		return err
	}
	return a.deps.post.explain(ctx, nil, e)
}

// handOver sends the missing questions in as many batches as they need and the budget allows.
func (a *attempt[In, Out, Value]) handOver(ctx context.Context, missing []int) (stop string, err error) {
	sent := false
	for len(missing) > 0 {
		n, keys, worst, most, err := a.fill(missing)
		if err != nil {
			return "", err
		}
		if n == 0 {
			if sent {
				break // what batches do not cost of their worst is there for the rest
			}
			return StopBudget, nil
		}
		if ctx.Err() != nil {
			return StopCancelled, nil //nolint:nilerr // Result.Stop says it
		}
		b, err := a.book.Hand(ctx, keys, worst, most)
		if errors.Is(err, ledger.ErrBudget) {
			return StopBudget, nil
		}
		if err != nil {
			return "", a.explain(err)
		}
		known := make(map[ledger.Key]postQuestion, n)
		for _, i := range missing[:n] {
			known[a.slots[i].key] = postQuestion{i, a.slots[i].attempt}
		}
		switch err := a.send(ctx, b, known, true); {
		case errors.Is(err, errSent):
			sent = true
		case err != nil:
			return "", a.explain(err)
		default: // refused for a time
			return "", errSent
		}
		missing = missing[n:]
	}
	return "", errSent
}

// fill takes questions from the front of missing until a batch is full or the budget is.
func (a *attempt[In, Out, Value]) fill(missing []int) (n int, keys []ledger.Key, worst, most dataset.Usage, err error) {
	var lengths []int
	path := a.client.Path()
	limit := a.deps.post.sizes
	for _, i := range missing {
		turns, err := a.render(i)
		if err != nil {
			return 0, nil, worst, most, err
		}
		k := a.slots[i].key
		body, err := a.client.Encode(a.request(k, turns))
		if err != nil {
			return 0, nil, worst, most, err
		}
		lengths = append(lengths, batch.LineLength(string(k), path, body))
		if full, _ := limit.Cut(lengths); full < len(lengths) {
			break
		}
		each := a.worst(turns)
		if !a.book.Fits(worst.Add(each)) {
			break
		}
		worst = worst.Add(each)
		if each.PromptTokens > most.PromptTokens {
			most = each
		}
		keys = append(keys, k)
	}
	return len(keys), keys, worst, most, nil
}

// send makes sure that a batch is at the endpoint, and returns errSent then. fresh: nothing was sent of it before. nil
// means that the endpoint refused it for a time.
func (a *attempt[In, Out, Value]) send(ctx context.Context, b ledger.Batch, known map[ledger.Key]postQuestion, fresh bool) error {
	p := a.deps.post
	for _, k := range b.Questions {
		if _, ok := known[k]; !ok { // the input is another one than when it was handed over
			return a.findSent(ctx, b)
		}
	}
	path := a.client.Path()
	lines := a.lines(b.Questions, known, path)
	size := int64(0)
	for line, err := range lines {
		if err != nil {
			return err
		}
		size += int64(len(line))
	}
	if err := a.book.StillOurs(ctx); err != nil {
		return err
	}
	s, err := p.client.Submit(ctx, batch.Job{Key: b.Key, Path: path, Size: size, Lines: lines, First: fresh, Since: b.At})
	var e *llm.Error
	if errors.As(err, &e) && (e.Class == llm.ClassPermanent || e.Code == batch.CodeEnqueued) {
		return a.refused(ctx, b, e)
	}
	if err != nil {
		return p.explain(ctx, nil, err)
	}
	if err := a.book.Sent(ctx, b.Seq, s.ID); err != nil {
		return err
	}
	a.mu.Lock()
	a.tally.Asked += int64(len(b.Questions))
	a.mu.Unlock()
	return errSent
}

// findSent looks for a batch that cannot be made again.
func (a *attempt[In, Out, Value]) findSent(ctx context.Context, b ledger.Batch) error {
	s, found, err := a.deps.post.client.Find(ctx, b.Key, b.At)
	if err != nil {
		return a.deps.post.explain(ctx, &b, err)
	}
	if found {
		if err := a.book.Sent(ctx, b.Seq, s.ID); err != nil {
			return err
		}
		return errSent
	}
	return a.book.Settle(ctx, b.Seq, ledger.Settlement{Outcome: ledger.BatchRefused, Reason: "never sent, and not wanted any more"})
}

func (a *attempt[In, Out, Value]) lines(keys []ledger.Key, known map[ledger.Key]postQuestion, path string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var line []byte
		for _, k := range keys {
			turns, err := a.render(known[k].slot)
			if err != nil {
				yield(nil, err)
				return
			}
			body, err := a.client.Encode(a.request(k, turns))
			if err != nil {
				yield(nil, err)
				return
			}
			line = batch.AppendLine(line[:0], string(k), path, body)
			if !yield(line, nil) {
				return
			}
		}
	}
}
