package llm

import "context"

type againKey struct{}

// WithAgain returns a context under which Complete calls ask before it repeats a request of which an attempt may have been
// billed without an answer, so that a caller who reserves what it may spend can reserve once more. An error of ask ends the
// call as cancelled, with the error in its chain. The context that ask gets ends when the call need not wait any longer.
func WithAgain(ctx context.Context, ask func(context.Context) error) context.Context {
	return context.WithValue(ctx, againKey{}, ask)
}

func askedAgain(ctx, admit context.Context) error {
	if ask, ok := ctx.Value(againKey{}).(func(context.Context) error); ok {
		return ask(admit)
	}
	return nil
}

func refusedAgain(cause error) *Error {
	return &Error{Class: ClassCancelled, Message: "ask again: " + bound(cause.Error(), maxMessage), cause: cause, kind: kindAbandoned}
}
