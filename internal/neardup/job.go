package neardup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Job is the search for near-duplicates in one dataset of segments. It is small enough for a workflow's history.
//
// A row is dropped when it is a near-duplicate of a row that is kept and has a smaller id: the lexicographically first
// maximal independent set of the pairs found. So every row dropped names a kept one that it truly is like, unlike in
// connected components, where chains of small differences join texts that share nothing; the set is unique, whatever the
// order of sources, files and partitions; and ids, being digests, prefer no source and no length.
type Job struct {
	Rules   Rules       `json:"rules"`
	Input   dataset.Ref `json:"input"`   // segments
	Dir     string      `json:"dir"`     // where runs lie; removed by whoever made the job
	Groups  int         `json:"groups"`  // of neighbouring partitions: the unit of work; a power of two
	Buckets int         `json:"buckets"` // into which the space of band keys is cut; a power of two
	Budget  int         `json:"budget"`  // bytes that one task holds before it writes a run
}

const (
	groupRows     = 1 << 14 // rows of a group, at least, where that makes few enough groups
	bucketRecords = 1 << 20 // likewise band keys of a bucket
	maxTasks      = 512     // of one step
	defaultBudget = 32 << 20
	maxLeaders    = 16      // with which each member of a bucket is compared: those with the smallest ids
	indexBits     = 22      // of a row's number in its partition
	dropSections  = 1 << 12 // of the list of dropped rows, at most
)

// NewJob plans the search: how many tasks each step has follows from the number of rows alone.
func NewJob(rules Rules, input dataset.Ref, dir string) Job {
	bands := int64(rules.Banding().Bands)
	return Job{
		Rules: rules, Input: input, Dir: dir, Budget: defaultBudget,
		Groups:  min(tasksFor(input.Rows, groupRows), input.Partitions()),
		Buckets: tasksFor(input.Rows*bands, bucketRecords),
	}
}

// tasksFor returns the power of two with at least about each records a task, at most maxTasks.
func tasksFor(records, each int64) int {
	return 1 << max(0, bits.Len64(uint64(min(records/each, maxTasks)))-1)
}

// Validate says what is wrong with a job.
func (j Job) Validate() error {
	power := func(n int) bool { return n > 0 && n&(n-1) == 0 }
	switch {
	case !power(j.Groups) || j.Groups > j.Input.Partitions():
		return fmt.Errorf("near-duplicates: %d groups of %d partitions", j.Groups, j.Input.Partitions())
	case !power(j.Buckets) || j.Buckets > 1<<16:
		return fmt.Errorf("near-duplicates: %d buckets", j.Buckets)
	case j.Dir == "" || j.Input.IsZero():
		return errors.New("near-duplicates: no input or no folder")
	case j.Budget < 1<<10:
		return fmt.Errorf("near-duplicates: a budget of %d bytes", j.Budget)
	}
	return j.Rules.Validate()
}

// Step is one pass of a job. All tasks of a step are independent; a step begins when the runs of the one before are gathered.
type Step string

// The steps of a job, in order.
const (
	// StepSign computes the band keys of every row of a group: records (band key, row).
	StepSign Step = "sign"
	// StepPair finds rows with an equal band key in one bucket: records (larger row, smaller row).
	StepPair Step = "pair"
	// StepAttach sends the shingles of the larger row of each pair of a group to the smaller one: (smaller, larger, shingles).
	StepAttach Step = "attach"
	// StepCompare computes the Jaccard similarity of every pair whose smaller row lies in a group: (smaller, larger, id and similarity) of near-duplicates.
	StepCompare Step = "compare"
	// StepDecide goes through all near-duplicates once, in order of the smaller row: (row dropped, row kept, its id and similarity).
	StepDecide Step = "decide"
)

// Steps lists the steps of a job in order.
func Steps() []Step { return []Step{StepSign, StepPair, StepAttach, StepCompare, StepDecide} }

// Tasks returns how many tasks a step has.
func (j Job) Tasks(s Step) int {
	switch s {
	case StepPair:
		return j.Buckets
	case StepDecide:
		return 1
	}
	return j.Groups
}

// sections returns into how many sections the runs of a step are cut.
func (j Job) sections(s Step) int {
	switch s {
	case StepSign:
		return j.Buckets
	case StepPair, StepAttach:
		return j.Groups
	case StepDecide:
		return min(j.Input.Partitions(), dropSections)
	}
	return 1
}

// sorter returns the writing side of a task.
func (j Job) sorter(st *blob.Store, s Step, task int) *sorter {
	n := j.sections(s)
	shift := keyBits - (bits.Len(uint(n)) - 1) // of band keys
	if s != StepSign {
		shift = indexBits + j.Input.Bits - (bits.Len(uint(n)) - 1) // of rows
	}
	return &sorter{
		st: st, name: fmt.Sprintf("%s/%s-%05d", j.Dir, s, task), sections: n, budget: j.Budget,
		section: func(key uint64) int { return int(key >> shift) },
	}
}

// A row's number: its partition, then its place in it. Numbers are in the order of ids.
func rowNumber(part, index int) uint64 { return uint64(part)<<indexBits | uint64(index) }

func partitionOf(row uint64) int { return int(row >> indexBits) }

// Counts say what a step did.
type Counts struct {
	Rows       int64 `json:"rows,omitempty"`       // rows that were read
	Short      int64 `json:"short,omitempty"`      // rows without a word, which are like no other
	Candidates int64 `json:"candidates,omitempty"` // pairs, each as often as bands brought it up
	Crowded    int64 `json:"crowded,omitempty"`    // places in buckets beyond maxLeaders: their owners are not compared with each other there
	Compared   int64 `json:"compared,omitempty"`   // pairs
	Found      int64 `json:"found,omitempty"`      // pairs of near-duplicates
	Dropped    int64 `json:"dropped,omitempty"`    // rows
	Bytes      int64 `json:"bytes,omitempty"`      // of runs written
}

// Add returns the sum of both.
func (c Counts) Add(o Counts) Counts {
	return Counts{
		Rows: c.Rows + o.Rows, Short: c.Short + o.Short, Candidates: c.Candidates + o.Candidates, Crowded: c.Crowded + o.Crowded,
		Compared: c.Compared + o.Compared, Found: c.Found + o.Found, Dropped: c.Dropped + o.Dropped, Bytes: c.Bytes + o.Bytes,
	}
}

// Runs are those of a step, or of one of its tasks.
type Runs struct {
	Sections int      `json:"sections"`
	Runs     []RunRef `json:"runs"`
	Counts   Counts   `json:"counts"`
}

func (j Job) summaryKey(s Step, task int) string {
	return fmt.Sprintf("%s/%s-%05d.json", j.Dir, s, task)
}

func (j Job) runsKey(s Step) string { return fmt.Sprintf("%s/%s.json", j.Dir, s) }

// Gather collects what the tasks of a step wrote, for the next step to read.
func Gather(ctx context.Context, st *blob.Store, j Job, s Step) (Counts, error) {
	fail := func(err error) (Counts, error) { return Counts{}, fmt.Errorf("gather runs of %s: %w", s, err) }
	parts := make([]Runs, j.Tasks(s))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runsAtOnce)
	for task := range parts {
		g.Go(func() error { return getJSON(gctx, st, j.summaryKey(s, task), &parts[task]) })
	}
	if err := g.Wait(); err != nil {
		return fail(err)
	}
	all := Runs{Sections: j.sections(s), Runs: []RunRef{}}
	for _, p := range parts {
		all.Runs = append(all.Runs, p.Runs...)
		all.Counts = all.Counts.Add(p.Counts)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return fail(err)
	}
	if err := st.Put(ctx, j.runsKey(s), body); err != nil {
		return fail(err)
	}
	return all.Counts, nil
}

// Standing returns how many steps are done and gathered.
func Standing(ctx context.Context, st *blob.Store, j Job) (int, error) {
	for n, s := range Steps() {
		_, err := st.Stat(ctx, j.runsKey(s))
		if errors.Is(err, blob.ErrNotFound) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return len(Steps()), nil
}

// gathered returns the runs of a step.
func (j Job) gathered(ctx context.Context, st *blob.Store, s Step) (Runs, error) {
	var runs Runs
	if err := getJSON(ctx, st, j.runsKey(s), &runs); err != nil {
		return runs, err
	}
	if runs.Sections != j.sections(s) {
		return runs, fmt.Errorf("runs of %s have %d sections, not %d", s, runs.Sections, j.sections(s))
	}
	return runs, nil
}

func getJSON(ctx context.Context, st *blob.Store, key string, v any) error {
	body, err := st.Get(ctx, key)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("read %s: %w", st.URI(key), err)
	}
	return nil
}
