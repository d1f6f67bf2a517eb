package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

// crawlFolder is where the crawl lies in the bucket.
const crawlFolder = "crawl"

// ingestMemory and ingestCollect are those of a worker, for the process that ingests, where GOMEMLIMIT and GOGC do not say.
const (
	ingestMemory  = "232MiB"
	ingestCollect = "200"
)

type ingestOptions struct {
	megabytes, files, record, atOnce, cores int
	share                                   float64
	library                                 bool
	dir, profile                            string
	json                                    bool
}

// ingestResult is what reading a crawl came to.
type ingestResult struct {
	Plan     crawlPlan    `json:"plan"`
	Raw      int64        `json:"warc_bytes"`   // decompressed
	Packed   int64        `json:"packed_bytes"` // as they lie
	HTML     int64        `json:"html_bytes"`
	Pages    int          `json:"pages"`
	Turns    *ingestPass  `json:"turns,omitempty"`      // one core, map tasks and the library by turns
	Overhead float64      `json:"overhead,omitempty"`   // map tasks over all libraries
	Passes   []ingestPass `json:"passes"`               // with 1, 2 … cores
	Share    float64      `json:"share_of_ideal"`       // of the last pass: its speed over that of one core times its cores
	CPUShare float64      `json:"share_of_ideal_cpu"`   // how many of its cores it kept busy
	S3       usage        `json:"s3"`                   // over all passes
	Written  float64      `json:"generated_in_seconds"` // before anything was measured
}

func ingestCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o ingestOptions
	flags := flag.NewFlagSet("ingest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.megabytes, "mb", 256, "megabytes of WARC, decompressed, about")
	flags.IntVar(&o.files, "files", 16, "files")
	flags.Float64Var(&o.share, "pages", 0.9, "share of the bytes that are pages; the rest are scripts")
	flags.IntVar(&o.record, "record-mb", 0, "megabytes of one huge record in the middle of the first file")
	flags.IntVar(&o.atOnce, "at-once", 4, "tasks in work at once, as a worker has on up to four cores")
	flags.IntVar(&o.cores, "cores", 2, "cores of the last pass; the first has one. With 1 there is one pass, with 0 one with all cores")
	flags.BoolVar(&o.library, "library", true, "also measure the libraries alone on the same files")
	flags.StringVar(&o.dir, "dir", "", "`folder` for data, which is kept; default: a temporary one, removed at the end")
	flags.BoolVar(&o.json, "json", false, "print every figure as JSON")
	profile := profileFlag(flags)
	if err := parse(flags, args); err != nil {
		return err
	}
	o.profile = *profile
	if o.megabytes < 1 || o.files < 1 || o.atOnce < 1 || o.cores < 0 || o.record < 0 || o.share <= 0 || o.share > 1 {
		return usageError("-mb, -files and -at-once must be at least 1, -cores and -record-mb at least 0, -pages above 0 and at most 1")
	}
	dir, remove, err := dataDir(o.dir)
	if err != nil {
		return err
	}
	defer remove()
	r, err := benchIngest(ctx, o, dir, stderr)
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(stdout, r)
	}
	r.print(stdout)
	return nil
}

func benchIngest(ctx context.Context, o ingestOptions, dir string, stderr io.Writer) (*ingestResult, error) {
	s3, st, err := startS3(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer s3.stop()
	r := &ingestResult{Plan: crawlPlan{Files: o.files, Share: o.share, Record: int64(o.record) << 20, Seed: 9}}
	size := 0
	for i := range 64 {
		size += len(r.Plan.page(i))
	}
	r.Plan.Pages = max(1, int(float64(o.megabytes)*1e6*o.share)*64/size/o.files)
	r.Pages, r.HTML = r.Plan.Pages*o.files, int64(size)/64*int64(r.Plan.Pages*o.files)
	began := time.Now()
	if r.Raw, r.Packed, err = r.Plan.upload(ctx, st, dir); err != nil {
		return nil, err
	}
	r.Written = time.Since(began).Seconds()
	fmt.Fprintf(stderr, "wrote %s of WARC, %s compressed, in %.0f s\n", mega(r.Raw), mega(r.Packed), r.Written)
	m := newMeters(map[string]func() int{"s3": s3.pid})
	job := ingestJob{Endpoint: s3.url, AtOnce: o.atOnce, Plan: r.Plan, Profile: o.profile}
	if o.library {
		turns := job
		turns.Dir, turns.Library, turns.AtOnce = "turns", true, 1
		pass, err := turns.start(ctx, 1, stderr)
		if err != nil {
			return nil, err
		}
		r.Turns, r.Overhead = &pass, pass.Map.CPU/pass.Library.cpu()
	}
	cores := []int{1, o.cores}
	if o.cores <= 1 {
		cores = cores[1:]
	}
	for _, n := range cores {
		job.Dir = "cores-" + strconv.Itoa(n)
		pass, err := job.start(ctx, n, stderr)
		if err != nil {
			return nil, err
		}
		r.Passes = append(r.Passes, pass)
	}
	last := r.Passes[len(r.Passes)-1]
	r.CPUShare = last.Map.CPU / last.Map.Seconds / float64(last.Procs)
	r.Share = r.Passes[0].Map.Seconds * float64(r.Passes[0].Procs) / last.Map.Seconds / float64(last.Procs)
	r.S3 = m.read()["s3"]
	return r, nil
}

// crawlName is the key of a file.
func crawlName(i int) string { return fmt.Sprintf("%s/%05d.warc.gz", crawlFolder, i) }

// upload makes the files of a crawl and puts them into the bucket; of each, one copy at a time lies on disk besides.
func (p crawlPlan) upload(ctx context.Context, st *blob.Store, dir string) (raw, packed int64, err error) {
	type size struct{ raw, packed int64 }
	sizes := make([]size, p.Files)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for i := range p.Files {
		g.Go(func() error {
			path := filepath.Join(dir, filepath.Base(crawlName(i)))
			defer os.Remove(path)
			n, err := p.write(path, i)
			if err != nil {
				return err
			}
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			sizes[i] = size{n, info.Size()}
			return errors.Join(ctx.Err(), st.PutFile(ctx, crawlName(i), path))
		})
	}
	err = g.Wait()
	for _, s := range sizes {
		raw += s.raw
		packed += s.packed
	}
	return raw, packed, err
}

// start does the job in a process of its own with so many cores; 0 are all.
func (j ingestJob) start(ctx context.Context, cores int, stderr io.Writer) (pass ingestPass, err error) {
	self, err := os.Executable()
	if err != nil {
		return pass, err
	}
	told, err := json.Marshal(j)
	if err != nil {
		return pass, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, ingestChild, "-job", string(told))
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, stderr, os.Environ()
	if os.Getenv("GOMEMLIMIT") == "" {
		cmd.Env = append(cmd.Env, "GOMEMLIMIT="+ingestMemory)
		if os.Getenv("GOGC") == "" {
			cmd.Env = append(cmd.Env, "GOGC="+ingestCollect)
		}
	}
	if cores > 0 {
		cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(cores))
	}
	if err := cmd.Run(); err != nil {
		return pass, fmt.Errorf("ingest on %d cores: %w", cores, err)
	}
	return pass, json.Unmarshal(out.Bytes(), &pass)
}

func (r *ingestResult) print(w io.Writer) {
	rate := func(seconds float64) float64 { return float64(r.Raw) / 1e6 / max(seconds, 1e-9) }
	fmt.Fprintf(w, "%s of WARC in %d files, %s compressed; %d pages of HTML, %s\n", mega(r.Raw), r.Plan.Files, mega(r.Packed), r.Pages, mega(r.HTML))
	if t := r.Turns; t != nil {
		fmt.Fprintf(w, "  map tasks         %6.1f CPU s  %5.1f MB/s of WARC on one core: read, decompressed, extracted, all default rules, sorted, spilled\n", t.Map.CPU, rate(t.Map.CPU))
		l := t.Library
		fmt.Fprintf(w, "  libraries alone   %6.1f CPU s: extraction %.1f (%.1f MB/s of HTML), gzip %.1f, zstd %.1f, S3 %.1f; map tasks take %.2f times as long, %.2f times extraction alone\n",
			l.cpu(), l.Extract.CPU, float64(r.HTML)/1e6/max(l.Extract.CPU, 1e-9), l.Unpack.CPU, l.Pack.CPU, l.Store.CPU, r.Overhead, t.Map.CPU/max(l.Extract.CPU, 1e-9))
	}
	for _, p := range r.Passes {
		fmt.Fprintf(w, "  on %d cores        %6.1f s, %.1f CPU s  %5.1f MB/s in %d tasks, %d at once; then %d partitions in %.1f s, %.1f CPU s\n",
			p.Procs, p.Map.Seconds, p.Map.CPU, rate(p.Map.Seconds), p.Tasks, p.AtOnce, 1<<p.Bits, p.Merge.Seconds, p.Merge.CPU)
		fmt.Fprintf(w, "    memory          %s of heap live, %s in all; at each tenth of the tasks", mega(p.HeapPeak), mega(p.RSSPeak))
		for i := range p.Live {
			fmt.Fprintf(w, " %s/%s", mega(p.Live[i]), mega(p.RSS[i]))
		}
		fmt.Fprintf(w, "\n    segments        %d, and %d rejected rows\n", p.Rows, p.Input-p.Rows)
	}
	fmt.Fprintf(w, "  of the ideal      %.0f %% by the clock; %.0f %% of its cores were busy in map tasks\n", 100*r.Share, 100*r.CPUShare)
	fmt.Fprintf(w, "  s3                %.1f CPU s, peak %s\n", r.S3.CPU, mega(r.S3.Peak))
}
