package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

// steering is what the commands share that send an update.
type steering struct {
	runName
	settings
	asJSON
}

// update sends an update and tells how the run is after it.
func (s *steering) update(a *app, name string, payload any, done string) error {
	client, err := s.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	after, err := client.Update(a.ctx, s.Of, name, payload)
	if refused := (*runs.RefusedError)(nil); errors.As(err, &refused) && refused.Message == workflows.NotPaused {
		done = "there is nothing to resume"
		var seen runs.Seen
		seen, err = client.Status(a.ctx, s.Of)
		after = seen.Status
	}
	if err != nil {
		return err
	}
	if s.JSON {
		return a.print(after)
	}
	a.say("run %s: %s; it is %s now · %s", s.Of, done, after.Phase, screen.Spending(after))
	if after.Message != "" {
		a.say("%s", screen.Clean(after.Message))
	}
	return nil
}

type pauseCmd struct{ steering }

// Help teaches by example.
func (pauseCmd) Help() string {
	return `
No new call is made after five seconds at most; calls in flight finish and are kept. A fine-tuning job that runs goes on. Pausing costs nothing and loses nothing.

Example:

    starter pause my-run
`
}

// Run is the command.
func (c *pauseCmd) Run(a *app) error { return c.update(a, workflows.UpdatePause, nil, "paused") }

type resumeCmd struct{ steering }

// Help teaches by example.
func (resumeCmd) Help() string {
	return `
Example:

    starter resume my-run
`
}

// Run is the command.
func (c *resumeCmd) Run(a *app) error { return c.update(a, workflows.UpdateResume, nil, "resumed") }

type retryCmd struct{ steering }

// Help teaches by example.
func (retryCmd) Help() string {
	return `
A run in trouble (a refused key, a used-up quota or budget, a trainer that failed) waits as blocked and says what to do. When that is done, retry goes on where it stopped.

Examples:

    starter retry my-run
    starter set my-run --usd 100        a larger budget goes on by itself
`
}

// Run is the command.
func (c *retryCmd) Run(a *app) error { return c.update(a, workflows.UpdateRetry, nil, "tries again") }

type approveCmd struct {
	steering
	Gate   string `help:"The gate (default: the one that the run waits at)."`
	Reject bool   `help:"Refuse: at a finetune gate the run ends as cancelled, at the others with what it has."`
}

// Help teaches by example.
func (approveCmd) Help() string {
	return `
A spec with "approve: [finetune]" has the run wait for a person before each fine-tuning job, and "approve: [publish]" before it sends what it made to others.

Examples:

    starter watch my-run                 says what it waits for
    starter approve my-run
    starter approve my-run --reject
`
}

// Run is the command.
func (c *approveCmd) Run(a *app) error {
	by := cmp.Or(os.Getenv("USER"), os.Getenv("USERNAME"), "starter")
	done := "approved"
	if c.Reject {
		done = "refused"
	}
	return c.update(a, workflows.UpdateApprove, workflows.Approval{Gate: c.Gate, Reject: c.Reject, By: by}, done)
}

type setCmd struct {
	steering
	Budget     []string `placeholder:"AMOUNT" help:"Budget, as usd=20, calls=5000 or tokens=1e6; a bare amount is in US dollars."`
	USD        *float64 `name:"usd" help:"Budget in US dollars; 0 is no cap."`
	Calls      *int64   `help:"Budget in calls; 0 is no cap."`
	Tokens     *int64   `help:"Budget in tokens; 0 is no cap."`
	InFlight   *int     `help:"Calls in flight wanted, over all workers together."`
	Threshold  *float64 `help:"Least score that is selected, from 1 to 5, for selections not made yet."`
	Iterations *int     `help:"Iterations in all; not fewer than have begun."`
}

// Help teaches by example.
func (setCmd) Help() string {
	return `
Changes hold from now on; what was made before stays.

Examples:

    starter set my-run --usd 100
    starter set my-run --budget usd=100,calls=20000
    starter set my-run --in-flight 256
    starter set my-run --threshold 4 --iterations 3
`
}

// Run is the command.
func (c *setCmd) Run(a *app) error {
	if err := c.amounts(); err != nil {
		return err
	}
	change := workflows.Settings{InFlight: c.InFlight, Threshold: c.Threshold, Iterations: c.Iterations}
	switch {
	case c.USD == nil && c.Calls == nil && c.Tokens == nil && change == (workflows.Settings{}):
		return usage("nothing to set. Try: --budget, --usd, --calls, --tokens, --in-flight, --threshold or --iterations")
	case (c.USD != nil && !(*c.USD >= 0)) || (c.Calls != nil && *c.Calls < 0) || (c.Tokens != nil && *c.Tokens < 0):
		return usage("a budget cannot be negative. Try: 0 for no cap")
	case c.InFlight != nil && *c.InFlight < 1:
		return usage("--in-flight must be 1 or more")
	case c.Threshold != nil && !(*c.Threshold >= 1 && *c.Threshold <= 5):
		return usage("--threshold must be from 1 to 5")
	case c.Iterations != nil && *c.Iterations < 1:
		return usage("--iterations must be 1 or more")
	}
	if c.USD != nil || c.Calls != nil || c.Tokens != nil {
		// The update replaces the whole budget: keep the parts that were not named.
		client, err := c.open(a)
		if err != nil {
			return err
		}
		defer client.Close()
		seen, err := client.Status(a.ctx, c.Of)
		if err != nil {
			return err
		}
		budget := seen.Budget
		if c.USD != nil {
			budget.USD = *c.USD
		}
		if c.Calls != nil {
			budget.Calls = *c.Calls
		}
		if c.Tokens != nil {
			budget.Tokens = *c.Tokens
		}
		change.Budget = &budget
	}
	return c.update(a, workflows.UpdateSet, change, "set "+c.changed())
}

// changed tells what was set.
func (c *setCmd) changed() string {
	var parts []string
	if c.USD != nil {
		parts = append(parts, fmt.Sprintf("the budget to $%.2f", *c.USD))
	}
	if c.Calls != nil {
		parts = append(parts, fmt.Sprintf("the budget to %s calls", screen.Count(*c.Calls)))
	}
	if c.Tokens != nil {
		parts = append(parts, fmt.Sprintf("the budget to %s tokens", screen.Count(*c.Tokens)))
	}
	if c.InFlight != nil {
		parts = append(parts, fmt.Sprintf("calls in flight to %d", *c.InFlight))
	}
	if c.Threshold != nil {
		parts = append(parts, fmt.Sprintf("the threshold to %v", *c.Threshold))
	}
	if c.Iterations != nil {
		parts = append(parts, fmt.Sprintf("iterations to %d", *c.Iterations))
	}
	return strings.Join(parts, ", ")
}

type cancelCmd struct {
	runName
	settings
}

// Help teaches by example.
func (cancelCmd) Help() string {
	return `
Ends a run for good: calls in flight finish and are kept, a fine-tuning job and batches are cancelled at their provider, what they answered is kept, datasets stay. To stop for a while, pause. Every answer that was paid for is used again by another run over the same texts.

Example:

    starter cancel my-run
`
}

// Run is the command.
func (c *cancelCmd) Run(a *app) error {
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.Cancel(a.ctx, c.Of); err != nil {
		return err
	}
	a.say("run %s was asked to end. Next: starter watch %s%s", c.Of, c.Of, a.settings)
	return nil
}
