package batch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/selfalign/selfalign/internal/llm"
)

const (
	maxReply = 32 << 20 // bytes of an answer that is no file; a page of 100 batches has about 100 KiB
	maxPages = 1000     // of a listing
)

// request is one call. At most one of body and stream is used.
type request struct {
	method, path string
	query        url.Values
	body         any // sent as JSON
	stream       func() io.ReadCloser
	size         int64 // of stream
	kind         string
	into         any                   // the answer's JSON is read into it
	read         func(io.Reader) error // or the answer is read by this
}

// do makes the request until it succeeds, fails for good or has used up its attempts. Only for requests that may be
// repeated.
func (c *Client) do(ctx context.Context, r request) error {
	for attempt := 1; ; attempt++ {
		err := c.once(ctx, r)
		if err == nil {
			return nil
		}
		if err = c.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// pause waits before another attempt and returns nil, or returns err when there shall be none.
func (c *Client) pause(ctx context.Context, attempt int, err error) error {
	var e *llm.Error
	if !errors.As(err, &e) || e.Class != llm.ClassPassing || attempt >= c.opts.Attempts {
		return err
	}
	wait := min(c.opts.Backoff<<min(attempt-1, 16), c.opts.MaxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	if e.RetryAfter > c.opts.MaxBackoff {
		e.Class = llm.ClassYield
		return e
	}
	timer := time.NewTimer(max(wait, e.RetryAfter))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w while waiting after: %w", ctx.Err(), err)
	case <-timer.C:
		return nil
	}
}

// once makes the request once.
func (c *Client) once(ctx context.Context, r request) error {
	limit := c.opts.Timeout + time.Duration(r.size/(64<<10))*time.Second
	if r.read != nil {
		limit = Window // a download ends by itself or by the watchdog
	}
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := c.newRequest(callCtx, r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.lost(ctx, r, err)
	}
	defer func() {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		_ = resp.Body.Close()
	}()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		words, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what cannot be read is not known; the status is
		e := c.provider.Refusal(resp.StatusCode, resp.Header, words)
		if e.Class == llm.ClassPermanent && isEnqueued(e.Code, e.Message) || resp.StatusCode == http.StatusTooManyRequests && isEnqueued(e.Code, e.Message) {
			e.Class, e.Code = llm.ClassYield, CodeEnqueued
		}
		return e
	}
	if r.read != nil {
		w := newWatchdog(resp.Body, c.opts.Timeout, cancel)
		defer w.stop()
		err := r.read(w)
		var e *llm.Error
		if err == nil || errors.As(err, &e) || errors.As(err, new(*stopped)) {
			return err
		}
		return c.lost(ctx, r, err)
	}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return c.lost(ctx, r, err)
	case len(reply) > maxReply:
		return &llm.Error{Class: llm.ClassPermanent, Code: llm.CodeReplyTooLarge, Message: fmt.Sprintf("%s %s: the answer has more than %d bytes", r.method, r.path, maxReply)}
	case r.into == nil:
		return nil
	}
	if err := json.Unmarshal(reply, r.into); err != nil {
		// A broken answer with a good status is a proxy's or a dying server's; it may pass.
		return &llm.Error{Class: llm.ClassPassing, Status: resp.StatusCode, Code: llm.CodeInvalidReply, Message: fmt.Sprintf("%s %s: the answer is not the JSON expected", r.method, r.path)}
	}
	return nil
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	query := url.Values{}
	for _, values := range []url.Values{c.query, r.query} {
		for k, v := range values {
			query[k] = v
		}
	}
	address := c.base + r.path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var body io.Reader
	switch {
	case r.body != nil:
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(raw)
	case r.stream != nil:
		body = r.stream() // closed by the transport
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %s", r.method, r.path, c.provider.Redact(err.Error()))
	}
	req.GetBody = nil // a POST is repeated by us alone, who look first
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.stream != nil {
		req.ContentLength = r.size
		req.Header.Set("Content-Type", r.kind)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "selfalign")
	for k, v := range c.provider.Headers {
		req.Header.Set(k, v)
	}
	if c.provider.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.provider.Key.Reveal())
	}
	return req, nil
}

// lost is a request without a whole answer.
func (c *Client) lost(ctx context.Context, r request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", r.method, r.path, ctx.Err())
	}
	var e *llm.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.As(err, new(*stopped)) {
		return err
	}
	if u := new(url.Error); errors.As(err, &u) { // url.Error repeats the address
		err = u.Err
	}
	code := llm.CodeConnection
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		code = llm.CodeTimeout
	}
	return &llm.Error{Class: llm.ClassPassing, Code: code, Message: c.provider.Redact(fmt.Sprintf("%s %s: %v", r.method, r.path, err))}
}

// watchdog ends a download that brings nothing for some time.
type watchdog struct {
	r     io.Reader
	limit time.Duration
	timer *time.Timer
}

func newWatchdog(r io.Reader, limit time.Duration, bite func()) *watchdog {
	return &watchdog{r: r, limit: limit, timer: time.AfterFunc(limit, bite)}
}

func (w *watchdog) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.timer.Reset(w.limit)
	}
	return n, err
}

func (w *watchdog) stop() { w.timer.Stop() }

// stopped wraps an error of the caller's own, which is not the endpoint's.
type stopped struct{ err error }

func (s *stopped) Error() string { return s.err.Error() }
func (s *stopped) Unwrap() error { return s.err }

// page is one page of a listing.
type page[T any] struct {
	Data    []T  `json:"data"`
	HasMore bool `json:"has_more"`
}

type listed interface {
	ident() string
	createdAt() float64
}

// pages goes through a listing until fn returns false. A cursor that does not move ends it, since some servers answer the
// first page for ever. A listing that is seen to begin with the newest ends at since, with an hour to spare for clocks.
func pages[T listed](ctx context.Context, c *Client, path string, query url.Values, since time.Time, fn func(T) bool) error {
	after, seen := "", map[string]bool{}
	newest := 0.0 // creation of the last item, while none was newer than its predecessor
	sorted := true
	for range maxPages {
		q := url.Values{"limit": {"100"}}
		for k, v := range query {
			q[k] = v
		}
		if after != "" {
			q.Set("after", after)
		}
		var p page[T]
		if err := c.do(ctx, request{method: http.MethodGet, path: path, query: q, into: &p}); err != nil {
			return err
		}
		for _, item := range p.Data {
			sorted = sorted && item.createdAt() > 0 && (newest == 0 || item.createdAt() <= newest)
			newest = item.createdAt()
			if !fn(item) {
				return nil
			}
		}
		if !p.HasMore || len(p.Data) == 0 {
			return nil
		}
		first := p.Data[0].createdAt()
		if sorted && first > newest && !since.IsZero() && newest < float64(since.Add(-time.Hour).Unix()) {
			return nil
		}
		if after = p.Data[len(p.Data)-1].ident(); after == "" || seen[after] {
			return nil
		}
		seen[after] = true
	}
	return &llm.Error{Class: llm.ClassPermanent, Message: fmt.Sprintf("GET %s: more than %d pages", path, maxPages)}
}
