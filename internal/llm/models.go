package llm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// candidates orders the alternatives of a position by their log-probability, highest first.
func candidates(m map[string]float32) []TokenCandidate {
	out := make([]TokenCandidate, 0, len(m))
	for token, lp := range m {
		out = append(out, TokenCandidate{token, float64(lp)})
	}
	slices.SortFunc(out, func(a, b TokenCandidate) int {
		return cmp.Or(cmp.Compare(b.LogProb, a.LogProb), cmp.Compare(a.Token, b.Token))
	})
	return out
}

// Preflight calls give up sooner than others.
const (
	checkAttempts = 3
	checkPatience = 5 * time.Second
)

// Models lists the models that the endpoint offers, in its order.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	var names []string
	_, e := c.run(ctx, &job{
		maxAttempts: checkAttempts, patience: checkPatience,
		ask: func(ctx context.Context, x *exchange, _ *Response) *Error {
			list, err := c.api.ListModels(ctx)
			if x.err != nil {
				x.err.InDoubt = false // a list costs nothing
				return x.err
			}
			names = names[:0]
			for _, m := range list.Models {
				names = append(names, m.ID)
			}
			if err != nil && len(names) == 0 {
				return &Error{Class: ClassNotFound, Status: 200, Code: CodeInvalidReply, Message: "list of models: " + err.Error()}
			}
			return nil
		},
	})
	if e != nil {
		return nil, e
	}
	return names, nil
}

// Check finds out whether the endpoint can be reached, accepts the key and offers the model. Where the endpoint lists its models
// and this one is among them, nothing is spent; else one token is asked of it. Errors unwrap to *Error and say what to try.
func (c *Client) Check(ctx context.Context, model string) error {
	names, err := c.Models(ctx)
	if err == nil && slices.Contains(names, model) {
		return nil
	}
	if class := ClassOf(err); err != nil && class != ClassNotFound && class != ClassPermanent {
		return c.advise(model, err, nil)
	}
	r := Request{Model: model, Messages: []Message{{Role: "user", Content: "Hello"}}, MaxTokens: 16, Temperature: 1}
	if e := r.render(c); e != nil {
		return c.advise(model, e, names)
	}
	j := &job{body: c.encode(&r, c.wantsNewName(model)), maxAttempts: checkAttempts, patience: checkPatience, ask: c.askChat, need: 32}
	if c.completions {
		j.ask = c.askCompletions
	}
	_, e := c.run(ctx, j)
	if e != nil && e.wantsNewName() {
		j.body = c.encode(&r, true)
		_, e = c.run(ctx, j)
	}
	if e == nil {
		return nil
	}
	return c.advise(model, e, names)
}

// advised is an error with what to try, in sentences of their own.
type advised struct {
	err  error
	hint string
}

// Error returns both.
func (a *advised) Error() string { return strings.TrimRight(a.err.Error(), ". ") + ". " + a.hint }

// Unwrap returns the error.
func (a *advised) Unwrap() error { return a.err }

func (c *Client) advise(model string, err error, names []string) error {
	hint := ""
	switch ClassOf(err) {
	case ClassAuth:
		hint = "Try: set the key that the endpoint accepts in the provider's key_env"
	case ClassQuota:
		hint = "Try: add money or quota to the account"
	case ClassNotFound:
		hint = "Try: check the provider's url (with /v1 where the endpoint has it) and the model's name"
		if len(names) > 0 {
			more := ""
			if len(names) > 10 {
				names, more = names[:10], ", …"
			}
			hint = "Try: one of the models it offers: " + bound(strings.Join(names, ", ")+more, 300)
		}
	case ClassYield, ClassPassing:
		hint = "Try: check that the endpoint is up and its url is right"
	case ClassPermanent, ClassCancelled:
	}
	if hint == "" {
		return fmt.Errorf("check model %s at %s: %w", model, c.name, err)
	}
	return fmt.Errorf("check model %s at %s: %w", model, c.name, &advised{err, hint})
}
