package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/workflows"
)

type stageOptions struct {
	rows, partitionRows int
	inFlight            int
	task                string
	dir, profile        string
	json                bool
	behaviour           *behaviour
}

// stageResult is what a stage came to.
type stageResult struct {
	Task       string  `json:"task"`
	Rows       int     `json:"rows"`
	Partitions int     `json:"partitions"`
	Window     int     `json:"partitions_in_work"`
	InFlight   int     `json:"in_flight_wanted"`
	Referee    string  `json:"referee"`
	Seconds    float64 `json:"seconds"`
	rates
	PerThousand map[string]float64 `json:"cpu_s_per_1000_calls"` // by process: worker, s3, referee
	Peak        map[string]int64   `json:"peak_rss_bytes"`
	Bytes       int64              `json:"bytes_written"`
	Objects     int64              `json:"objects_written"`
	Answered    int64              `json:"answered"`
	Duplicates  int64              `json:"duplicates"`
	Tokens      int64              `json:"tokens"`
	Rejected    int64              `json:"rejected"`
	Statuses    map[int]int64      `json:"statuses"`
	Client      llm.Stats          `json:"client"`
}

func stageCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o stageOptions
	flags := flag.NewFlagSet("stage", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rows, "rows", 32768, "rows of the stage's input")
	flags.IntVar(&o.partitionRows, "partition-rows", 4096, "greatest average number of rows in a partition")
	flags.IntVar(&o.inFlight, "in-flight", 200, "calls in flight wanted, over all workers (there is one)")
	flags.StringVar(&o.task, "task", stage.TaskRate, "task: rate or backtranslate")
	flags.StringVar(&o.dir, "dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	flags.BoolVar(&o.json, "json", false, "print every figure as JSON")
	profile := profileFlag(flags)
	o.behaviour = behaviourFlags(flags, time.Second)
	if err := parse(flags, args); err != nil {
		return err
	}
	o.profile = *profile
	if o.rows < 1 || o.partitionRows < 1 || o.inFlight < 1 {
		return usageError("-rows, -partition-rows and -in-flight must be at least 1")
	}
	if o.task != stage.TaskRate && o.task != stage.TaskBacktranslate {
		return usageError("-task must be rate or backtranslate")
	}
	dir, remove, err := dataDir(o.dir)
	if err != nil {
		return err
	}
	defer remove()
	r, err := benchStage(ctx, o, dir, stderr)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(stdout, r)
	}
	r.print(stdout)
	return nil
}

// dataDir returns the folder named, or a temporary one that remove removes.
func dataDir(name string) (dir string, remove func(), err error) {
	if name != "" {
		return name, func() {}, os.MkdirAll(name, 0o755)
	}
	if dir, err = os.MkdirTemp("", "selfalign-bench-"); err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

func benchStage(ctx context.Context, o stageOptions, dir string, stderr io.Writer) (_ *stageResult, err error) {
	s3, st, err := startS3(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer s3.stop()
	bits := dataset.BitsFor(int64(o.rows), o.partitionRows, 0)
	fmt.Fprintf(stderr, "writing %d rows in %d partitions\n", o.rows, 1<<bits)
	in, err := writeInput(ctx, st, o.task, o.rows, bits)
	if err != nil {
		return nil, err
	}
	stopProfile, err := profiling(o.profile)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	server, err := startService(ctx, refereeChild, dir)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	ref := referee{server.url}
	if err := ref.behave(ctx, o.behaviour.faults()); err != nil {
		return nil, err
	}
	stopS3, err := countObjects(ctx, st)
	if err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	forgetPeak()
	m := newMeters(map[string]func() int{"worker": os.Getpid, "s3": s3.pid, "referee": server.pid})
	began := time.Now()
	watch := watchRates(ctx, ref, int64(o.rows), o.inFlight)
	r := &stageResult{
		Task: o.task, Rows: o.rows, Partitions: in.Partitions(), InFlight: o.inFlight, Referee: o.behaviour.String(),
	}
	if r.Client, r.Rejected, r.Window, err = drive(ctx, o, st, in, ref, stderr); err != nil {
		watch()
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	used := m.read()
	r.rates = watch()
	counts, err := ref.journal(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := ref.stats(ctx)
	if err != nil {
		return nil, err
	}
	r.Answered, r.Duplicates, r.Tokens, r.Statuses = counts.Answered, counts.Repeated, counts.PromptTokens+counts.CompletionTokens, stats.Statuses
	r.PerThousand, r.Peak = map[string]float64{}, map[string]int64{}
	for name, u := range used {
		r.PerThousand[name], r.Peak[name] = u.CPU/float64(counts.Answered)*1000, u.Peak
	}
	r.Bytes, r.Objects, err = stopS3(ctx)
	return r, err
}

// writeInput writes the dataset that the stage works on.
func writeInput(ctx context.Context, st *blob.Store, task string, rows, bits int) (dataset.Ref, error) {
	of := make([][]int, 1<<bits)
	for i := range rows {
		p := dataset.PartitionOf(dataset.SegmentID(text(0, i)), bits)
		of[p] = append(of[p], i)
	}
	ref := dataset.Ref{Dir: "input", Bits: bits, Rows: int64(rows)}
	for p, members := range of {
		var err error
		receipt := dataset.Receipt{Input: int64(len(members))}
		if task == stage.TaskRate {
			out := make([]dataset.Candidate, len(members))
			for n, i := range members {
				t := text(0, i)
				out[n] = dataset.Candidate{ID: dataset.SegmentID(t), Instruction: "Write about " + t[:60] + ".", Output: t, Source: "bench", Generator: "bench", Prompt: "bench"}
			}
			_, err = dataset.WritePartition(ctx, st, ref.Dir, bits, p, out, nil, receipt)
		} else {
			out := make([]dataset.Segment, len(members))
			for n, i := range members {
				t := text(0, i)
				out[n] = dataset.Segment{ID: dataset.SegmentID(t), Text: t, Source: "bench", Document: fmt.Sprint(i)}
			}
			_, err = dataset.WritePartition(ctx, st, ref.Dir, bits, p, out, nil, receipt)
		}
		if err != nil {
			return ref, err
		}
	}
	return ref, nil
}

// windowFor is how workflows split calls in flight into partitions in work and calls in flight in each.
func windowFor(inFlight int) (partitions, each int) {
	partitions = workflows.PartitionsFor(inFlight)
	return partitions, max(1, (inFlight+partitions-1)/partitions)
}

// drive does what workflows do with a stage: partitions through a bounded window.
func drive(ctx context.Context, o stageOptions, st *blob.Store, in dataset.Ref, ref referee, stderr io.Writer) (llm.Stats, int64, int, error) {
	window, each := windowFor(o.inFlight)
	pool := llm.NewPool(map[string]llm.Provider{"referee": {
		URL: ref.url + "/v1", Timeout: 2 * time.Minute, Limits: llm.Limits{InFlight: o.inFlight}, Prices: map[string]llm.Price{"*": {}},
	}})
	defer pool.Close()
	deps := stage.Deps{Store: st, Models: pool, Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	var next, rejected atomic.Int64
	errs := make(chan error, window)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var partitions sync.WaitGroup
	for range window {
		partitions.Go(func() {
			for {
				p := int(next.Add(1)) - 1
				if p >= in.Partitions() || ctx.Err() != nil {
					return
				}
				w := stage.Work{
					Task: o.task, Run: "bench", Input: in, Output: "output", Partition: p,
					Model:    dataset.ModelRef{Provider: "referee", Name: pocketlm.BaseModel},
					Sampling: stage.Sampling{Temperature: 0.7, TopP: 0.9, MaxTokens: 512},
					Attempts: 3, InFlight: each, Budget: stage.Unlimited(),
				}
				r, err := runPatiently(ctx, deps, w)
				if err == nil && !r.Done {
					err = fmt.Errorf("partition %d stopped: %s", p, r.Stop)
				}
				if err != nil {
					stop(err)
					errs <- err
					return
				}
				rejected.Add(r.Receipt.Rejected)
			}
		})
	}
	partitions.Wait()
	close(errs)
	client, err := pool.Client("referee")
	if err != nil {
		return llm.Stats{}, 0, window, err
	}
	return client.Stats(), rejected.Load(), window, <-errs
}

// runPatiently comes back to a partition that yielded, as Temporal would.
func runPatiently(ctx context.Context, deps stage.Deps, w stage.Work) (stage.Result, error) {
	for {
		r, err := stage.Run(ctx, deps, w, nil)
		var failure *stage.Error
		if !errors.As(err, &failure) || !failure.Retryable() {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(failure.RetryAfter):
		}
	}
}
