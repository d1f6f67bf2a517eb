package stage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/prompt"
)

// ask asks for the missing slots through the window. It returns why it stopped before the end, if it did.
func (a *attempt[In, Out, Value]) ask(ctx context.Context, missing []int) (stop string, err error) {
	dispatch, halt := context.WithCancel(ctx) // ends: nothing new goes to the endpoint
	defer halt()
	calls, abandon := context.WithCancel(llm.WithDrain(context.WithoutCancel(ctx), dispatch)) // ends: calls in flight are given up
	defer abandon()
	stopDrain := context.AfterFunc(dispatch, func() {
		timer := time.NewTimer(drainFor)
		defer timer.Stop()
		select {
		case <-timer.C:
			abandon()
		case <-calls.Done():
		}
	})
	defer stopDrain()

	w := newWindow(missing, halt)
	output := a.deps.Store.URI(a.work.Output)
	seats := seating.join(output, a.work.InFlight)
	defer seating.leave(output, seats)
	a.mu.Lock()
	a.window, a.seats = w, seats
	a.mu.Unlock()
	a.dispatch(dispatch, calls, w)
	switch {
	case w.stopped:
		return w.stop, w.err
	case ctx.Err() != nil:
		return StopCancelled, nil
	case w.parked > 0:
		return "", &Error{
			Class: llm.ClassPassing, RetryAfter: passingRetry, Way: "wait, or look why the endpoint fails on these questions",
			Err: fmt.Errorf("%d questions got no answer, though others did: %w", w.parked, a.lastFailure()),
		}
	}
	return "", nil
}

// inLine is how many slots of a partition wait for seats at once, so that the seats which come free together go to the partition
// that began first.
const inLine = 8

// dispatch asks slot after slot, each when there is a seat for it, and returns when all calls have ended. A call that waits to be
// repeated has given its seat away, so there can be more calls than seats. They are bounded too, with
// much room for what others lend: while they wait for their last answers, one partition may have all the seats.
func (a *attempt[In, Out, Value]) dispatch(dispatch, calls context.Context, w *window) {
	var under sync.WaitGroup
	room := make(chan struct{}, 4*a.work.InFlight)
	for range min(inLine, a.work.InFlight) {
		under.Go(func() {
			for {
				room <- struct{}{}
				i, ok := w.take()
				if !ok {
					<-room
					return
				}
				s := &seat{table: a.seats}
				if err := s.Take(dispatch); err != nil {
					a.refuse(dispatch, err)
					w.done(i, false)
					<-room
					return
				}
				under.Go(func() {
					again := a.askOne(dispatch, llm.WithSeat(calls, s), i)
					s.Leave()
					w.done(i, again)
					<-room
				})
			}
		})
	}
	under.Wait()
}

// askOne asks one slot once and records what came of it. It reports whether the slot is to be asked again.
func (a *attempt[In, Out, Value]) askOne(dispatch, calls context.Context, i int) (again bool) {
	s := &a.slots[i]
	turns, err := a.render(i)
	if err != nil {
		a.window.end("", err)
		return false
	}
	if s.key == "" {
		s.key = a.key(i, turns)
	}
	if _, found := a.book.Find(s.key); found { // a predecessor's last words, read when we took over
		return a.next(i)
	}
	worst := a.worst(turns)
	if err := a.book.Admit(dispatch, worst); err != nil {
		a.refuse(dispatch, err)
		return false
	}
	c := call{worst: worst, book: a.book}
	resp, err := a.client.Complete(llm.WithAgain(calls, c.again), a.request(s.key, turns))
	a.mu.Lock()
	a.tally.Asked++
	a.mu.Unlock()
	if err != nil {
		return a.failed(dispatch, i, &c, err)
	}
	e := a.entry(i)
	e.Status, e.Text, e.FinishReason, e.Model = ledger.StatusAnswered, resp.Text, resp.FinishReason, resp.Model
	e.LatencyMS, e.Tries, e.LogProbs = resp.Latency.Milliseconds(), resp.Attempts, a.work.logProbs(&resp)
	a.cost(&e, resp.Usage)
	a.book.Record(e, worst, c.lost(resp.InDoubt))
	return a.next(i)
}

// call is one admitted call.
type call struct {
	worst    dataset.Usage
	book     *ledger.Book
	repeated int // tries in doubt that the book was told of
	err      error
}

func (c *call) again(ctx context.Context) error {
	if c.err = c.book.Again(ctx, c.worst); c.err == nil {
		c.repeated++
	}
	return c.err
}

// lost returns the worst case of tries in doubt that the book was not told of yet.
func (c *call) lost(doubtful int) dataset.Usage {
	var u dataset.Usage
	for range doubtful - c.repeated {
		u = u.Add(c.worst)
	}
	return u
}

// next reads what was recorded for a slot and reports whether another attempt is to be asked.
func (a *attempt[In, Out, Value]) next(i int) (again bool) {
	before := a.slots[i].attempt
	if err := a.look(i); err != nil {
		a.window.end("", err)
		return false
	}
	if a.slots[i].outcome.state != open {
		return false
	}
	a.book.Expect(int64(min(1, a.slots[i].attempt-before)))
	return true
}

// refuse ends the attempt because the book admits nothing more.
func (a *attempt[In, Out, Value]) refuse(dispatch context.Context, err error) {
	switch {
	case errors.Is(err, ledger.ErrBudget):
		a.window.end(StopBudget, nil)
	case dispatch.Err() != nil:
		a.window.end(StopCancelled, nil) // unless it ended before for another reason
	default:
		a.window.end("", a.explain(err))
	}
}

// failed deals with a call that brought no answer.
func (a *attempt[In, Out, Value]) failed(dispatch context.Context, i int, c *call, err error) (again bool) {
	var e *llm.Error
	if !errors.As(err, &e) {
		a.book.Drop(c.worst, c.lost(c.repeated+1))
		a.window.end("", err)
		return false
	}
	lost := c.lost(e.Doubtful)
	switch a.blames(e) {
	case refusesMethod:
		a.book.Drop(c.worst, lost)
		a.window.end("", a.methodRefused(e))
		return false
	case refusesMaybe:
		a.book.Drop(c.worst, lost)
		return true
	case refusesRow:
	}
	switch e.Class {
	case llm.ClassPermanent:
		a.record(i, ledger.StatusRefused, e, c.worst, lost)
		return a.next(i)
	case llm.ClassPassing:
		a.record(i, ledger.StatusFailed, e, c.worst, lost)
		s := &a.slots[i]
		if s.passing++; s.passing < max(2, a.work.Attempts) {
			a.book.Expect(1)
			return true
		}
		a.window.park()
		return false
	case llm.ClassCancelled:
		a.book.Drop(c.worst, lost)
		if c.err != nil {
			a.refuse(dispatch, c.err)
		} else {
			a.window.end(StopCancelled, nil)
		}
	default:
		a.book.Drop(c.worst, lost)
		a.window.end("", fatal(e, a.work.Model.Provider, a.work.Model.Name))
	}
	return false
}

func (a *attempt[In, Out, Value]) record(i int, s ledger.Status, err *llm.Error, worst, lost dataset.Usage) {
	e := a.entry(i)
	e.Status, e.ErrorClass, e.ErrorMessage, e.Tries = s, err.Code, err.Message, err.Attempts
	if e.ErrorClass == "" {
		e.ErrorClass = string(err.Class)
	}
	a.cost(&e, err.Usage)
	a.book.Record(e, worst, lost)
	a.mu.Lock()
	a.failure = err
	a.mu.Unlock()
}

func (a *attempt[In, Out, Value]) lastFailure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// entry names the slot's question.
func (a *attempt[In, Out, Value]) entry(i int) ledger.Entry {
	return ledger.Entry{
		Key: a.slots[i].key, Row: a.rows[i/a.work.Samples].RowID(), Sample: i%a.work.Samples + 1, Attempt: a.slots[i].attempt,
	}
}

func (a *attempt[In, Out, Value]) cost(e *ledger.Entry, u llm.Usage) {
	e.PromptTokens, e.CachedTokens, e.CompletionTokens = u.PromptTokens, u.CachedTokens, u.CompletionTokens
	if a.byPost {
		e.MicroUSD, e.CostKnown = a.client.BatchCost(a.work.Model.Name, u)
		return
	}
	e.MicroUSD, e.CostKnown = a.client.Cost(a.work.Model.Name, u)
}

// render returns the messages that ask about the slot's row.
func (a *attempt[In, Out, Value]) render(i int) ([]ledger.Turn, error) {
	row := a.rows[i/a.work.Samples]
	var vars prompt.Vars
	if a.task.sampled != nil {
		vars = a.task.sampled(row, i%a.work.Samples+1)
	} else {
		vars = a.task.vars(row)
	}
	messages, err := a.prompt.Render(vars)
	if err != nil {
		return nil, err
	}
	turns := make([]ledger.Turn, len(messages))
	for j, m := range messages {
		turns[j] = ledger.Turn(m)
	}
	return turns, nil
}

func (a *attempt[In, Out, Value]) key(i int, turns []ledger.Turn) ledger.Key {
	return a.keyOf(i, a.slots[i].attempt, turns)
}

// keyOf names the question that the slot asks in an attempt.
func (a *attempt[In, Out, Value]) keyOf(i, attempt int, turns []ledger.Turn) ledger.Key {
	s := a.work.Sampling
	return ledger.KeyOf(ledger.Question{
		Turns: turns, Revision: a.revision, Temperature: s.Temperature, TopP: s.TopP, MaxTokens: s.MaxTokens,
		Sample: i%a.work.Samples + 1, Attempt: attempt,
	})
}

func (a *attempt[In, Out, Value]) request(k ledger.Key, turns []ledger.Turn) llm.Request {
	seed := k.Seed()
	s := a.work.Sampling
	r := llm.Request{
		Model: a.work.Model.Name, Temperature: s.Temperature, TopP: s.TopP, MaxTokens: s.MaxTokens, Seed: &seed,
		Messages: make([]llm.Message, len(turns)), Render: a.deps.render,
	}
	for j, t := range turns {
		r.Messages[j] = llm.Message(t)
	}
	a.work.shape(&r)
	return r
}

// worst is the most that one call can cost. Two bytes of prompt make at most about one token in any tokenizer in use, and
// every message has some around it.
func (a *attempt[In, Out, Value]) worst(turns []ledger.Turn) dataset.Usage {
	tokens := 16
	for _, t := range turns {
		tokens += len(t.Content)/2 + 16
	}
	u := dataset.Usage{Calls: 1, PromptTokens: int64(tokens), CompletionTokens: int64(a.work.Sampling.MaxTokens)}
	switch {
	case a.price && a.byPost:
		u.MicroUSD, _ = a.client.BatchWorstCost(a.work.Model.Name, tokens, a.work.Sampling.MaxTokens)
	case a.price:
		u.MicroUSD, _ = a.client.WorstCost(a.work.Model.Name, tokens, a.work.Sampling.MaxTokens)
	default:
		u.UnknownPrice = 1
	}
	return u
}
