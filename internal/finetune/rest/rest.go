// Package rest speaks to the JSON API of a training service: the one layer that retries, bounded answers, errors with the
// service's own words and without keys.
package rest

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
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
)

// maxReply bounds an answer in bytes; a page of 100 jobs has about 200 KiB.
const maxReply = 32 << 20

// maxPages bounds how far a listing is followed: 100,000 entries.
const maxPages = 1000

// Config says where the API is and how patiently it is asked.
type Config struct {
	// URL of the API with its version, such as https://api.openai.com/v1.
	URL string
	// Key returns the API key; nil or "" sends none. It is asked for each request, so that a key may be changed.
	Key func() string
	// Headers are sent with every request.
	Headers map[string]string
	// Sign changes a request just before it is sent, each attempt anew: signatures, tokens. body is what it carries as
	// JSON; nil where there is none.
	Sign func(req *http.Request, body []byte) error
	// Timeout of one request that carries no file; default 60 s. An upload has 1 s for every 64 KiB on top.
	Timeout time.Duration
	// Attempts is how often a request that failed in passing is made in all; default 6.
	Attempts int
	// Backoff before the second attempt, doubled each time with jitter; default 500 ms.
	Backoff time.Duration
	// MaxBackoff caps one wait, also one that the provider asks for: when it wants to be left alone longer than
	// this, the call ends with ClassPassing and RetryAfter. Default 30 s.
	MaxBackoff time.Duration
	// HTTP sends the requests; default a client of its own that follows no redirects.
	HTTP *http.Client
}

// Client makes requests. It is safe for concurrent use.
type Client struct {
	cfg  Config
	base string
}

// New returns a client. It makes no request.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("fine-tuning URL %q: want http(s)://host/path", cfg.URL)
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("fine-tuning URL: user, query and fragment are not allowed")
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&cfg.Timeout, time.Minute)
	or(&cfg.Backoff, 500*time.Millisecond)
	or(&cfg.MaxBackoff, 30*time.Second)
	if cfg.Attempts <= 0 {
		cfg.Attempts = 6
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	client := *cfg.HTTP
	// A redirect could carry the key, or an upload, to another host.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cfg.HTTP = &client
	return &Client{cfg: cfg, base: strings.TrimRight(u.String(), "/")}, nil
}

// Request is one call to the API. Exactly one of body and stream is used, or neither.
type Request struct {
	Method, Path string
	Query        url.Values
	Headers      map[string]string
	Body         any // sent as JSON
	Stream       func(context.Context) (io.ReadCloser, error)
	StreamSize   int64
	StreamType   string
	Into         any // the answer's JSON is read into it; into a *[]byte the answer as it is
}

// Do makes the request until it succeeds, fails for good or has used up its attempts. Only for Requests that may
// be repeated.
func (c *Client) Do(ctx context.Context, r Request) error {
	for attempt := 1; ; attempt++ {
		err := c.Once(ctx, r)
		if err == nil {
			return nil
		}
		if err = c.Pause(ctx, attempt, err); err != nil {
			return err
		}
	}
}

// Pause waits before another attempt and returns nil, or returns err when there shall be none.
func (c *Client) Pause(ctx context.Context, attempt int, err error) error {
	if finetune.ClassOf(err) != finetune.ClassPassing || attempt >= c.cfg.Attempts {
		return err
	}
	wait := min(c.cfg.Backoff<<min(attempt-1, 20), c.cfg.MaxBackoff)
	wait = wait/2 + rand.N(wait/2+1)
	var e *finetune.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		asked := time.Duration(e.RetryAfter) * time.Second
		if asked > c.cfg.MaxBackoff {
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

// Pace returns how long to wait between two looks at something that takes a moment, and for how long to look.
func (c *Client) Pace() (step, patience time.Duration) { return c.cfg.Backoff, c.cfg.MaxBackoff }

// Once makes the request once. Errors are *finetune.Error or wrap the context's.
func (c *Client) Once(ctx context.Context, r Request) error {
	limit := c.cfg.Timeout + time.Duration(r.StreamSize/(64<<10))*time.Second
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := c.newRequest(callCtx, r)
	if err != nil {
		return err
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return c.lost(ctx, r, err)
	}
	defer func() {
		// What is left of a short answer is read, so that the connection can be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
	}()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return c.lost(ctx, r, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.refused(resp, reply)
	}
	if len(reply) > maxReply {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: fmt.Sprintf("%s %s: the answer has more than %d bytes", r.Method, r.Path, maxReply)}
	}
	if r.Into == nil {
		return nil
	}
	if raw, ok := r.Into.(*[]byte); ok {
		*raw = reply
		return nil
	}
	if err := json.Unmarshal(reply, r.Into); err != nil {
		// A broken answer with a good status is a proxy's or a dying server's; it may pass.
		return &finetune.Error{Class: finetune.ClassPassing, Status: resp.StatusCode, Message: fmt.Sprintf("%s %s: the answer is not the JSON expected", r.Method, r.Path), Err: err}
	}
	return nil
}

func (c *Client) newRequest(ctx context.Context, r Request) (*http.Request, error) {
	address := c.base + r.Path
	if len(r.Query) > 0 {
		address += "?" + r.Query.Encode()
	}
	var body io.Reader
	var raw []byte
	switch {
	case r.Body != nil:
		var err error
		if raw, err = json.Marshal(r.Body); err != nil {
			return nil, &finetune.Error{Class: finetune.ClassPermanent, Message: "encode request", Err: err}
		}
		body = bytes.NewReader(raw)
	case r.Stream != nil:
		opened, err := r.Stream(ctx)
		if err != nil {
			return nil, err
		}
		body = opened // closed by the transport
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address, body)
	if err != nil {
		return nil, &finetune.Error{Class: finetune.ClassPermanent, Message: c.Clean("make request: " + err.Error())}
	}
	if r.Body != nil {
		// Without GetBody, net/http does not repeat a POST behind our back, as it does when it sees an
		// Idempotency-Key, which not every provider honours.
		req.GetBody = nil
		req.Header.Set("Content-Type", "application/json")
	}
	if r.Stream != nil {
		req.ContentLength = r.StreamSize
		req.Header.Set("Content-Type", r.StreamType)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "selfalign")
	for k, v := range r.Headers {
		req.Header.Set(k, v)
	}
	for k, v := range c.cfg.Headers {
		req.Header.Set(k, v)
	}
	if key := c.key(); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if c.cfg.Sign != nil {
		if err := c.cfg.Sign(req, raw); err != nil {
			return nil, fmt.Errorf("sign %s %s: %w", r.Method, r.Path, err)
		}
	}
	return req, nil
}

func (c *Client) key() string {
	if c.cfg.Key == nil {
		return ""
	}
	return strings.TrimSpace(c.cfg.Key())
}

// lost is a request without a whole answer.
func (c *Client) lost(ctx context.Context, r Request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", r.Method, r.Path, ctx.Err())
	}
	var typed *finetune.Error
	if errors.As(err, &typed) { // the stream's own, such as a training file that changed
		return typed
	}
	if u := new(url.Error); errors.As(err, &u) { // url.Error repeats the address
		err = u.Err
	}
	return &finetune.Error{Class: finetune.ClassPassing, Message: c.Clean(fmt.Sprintf("%s %s at %s: %v", r.Method, r.Path, c.base, err))}
}

// Clean makes a provider's words fit to be shown: clipped, and without the key, which some repeat.
func (c *Client) Clean(words string) string {
	hide := []string{c.key()}
	for name, v := range c.cfg.Headers {
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

// Page is one page of a listing.
type Page[T any] struct {
	Data    []T    `json:"data"`
	HasMore bool   `json:"has_more"`
	LastID  string `json:"last_id"`
}

// Identified is an entry of a listing, with the cursor after which the next page begins.
type Identified interface{ Ident() string }

// Pages goes through a listing until fn returns false. A cursor that does not move ends it, since some servers
// answer the first page for ever.
func Pages[T Identified](ctx context.Context, c *Client, path string, fn func(T) bool) error {
	after, seen := "", map[string]bool{}
	for range maxPages {
		q := url.Values{"limit": {"100"}}
		if after != "" {
			q.Set("after", after)
		}
		var page Page[T]
		if err := c.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: q, Into: &page}); err != nil {
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
		if after = page.Data[len(page.Data)-1].Ident(); after == "" || seen[after] {
			return nil
		}
		seen[after] = true
	}
	return &finetune.Error{Class: finetune.ClassPermanent, Message: fmt.Sprintf("GET %s: more than %d pages", path, maxPages)}
}
