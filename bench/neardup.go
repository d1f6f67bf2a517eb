package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/neardup"
)

type neardupOptions struct {
	rows, partitionRows, atOnce int
	rules                       neardup.Rules
	dir, profile                string
	json                        bool
}

// neardupResult is what a search for near-duplicates came to.
type neardupResult struct {
	Rows       int              `json:"rows"`
	Partitions int              `json:"partitions"`
	AtOnce     int              `json:"tasks_at_once"`
	Job        neardup.Job      `json:"job"`
	Steps      []neardupStep    `json:"steps"`
	Seconds    float64          `json:"seconds"`
	CPU        map[string]usage `json:"processes"`
	Input      int64            `json:"input_bytes"`
	Runs       int64            `json:"run_bytes"`
	Written    int64            `json:"bytes_written"`
	Objects    int64            `json:"objects_written"`
	Kept       int64            `json:"kept"`
	Dropped    int64            `json:"dropped"`
	Planted    int              `json:"planted"` // rows that are edits of another
}

type neardupStep struct {
	Name    string         `json:"name"`
	Tasks   int            `json:"tasks"`
	Seconds float64        `json:"seconds"`
	Counts  neardup.Counts `json:"counts"`
}

func neardupCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o neardupOptions
	flags := flag.NewFlagSet("neardup", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.rows, "rows", 100_000, "segments; three in ten are edits of another, one in a thousand is the same page with another number")
	flags.IntVar(&o.partitionRows, "partition-rows", 4096, "greatest average number of rows in a partition")
	flags.IntVar(&o.atOnce, "at-once", 4, "tasks in work at once, as many as the workflow has")
	flags.Float64Var(&o.rules.Threshold, "threshold", 0.8, "Jaccard similarity of near-duplicates")
	flags.IntVar(&o.rules.Shingle, "ngram", 5, "words of an n-gram")
	flags.IntVar(&o.rules.Permutations, "permutations", 128, "permutations of a signature")
	flags.StringVar(&o.dir, "dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	flags.BoolVar(&o.json, "json", false, "print every figure as JSON")
	profile := profileFlag(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	o.profile = *profile
	if o.rows < 1 || o.partitionRows < 1 || o.atOnce < 1 {
		return usageError("-rows, -partition-rows and -at-once must be at least 1")
	}
	if err := o.rules.Validate(); err != nil {
		return usageError(err.Error())
	}
	dir, remove, err := dataDir(o.dir)
	if err != nil {
		return err
	}
	defer remove()
	r, err := benchNeardup(ctx, o, dir, stderr)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(stdout, r)
	}
	r.print(stdout)
	return nil
}

func benchNeardup(ctx context.Context, o neardupOptions, dir string, stderr io.Writer) (_ *neardupResult, err error) {
	s3, st, err := startS3(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer s3.stop()
	began := time.Now()
	in, planted, err := likeRows(ctx, st, o)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(stderr, "wrote %d segments in %d partitions in %.0f s\n", in.Rows, in.Partitions(), time.Since(began).Seconds())
	stopProfile, err := profiling(o.profile)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	manifest, _, err := dataset.Open(ctx, st, in.Dir)
	if err != nil {
		return nil, err
	}
	written, err := countObjects(ctx, st)
	if err != nil {
		return nil, err
	}
	r := &neardupResult{Rows: o.rows, Partitions: in.Partitions(), AtOnce: o.atOnce, Job: neardup.NewJob(o.rules, in, "runs"), Input: manifest.Bytes, Planted: planted}
	debug.FreeOSMemory()
	forgetPeak()
	m := newMeters(map[string]func() int{"worker": os.Getpid, "s3": s3.pid})
	began = time.Now()
	last := began
	step := func(name string, tasks int, c neardup.Counts) {
		r.Steps = append(r.Steps, neardupStep{Name: name, Tasks: tasks, Seconds: time.Since(last).Seconds(), Counts: c})
		r.Runs += c.Bytes
		last = time.Now()
	}
	out, err := neardup.All(ctx, st, r.Job, "output", o.atOnce, func(s neardup.Step, c neardup.Counts) { step(string(s), r.Job.Tasks(s), c) })
	if err != nil {
		return nil, err
	}
	step("drop", in.Partitions(), neardup.Counts{})
	r.Seconds = time.Since(began).Seconds()
	r.CPU = m.read()
	r.Kept, r.Dropped = out.Rows, out.Rejected
	r.Written, r.Objects, err = written(ctx)
	return r, err
}

// likeText is the i-th text: of ten in a row the first three are edits of the tenth, and every thousandth is one page with a number in it.
func likeText(i int) string {
	switch {
	case i%1000 == 500:
		return fmt.Sprintf("%s Page %d.", text(3, 0), i)
	case i%10 > 2:
		return text(1, i)
	}
	words := strings.Split(text(1, i/10*10+9), " ")
	rng := rand.New(rand.NewPCG(5, uint64(i)))
	for range 1 + rng.IntN(1+len(words)/60) {
		words[rng.IntN(len(words))] = fmt.Sprintf("edit%d", rng.IntN(1000))
	}
	return strings.Join(words, " ")
}

// likeRows returns the dataset in which is searched. One that stands in a kept data folder is used again, and what an earlier
// search wrote there is removed.
func likeRows(ctx context.Context, st *blob.Store, o neardupOptions) (dataset.Ref, int, error) {
	_, ref, err := dataset.Open(ctx, st, "input")
	if errors.Is(err, blob.ErrNotFound) {
		return writeLikeRows(ctx, st, o)
	}
	if err == nil && ref.Rows != int64(o.rows) {
		err = fmt.Errorf("the data folder holds %d rows", ref.Rows)
	}
	if err != nil {
		return ref, 0, err
	}
	var old []string
	for _, dir := range []string{"runs/", "output/"} {
		if err := st.List(ctx, dir, func(i blob.Info) error { old = append(old, i.Key); return nil }); err != nil {
			return ref, 0, err
		}
	}
	planted := 0
	for i := range o.rows {
		if planned(i) {
			planted++
		}
	}
	return ref, planted, st.Delete(ctx, old...)
}

// planned reports whether the i-th text is an edit of another.
func planned(i int) bool {
	if i%1000 == 500 {
		return i != 500
	}
	return i%10 <= 2
}

// writeLikeRows writes the dataset in which is searched.
func writeLikeRows(ctx context.Context, st *blob.Store, o neardupOptions) (dataset.Ref, int, error) {
	bits := dataset.BitsFor(int64(o.rows), o.partitionRows, 0)
	home := make([]int32, o.rows)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	const chunk = 4096
	for from := 0; from < o.rows; from += chunk {
		g.Go(func() error {
			for i := from; i < min(from+chunk, o.rows); i++ {
				t := likeText(i)
				home[i] = int32(dataset.PartitionOf(dataset.SegmentID(t), bits))
			}
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return dataset.Ref{}, 0, err
	}
	planted, of := 0, make([][]int, 1<<bits)
	for i, p := range home {
		of[p] = append(of[p], i)
		if planned(i) {
			planted++
		}
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for p, members := range of {
		g.Go(func() error {
			rows := make([]dataset.Segment, len(members))
			for n, i := range members {
				t := likeText(i)
				rows[n] = dataset.Segment{ID: dataset.SegmentID(t), Text: t, Source: "bench", Document: fmt.Sprint(i)}
			}
			_, err := dataset.WritePartition(gctx, st, "input", bits, p, rows, nil, dataset.Receipt{Input: int64(len(rows))})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return dataset.Ref{}, 0, err
	}
	whole, err := dataset.CommitRange(ctx, st, "input", 0, 1<<bits)
	if err != nil {
		return dataset.Ref{}, 0, err
	}
	ref, err := dataset.Commit(ctx, st, "input", dataset.Manifest{Kind: dataset.KindSegments, Bits: bits}, []dataset.RangeSummary{whole})
	return ref, planted, err
}

func (r *neardupResult) print(w io.Writer) {
	fmt.Fprintf(w, "%d segments in %d partitions, %s of Parquet; %d bands of %d\n", r.Rows, r.Partitions, mega(r.Input), r.Job.Rules.Banding().Bands, r.Job.Rules.Banding().Rows)
	for _, s := range r.Steps {
		fmt.Fprintf(w, "  %-8s %4d tasks %7.1f s  %s written", s.Name, s.Tasks, s.Seconds, mega(s.Counts.Bytes))
		for _, n := range []struct {
			name string
			n    int64
		}{{"rows", s.Counts.Rows}, {"candidates", s.Counts.Candidates}, {"crowded", s.Counts.Crowded}, {"compared", s.Counts.Compared}, {"alike", s.Counts.Found}, {"dropped", s.Counts.Dropped}} {
			if n.n > 0 {
				fmt.Fprintf(w, ", %d %s", n.n, n.name)
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d kept, %d dropped, of %d planted, in %.1f s with %d tasks at once\n", r.Kept, r.Dropped, r.Planted, r.Seconds, r.AtOnce)
	for _, name := range []string{"worker", "s3"} {
		fmt.Fprintf(w, "%-6s %.1f CPU s, peak %s\n", name, r.CPU[name].CPU, mega(r.CPU[name].Peak))
	}
	fmt.Fprintf(w, "%s written in %d objects, %s of them runs that go when the dataset stands\n", mega(r.Written), r.Objects, mega(r.Runs))
}
