package llm

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgainIsAskedOnlyInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoint(1, time.Second)
		e.broken = func(n int, _ string) error {
			if n < 3 {
				return errors.New("read: connection reset by peer")
			}
			return nil
		}
		c := simClient(t, e, Limits{})
		asked := 0
		ctx := WithAgain(t.Context(), func(context.Context) error { asked++; return nil })
		if r, err := c.Complete(ctx, question()); err != nil || asked != 2 || r.InDoubt != 2 || r.Attempts != 3 {
			t.Errorf("asked %d times: %+v, %v", asked, r, err)
		}
		e.set(func() { e.capacity = 0 })
		asked = 0
		if _, err := c.Complete(ctx, question()); ClassOf(err) != ClassYield || asked != 0 {
			t.Errorf("asked %d times about refusals: %v", asked, err)
		}
		time.Sleep(time.Minute)
		spent := errors.New("budget spent")
		e.set(func() { e.capacity, e.requests = 1, 0 })
		_, err := c.Complete(WithAgain(t.Context(), func(context.Context) error { return spent }), question())
		if e := asError(t, err); e.Class != ClassCancelled || !errors.Is(err, spent) || !e.InDoubt || e.Attempts != 1 {
			t.Errorf("%+v", e)
		}
	})
}
