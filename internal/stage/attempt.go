package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/prompt"
)

const (
	drainFor      = 30 * time.Second // how long calls in flight are waited for when the attempt must stop
	progressEvery = time.Second
	scattered     = 8 // more objects than this are compacted although nothing is to be asked
)

// attempt is one attempt at a partition.
type attempt[In, Out dataset.Row, Value any] struct {
	task     *task[In, Out, Value]
	deps     Deps
	work     Work
	prompt   prompt.Template
	client   *llm.Client
	book     *ledger.Book
	price    bool // the model's price is known
	revision string
	rows     []In
	slots    []slot[Value] // of row i: from i × Samples
	window   *window
	seats    *table
	byPost   bool           // what is asked now travels in a batch, at its price
	clean    EvaluationSets // where Find is nil nothing is looked for

	proved atomic.Bool  // the endpoint has answered in this way
	blind  atomic.Int32 // refusals before it did

	mu      sync.Mutex
	tally   Progress
	left    []int // by unit: slots that are open
	failure error // the last question that failed
}

// slot is one answer that is wanted: a sample of a row.
type slot[Value any] struct {
	attempt int        // the last that was looked at, from 1
	key     ledger.Key // of that attempt; "": not reckoned yet
	passing int        // times that it failed in passing in this attempt at the partition
	ours    bool
	outcome outcome[Value]
}

// outcome is what the ledger says about a slot.
type outcome[Value any] struct {
	state  state
	value  Value
	reason string // of a rejection
	detail string
	text   string // the answer that could not be read
	unread bool   // there was an answer, and it could not be read
}

type state uint8

const (
	open     state = iota // nothing stands for the slot's key: it is to be asked
	answered              // value was read
	rejected              // no attempt brought an answer that can be read, or the endpoint refused
)

func (t *task[In, Out, Value]) run(ctx context.Context, d Deps, w Work, progress func(Progress)) (Result, error) {
	a := &attempt[In, Out, Value]{task: t, deps: d, work: w, revision: w.revision()}
	a.tally = Progress{Partition: w.Partition, Waiting: "input"}
	stop := a.report(progress)
	defer stop()
	if err := a.prepare(ctx); err != nil {
		return stopped(ctx, Result{}, err)
	}
	result, err := a.workThrough(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	if closeErr := a.book.Close(closing); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	paid := a.book.Paid()
	result.Spent, result.InDoubt = paid.Spent, paid.InDoubt
	result.Asked = a.snapshot().Asked
	return stopped(ctx, result, err)
}

// report calls progress about every second, and once at the end.
func (a *attempt[In, Out, Value]) report(progress func(Progress)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			progress(a.snapshot())
			select {
			case <-ticker.C:
			case <-done:
				progress(a.snapshot())
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// prepare reads the input and opens the ledger.
func (a *attempt[In, Out, Value]) prepare(ctx context.Context) (err error) {
	w := a.work
	if a.prompt, err = w.template(a.task.prompt(&w)); err != nil {
		return &Error{Class: ClassSetting, Err: err, Way: "correct the template"}
	}
	if a.client, err = a.deps.Models.Client(w.Model.Provider); err != nil {
		return &Error{Class: ClassSetting, Err: err, Way: "name a provider of the worker's settings"}
	}
	if _, a.price = a.client.WorstCost(w.Model.Name, 1, 1); !a.price && (w.Budget.RequirePrice || w.Budget.MicroUSD >= 0) {
		return &Error{
			Class: ClassPrice, Err: fmt.Errorf("provider %s has no price for model %s", w.Model.Provider, w.Model.Name),
			Way: "add the price to the worker's settings, or give the budget in calls or tokens",
		}
	}
	if w.Evaluation != "" && a.task.written != nil {
		if a.clean, err = a.deps.Evaluation(ctx, w.Evaluation); err != nil {
			return err
		}
	}
	if a.rows, err = dataset.ReadPartition[In](ctx, a.deps.Store, w.Input.Dir, w.Partition); err != nil {
		return fmt.Errorf("read input: %w", err)
	}
	a.slots = make([]slot[Value], len(a.rows)*w.Samples)
	a.left = make([]int, len(a.slots)/a.group())
	a.mu.Lock()
	a.tally.Total, a.tally.Waiting = int64(len(a.left)), "another attempt at the partition"
	a.mu.Unlock()
	book, err := ledger.Open(ctx, a.deps.Store, Scope(w), w.Input.Bits, w.Partition, ledger.Options{Run: w.Output})
	a.mu.Lock()
	a.book, a.tally.Waiting = book, ""
	a.mu.Unlock()
	return err
}

// workThrough looks all slots up, asks for what is missing, and writes the partition when nothing is.
func (a *attempt[In, Out, Value]) workThrough(ctx context.Context) (Result, error) {
	missing, err := a.lookUp()
	if err != nil {
		return Result{}, err
	}
	if a.deps.post != nil && (len(missing) > 0 || len(a.book.Batches().Open) > 0) {
		if stop, err := a.askByPost(ctx); stop != "" || err != nil {
			return Result{Stop: stop}, err
		}
		missing = nil
	} else if len(missing) > 0 || a.book.Scattered() > scattered {
		// Without anything to ask it is only for compaction, which can wait.
		if err := a.claim(ctx, missing); err != nil && (len(missing) > 0 || ctx.Err() != nil) {
			return Result{}, err
		}
	}
	if a.deps.post == nil && len(a.book.Batches().Open) > 0 {
		return Result{}, errOut
	}
	if len(missing) > 0 {
		if stop, err := a.ask(ctx, missing); stop != "" || err != nil {
			return Result{Stop: stop}, err
		}
	}
	if err := a.book.Compact(ctx); err != nil && !errors.Is(err, ledger.ErrClosed) {
		// Everything was answered and Close makes it durable; a ledger of many objects is a smaller evil than waiting.
		a.deps.Log.WarnContext(ctx, "ledger not compacted", "run", a.work.Run, "output", a.work.Output, "partition", a.work.Partition, "error", err)
	}
	return a.commit(ctx)
}

// claim takes the partition for ourselves.
func (a *attempt[In, Out, Value]) claim(ctx context.Context, missing []int) error {
	w := a.work
	d := ledger.Demand{
		Window: min(w.InFlight, max(1, len(missing))), Expect: int64(len(missing)),
		Cap: ledger.Cap{Calls: w.Budget.Calls, Tokens: w.Budget.Tokens, MicroUSD: w.Budget.MicroUSD},
	}
	for n, i := range missing {
		if n == 16 {
			break
		}
		turns, err := a.render(i)
		if err != nil {
			return err
		}
		if c := a.worst(turns); c.PromptTokens > d.Each.PromptTokens {
			d.Each = c
		}
	}
	err := a.book.Claim(ctx, d)
	return a.explain(err)
}

// explain makes errors of the ledger ours.
func (a *attempt[In, Out, Value]) explain(err error) error {
	var held *ledger.HeldError
	switch {
	case errors.As(err, &held):
		return &Error{Class: ClassHeld, RetryAfter: held.After, Err: err, Way: "wait: its answers will be used"}
	case errors.Is(err, ledger.ErrFenced):
		return &Error{Class: ClassFenced, RetryAfter: fencedRetry, Err: err, Way: "wait for the other attempt"}
	}
	return err
}

// lookUp settles what the ledger knows and returns the slots that are missing.
func (a *attempt[In, Out, Value]) lookUp() ([]int, error) {
	for i := range a.left {
		a.left[i] = a.group()
	}
	var missing []int
	unknown := a.deps.post == nil && a.book.Empty() // then questions are rendered only when they are asked
	for i := range a.slots {
		a.slots[i].attempt = 1
		if !unknown {
			if err := a.look(i); err != nil {
				return nil, err
			}
		}
		if a.slots[i].outcome.state == open {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

// look brings a slot up to date with the ledger, from the attempt it was at.
func (a *attempt[In, Out, Value]) look(i int) (err error) {
	s := &a.slots[i]
	var turns []ledger.Turn
	for {
		if s.key == "" {
			if turns == nil {
				if turns, err = a.render(i); err != nil {
					return err
				}
			}
			s.key = a.key(i, turns)
		}
		e, found := a.book.Find(s.key)
		if !found {
			return nil
		}
		s.ours = s.ours || a.book.Ours(e)
		s.outcome = a.judge(e)
		if e.Status == ledger.StatusAnswered {
			a.proved.Store(true)
		}
		if s.outcome.state == rejected && e.Status == ledger.StatusAnswered && s.attempt < a.work.Attempts {
			s.attempt++
			s.key, s.outcome = "", outcome[Value]{}
			continue
		}
		a.settled(i)
		return nil
	}
}

// judge reads an entry. It is all that rows are made of.
func (a *attempt[In, Out, Value]) judge(e *ledger.Entry) outcome[Value] {
	if e.Status == ledger.StatusRefused {
		return outcome[Value]{state: rejected, reason: cmp.Or(e.ErrorClass, "refused"), detail: e.ErrorMessage}
	}
	value, err := a.task.read(&a.work, e)
	if e.FinishReason == finishLength && !(a.work.KeepCut && a.work.Task == TaskRespond) {
		err = errCut
	}
	if err != nil {
		return outcome[Value]{state: rejected, reason: reasonOf(err), detail: err.Error(), text: e.Text, unread: true}
	}
	return outcome[Value]{state: answered, value: value}
}

// settled counts a slot that is no longer open.
func (a *attempt[In, Out, Value]) settled(i int) {
	unit := i / a.group()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.left[unit]--; a.left[unit] > 0 {
		return
	}
	a.tally.Rows++
	ours := false
	for _, s := range a.samples(unit) {
		ours = ours || s.ours
	}
	if !ours {
		a.tally.Reused++
	}
	out, ok := a.made(unit)
	if sets, _ := a.found(out, ok); !ok || len(sets) > 0 {
		a.tally.Rejected++
		return
	}
	if a.task.score != nil {
		if a.tally.Histogram == nil {
			a.tally.Histogram = map[string]int64{}
		}
		a.tally.Histogram[dataset.ScoreBucket(a.task.score(out))]++
	}
}

// A unit is the slots that one row is made of: all samples of a row that went in, or one where each is a row of its own.

func (a *attempt[In, Out, Value]) group() int {
	if a.task.each != nil {
		return 1
	}
	return a.work.Samples
}

func (a *attempt[In, Out, Value]) samples(unit int) []slot[Value] {
	return a.slots[unit*a.group() : (unit+1)*a.group()]
}

// of returns the row that a unit belongs to, and the unit's first sample, counted from 1.
func (a *attempt[In, Out, Value]) of(unit int) (in In, sample int) {
	first := unit * a.group()
	return a.rows[first/a.work.Samples], first%a.work.Samples + 1
}

// made returns the row made of a unit. It is kept when at least half of its samples can be read.
func (a *attempt[In, Out, Value]) made(unit int) (out Out, ok bool) {
	var values []Value
	for _, s := range a.samples(unit) {
		if s.outcome.state == answered {
			values = append(values, s.outcome.value)
		}
	}
	if len(values) == 0 || 2*len(values) < a.group() {
		return out, false
	}
	how := made{cmp.Or(a.work.Model.Revision, a.work.Model.Name), a.prompt.ID(), a.work.Iteration}
	in, sample := a.of(unit)
	if a.task.each != nil {
		return a.task.each(in, sample, values[0], how), true
	}
	return a.task.row(in, values, how), true
}

func (a *attempt[In, Out, Value]) snapshot() Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.tally
	p.Histogram = make(map[string]int64, len(p.Histogram))
	for score, n := range a.tally.Histogram {
		p.Histogram[score] = n
	}
	if a.book != nil {
		p.Paid = a.book.Paid()
		if err := a.book.Trouble(); err != nil {
			p.Waiting = short("the ledger cannot be written: " + err.Error())
		}
	}
	if a.window != nil {
		p.InFlight = a.seats.flying.Load()
	}
	return p
}

func short(s string) string {
	const most = 300
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
