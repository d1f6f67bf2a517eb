package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/stage"
)

// withdrawers is how many partitions' batches are taken back at once.
const withdrawers = 8

// OpenBatches returns the partitions for which a run has batches at the endpoint.
func (s *Stages) OpenBatches(ctx context.Context, work stage.Work) ([]int, error) {
	defer newHeart(ctx).keep()()
	work, _, err := stage.Settled(ctx, s.Deps.Store, work)
	if err != nil {
		return nil, err
	}
	return stage.OpenPartitions(ctx, s.Deps.Store, work)
}

// WithdrawInput says whose batches are taken back.
type WithdrawInput struct {
	Work       stage.Work `json:"work"`
	Partitions []int      `json:"partitions"`
}

// WithdrawBatches has the endpoint cancel a run's batches and records what they answered. All are cancelled before the first
// is waited for: while the endpoint is at it, the activity is handed back with a delay.
func (s *Stages) WithdrawBatches(ctx context.Context, in WithdrawInput) error {
	defer newHeart(ctx).keep()()
	var mu sync.Mutex
	var failed, busyWith error
	var delay time.Duration
	var doing sync.WaitGroup
	places := make(chan struct{}, withdrawers)
	for _, p := range in.Partitions {
		places <- struct{}{}
		doing.Go(func() {
			defer func() { <-places }()
			work := in.Work
			work.Partition = p
			err := stage.Withdraw(ctx, s.Deps, work)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			var e *stage.Error
			if errors.As(err, &e) && e.Retryable() {
				busyWith, delay = err, max(delay, e.RetryAfter)
			} else {
				failed = s.tell(err, work)
			}
		})
	}
	doing.Wait()
	if busyWith != nil {
		return busy(busyWith, delay)
	}
	return failed
}
