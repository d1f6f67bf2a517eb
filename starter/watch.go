package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

type watchCmd struct {
	runName
	settings
	JSON bool `name:"json" help:"Print the status as one line of JSON whenever it changes."`
	Stay bool `help:"Keep watching while the run is blocked or waits for an approval."`
}

// Help teaches by example.
func (watchCmd) Help() string {
	return `
Shows the stages of a run, their speed, the time left, the cost, and the scores of each iteration: as a table on a terminal, as a line for each change in a pipe. Of the models that are trained, myx is the backward model, which writes instructions; m0 is trained on the seeds alone, m1, m2 … in iterations 1, 2 …. Ends with the run: exit code 0 when it is completed, 4 when cancelled, 1 when its workflow was ended from outside. When the run is blocked or waits for an approval, says what to do and ends with 3.

Without a worker or without Temporal it shows what the run last wrote to S3.

Examples:

    starter watch my-run
    starter watch my-run --json | jq .phase
    starter watch my-run && starter report my-run
`
}

// Run is the command.
func (c *watchCmd) Run(a *app) error {
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	return a.watch(client, c.Of, c.JSON, c.Stay)
}

type statusCmd struct {
	runName
	settings
	asJSON
}

// Help teaches by example.
func (statusCmd) Help() string {
	return `
Shows what watch shows, once, and ends with the exit code that watch would end with: 0 while the run goes on and when it is completed, 3 when it is blocked or waits for an approval, 4 when it was cancelled. Evaluations that were asked for of the run are named under it.

Examples:

    starter status my-run
    starter status my-run --json | jq -r .message
`
}

// Run is the command.
func (c *statusCmd) Run(a *app) error {
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	seen, err := client.Watch(a.ctx, c.Of)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := a.print(seen); err != nil {
			return err
		}
		return phaseStatus(seen.Phase)
	}
	show := screen.New(a.out)
	defer show.Close()
	show.Show(seen, time.Now())
	switch {
	case seen.Ended():
		a.farewell(seen, false)
	case seen.Waiting():
		a.advise(seen)
	}
	asked, err := client.Evaluations(a.ctx, c.Of)
	if err != nil {
		return err
	}
	for _, e := range asked {
		a.say("evaluation %s: %s", e.Run, e.Phase)
	}
	return phaseStatus(seen.Phase)
}

// watchEvery is the time between two looks.
const watchEvery = time.Second

// patience is how many looks in a row may fail to reach anything before watching ends.
const patience = 60

// remembered is how many looks in a row may have to do with the record in S3 before it is believed that the run still waits
// for a person: with a worker that has just died, the record may be older than the approval.
const remembered = 15

// watch shows a run until it ends, or waits for a person.
func (a *app) watch(client *runs.Client, run string, asJSON, stay bool) error {
	show := screen.New(a.out)
	defer show.Close()
	var last []byte
	var waiting, failed, silent int
	for {
		seen, err := client.Watch(a.ctx, run)
		switch {
		case a.ctx.Err() != nil:
			return a.ctx.Err()
		case err != nil && last != nil && failed < patience && unreachable(err):
			failed++ // it was there a moment ago
		case err != nil:
			return err
		default:
			failed = 0
			line, err := json.Marshal(seen)
			if err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			switch {
			case !asJSON:
				show.Show(seen, time.Now())
			case !bytes.Equal(line, last):
				fmt.Fprintf(a.out, "%s\n", line)
			}
			last = line
			if seen.Ended() {
				a.farewell(seen, asJSON)
				return phaseStatus(seen.Phase)
			}
			// A phase that lasts for two looks is no moment between two steps.
			if waiting++; !seen.Waiting() {
				waiting = 0
			}
			if silent++; seen.Live {
				silent = 0
			}
			if waiting > 1 && !stay && (seen.Live || silent > remembered) {
				a.advise(seen)
				return phaseStatus(seen.Phase)
			}
		}
		select {
		case <-a.ctx.Done():
			return a.ctx.Err()
		case <-time.After(watchEvery):
		}
	}
}

// phaseStatus is the exit code that a phase stands for.
func phaseStatus(phase string) error {
	switch phase {
	case workflows.PhaseBlocked, workflows.PhaseApproval:
		return status(exitWaiting)
	case workflows.PhaseCancelled:
		return status(exitCancelled)
	case runs.PhaseFailed:
		return status(exitFailure)
	default:
		return nil
	}
}

func (a *app) advise(seen runs.Seen) {
	if seen.Phase == workflows.PhaseApproval {
		a.warn("next: starter approve %[1]s%[2]s && starter watch %[1]s%[2]s", seen.Run, a.settings)
		return
	}
	if strings.Contains(seen.Message, "start a new run") && !strings.Contains(seen.Message, "starter retry") {
		start := "start"
		if seen.Recipe == workflows.RecipeScore {
			start = "score"
		}
		a.warn("next: starter cancel %s%s, then starter %s --name ANOTHER-NAME", seen.Run, a.settings, start)
		return
	}
	if !strings.Contains(seen.Message, "starter retry") { // a spent budget: what it says is all there is to do
		a.warn("next, when that is done: starter watch %s%s", seen.Run, a.settings)
		return
	}
	a.warn("next, when that is solved: starter retry %[1]s%[2]s && starter watch %[1]s%[2]s", seen.Run, a.settings)
}

func (a *app) farewell(seen runs.Seen, asJSON bool) {
	if seen.Recipe == workflows.RecipeEvaluate {
		return
	}
	if !asJSON && seen.Phase != workflows.PhaseCancelled && seen.Phase != runs.PhaseFailed {
		a.say("next: starter report %[1]s%[2]s, starter pull %[1]s%[2]s", seen.Run, a.settings)
	}
}
