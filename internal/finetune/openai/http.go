package openai

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
	"strconv"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// maxReply bounds an answer in bytes; a page of 100 jobs has about 200 KiB.
const maxReply = 32 << 20

// maxPages bounds how far a listing is followed: 100,000 entries.
const maxPages = 1000

// request is one call to the API. Exactly one of body and stream is used, or neither.
type request struct {
	method, path string
	query        url.Values
	headers      map[string]string
	body         any // sent as JSON
	stream       func(context.Context) (io.ReadCloser, error)
	streamSize   int64
	streamType   string
	into         any // the answer's JSON is read into it
}

// do makes the request until it succeeds, fails for good or has used up its attempts. Only for requests that may
// be repeated.
func (b *Backend) do(ctx context.Context, r request) error {
	for attempt := 1; ; attempt++ {
		err := b.once(ctx, r)
		if err == nil {
			return nil
		}
		if err = b.pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// pause waits before another attempt and returns nil, or returns err when there shall be none.
func (b *Backend) pause(ctx context.Context, attempt int, err error) error {
	if finetune.ClassOf(err) != finetune.ClassPassing || attempt >= b.cfg.Attempts {
		return err
	}
	wait := min(b.cfg.Backoff<<min(attempt-1, 20), b.cfg.MaxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	var e *finetune.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		asked := time.Duration(e.RetryAfter) * time.Second
		if asked > b.cfg.MaxBackoff {
			return err
		}
		wait = max(wait, asked)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w while waiting after: %w", ctx.Err(), err)
	case <-timer.C:
		return nil
	}
}

// once makes the request once. Errors are *finetune.Error or wrap the context's.
func (b *Backend) once(ctx context.Context, r request) error {
	limit := b.cfg.Timeout + time.Duration(r.streamSize/(64<<10))*time.Second
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := b.newRequest(callCtx, r)
	if err != nil {
		return err
	}
	resp, err := b.cfg.HTTP.Do(req)
	if err != nil {
		return b.lost(ctx, r, err)
	}
	defer func() {
		// What is left of a short answer is read, so that the connection can be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
	}()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return b.lost(ctx, r, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return b.refused(resp, reply)
	}
	if len(reply) > maxReply {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: fmt.Sprintf("%s %s: the answer has more than %d bytes", r.method, r.path, maxReply)}
	}
	if r.into == nil {
		return nil
	}
	if err := json.Unmarshal(reply, r.into); err != nil {
		// A broken answer with a good status is a proxy's or a dying server's; it may pass.
		return &finetune.Error{Class: finetune.ClassPassing, Status: resp.StatusCode, Message: fmt.Sprintf("%s %s: the answer is not the JSON expected", r.method, r.path), Err: err}
	}
	return nil
}

func (b *Backend) newRequest(ctx context.Context, r request) (*http.Request, error) {
	address := b.base + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	var body io.Reader
	switch {
	case r.body != nil:
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, &finetune.Error{Class: finetune.ClassPermanent, Message: "encode request", Err: err}
		}
		body = bytes.NewReader(raw)
	case r.stream != nil:
		opened, err := r.stream(ctx)
		if err != nil {
			return nil, err
		}
		body = opened // closed by the transport
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, &finetune.Error{Class: finetune.ClassPermanent, Message: b.clean("make request: " + err.Error())}
	}
	if r.body != nil {
		// Without GetBody, net/http does not repeat a POST behind our back, as it does when it sees an
		// Idempotency-Key, which not every provider honours.
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/json")
	}
	if r.stream != nil {
		req.ContentLength = r.streamSize
		req.Header.Set("Content-Type", r.streamType)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "selfalign")
	for k, v := range r.headers {
		req.Header.Set(k, v)
	}
	for k, v := range b.cfg.Headers {
		req.Header.Set(k, v)
	}
	if key := b.key(); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	return req, nil
}

func (b *Backend) key() string {
	if b.cfg.Key == nil {
		return ""
	}
	return strings.TrimSpace(b.cfg.Key())
}

// lost is a request without a whole answer.
func (b *Backend) lost(ctx context.Context, r request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", r.method, r.path, ctx.Err())
	}
	var typed *finetune.Error
	if errors.As(err, &typed) { // the stream's own, such as a training file that changed
		return typed
	}
	if u := new(url.Error); errors.As(err, &u) { // url.Error repeats the address
		err = u.Err
	}
	return &finetune.Error{Class: finetune.ClassPassing, Message: b.clean(fmt.Sprintf("%s %s at %s: %v", r.method, r.path, b.base, err))}
}

// refused reads an error answer: the shape that OpenAI defined, else the text as it is.
func (b *Backend) refused(resp *http.Response, reply []byte) error {
	e := &finetune.Error{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	var shape struct {
		Error   *wireFault      `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	kind := ""
	words := ""
	if json.Unmarshal(reply, &shape) == nil {
		if shape.Error != nil {
			words, e.Code, kind = shape.Error.Message, shape.Error.code(), shape.Error.Type
			if shape.Error.Param != "" {
				words += " (" + shape.Error.Param + ")"
			}
		}
		if words == "" {
			words = shape.Message
		}
		if words == "" {
			words = string(shape.Detail)
		}
	}
	if words == "" {
		words = string(reply[:min(len(reply), 1024)])
	}
	if words == "" {
		words = http.StatusText(resp.StatusCode)
	}
	e.Message, e.Code = b.clean(words), b.clean(e.Code)
	e.Class = classOf(resp.StatusCode, e.Code+" "+kind, e.Message)
	if e.Class == finetune.ClassPermanent && resp.StatusCode/100 == 3 {
		e.Message = "the endpoint redirects, which is not followed (Try: the address that it names as url)"
	}
	return e
}

// classOf sorts an HTTP status with the provider's code.
func classOf(status int, code, words string) finetune.Class {
	said := strings.ToLower(code + " " + words)
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return finetune.ClassAuth
	case http.StatusPaymentRequired:
		return finetune.ClassQuota
	case http.StatusTooManyRequests:
		for _, word := range []string{"insufficient_quota", "billing", "exceeded your current quota", "credit", "daily_rate_limit", "daily limit"} {
			if strings.Contains(said, word) {
				return finetune.ClassQuota
			}
		}
		return finetune.ClassPassing
	case http.StatusNotFound, http.StatusGone:
		return finetune.ClassNotFound
	case http.StatusRequestTimeout, http.StatusTooEarly, 499:
		return finetune.ClassPassing
	case http.StatusBadRequest:
		for _, word := range []string{"insufficient_quota", "billing_hard_limit"} {
			if strings.Contains(said, word) {
				return finetune.ClassQuota
			}
		}
	}
	if status >= 500 && status != http.StatusNotImplemented {
		return finetune.ClassPassing
	}
	return finetune.ClassPermanent
}

// retryAfter reads how long to stay away, in whole seconds rounded up; 0 when nothing is said.
func retryAfter(h http.Header, now time.Time) int {
	up := func(d time.Duration) int { return int(min(max((d+time.Second-1)/time.Second, 0), 7*24*3600)) }
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 && ms < 1e12 {
		return up(time.Duration(ms * float64(time.Millisecond)))
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s > 0 && s < 1e9 {
		return up(time.Duration(s * float64(time.Second)))
	}
	if at, err := http.ParseTime(v); err == nil {
		return up(at.Sub(now))
	}
	return 0
}

// clean makes a provider's words fit to be shown: clipped, and without the key, which some repeat.
func (b *Backend) clean(words string) string {
	hide := []string{b.key()}
	for name, v := range b.cfg.Headers {
		if n := strings.ToLower(name); strings.Contains(n, "key") || strings.Contains(n, "auth") || strings.Contains(n, "token") {
			hide = append(hide, v)
		}
	}
	for _, secret := range hide {
		if len(secret) >= 4 {
			words = strings.ReplaceAll(words, secret, "***")
		}
	}
	return finetune.Clip(words)
}

// wirePage is one page of a listing.
type wirePage[T any] struct {
	Data    []T    `json:"data"`
	HasMore bool   `json:"has_more"`
	LastID  string `json:"last_id"`
}

type identified interface{ ident() string }

func (j wireJob) ident() string  { return j.ID }
func (f wireFile) ident() string { return f.ID }

// pages goes through a listing until fn returns false. A cursor that does not move ends it, since some servers
// answer the first page for ever.
func pages[T identified](ctx context.Context, b *Backend, path string, fn func(T) bool) error {
	after, seen := "", map[string]bool{}
	for range maxPages {
		q := url.Values{"limit": {"100"}}
		if after != "" {
			q.Set("after", after)
		}
		var page wirePage[T]
		if err := b.do(ctx, request{method: http.MethodGet, path: path, query: q, into: &page}); err != nil {
			return err
		}
		for _, item := range page.Data {
			if !fn(item) {
				return nil
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			return nil
		}
		if after = page.Data[len(page.Data)-1].ident(); after == "" || seen[after] {
			return nil
		}
		seen[after] = true
	}
	return &finetune.Error{Class: finetune.ClassPermanent, Message: fmt.Sprintf("GET %s: more than %d pages", path, maxPages)}
}

// events returns the newest events of a job.
func (b *Backend) events(ctx context.Context, id string) ([]wireEvent, error) {
	var page wirePage[wireEvent]
	err := b.do(ctx, request{method: http.MethodGet, path: jobPath(id) + "/events", query: url.Values{"limit": {"50"}}, into: &page})
	return page.Data, err
}
