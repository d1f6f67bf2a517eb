package gobuild

import (
	"context"
	"time"
)

// Patience for somebody else's build of the same packages: how often to look, and after how many looks without progress
// to stop waiting.
const (
	lookEvery   = 10 * time.Second
	idleLooks   = 2
	worthASleep = 50 // packages; fewer are built at once
)

// AwaitOthers returns when a package's parts are in the build cache or nobody is filling it. On a fresh machine go test
// compiles all packages while the first tests run already; two builds of the same packages at once take twice as long as one.
func AwaitOthers(ctx context.Context, root string, p Program) error {
	last, idle := -1, 0
	for {
		plan, err := newPlan(ctx, root, []string{"./" + p.Package}, func(Progress) {})
		if err != nil {
			return err
		}
		stale := len(plan.weight)
		if stale < worthASleep {
			return nil
		}
		if last >= 0 && stale >= last {
			idle++
		} else {
			idle = 0
		}
		if idle >= idleLooks {
			return nil
		}
		last = stale
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// CachedPatiently is Cached for tests: see AwaitOthers.
func CachedPatiently(ctx context.Context, p Program) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	cache, err := Dir()
	if err != nil {
		return "", err
	}
	if binary, ok, err := find(ctx, root, cache, p); err != nil || ok {
		return binary, err
	}
	if err := AwaitOthers(ctx, root, p); err != nil {
		return "", err
	}
	return Cached(ctx, root, cache, p, nil)
}
