package hub

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What callers tell apart with errors.Is.
var (
	ErrNotFound     = errors.New("not found")            // no such repository, revision, file, config or split
	ErrUnauthorized = errors.New("token refused")        // no token, or one that the Hub does not know
	ErrForbidden    = errors.New("not allowed")          // the token lacks a permission
	ErrGated        = errors.New("access not granted")   // somebody has to accept conditions first
	ErrConflict     = errors.New("repository changed")   // others commit all the time
	ErrPublic       = errors.New("repository is public") // a private push to a public repository
	ErrPassing      = errors.New("hub did not answer")   // retries used up: later may help
	ErrProtocol     = errors.New("unexpected answer")    // not what a Hub says
	ErrSchema       = errors.New("columns do not fit")   // the Parquet files hold other columns than asked for
)

// Error is an answer of the Hub that ended a call. It never holds a token or a signed address.
type Error struct {
	Op         string        // what was tried: "list files of owner/name"
	Kind       error         // one of the Err… above
	Status     int           // HTTP status, 0 when no answer came
	Code       string        // X-Error-Code
	Message    string        // what the Hub said
	RequestID  string        // for the Hub's support
	RetryAfter time.Duration // how long the Hub wants to be left alone
	Try        string        // a way out
	Err        error         // what went wrong below HTTP
}

// Error says what was tried, what came back and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op + ": " + e.Kind.Error())
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d", e.Status)
		if e.Code != "" {
			b.WriteString(" " + e.Code)
		}
		b.WriteString(")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; it asks to wait %s", e.RetryAfter.Round(time.Second))
	}
	if e.Try != "" {
		b.WriteString(". Try: " + e.Try)
	}
	return b.String()
}

// Unwrap lets errors.Is find the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// classify names an unsuccessful answer and the way out of it.
func (c *Client) classify(e *Error, repo Repo) {
	anonymous := c.opt.Token() == ""
	switch {
	case e.Code == "GatedRepo":
		e.Kind = ErrGated
		e.Try = "open " + c.Page(repo) + " with the account that the token belongs to and accept the conditions"
		if anonymous {
			e.Try += "; no token was given"
		}
	case e.Code == "RevisionNotFound":
		e.Kind, e.Try = ErrNotFound, "check the revision's name; the branches are listed at "+c.Page(repo)+"/tree/main"
	case e.Code == "EntryNotFound":
		e.Kind, e.Try = ErrNotFound, "check the path; the files are listed at "+c.Page(repo)+"/tree/main"
	case e.Status == 401 && anonymous:
		e.Kind, e.Try = ErrUnauthorized, "check owner and name; if it is private or gated, give a token (HF_TOKEN)"
	case e.Status == 401:
		e.Kind, e.Try = ErrUnauthorized, "make a new token at https://huggingface.co/settings/tokens; this one is wrong or has expired, or the repository does not exist"
	case e.Status == 403:
		e.Kind, e.Try = ErrForbidden, "give the token read (for a push: write) permission on "+repo.String()
	case e.Status == 404 || e.Code == "RepoNotFound":
		e.Kind, e.Try = ErrNotFound, "check owner and name; what is private looks absent to a token that may not read it"
	case e.Status == 409 || e.Status == 412:
		e.Kind = ErrConflict
	case passing(e.Status):
		e.Kind = ErrPassing
	default:
		e.Kind = ErrProtocol
	}
}

// passing reports whether an answer may be another one in a moment.
func passing(status int) bool {
	switch status {
	case 408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524:
		return true
	}
	return false
}

// redact removes a token from text that others wrote, and shortens it to one line.
func redact(s, token string) string {
	if token != "" {
		s = strings.ReplaceAll(s, token, "***")
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	const most = 500
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
