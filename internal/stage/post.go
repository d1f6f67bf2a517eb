package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/llm/batch"
)

// ClassBatch is the class of an Error about a batch that the endpoint refused, or that it took and does not know.
const ClassBatch llm.Class = "batch"

const (
	// fewLeft is up to how many questions are asked live after a first batch, so that the last few do not take another day.
	fewLeft = 50

	defaultPoll  = 30 * time.Second
	quickestPoll = 200 * time.Millisecond
	slowestVisit = 5 * time.Minute // when an attempt that handed a partition back comes again, at the latest
	longestPause = time.Hour       // after batches that brought nothing
	batchLag     = time.Hour       // into a stage its first batches are in time still
)

// errSent says that all there is to do is to wait for batches.
var errSent = errors.New("batches are at the endpoint")

// errLate says that what is missing is to be asked live for the deadline's sake.
var errLate = errors.New("a batch would miss the deadline")

// errOut says that batches are at the endpoint though questions are asked live by now.
var errOut = errors.New("batches of an earlier attempt are at the endpoint")

// post is how questions travel in batches. It outlives the rounds of an attempt: look for answers, hand over what is
// missing, wait.
type post struct {
	client *batch.Client
	deps   Deps
	work   Work
	begun  time.Time
	asked  int64 // in earlier rounds
	sizes  batch.Sizes

	withdraw bool // batches are cancelled, and nothing is asked
}

// Delivery returns DeliveryLive or DeliveryBatch: what a wish means for a model of a provider, with a deadline (0: none).
func Delivery(wish string, p llm.Provider, model string, within time.Duration) string {
	cheaper := p.Batch && p.BatchDiscount > 0 && !p.Free(model)
	if wish == DeliveryBatch || (wish == DeliveryAuto && cheaper && (within == 0 || within >= batch.Window)) {
		return DeliveryBatch
	}
	return DeliveryLive
}

// late reports whether a batch handed over now could miss the deadline. The first ones, minutes after the stage began, do not.
func (p *post) late() bool {
	return !p.work.Until.IsZero() && time.Until(p.work.Until) < batch.Window-batchLag
}

// byPost reports whether the work's questions travel in batches.
func (w *Work) byPost(d Deps) (bool, error) {
	if w.Delivery == "" || w.Delivery == DeliveryLive {
		return false, nil
	}
	p, err := d.Models.Provider(w.Model.Provider)
	if err != nil {
		return false, &Error{Class: ClassSetting, Err: err, Way: "name a provider of the worker's settings"}
	}
	return Delivery(w.Delivery, p, w.Model.Name, w.Within) == DeliveryBatch, nil
}

// newPost makes a post, whose client is to be closed. The provider need not declare the Batch API: batches may be there from
// when it did.
func newPost(d Deps, w Work) (*post, error) {
	provider, err := d.Models.Provider(w.Model.Provider)
	if err != nil {
		return nil, &Error{Class: ClassSetting, Err: err, Way: "name a provider of the worker's settings"}
	}
	client, err := batch.New(provider, batch.Options{})
	if err != nil {
		return nil, &Error{Class: ClassSetting, Err: err, Way: "correct the worker's settings"}
	}
	return &post{client: client, deps: d, work: w, begun: time.Now(), sizes: d.batchSizes}, nil
}

// runByPost alternates between waiting, during which neither the input nor the partition's lease is held, and rounds that
// harvest and hand over.
func runByPost(ctx context.Context, d Deps, w Work, t runner, progress func(Progress)) (Result, error) {
	p, err := newPost(d, w)
	if err != nil {
		return Result{}, err
	}
	defer p.client.Close()
	d.post = p
	for {
		if err := p.wait(ctx, progress); err != nil {
			return p.stopped(ctx, err)
		}
		r, err := t.run(ctx, d, w, progress)
		p.asked += r.Asked
		r.Asked = p.asked
		if errors.Is(err, errLate) {
			d.post = nil
			r, err = t.run(ctx, d, w, progress)
			r.Asked += p.asked
			return r, err
		}
		if !errors.Is(err, errSent) {
			return r, err
		}
	}
}

// stopped tells what was paid when a wait ended without an answer.
func (p *post) stopped(ctx context.Context, err error) (Result, error) {
	r, err := stopped(ctx, Result{Asked: p.asked}, err)
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	paid, paidErr := Paid(looking, p.deps.Store, p.work)
	if paidErr != nil {
		return r, errors.Join(err, paidErr)
	}
	r.Spent, r.InDoubt = paid.Spent, paid.InDoubt
	return r, err
}

// wait returns when there is something to do: a batch that is to be sent or harvested, or none at all.
func (p *post) wait(ctx context.Context, progress func(Progress)) error {
	w := p.work
	handed, err := ledger.Handed(ctx, p.deps.Store, Scope(w), w.Input.Bits, w.Partition, w.Output)
	if err != nil {
		return err
	}
	for _, b := range handed.Open {
		if b.ID == "" {
			return nil
		}
	}
	if len(handed.Open) == 0 {
		return p.rest(ctx, handed, progress)
	}
	for {
		running, words, questions, err := p.look(ctx, handed.Open)
		if err != nil || !running {
			return err
		}
		age := time.Since(handed.Open[0].At)
		pause := min(cmp.Or(p.deps.BatchPoll, defaultPoll), max(quickestPoll, age/8))
		says := Progress{Partition: w.Partition, InFlight: questions, Waiting: short(words)}
		visit := min(slowestVisit, max(age/8, time.Second))
		if err := p.sleep(ctx, pause, age, visit, says, progress); err != nil {
			return err
		}
	}
}

// look asks the endpoint about batches until one still runs.
func (p *post) look(ctx context.Context, open []ledger.Batch) (running bool, words string, questions int64, err error) {
	var done, total int64
	for _, b := range open {
		questions += int64(len(b.Questions))
		s, err := p.client.Status(ctx, b.ID)
		if err != nil {
			return false, "", 0, p.explain(ctx, &b, err)
		}
		running = running || !s.Over()
		done, total = done+s.Counts.Completed+s.Counts.Failed, total+s.Counts.Total
	}
	words = fmt.Sprintf("a batch at provider %s: %d of %d questions done", p.work.Model.Provider, done, max(total, questions))
	return running, words, questions, nil
}

// rest lets some time pass after batches that brought nothing: the endpoint may have too much to do, or be out of order.
func (p *post) rest(ctx context.Context, handed ledger.Batches, progress func(Progress)) error {
	for {
		left := p.pause(handed)
		if left <= 0 {
			return nil
		}
		says := Progress{Partition: p.work.Partition, Waiting: fmt.Sprintf("provider %s took or answered no batch %d times; it is asked again", p.work.Model.Provider, handed.Fruitless)}
		if err := p.sleep(ctx, left, time.Since(p.begun), left, says, progress); err != nil {
			return err
		}
	}
}

// pause returns how long nothing is to be handed over.
func (p *post) pause(handed ledger.Batches) time.Duration {
	if handed.Fruitless == 0 {
		return 0
	}
	pause := min(longestPause, cmp.Or(p.deps.BatchPoll, defaultPoll)<<min(handed.Fruitless, 12))
	return time.Until(handed.Last.Add(pause))
}

// sleep waits, telling of it every second, unless the attempt has waited for long enough: then it is to come again after
// visit.
func (p *post) sleep(ctx context.Context, d, waited, visit time.Duration, says Progress, progress func(Progress)) error {
	if limit := p.deps.BatchWait; limit > 0 && waited+d > limit {
		return &Error{
			Class: llm.ClassYield, RetryAfter: visit, Err: errors.New(says.Waiting),
			Way: "wait: a batch may take 24 hours",
		}
	}
	until := time.Now().Add(d)
	for {
		progress(says)
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, progressEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// explain turns an error of the Batch API into ours. b is the batch that it is about; nil: none that the endpoint took.
func (p *post) explain(ctx context.Context, b *ledger.Batch, err error) error {
	var e *llm.Error
	if !errors.As(err, &e) {
		return err
	}
	name := p.work.Model.Provider
	switch e.Class {
	case llm.ClassAuth, llm.ClassQuota, llm.ClassYield:
		out := fatal(e, name, p.work.Model.Name)
		out.Err = err
		return out
	case llm.ClassNotFound:
		if b == nil {
			return &Error{Class: llm.ClassNotFound, Err: err, Way: fmt.Sprintf("give provider %s an address that has the Batch API, or choose delivery: live", name)}
		}
		return &Error{Class: ClassBatch, Err: err, Way: fmt.Sprintf(
			"give provider %s the address and key under which batch %s was made; if it is gone for good, delete %s: its questions are then asked again",
			name, cmp.Or(b.ID, "with "+batch.MetadataKey+" "+b.Key), p.deps.Store.URI(ledger.BatchObject(Scope(p.work), p.work.Input.Bits, p.work.Partition, b.Seq)))}
	case llm.ClassPassing:
		return &Error{Class: llm.ClassPassing, RetryAfter: passingRetry, Err: err, Way: "wait, or look why the endpoint's Batch API fails"}
	}
	return &Error{Class: ClassBatch, Err: err, Way: fmt.Sprintf("see what provider %s says, or choose delivery: live", name)}
}

// wordsOf returns what of an error is noted with a batch.
func wordsOf(err error) string { return short(strings.ToValidUTF8(err.Error(), "\uFFFD")) }
