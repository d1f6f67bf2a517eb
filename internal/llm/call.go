package llm

import (
	"context"
	"math/rand/v2"
	"time"
)

// job is one call on its way through its attempts.
type job struct {
	body        []byte // of the request; nil: GET
	need        float64
	maxAttempts int
	patience    time.Duration // for waits that the endpoint causes
	ask         func(context.Context, *exchange, *Response) *Error

	attempts int           // requests sent
	counted  int           // of those, failed ones other than refusals for overload
	costly   int           // of those, timeouts and unreadable replies, each of which is likely billed
	doubtful int           // attempts that may have been billed without an answer
	waited   time.Duration // because of the endpoint
	seen     int64         // answers that the endpoint had given to others when this call last looked
	own      int           // failures while the endpoint answered others: this request's fault
	last     *Error        // of the last attempt
	alone    bool          // the last attempt was refused while others were answered
}

// ownFault is how many failures beside the answers of others make a call give up, rather than yield, when the breaker opens: of a few
// requests that crash the endpoint, the last ones would be taken for an endpoint that is down, for ever.
const ownFault = 3

// maxCostly is how many timeouts and unreadable replies a call may cause before it is given up.
const maxCostly = 3

// run makes attempts until one brings an answer or an error that no attempt can mend. It is the only retrying layer.
func (c *Client) run(ctx context.Context, j *job) (Response, *Error) {
	admit := ctx
	if stop, ok := ctx.Value(drainKey{}).(context.Context); ok {
		var cancel context.CancelFunc
		admit, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(stop, cancel)()
	}
	for {
		asked := time.Now()
		t, e := c.admission.acquire(admit, j.need, j.patience-j.waited, j.attempts > 0)
		if e != nil {
			if e.Class == ClassYield && j.own >= ownFault {
				e = j.last
			}
			return Response{}, c.finish(j, e)
		}
		if j.attempts > 0 {
			j.waited += time.Since(asked)
		}
		resp, e := c.attempt(ctx, j, t)
		if e == nil {
			resp.Attempts, resp.InDoubt = j.attempts, j.doubtful
			return resp, nil
		}
		wait, again := j.next(e)
		if !again {
			return Response{}, c.finish(j, e)
		}
		if e.InDoubt {
			if err := askedAgain(ctx, admit); err != nil {
				return Response{}, c.finish(j, refusedAgain(err))
			}
		}
		if wait > 0 {
			j.waited += wait
			if !sleepAside(admit, wait) {
				return Response{}, c.finish(j, cancelled(admit, "wait to ask again"))
			}
		}
	}
}

// attempt makes one request on an admitted ticket and gives the ticket back.
func (c *Client) attempt(ctx context.Context, j *job, t ticket) (Response, *Error) {
	x := &exchange{body: j.body}
	actx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, x), c.timeout)
	defer cancel()
	var resp Response
	if j.attempts++; j.attempts == 1 {
		j.seen = t.answered
	}
	start := time.Now()
	e := j.ask(actx, x, &resp)
	resp.Latency = time.Since(start)
	resp.RequestID = x.id
	if e == nil {
		c.admission.done(t, kindAnswer, 0, float64(resp.Usage.PromptTokens+resp.Usage.CompletionTokens), "")
		return resp, nil
	}
	if e.InDoubt {
		j.doubtful++
	}
	if e.kind == kindAbandoned || ctx.Err() != nil {
		inDoubt := e.InDoubt
		e = cancelled(ctx, "ask")
		e.InDoubt = inDoubt
	}
	e.Message = c.doer.redact.text(e.Message)
	e.Code = c.doer.redact.text(e.Code)
	answered, alone := c.admission.done(t, e.kind, e.RetryAfter, float64(e.Usage.PromptTokens+e.Usage.CompletionTokens), e.Message)
	if answered > j.seen && (e.kind == kindBroken || e.kind == kindTimeout) {
		j.own++
	}
	j.seen, j.last, j.alone = answered, e, alone
	return Response{}, e
}

// next decides whether to ask again after a failed attempt, and how long this call sleeps before it stands in line again.
// Where the call is to yield, it turns the error into that.
func (j *job) next(e *Error) (time.Duration, bool) {
	if e.Class != ClassPassing {
		return 0, false
	}
	wait := backoff(j.attempts)
	switch e.kind {
	case kindOverload, kindUnreachable:
		// Not this request's fault. How often is not counted, only for how long.
		if j.alone && e.kind == kindOverload {
			return j.nextAlone(e, wait)
		}
		if e.RetryAfter > 0 {
			wait = 0 // the controller pauses everybody
		}
		if over := j.waited + max(wait, e.RetryAfter); over > j.patience {
			e.Class, e.RetryAfter = ClassYield, max(wait, e.RetryAfter, time.Second)
			return 0, false
		}
		return wait, true
	case kindTimeout:
		j.costly++
	default:
		if e.Code == CodeInvalidReply {
			j.costly++
		}
	}
	j.counted++
	if j.counted >= j.maxAttempts || j.costly >= maxCostly {
		return 0, false
	}
	return wait, true
}

// longestAlone bounds how long a call waits that was refused while others were answered, whatever it was asked to.
const longestAlone = 5 * time.Second

// nextAlone is next for a refusal among answers. A request that is refused on and on is given up by itself: it would make
// all others yield in vain.
func (j *job) nextAlone(e *Error, wait time.Duration) (time.Duration, bool) {
	if e.RetryAfter > 0 {
		wait = min(e.RetryAfter, longestAlone)
		wait += time.Duration(rand.Int64N(int64(wait)/10 + 1))
	}
	return wait, j.waited+wait <= j.patience || j.attempts < 3
}

const (
	backoffFirst = 250 * time.Millisecond
	backoffMost  = 15 * time.Second
)

// backoff returns the sleep after the n-th attempt: doubling, between half and all of it at random.
func backoff(n int) time.Duration {
	d := backoffMost
	if n < 7 {
		d = backoffFirst << (n - 1)
	}
	return d/2 + time.Duration(rand.Int64N(int64(d)/2+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish completes an error with what the call went through.
func (c *Client) finish(j *job, e *Error) *Error {
	e.Attempts, e.Doubtful = j.attempts, j.doubtful
	e.InDoubt = j.doubtful > 0
	return e
}
