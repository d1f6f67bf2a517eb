package llm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// Client asks the models of one endpoint. It is safe for concurrent use; all its callers share one admission controller.
type Client struct {
	name        string
	completions bool
	render      func([]Message) (string, error)
	timeout     time.Duration
	maxWait     time.Duration
	maxAttempts int
	extra       []byte // further body fields, rendered
	prices      prices
	batchShare  float64 // of the price that a question costs in a batch
	api         *openai.Client
	doer        *doer
	admission   *controller
	transport   http.RoundTripper
	reckoning   reckoning

	mu       sync.Mutex
	newNames map[string]bool // models that want max_completion_tokens
	calls    int64
}

// Options change how a Client behaves. The zero value of each field means its default.
type Options struct {
	MaxWait     time.Duration     // longest wait that the endpoint's refusals may cause before a call yields; 30 s
	MaxAttempts int               // most requests sent for one call, refusals for overload not counted; 8
	Transport   http.RoundTripper // in place of our own
}

// Option changes Options.
type Option func(*Options)

// WithMaxWait sets Options.MaxWait.
func WithMaxWait(d time.Duration) Option { return func(o *Options) { o.MaxWait = d } }

// WithMaxAttempts sets Options.MaxAttempts.
func WithMaxAttempts(n int) Option { return func(o *Options) { o.MaxAttempts = n } }

// WithTransport sets Options.Transport.
func WithTransport(t http.RoundTripper) Option { return func(o *Options) { o.Transport = t } }

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// New makes a client. It sends nothing. Errors name the provider and the field that is wrong.
func New(p Provider, opts ...Option) (*Client, error) {
	o := Options{MaxWait: DefaultMaxWait, MaxAttempts: DefaultMaxAttempts}
	for _, f := range opts {
		f(&o)
	}
	base, err := p.check()
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", p.Name, err)
	}
	extra, err := extraFields(p.Extra)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", p.Name, err)
	}
	if p.Limits.InFlight == 0 {
		p.Limits.InFlight = DefaultInFlight
	}
	if p.Timeout == 0 {
		p.Timeout = DefaultTimeout
	}
	if o.Transport == nil {
		o.Transport = newTransport(p.Limits.InFlight)
	}
	if p.Wrap != nil {
		o.Transport = p.Wrap(o.Transport)
	}
	secrets := []string{p.Key.Reveal(), base.RawQuery}
	for _, v := range p.Headers {
		secrets = append(secrets, v)
	}
	if pw, ok := base.User.Password(); ok {
		secrets = append(secrets, pw)
	}
	c := &Client{
		name: p.Name, completions: p.API == APICompletions, render: p.Render, timeout: p.Timeout, maxWait: o.MaxWait, maxAttempts: max(1, o.MaxAttempts),
		extra: extra, prices: maps.Clone(p.Prices), batchShare: 1 - p.BatchDiscount, admission: newController(p.Limits), transport: o.Transport, newNames: map[string]bool{},
	}
	c.doer = &doer{
		http:    &http.Client{Transport: o.Transport, CheckRedirect: sameHost},
		headers: maps.Clone(p.Headers), query: base.RawQuery, redact: newRedactor(secrets...),
	}
	if p.Key != "" {
		c.doer.bearer = "Bearer " + p.Key.Reveal()
	}
	base.RawQuery = ""
	cfg := openai.DefaultConfig("")
	cfg.BaseURL = strings.TrimRight(base.String(), "/")
	cfg.HTTPClient = c.doer
	c.api = openai.NewClientWithConfig(cfg)
	return c, nil
}

func (p *Provider) check() (*url.URL, error) {
	base, err := url.Parse(p.URL)
	if err != nil {
		return nil, errors.New("url: not a URL") // the parser's message would repeat it, with any password in it
	}
	switch {
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "":
		return nil, errors.New("url: must begin with http:// or https:// and name a host")
	case p.API != "" && p.API != APIChat && p.API != APICompletions:
		return nil, fmt.Errorf("api: must be chat or completions (got %q)", p.API)
	case p.Limits.InFlight < 0 || p.Limits.Workers < 0:
		return nil, errors.New("limits: in_flight and workers must not be negative")
	case p.Limits.RequestsPerMinute < 0 || p.Limits.TokensPerMinute < 0 || bad(p.Limits.RequestsPerMinute) || bad(p.Limits.TokensPerMinute):
		return nil, errors.New("limits: rates must not be negative")
	case !(p.BatchDiscount >= 0 && p.BatchDiscount <= 1):
		return nil, fmt.Errorf("batch discount: must be from 0 to 1 (got %v)", p.BatchDiscount)
	case p.Timeout < 0:
		return nil, fmt.Errorf("timeout: must not be negative (got %s)", p.Timeout)
	case strings.ContainsAny(p.Key.Reveal(), "\r\n"):
		return nil, errors.New("key: holds a line break")
	}
	for name := range p.Headers {
		// net/http would send requests with this header again by itself.
		if n := http.CanonicalHeaderKey(name); n == "Idempotency-Key" || n == "X-Idempotency-Key" {
			return nil, fmt.Errorf("headers: %s cannot be the same on every request", name)
		}
	}
	for name, price := range p.Prices {
		if price.Input < 0 || price.Output < 0 || price.CachedInput < 0 || bad(price.Input) || bad(price.Output) || bad(price.CachedInput) {
			return nil, fmt.Errorf("prices: %s: must not be negative", name)
		}
	}
	return base, nil
}

// Name returns the provider's name.
func (c *Client) Name() string { return c.name }

// Close closes idle connections. Calls under way go on.
func (c *Client) Close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Stats returns what the client is doing and has done.
func (c *Client) Stats() Stats {
	s := c.admission.snapshot()
	c.mu.Lock()
	s.Calls = c.calls
	c.mu.Unlock()
	return s
}

type drainKey struct{}

// WithDrain returns a context under which calls that are not at the endpoint (waiting for admission, or between two
// attempts) end as cancelled when stop does, while those at the endpoint go on until ctx ends.
func WithDrain(ctx, stop context.Context) context.Context {
	return context.WithValue(ctx, drainKey{}, stop)
}

// Complete answers a request. It waits for admission, and repeats attempts that failed in passing. Errors are of type *Error,
// except that none is returned for an answer that was merely cut (FinishReason "length").
func (c *Client) Complete(ctx context.Context, r Request) (Response, error) {
	if e := r.check(); e != nil {
		return Response{}, e
	}
	if e := r.render(c); e != nil {
		return Response{}, e
	}
	j := &job{
		body: c.encode(&r, c.wantsNewName(r.Model)), maxAttempts: c.maxAttempts, patience: c.maxWait,
		ask: c.askChat,
	}
	if c.completions {
		j.ask = c.askCompletions
	}
	prompt := 0
	for i := range r.Messages {
		prompt += len(r.Messages[i].Content) + 8
	}
	j.need = c.reckoning.need(prompt, r.MaxTokens)
	r.Messages, r.rendered = nil, "" // thousands of calls wait with their body alone
	resp, e := c.run(ctx, j)
	if e != nil && e.wantsNewName() && r.MaxTokens > 0 && !c.completions {
		c.mu.Lock()
		c.newNames[r.Model] = true
		c.mu.Unlock()
		j.body = withNewName(j.body)
		resp, e = c.run(ctx, j)
	}
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	if e != nil {
		return Response{}, e
	}
	if resp.Usage.PromptTokens == 0 && resp.Usage.CompletionTokens == 0 {
		resp.Usage, resp.UsageEstimated = c.reckoning.guess(prompt, len(resp.Text)), true
	} else {
		c.reckoning.learn(prompt, resp.Usage)
	}
	return resp, nil
}

func (c *Client) wantsNewName(model string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newNames[model]
}

// Cost returns what a call cost, in millionths of a US dollar, rounded up. known is false where the table has no price for the
// model.
func (c *Client) Cost(model string, u Usage) (microUSD int64, known bool) {
	return c.prices.cost(model, u)
}

// WorstCost returns the most that a call of that many prompt tokens and at most maxTokens of answer can cost.
func (c *Client) WorstCost(model string, promptTokens, maxTokens int) (microUSD int64, known bool) {
	return c.prices.cost(model, Usage{PromptTokens: int64(promptTokens), CompletionTokens: int64(maxTokens)})
}
