package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// crash kills the worker in mid-run and reads from the model server's journal what that cost.
type crash struct {
	q     *quickstart
	plan  []target
	kills []kill

	waiting bool  // in the stage of the next target
	since   int64 // answers in the journal when that was first seen
}

// target is a moment to kill the worker: in a stage, after some answers.
type target struct {
	stage     string
	iteration int
	answers   int64
}

func (t target) String() string { return fmt.Sprintf("%s of iteration %d", t.stage, t.iteration) }

// slowness of the model server, so that there is a middle to crash in.
var slowness = pocketlm.Faults{Latency: 200, LatencySigma: 0.4}

// newCrash prepares for crashing if that was asked for; else it returns nil.
func (q *quickstart) newCrash(ctx context.Context) (*crash, error) {
	if !q.options.crash {
		return nil, nil
	}
	body, err := json.Marshal(slowness)
	if err != nil {
		return nil, fmt.Errorf("slow the model server down: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, q.stack.PocketURL+"/pocketlm/faults", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("slow the model server down: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("slow the model server down: %w", err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("slow the model server down: %s", response.Status)
	}
	q.console.say("the model server takes %s for an answer, so that there is a middle to crash in", slowness.Latency.Duration())
	return &crash{q: q, plan: []target{{"augment", 0, 40}, {"rate", 1, 40}}}, nil
}

// look kills the worker when the next target has come. The worker's keeper starts it again.
func (c *crash) look(ctx context.Context, seen runs.Seen) {
	if len(c.plan) == 0 || !c.running(seen) {
		return
	}
	answers, err := c.answers(ctx)
	if err != nil {
		return // the next look asks again
	}
	if !c.waiting {
		c.waiting, c.since = true, answers
	}
	if answers-c.since < c.plan[0].answers {
		return
	}
	process, sent := c.q.keeper.Process(), time.Now()
	if err := process.Kill(); err != nil {
		c.q.console.say("%v", err)
		return
	}
	c.kills = append(c.kills, kill{sent, time.Now()})
	c.q.console.say("kill -9 of the worker, process %d, in %s after %d answers. Temporal takes up to 30 s to notice.",
		process.Pid(), c.plan[0], answers-c.since)
	c.plan, c.waiting = c.plan[1:], false
}

func (c *crash) running(seen runs.Seen) bool {
	for _, s := range seen.Stages {
		if s.Name == c.plan[0].stage && s.Iteration == c.plan[0].iteration {
			return s.State == workflows.StageRunning
		}
	}
	return false
}

// answers is the number of questions answered so far.
func (c *crash) answers(ctx context.Context) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.q.stack.PocketURL+"/pocketlm/journal", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	var counts pocketlm.Counts
	if err := json.NewDecoder(response.Body).Decode(&counts); err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	return counts.Answered, nil
}

// verdict shows what the crashes cost. It is an error if an answer was lost that should not have been, or if the result is
// not that of an undisturbed run.
func (c *crash) verdict(seen runs.Seen) error {
	say := c.q.console.say
	say("")
	if len(c.plan) > 0 {
		return fmt.Errorf("the run ended before the worker could be killed in %s", c.plan[0])
	}
	cost, err := readCost(pocketlm.Journal(c.q.stack.PocketDir), c.kills)
	if err != nil {
		return err
	}
	say("the worker was killed %d times; the model server's journal says:", len(c.kills))
	say("  %5d answers given", cost.answered)
	say("  %5d of them to a question that it had answered before:", cost.repeated)
	say("  %5d   because the call was in flight when the worker was killed", cost.inFlight)
	say("  %5d   because the answer had come in the last two seconds and was not written down yet", cost.fresh)
	say("  %5d   for no such reason", cost.repeated-cost.inFlight-cost.fresh)
	if bad := cost.repeated - cost.inFlight - cost.fresh; bad > 0 {
		return fmt.Errorf("%d answers were asked for again although they had been written down", bad)
	}
	same, known, err := c.q.compare(seen)
	switch {
	case err != nil:
		return err
	case !known:
		say("result %s; no undisturbed run of the same example is known to compare with. Try: go run ./quickstart -once -fresh", short(final(seen).Digest))
	case same:
		say("result %s: row for row that of an undisturbed run", short(final(seen).Digest))
	default:
		return fmt.Errorf("the result %s is not that of an undisturbed run", short(final(seen).Digest))
	}
	return c.q.remember(seen, true)
}

func short(digest string) string { return digest[:min(12, len(digest))] }
