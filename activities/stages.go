package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/selfalign/selfalign/internal/stage"
)

// Stages asks models about partitions.
type Stages struct {
	Deps stage.Deps
}

// AskPartition does a task over one partition: it looks answers up in the ledger, asks for what is missing, and commits
// the partition. Stopped by a pause or a spent budget it returns a result that is not done; stopped by its worker it
// hands the partition back to be taken up by another at once. Nothing that was answered is lost either way.
func (s *Stages) AskPartition(ctx context.Context, work stage.Work) (PartitionResult, error) {
	stoppable, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping := activity.GetWorkerStopChannel(ctx)
	go func() {
		select {
		case <-stopping:
			cancel()
		case <-stoppable.Done():
		}
	}()
	result, err := stage.Run(stoppable, s.Deps, work, func(p stage.Progress) {
		if p.Waiting == "" && p.InFlight > 0 {
			p.Waiting = s.endpoint(work.Model.Provider)
		}
		activity.RecordHeartbeat(ctx, p)
	})
	if err != nil {
		return PartitionResult{}, s.tell(err, work)
	}
	out := PartitionResult{
		Receipt: result.Receipt, Done: result.Done, Stop: result.Stop,
		Spending: Spending{Spent: result.Spent, InDoubt: result.InDoubt},
	}
	if !out.Done && out.Stop == StopCancelled && ctx.Err() == nil {
		return out, handedBack(errors.New("the worker is stopping; the partition goes to another"))
	}
	return out, nil
}

// endpoint says what calls to a provider wait for, if anything is wrong there: they are patient, and whoever watches
// should know.
func (s *Stages) endpoint(provider string) string {
	if s.Deps.Models == nil {
		return ""
	}
	client, err := s.Deps.Models.Client(provider)
	if err != nil {
		return ""
	}
	switch stats := client.Stats(); {
	case stats.Breaker != "" && stats.Breaker != "closed":
		return fmt.Sprintf("provider %s answers nothing; it is tried from time to time", provider)
	case stats.PausedFor > worthTelling:
		return fmt.Sprintf("provider %s asked to wait %v", provider, stats.PausedFor.Round(time.Second))
	}
	return ""
}

// worthTelling is the shortest wait that an endpoint asked for of which people are told.
const worthTelling = 5 * time.Second

// tell turns an error of the stage into one that the workflow understands.
func (s *Stages) tell(err error, work stage.Work) error {
	var failure *stage.Error
	if _, needed := TroubleOf(err); needed { // evaluation sets that cannot be read
		return err
	}
	if !errors.As(err, &failure) {
		return fmt.Errorf("%s partition %05d: %w", work.Task, work.Partition, err)
	}
	if failure.Retryable() {
		return busy(err, failure.RetryAfter)
	}
	return blocked(string(failure.Class), err, failure.Way+", then retry")
}
