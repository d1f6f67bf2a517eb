package workflows

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/config"
)

// serve registers the query and the updates of a run. Validators refuse without leaving a trace in history.
func (r *run) serve(ctx workflow.Context) error {
	handlers := []struct {
		name     string
		handler  any
		validate any
	}{
		{UpdatePause, func(ctx workflow.Context) (Status, error) { return r.pause(ctx), nil }, r.open},
		{UpdateResume, func(ctx workflow.Context) (Status, error) { return r.resume(ctx), nil }, r.mayResume},
		{UpdateApprove, func(ctx workflow.Context, a Approval) (Status, error) { return r.approve(ctx, a), nil }, r.mayApprove},
		{UpdateSet, func(ctx workflow.Context, s Settings) (Status, error) { return r.set(ctx, s), nil }, r.maySet},
		{UpdateRetry, func(ctx workflow.Context) (Status, error) { return r.retry(ctx), nil }, r.mayRetry},
	}
	for _, h := range handlers {
		opts := workflow.UpdateHandlerOptions{Validator: h.validate}
		if err := workflow.SetUpdateHandlerWithOptions(ctx, h.name, h.handler, opts); err != nil {
			return fmt.Errorf("serve update %s: %w", h.name, err)
		}
	}
	if err := workflow.SetQueryHandler(ctx, QueryStatus, func() (Status, error) { return r.told(), nil }); err != nil {
		return fmt.Errorf("serve query %s: %w", QueryStatus, err)
	}
	return nil
}

func (r *run) open() error {
	if r.phase != "" {
		return fmt.Errorf("the run is %s", r.phase)
	}
	return nil
}

func (r *run) pause(ctx workflow.Context) Status {
	r.st.Paused = true
	r.stopStages()
	r.changed(ctx)
	return r.status()
}

// NotPaused is why UpdateResume is refused where there is nothing to do.
const NotPaused = "the run is not paused"

func (r *run) mayResume() error {
	if err := r.open(); err != nil {
		return err
	}
	if !r.st.Paused {
		return errors.New(NotPaused)
	}
	return nil
}

func (r *run) resume(ctx workflow.Context) Status {
	r.st.Paused = false
	r.changed(ctx)
	return r.status()
}

// stopStages has every stage that can be started again hand its work back.
func (r *run) stopStages() {
	for _, key := range workflow.DeterministicKeys(r.cancels) {
		r.cancels[key]()
	}
}

func (r *run) mayApprove(a Approval) error {
	if err := r.open(); err != nil {
		return err
	}
	if len(r.gates) == 0 {
		return errors.New("the run waits at no gate")
	}
	if a.Gate != "" && a.Gate != r.gateName() {
		return fmt.Errorf("there is no gate %q; the run waits at %s", a.Gate, r.gateName())
	}
	return nil
}

func (r *run) approve(ctx workflow.Context, a Approval) Status {
	gate := r.gateName()
	clear(r.gates)
	switch {
	case !a.Reject:
	case gate == GateRound, gate == config.GatePublish && workflow.GetVersion(ctx, changeRefusedPush, workflow.DefaultVersion, 1) == 1:
		r.refused = true // the run ends well, with what it has
	default:
		r.abort()
	}
	r.changed(ctx)
	return r.status()
}

func (r *run) maySet(s Settings) error {
	if err := r.open(); err != nil {
		return err
	}
	switch {
	case s == (Settings{}):
		return errors.New("nothing to set: give a budget, in_flight, threshold or iterations")
	case s.Budget != nil && (s.Budget.USD < 0 || s.Budget.Calls < 0 || s.Budget.Tokens < 0):
		return errors.New("a budget is not negative; 0 is no cap")
	case s.InFlight != nil && (*s.InFlight < 1 || *s.InFlight > 100_000):
		return fmt.Errorf("in_flight is from 1 to 100000, not %d", *s.InFlight)
	case s.Threshold != nil && !(*s.Threshold >= 1 && *s.Threshold <= 5):
		return fmt.Errorf("a threshold is from 1 to 5, not %g", *s.Threshold)
	case s.Iterations != nil && *s.Iterations < max(1, r.st.Iteration):
		return fmt.Errorf("the run is in iteration %d already; iterations cannot be %d", r.st.Iteration, *s.Iterations)
	}
	return nil
}

func (r *run) set(ctx workflow.Context, s Settings) Status {
	if s.Budget != nil {
		r.st.Settings.Budget = s.Budget
		for _, key := range workflow.DeterministicKeys(r.blocked) {
			if r.blocked[key].Class == troubleBudget {
				delete(r.blocked, key)
			}
		}
	}
	if s.Threshold != nil {
		r.st.Settings.Threshold = s.Threshold
	}
	if s.Iterations != nil {
		r.st.Settings.Iterations = s.Iterations
	}
	if s.InFlight != nil {
		r.st.Settings.InFlight = s.InFlight
	}
	if s.InFlight != nil || s.Budget != nil {
		for _, key := range workflow.DeterministicKeys(r.cancels) {
			if r.asking[key] {
				r.cancels[key]() // it starts again at once, under the new settings
			}
		}
	}
	r.changed(ctx)
	return r.status()
}

func (r *run) mayRetry() error {
	if err := r.open(); err != nil {
		return err
	}
	if len(r.blocked) == 0 {
		return errors.New("the run is not blocked")
	}
	return nil
}

func (r *run) retry(ctx workflow.Context) Status {
	clear(r.blocked)
	r.changed(ctx)
	return r.status()
}
