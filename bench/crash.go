package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/links"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// unwritten is how old an answer may be that is lost with a worker while S3 is there: two seconds until it is flushed, and the
// time of the flush itself.
const unwritten = 2500 * time.Millisecond

// shortest is what the question of a row takes at least, in tokens: its template alone is longer. What is shorter tries an endpoint
// or a trained model out, and is part of no stage.
const shortest = 100

// kill is one process that was ended as by kill -9, or a link of the worker that was cut, slowed or reset for some seconds.
type kill struct {
	What string    `json:"what"`
	Kind string    `json:"kind,omitempty"` // of what happened to a link
	At   time.Time `json:"at"`
	Back time.Time `json:"back"` // as it was again
}

// crashResult is what the kills came to.
type crashResult struct {
	Kills      []kill         `json:"kills"`
	Count      map[string]int `json:"kills_by_service"`
	Calm       float64        `json:"undisturbed_s"`
	Seconds    float64        `json:"disturbed_s"`
	Answered   int64          `json:"answered"`
	Duplicates int            `json:"duplicates"`
	InFlight   int            `json:"duplicates_in_flight"` // the call was in flight when the worker was killed
	Fresh      int            `json:"duplicates_unwritten"` // the answer was not flushed when the worker was killed
	Bad        int            `json:"duplicates_unexplained"`
	Tokens     int64          `json:"tokens_referee"`
	Paid       int64          `json:"tokens_paid"`
	InDoubt    int64          `json:"tokens_in_doubt"`
	Checks     int64          `json:"checks"` // answers of models that were tried out; in none of the figures above
	CheckCost  int64          `json:"check_tokens"`
	Digests    []string       `json:"digests"`
	Same       bool           `json:"same_result"`
}

func crashCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(stderr)
	n := flags.Int("n", 20, "faults: kill -9 of worker, Temporal or S3, or a link of the worker to Temporal or S3 that is cut, hangs, is slow or reset")
	rows := flags.Int("rows", 20_000, "segments (documents) of the run, which must last longer than the faults")
	inFlight := flags.Int("in-flight", 64, "calls in flight wanted, over all workers (there is one)")
	every := flags.Duration("every", 8*time.Second, "mean time between two faults")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "random `number` that decides moments and victims; the same one repeats them") //nolint:gosec // any number will do
	folder := flags.String("dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	asJSON := flags.Bool("json", false, "print every figure as JSON")
	b := behaviourFlags(flags, 400*time.Millisecond)
	if err := parse(flags, args); err != nil {
		return err
	}
	dir, remove, err := dataDir(*folder)
	if err != nil {
		return err
	}
	defer remove()
	f := b.faults()
	f.Unparsable = 0 // an answer of the second asking could be another
	c := crasher{n: *n, rows: *rows, inFlight: *inFlight, every: *every, rng: rand.New(rand.NewPCG(*seed, 0)), stderr: stderr, faults: f}
	fmt.Fprintf(stderr, "seed %d\n", *seed)
	calm, took, err := c.undisturbed(ctx, filepath.Join(dir, "calm"))
	if err != nil {
		return err
	}
	r, err := c.disturbed(ctx, filepath.Join(dir, "crash"), calm)
	if err != nil {
		return err
	}
	r.Calm = took.Seconds()
	if *asJSON {
		err = printJSON(stdout, r)
	} else {
		r.print(stdout, b.String())
	}
	if !r.Same {
		err = errors.Join(err, errors.New("the result is not that of the undisturbed run"))
	}
	if r.Bad > 0 {
		err = errors.Join(err, fmt.Errorf("%d answers were asked for again although they must have been written", r.Bad))
	}
	if !r.balanced() {
		err = errors.Join(err, fmt.Errorf("ledger ≤ billed ≤ ledger + in doubt does not hold: %d, %d, %d", r.Paid, r.Tokens, r.Paid+r.InDoubt))
	}
	if len(r.Kills) < *n {
		err = errors.Join(err, fmt.Errorf("the run ended after %d of %d faults. Try: more -rows, or a shorter -every", len(r.Kills), *n))
	}
	return err
}

type crasher struct {
	n, rows, inFlight int
	every             time.Duration
	rng               *rand.Rand
	faults            pocketlm.Faults
	stderr            io.Writer
}

const crashRun = "crash"

// digests are those of everything that a run made.
func digests(seen runs.Seen) (out []string) {
	for _, s := range seen.Sets {
		out = append(out, s.Ratings.Digest, s.Training.Digest)
	}
	return out
}

func (c *crasher) begin(ctx context.Context, dir string) (*lab, error) {
	l, err := startLab(ctx, dir, c.faults, c.inFlight, true, c.stderr)
	if err != nil {
		return nil, err
	}
	spec, sources, err := l.runSpec(crashRun, c.rows, c.inFlight, 1024, 2)
	if err == nil {
		err = l.start(ctx, spec, sources)
	}
	if err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (c *crasher) undisturbed(ctx context.Context, dir string) ([]string, time.Duration, error) {
	l, err := c.begin(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	defer l.stop()
	fmt.Fprintln(c.stderr, "a run without disturbance, to compare with")
	began := time.Now()
	seen, err := l.follow(ctx, crashRun, func(runs.Seen) {})
	return digests(seen), time.Since(began), err
}

func (c *crasher) disturbed(ctx context.Context, dir string, calm []string) (*crashResult, error) {
	l, err := c.begin(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer l.stop()
	began := time.Now()
	killing, stop := context.WithCancel(ctx)
	var kills []kill
	var done sync.WaitGroup
	asking := make(chan struct{})
	done.Go(func() { kills = c.killAll(killing, l, asking) })
	said := ""
	begins := sync.OnceFunc(func() { close(asking) })
	seen, err := l.follow(ctx, crashRun, func(seen runs.Seen) {
		if slices.ContainsFunc(seen.Stages, func(s workflows.StageStatus) bool { return s.Name == "augment" }) {
			begins()
		}
		if line := doing(seen); line != said {
			said = line
			fmt.Fprintf(c.stderr, "%6.0f s  %s\n", time.Since(began).Seconds(), line)
		}
	})
	stop()
	done.Wait()
	if err != nil {
		return nil, err
	}
	r := &crashResult{Kills: kills, Seconds: time.Since(began).Seconds(), Digests: digests(seen), Count: map[string]int{}}
	for _, k := range kills {
		r.Count[k.What]++
	}
	r.Same = len(calm) > 0 && slices.Equal(calm, r.Digests)
	r.Paid = seen.Spent.PromptTokens + seen.Spent.CompletionTokens
	r.InDoubt = seen.InDoubt.PromptTokens + seen.InDoubt.CompletionTokens
	return r, r.explain(filepath.Join(l.dir, refereeChild))
}

// killAll kills one service after the other, each when all that were killed before are back. A quarter of the faults comes at once,
// the others when the run asks its model, which is where there is money to lose.
func (c *crasher) killAll(ctx context.Context, l *lab, asking <-chan struct{}) (kills []kill) {
	victims := []string{"worker", "worker", devstack.ServiceTemporal, devstack.ServiceLocal, linkTemporal, linkS3}
	for len(kills) < c.n {
		if len(kills) >= (c.n+3)/4 {
			select {
			case <-asking:
			case <-ctx.Done():
				return kills
			}
		}
		wait := time.Duration(float64(c.every) * min(3, c.rng.ExpFloat64()))
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(wait):
		}
		what := victims[c.rng.IntN(len(victims))]
		if wire := l.wires[what]; wire != nil {
			k, err := c.hurt(ctx, wire, what)
			if err != nil {
				fmt.Fprintln(c.stderr, err)
				continue
			}
			kills = append(kills, k)
			fmt.Fprintf(c.stderr, "          %s: %s for %.1f s, %d of %d\n", what, k.Kind, k.Back.Sub(k.At).Seconds(), len(kills), c.n)
			continue
		}
		of := func() *child.Process {
			if what == "worker" {
				return l.worker.Process()
			}
			return l.stack.Service(what)
		}
		p := of()
		k := kill{What: what, At: time.Now()}
		if err := p.Kill(); err != nil {
			fmt.Fprintln(c.stderr, err)
			continue
		}
		for of() == p && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
		}
		k.Back = time.Now()
		kills = append(kills, k)
		fmt.Fprintf(c.stderr, "          kill -9 of %s, %d of %d; back after %.1f s\n", what, len(kills), c.n, k.Back.Sub(k.At).Seconds())
	}
	return kills
}

// hurt does something to a link for a few seconds.
func (c *crasher) hurt(ctx context.Context, wire *links.Wire, what string) (kill, error) {
	kinds := links.Kinds()
	k := kill{What: what, Kind: kinds[c.rng.IntN(len(kinds))], At: time.Now()}
	lasts := time.Duration(500+c.rng.IntN(4000)) * time.Millisecond
	mend, err := wire.Hurt(k.Kind)
	if err != nil {
		return k, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(lasts):
	}
	err = mend()
	k.Back = time.Now()
	return k, err
}

// explain reads the referee's journal and looks for each repeated answer whether a kill accounts for it.
func (r *crashResult) explain(dir string) error {
	type question struct{ received, answered time.Time }
	asked := map[pocketlm.Digest]question{}
	for e, err := range pocketlm.Journal(dir) {
		if err != nil {
			return err
		}
		if !strings.HasSuffix(e.Route, "completions") {
			continue
		}
		q := asked[e.Digest]
		switch e.Kind {
		case pocketlm.Received:
			q.received = e.At
		case pocketlm.Answered:
			if e.PromptTokens < shortest {
				r.Checks++
				r.CheckCost += int64(e.PromptTokens + e.CompletionTokens)
				continue
			}
			r.Answered++
			r.Tokens += int64(e.PromptTokens + e.CompletionTokens)
			if !q.answered.IsZero() {
				r.Duplicates++
				r.account(asked[e.Digest].answered)
			}
			q.answered = e.At
		case pocketlm.Refused:
		}
		asked[e.Digest] = q
	}
	return nil
}

// account explains why an answer of some moment was asked for again: by the first death of a worker after it, unless more
// than the time of a flush, with S3 there, lay in between; or by one that came before it, during the call.
func (r *crashResult) account(answered time.Time) {
	const longest = 5 * time.Second // of a call
	for _, k := range r.Kills {
		if k.What != "worker" {
			continue
		}
		if answered.After(k.At) {
			if answered.Sub(k.At) < longest && answered.Before(k.Back.Add(longest)) {
				r.InFlight++
				return
			}
			continue
		}
		written := k.At.Sub(answered)
		for _, away := range r.Kills {
			if (away.What == devstack.ServiceLocal || away.What == linkS3) && away.Back.After(answered) && away.At.Before(k.At) {
				from, to := away.At, away.Back
				if answered.After(from) {
					from = answered
				}
				if to.After(k.At) {
					to = k.At
				}
				written -= to.Sub(from) + 2*time.Second // and the time until a write is tried again
				if away.Kind == links.Hang {
					written -= 5 * time.Second // a write that hangs is given up then
				}
			}
		}
		if written <= unwritten {
			r.Fresh++
			return
		}
		break
	}
	r.Bad++
}

// balanced reports whether what the referee billed lies between what the ledger says and that with what is in doubt.
func (r *crashResult) balanced() bool { return r.Paid <= r.Tokens && r.Tokens <= r.Paid+r.InDoubt }

func (r *crashResult) print(w io.Writer, behaviour string) {
	fmt.Fprintf(w, "%d faults (kills of the worker %d, Temporal %d, S3 %d; worker's link to Temporal %d, to S3 %d); %s; %.0f s, undisturbed %.0f s\n",
		len(r.Kills), r.Count["worker"], r.Count[devstack.ServiceTemporal], r.Count[devstack.ServiceLocal],
		r.Count[linkTemporal], r.Count[linkS3], behaviour, r.Seconds, r.Calm)
	fmt.Fprintf(w, "  result           identical: %t (%d datasets)\n", r.Same, len(r.Digests))
	fmt.Fprintf(w, "  answered         %d calls, of these %d to a question that had been answered before:\n", r.Answered, r.Duplicates)
	fmt.Fprintf(w, "                   %d because the call was in flight when the worker was killed\n", r.InFlight)
	fmt.Fprintf(w, "                   %d because the answer was not written yet when the worker was killed\n", r.Fresh)
	fmt.Fprintf(w, "                   %d for neither reason, which must not be\n", r.Bad)
	fmt.Fprintf(w, "  tokens           paid %d, billed %d, paid and in doubt %d; in this order: %t\n", r.Paid, r.Tokens, r.Paid+r.InDoubt, r.balanced())
	fmt.Fprintf(w, "  besides          %d short calls (%d tokens) that tried models out, which no run counts\n", r.Checks, r.CheckCost)
}
