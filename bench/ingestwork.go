package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d"
)

// ingestChild is the process that ingests; what it is told and tells is JSON.
const ingestChild = "_ingest"

// ingestJob is one pass over a crawl.
type ingestJob struct {
	Endpoint string    `json:"endpoint"`
	Dir      string    `json:"dir"` // of the dataset
	AtOnce   int       `json:"at_once"`
	Plan     crawlPlan `json:"plan"`
	Library  bool      `json:"library"` // after each map task the libraries alone over a file
	Profile  string    `json:"profile"`
}

// ingestPass is what one pass came to.
type ingestPass struct {
	Procs    int     `json:"gomaxprocs"`
	AtOnce   int     `json:"tasks_at_once"`
	Tasks    int     `json:"tasks"`
	Map      stretch `json:"map"`
	Library  alone   `json:"library"` // over the same files
	Merge    stretch `json:"merge"`
	Live     []int64 `json:"heap_live_bytes"` // most so far, after each tenth of the map tasks
	RSS      []int64 `json:"rss_bytes"`       // likewise
	HeapPeak int64   `json:"heap_live_peak_bytes"`
	RSSPeak  int64   `json:"rss_peak_bytes"`
	Bits     int     `json:"bits"`
	Rows     int64   `json:"rows"`
	Input    int64   `json:"input"`
}

// stretch is a part of the work.
type stretch struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_s"`
}

// timed adds what f takes.
func (s *stretch) timed(f func() error) error {
	began, used := time.Now(), usageOf(os.Getpid()).CPU
	err := f()
	s.Seconds += time.Since(began).Seconds()
	s.CPU += usageOf(os.Getpid()).CPU - used
	return err
}

func ingestMain(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet(ingestChild, flag.ContinueOnError)
	told := flags.String("job", "", "what to do")
	if err := parse(flags, args); err != nil {
		return err
	}
	var job ingestJob
	if err := json.Unmarshal([]byte(*told), &job); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	st, err := blob.Open(ctx, blob.Config{Bucket: bucket, Endpoint: job.Endpoint, Region: s3d.Region, PathStyle: true, AccessKeyEnv: accessEnv, SecretKeyEnv: secretEnv})
	if err != nil {
		return err
	}
	if job.Profile != "" {
		if err := os.MkdirAll(job.Profile, 0o755); err != nil {
			return err
		}
	}
	stop, err := profileTo(job.Profile, "ingest-"+job.Dir)
	if err != nil {
		return err
	}
	pass, err := job.run(ctx, st)
	if err := stop(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(pass)
}

// run does what the workflow of an ingest does, without Temporal.
func (j ingestJob) run(ctx context.Context, st *blob.Store) (pass ingestPass, err error) {
	sources := &activities.Sources{Store: st, Bucket: func(context.Context, string) (*blob.Store, error) { return st, nil }}
	spec := config.DefaultRun()
	listing, err := sources.ListSources(ctx, activities.ListInput{Kind: dataset.KindSegments, Dir: j.Dir, Sources: []config.Source{{Path: "s3://" + bucket + "/" + crawlFolder + "/"}}})
	if err != nil {
		return pass, err
	}
	pass = ingestPass{Procs: runtime.GOMAXPROCS(0), AtOnce: j.AtOnce, Tasks: listing.Tasks}
	live := watchHeap()
	defer live.stop()
	extract := func(int) error { return nil }
	if j.Library {
		extract = j.library(ctx, st, &pass.Library)
	}
	var mu sync.Mutex
	done := 0
	each := func(task int) error {
		in := activities.MapInput{Kind: dataset.KindSegments, Dir: j.Dir, Task: task, Set: listing.Set, Segments: spec.Segments}
		if err := sources.MapSources(ctx, in); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if done++; done*10/listing.Tasks > len(pass.Live) {
			pass.Live, pass.RSS = append(pass.Live, live.most()), append(pass.RSS, usageOf(os.Getpid()).Peak)
		}
		return nil
	}
	if j.Library { // by turns, so that both meet the same machine
		for i := range max(listing.Tasks, j.Plan.Files) {
			if i < listing.Tasks {
				if err := pass.Map.timed(func() error { return each(i) }); err != nil {
					return pass, err
				}
			}
			if err := extract(i); err != nil {
				return pass, err
			}
		}
	} else if err := pass.Map.timed(func() error { return atOnce(j.AtOnce, listing.Tasks, each) }); err != nil {
		return pass, err
	}
	err = pass.Merge.timed(func() error {
		plan, err := sources.PlanPartitions(ctx, activities.PlanInput{Dir: j.Dir, Tasks: listing.Tasks, Data: spec.Data})
		if err != nil {
			return err
		}
		pass.Bits, pass.Rows, pass.Input = plan.Bits, plan.Rows, plan.Input
		return atOnce(j.AtOnce, 1<<plan.Bits, func(p int) error {
			_, err := sources.MergePartition(ctx, activities.MergeWork{Kind: dataset.KindSegments, Output: j.Dir, Bits: plan.Bits, Plan: plan.Key, Partition: p})
			return err
		})
	})
	pass.HeapPeak, pass.RSSPeak = live.most(), usageOf(os.Getpid()).Peak
	return pass, err
}

// atOnce runs n tasks, so many at a time.
func atOnce(limit, n int, task func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(limit)
	for i := range n {
		g.Go(func() error { return task(i) })
	}
	return g.Wait()
}

// heapWatch remembers the most that lived on the heap after any collection.
type heapWatch struct {
	mu   sync.Mutex
	peak uint64
	done chan struct{}
}

func watchHeap() *heapWatch {
	h := &heapWatch{done: make(chan struct{})}
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.look()
			case <-h.done:
				return
			}
		}
	}()
	return h
}

func (h *heapWatch) look() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peak = max(h.peak, sample[0].Value.Uint64())
}

func (h *heapWatch) most() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(h.peak)
}

func (h *heapWatch) stop() { close(h.done) }
