package stage

import (
	"fmt"
	"time"

	"github.com/selfalign/selfalign/internal/llm"
)

// Classes of errors beside those of package llm.
const (
	// ClassFenced: another attempt took the partition over, which is where it goes on.
	ClassFenced llm.Class = "fenced"
	// ClassHeld: another run works on the same questions; its answers will be there after RetryAfter or later.
	ClassHeld llm.Class = "held"
	// ClassPrice: the budget is in money and the model's price is not known.
	ClassPrice llm.Class = "price"
	// ClassSetting: the work itself is wrong.
	ClassSetting llm.Class = "setting"
)

// Error is why a partition could not be finished. Nothing that was answered is lost.
type Error struct {
	Class      llm.Class
	RetryAfter time.Duration // 0: at once, if it can be retried
	Way        string        // what can be done about it
	Err        error
}

// Error says what happened.
func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Class, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the work may go well later without anybody doing anything.
func (e *Error) Retryable() bool {
	switch e.Class {
	case llm.ClassPassing, llm.ClassYield, ClassFenced, ClassHeld:
		return true
	}
	return false
}

const (
	passingRetry = 30 * time.Second // when questions that failed in passing are asked again
	fencedRetry  = 5 * time.Second
)

// fatal turns an error of the client that stops the partition into ours.
func fatal(e *llm.Error, provider, model string) *Error {
	out := &Error{Class: e.Class, RetryAfter: e.RetryAfter, Err: e}
	switch e.Class {
	case llm.ClassAuth:
		out.Way = fmt.Sprintf("give the workers a key that provider %s accepts", provider)
	case llm.ClassQuota:
		out.Way = fmt.Sprintf("raise the quota at provider %s", provider)
	case llm.ClassNotFound:
		out.Way = fmt.Sprintf("make model %s answer at provider %s", model, provider)
	case llm.ClassYield:
		out.Way = fmt.Sprintf("wait: provider %s asked for a pause or is away", provider)
	}
	return out
}
