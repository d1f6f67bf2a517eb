package llm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Class says what a caller should do about an Error.
type Class string

// The classes of errors.
const (
	// ClassPermanent: the endpoint will never answer this request (400, 413, 422, context length, content filter). Reject the row.
	ClassPermanent Class = "permanent"
	// ClassAuth: the key was refused (401, 403). Stop and tell a person.
	ClassAuth Class = "auth"
	// ClassQuota: the account has no money or quota left (402, 429 insufficient_quota). Stop and tell a person.
	ClassQuota Class = "quota"
	// ClassNotFound: no such model, or nothing that speaks this API at the URL. Stop and tell a person.
	ClassNotFound Class = "not_found"
	// ClassPassing: the retries of this request are used up, though the endpoint answers others.
	ClassPassing Class = "passing"
	// ClassYield: the endpoint refuses or cannot be reached for longer than the caller's patience. Come back after RetryAfter.
	ClassYield Class = "yield"
	// ClassCancelled: the caller's context ended. Unwraps to its error.
	ClassCancelled Class = "cancelled"
)

// Codes that Error.Code is normalised to, whatever words the endpoint uses.
const (
	CodeContextLength = "context_length_exceeded"
	CodeContentFilter = "content_filter"
	CodeTooLarge      = "request_too_large"
	CodeReplyTooLarge = "reply_too_large"
	CodeInvalidReply  = "invalid_reply"
	CodeTimeout       = "timeout"
	CodeUnreachable   = "unreachable"
	CodeConnection    = "connection_lost"
	CodeRedirect      = "redirect"
	CodeRequest       = "invalid_request" // refused here, before anything was sent
)

const maxMessage = 500

// Error is why a call brought no answer. Its message is at most 500 characters and holds no key.
type Error struct {
	Class      Class
	Status     int    // HTTP status of the last reply; 0: there was none
	Code       string // one of the Code constants, or the endpoint's own
	Message    string
	RetryAfter time.Duration // ClassYield: when to come back, at least 1 s
	InDoubt    bool          // an attempt may have been processed and billed
	Doubtful   int           // how many attempts may have been
	Attempts   int           // requests sent
	Usage      Usage         // tokens that the endpoint reported for it (a filtered answer is billed too)

	kind  kind
	param string // parameter that the endpoint complains about
	cause error
}

// kind is what an attempt's failure says about the endpoint.
type kind uint8

const (
	kindAnswer      kind = iota // the endpoint works; this request failed for itself
	kindOverload                // 429, 503, 529
	kindTimeout                 // no reply in time
	kindUnreachable             // no connection; nothing was sent
	kindBroken                  // other 5xx, reset, unreadable reply
	kindAbandoned               // the caller went away: says nothing
)

// Error reads "permanent: 400 context_length_exceeded: message".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("llm: ")
	b.WriteString(string(e.Class))
	if e.Status != 0 {
		fmt.Fprintf(&b, ": %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(": " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return bound(b.String(), maxMessage)
}

// Unwrap returns what caused the error, if anything did. Only context errors are kept, since others may hold request data.
func (e *Error) Unwrap() error { return e.cause }

// ClassOf returns the class of an error of this package, however wrapped, and "" for any other.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ""
}

func cancelled(ctx context.Context, doing string) *Error {
	cause := ctx.Err()
	if cause == nil {
		cause = context.Canceled
	}
	return &Error{Class: ClassCancelled, Message: doing + ": " + cause.Error(), cause: cause, kind: kindAbandoned}
}

func invalid(format string, args ...any) *Error {
	return &Error{Class: ClassPermanent, Code: CodeRequest, Message: bound(fmt.Sprintf(format, args...), maxMessage)}
}

// bound cuts s to at most n characters and makes it valid, one-line UTF-8.
func bound(s string, n int) string {
	if len(s) > 8*n {
		s = s[:8*n]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:n-1]) + "…"
}

// redactor takes secrets out of text.
type redactor struct{ r *strings.Replacer }

// newRedactor knows the secrets to hide. Values under 6 characters are left alone: they are no secrets and would hide half of any text.
func newRedactor(secrets ...string) redactor {
	var pairs []string
	for _, s := range secrets {
		if len(s) >= 6 {
			pairs = append(pairs, s, masked)
		}
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// text returns s without secrets, on one line, bounded.
func (r redactor) text(s string) string { return bound(r.r.Replace(s), maxMessage) }
