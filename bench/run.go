package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// runResult is what a whole run came to.
type runResult struct {
	Rows     int                `json:"rows"`
	InFlight int                `json:"in_flight_wanted"`
	Referee  string             `json:"referee"`
	Seconds  float64            `json:"seconds"`
	Steps    map[string]float64 `json:"step_seconds"`
	Stages   map[string]float64 `json:"stage_calls_per_s"` // of stages of calls, over the stage
	rates
	PerThousand map[string]float64 `json:"cpu_s_per_1000_calls"`
	Peak        map[string]int64   `json:"peak_rss_bytes"`
	Memory      []int64            `json:"worker_rss_bytes"` // peak so far at each tenth of the answers
	Bytes       int64              `json:"bytes_written"`
	Objects     int64              `json:"objects_written"`
	Answered    int64              `json:"answered"`
	Duplicates  int64              `json:"duplicates"`
	Tokens      int64              `json:"tokens"`
	Paid        int64              `json:"tokens_paid"` // as the run's status says
	InDoubt     int64              `json:"calls_in_doubt"`
	Histories   histories          `json:"histories"`
}

func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rows := flags.Int("rows", 20_000, "segments; the paper has 502133")
	inFlight := flags.Int("in-flight", 200, "calls in flight wanted, over all workers (there is one)")
	partitionRows := flags.Int("partition-rows", 4096, "greatest average number of rows in a partition")
	iterations := flags.Int("iterations", 2, "iterations of rating and training")
	folder := flags.String("dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	asJSON := flags.Bool("json", false, "print every figure as JSON")
	b := behaviourFlags(flags, 0)
	if err := parse(flags, args); err != nil {
		return err
	}
	dir, remove, err := dataDir(*folder)
	if err != nil {
		return err
	}
	defer remove()
	l, err := startLab(ctx, dir, b.faults(), *inFlight, false, stderr)
	if err != nil {
		return err
	}
	defer l.stop()
	const name = "bench"
	fmt.Fprintf(stderr, "writing %d documents\n", *rows)
	spec, sources, err := l.runSpec(name, *rows, *inFlight, *partitionRows, *iterations)
	if err != nil {
		return err
	}
	written, err := countObjects(ctx, l.client.Store)
	if err != nil {
		return err
	}
	m := l.meters()
	calls := int64(*rows) * int64(1+*iterations)
	watch := watchRates(ctx, l.referee, calls, *inFlight)
	began := time.Now()
	if err := l.start(ctx, spec, sources); err != nil {
		return err
	}
	r := runResult{Rows: *rows, InFlight: *inFlight, Referee: b.String(), Steps: map[string]float64{}, Stages: map[string]float64{}}
	said := ""
	seen, err := l.follow(ctx, name, func(seen runs.Seen) {
		used := m.read()
		if counts, err := l.referee.stats(ctx); err == nil && counts.Answered*10/calls > int64(len(r.Memory)) {
			r.Memory = append(r.Memory, used["worker"].Peak)
		}
		if line := doing(seen); line != said {
			said = line
			fmt.Fprintf(stderr, "%6.0f s  %s\n", time.Since(began).Seconds(), line)
		}
	})
	r.rates = watch()
	if err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	for _, s := range seen.Stages {
		took := s.EndedAt.Sub(s.StartedAt).Seconds()
		r.Steps[s.Key] = took
		if s.Usage.Calls > 0 && took > 0 {
			r.Stages[s.Key] = float64(s.Usage.Calls) / took
		}
	}
	counts, err := l.referee.journal(ctx)
	if err != nil {
		return err
	}
	r.Answered = counts.ByRoute["chat.completions"].Answered
	r.Duplicates, r.Tokens = counts.Repeated, counts.PromptTokens+counts.CompletionTokens
	r.Paid, r.InDoubt = seen.Spent.PromptTokens+seen.Spent.CompletionTokens, seen.InDoubt.Calls
	r.PerThousand, r.Peak = map[string]float64{}, map[string]int64{}
	for process, u := range m.read() {
		r.PerThousand[process], r.Peak[process] = u.CPU/float64(r.Answered)*1000, u.Peak
	}
	if r.Bytes, r.Objects, err = written(ctx); err != nil {
		return err
	}
	if r.Histories, err = walkHistories(ctx, l.client.Temporal, name); err != nil {
		return err
	}
	if *asJSON {
		err = printJSON(stdout, r)
	} else {
		r.print(stdout)
	}
	if seen.Phase != workflows.PhaseCompleted && seen.Phase != workflows.PhaseConverged {
		err = errors.Join(err, fmt.Errorf("the run ended as %s: %s", seen.Phase, seen.Message))
	}
	return err
}

// doing says what a run is at.
func doing(seen runs.Seen) string {
	var now []string
	for _, s := range seen.Stages {
		if s.State == workflows.StageRunning {
			now = append(now, s.Key)
		}
	}
	return strings.Join(append([]string{seen.Phase}, now...), ", ")
}

func (r *runResult) print(w io.Writer) {
	fmt.Fprintf(w, "run over %d segments; %s; %.1f s\n", r.Rows, r.Referee, r.Seconds)
	r.rates.print(w, r.InFlight)
	for _, key := range slices.Sorted(maps.Keys(r.Steps)) {
		fmt.Fprintf(w, "    %-22s %7.1f s", key, r.Steps[key])
		if n := r.Stages[key]; n > 0 {
			fmt.Fprintf(w, ", %.0f calls/s", n)
		}
		fmt.Fprintln(w)
	}
	printUsage(w, r.PerThousand, r.Peak)
	fmt.Fprint(w, "  worker memory   ")
	for _, b := range r.Memory {
		fmt.Fprintf(w, " %s", mega(b))
	}
	fmt.Fprintln(w, " (peak so far, at each tenth)")
	fmt.Fprintf(w, "  written          %d objects, %s\n", r.Objects, mega(r.Bytes))
	fmt.Fprintf(w, "  answered         %d, duplicates %d; tokens %d, paid according to the run %d; %d calls in doubt\n",
		r.Answered, r.Duplicates, r.Tokens, r.Paid, r.InDoubt)
	r.Histories.print(w)
}
