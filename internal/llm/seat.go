package llm

import (
	"context"
	"time"
)

// Seat is a caller's leave to have one call at the endpoint. The caller holds it when Complete begins.
type Seat interface {
	Leave()                         // gives it to another call
	Take(ctx context.Context) error // waits for it; the error is the context's
}

type seatKey struct{}

// WithSeat returns a context under which Complete gives the seat away while it waits between two attempts and takes it back
// before the next. After an error of Take it is not held any more.
func WithSeat(ctx context.Context, s Seat) context.Context {
	return context.WithValue(ctx, seatKey{}, s)
}

// sleepAside sleeps without the seat, if there is one. It is false when ctx ended.
func sleepAside(ctx context.Context, d time.Duration) bool {
	s, ok := ctx.Value(seatKey{}).(Seat)
	if !ok {
		return sleep(ctx, d)
	}
	s.Leave()
	return sleep(ctx, d) && s.Take(ctx) == nil
}
