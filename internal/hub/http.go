package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	maxRedirects = 5
	maxAnswer    = 64 << 20 // bytes of a JSON answer
	maxErrorBody = 64 << 10
)

// call is one request with everything needed to make it again.
type call struct {
	op     string // for errors: "list files"
	repo   Repo
	method string
	url    *url.URL
	header http.Header
	body   func() (io.Reader, error) // opened anew for every try; nil: no body
	size   int64                     // of the body, in bytes
	once   bool                      // never repeated here: the caller finds out what became of it
	stay   bool                      // redirects to other hosts are returned instead of followed
	ok     func(status int) bool     // nil: 2xx
}

// do makes a request until it has an answer that is not passing. Redirects are followed by hand: the token goes to
// the endpoint's own scheme, host and port and nowhere else, not even to its subdomains. The caller closes the body.
func (c *Client) do(ctx context.Context, r call) (*http.Response, error) {
	var failed *Error
	for try := range c.opt.Attempts {
		if try > 0 {
			if err := c.wait(ctx, try, failed); err != nil {
				return nil, err
			}
		}
		res, err := c.try(ctx, r)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", r.op, context.Cause(ctx))
		}
		if !errors.As(err, &failed) || !errors.Is(failed.Kind, ErrPassing) || r.once {
			return nil, err
		}
	}
	return nil, failed
}

// wait sleeps before the next try: as long as the Hub asked for, else exponentially longer with jitter.
func (c *Client) wait(ctx context.Context, try int, failed *Error) error {
	d := min(c.opt.Backoff<<(try-1), 30*time.Second)
	d = d/2 + rand.N(d/2+1) //nolint:gosec // jitter
	if failed.RetryAfter > c.opt.MaxWait {
		return failed
	}
	d = max(d, failed.RetryAfter)
	c.opt.Log.LogAttrs(ctx, slog.LevelWarn, "hub: trying again", slog.String("op", failed.Op), slog.Int("status", failed.Status), slog.Duration("wait", d), slog.Int("try", try+1))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", failed.Op, context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

var errStalled = errors.New("no byte moved for too long")

// try makes a request once, over its redirects.
func (c *Client) try(ctx context.Context, r call) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog := newWatchdog(c.opt.Stall, func() { cancel(errStalled) })
	done := func() { dog.rest(); cancel(nil) }
	token := c.opt.Token()
	target, trusted := r.url, true
	for hop := 0; ; hop++ {
		req, err := c.request(ctx, r, target, dog)
		if err != nil {
			done()
			return nil, fmt.Errorf("%s: %w", r.op, err)
		}
		trusted = trusted && c.home(target)
		if trusted && token != "" && req.Header.Get("Authorization") == "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := c.http.Do(req)
		if err != nil {
			err = c.broken(ctx, r, err, token)
			done()
			return nil, err
		}
		next, err := c.redirect(r, res, target)
		switch {
		case err != nil:
			res.Body.Close()
			done()
			return nil, err
		case next != nil && r.stay && !c.home(next): // the answer itself says what is wanted
		case next != nil && hop < maxRedirects:
			res.Body.Close()
			target = next
			continue
		case next != nil:
			res.Body.Close()
			done()
			return nil, &Error{Op: r.op, Kind: ErrProtocol, Status: res.StatusCode, Message: "too many redirects"}
		}
		if !r.accepts(res.StatusCode) {
			dog.watch()
			err := c.refused(r, res, token)
			res.Body.Close()
			done()
			return nil, err
		}
		res.Body = &watchedBody{body: res.Body, dog: dog, ctx: ctx, done: done}
		return res, nil
	}
}

func (r call) accepts(status int) bool {
	if r.ok != nil {
		return r.ok(status)
	}
	return status/100 == 2
}

func (c *Client) request(ctx context.Context, r call, target *url.URL, dog *watchdog) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		b, err := r.body()
		if err != nil {
			return nil, err
		}
		body = &watchedReader{r: b, dog: dog}
		if r.size == 0 {
			body = http.NoBody
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, errors.New("the address cannot be asked") // it may be signed: not repeated here
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "selfalign/1")
	}
	if body != nil {
		req.ContentLength = r.size
	}
	return req, nil
}

// home reports whether u is served by the endpoint itself: the same scheme, host and port.
func (c *Client) home(u *url.URL) bool { return origin(u) == origin(c.base) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + u.Hostname() + ":" + port)
}

// redirect returns where an answer points, or nil.
func (c *Client) redirect(r call, res *http.Response, from *url.URL) (*url.URL, error) {
	bodyless := r.body == nil
	switch res.StatusCode {
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		if !bodyless {
			return nil, nil //nolint:nilnil // not followed
		}
	default:
		return nil, nil //nolint:nilnil // no redirect
	}
	bad := func(why string) error {
		return &Error{Op: r.op, Kind: ErrProtocol, Status: res.StatusCode, Message: "redirect " + why}
	}
	next, err := from.Parse(res.Header.Get("Location"))
	switch {
	case err != nil || res.Header.Get("Location") == "":
		return nil, bad("without an address")
	case next.Scheme != "https" && next.Scheme != "http", next.Host == "", next.User != nil:
		return nil, bad("to an address that is not HTTP")
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, bad("away from encryption")
	case !bodyless && origin(next) != origin(from):
		return nil, bad("of an upload to another host")
	}
	return next, nil
}

// local returns an address that the Hub handed out, with the public Hub's origin replaced by the endpoint: a mirror
// passes on what the Hub said.
func (c *Client) local(s string) (*url.URL, error) {
	u, err := c.base.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil {
		return nil, errors.New("not an HTTP address")
	}
	if c.base.Scheme == "https" && u.Scheme == "http" {
		return nil, errors.New("an unencrypted address")
	}
	if origin(u) == origin(&url.URL{Scheme: "https", Host: "huggingface.co"}) {
		u.Scheme, u.Host = c.base.Scheme, c.base.Host
	}
	return u, nil
}

// broken describes a request that got no answer, without its address, which may be signed.
func (c *Client) broken(ctx context.Context, r call, err error, token string) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", r.op, err)
	}
	var local *localError
	if errors.As(err, &local) {
		return fmt.Errorf("%s: %w", r.op, local.err)
	}
	e := &Error{Op: r.op, Kind: ErrPassing, Message: redact(err.Error(), token)}
	e.Try = "check that " + c.base.Host + " can be reached from here"
	return e
}

// refused describes an answer that is not what was hoped for.
func (c *Client) refused(r call, res *http.Response, token string) error {
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	e := &Error{
		Op: r.op, Status: res.StatusCode,
		Code:      redact(res.Header.Get("X-Error-Code"), token),
		RequestID: redact(res.Header.Get("X-Request-Id"), token),
		Message:   redact(messageOf(res.Header, body), token),
	}
	if passing(e.Status) {
		e.RetryAfter = retryAfter(res.Header, e.Status)
	}
	c.classify(e, r.repo)
	return e
}

func messageOf(h http.Header, body []byte) string {
	if m := h.Get("X-Error-Message"); m != "" {
		return m
	}
	var said struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Errors  []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	var all []string
	var s string
	if json.Unmarshal(said.Error, &s) == nil {
		all = append(all, s)
	}
	if said.Message != "" {
		all = append(all, said.Message)
	}
	for _, e := range said.Errors {
		all = append(all, e.Message)
	}
	return strings.Join(all, "; ")
}

var rateRE = regexp.MustCompile(`;\s*r=(\d+)\s*;\s*t=(\d{1,6})`)

// retryAfter returns how long the answer asks to wait: Retry-After in seconds or as a date, or, with 429, the time to
// the end of the rate window that the RateLimit header names.
func retryAfter(h http.Header, status int) time.Duration {
	if v := strings.TrimSpace(h.Get("Retry-After")); v != "" {
		if s, err := strconv.ParseFloat(v, 64); err == nil && s >= 0 && s < 1e6 {
			return time.Duration(s * float64(time.Second))
		}
		if at, err := http.ParseTime(v); err == nil {
			return max(0, time.Until(at))
		}
	}
	if m := rateRE.FindStringSubmatch(h.Get("RateLimit")); status == http.StatusTooManyRequests && m != nil && m[1] == "0" {
		s, _ := strconv.Atoi(m[2])
		return time.Duration(s+1) * time.Second
	}
	return 0
}

// json makes a request and decodes its answer of at most maxAnswer bytes into out. An answer that breaks off is asked
// for again.
func (c *Client) json(ctx context.Context, r call, out any) (http.Header, error) {
	for try := 1; ; try++ {
		res, err := c.do(ctx, r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
		res.Body.Close()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("%s: %w", r.op, context.Cause(ctx))
		case err != nil:
			failed := &Error{Op: r.op, Kind: ErrPassing, Status: res.StatusCode, Message: "the answer broke off: " + redact(err.Error(), c.opt.Token())}
			if r.once || try >= c.opt.Attempts {
				return nil, failed
			}
			if err := c.wait(ctx, try, failed); err != nil {
				return nil, err
			}
			continue
		case len(body) > maxAnswer:
			return nil, &Error{Op: r.op, Kind: ErrProtocol, Status: res.StatusCode, Message: fmt.Sprintf("an answer of over %d bytes", maxAnswer)}
		}
		if out == nil {
			return res.Header, nil
		}
		if err := json.Unmarshal(body, out); err != nil {
			return nil, &Error{Op: r.op, Kind: ErrProtocol, Status: res.StatusCode, Message: "the answer is not the JSON of a Hub", Try: "check that the endpoint " + c.base.Host + " is a Hub"}
		}
		return res.Header, nil
	}
}

// jsonBody returns a request body that can be sent again.
func jsonBody(v any) (func() (io.Reader, error), int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, 0, err
	}
	return func() (io.Reader, error) { return strings.NewReader(string(b)), nil }, int64(len(b)), nil
}

// post makes a POST with a JSON body.
func (c *Client) post(ctx context.Context, op string, repo Repo, u *url.URL, header http.Header, in, out any) error {
	body, size, err := jsonBody(in)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for k, v := range header {
		h[k] = v
	}
	_, err = c.json(ctx, call{op: op, repo: repo, method: http.MethodPost, url: u, header: h, body: body, size: size}, out)
	return err
}
