package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"go.temporal.io/sdk/activity"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/contamination"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
)

// Bounds of ingest.
const (
	maxMapTasks  = 500
	taskBytes    = 64 << 20  // of sources in a map task, where that makes few enough tasks
	taskFiles    = 1000      // likewise
	spillMemory  = 64 << 20  // bytes of rows held in memory by all map tasks of a process
	maxFiles     = 2_000_000 // of one dataset's sources
	ingestFolder = "_ingest"
)

// Sources turns what a user points at into datasets of seeds and segments: a sort-based shuffle over S3.
type Sources struct {
	Store *blob.Store
	// Bucket opens another bucket for reading, with the credentials of the store.
	Bucket func(ctx context.Context, bucket string) (*blob.Store, error)

	mapping    atomic.Int64 // map tasks in work
	evaluation indexes
}

// ListInput names the sources of a dataset.
type ListInput struct {
	Kind    dataset.Kind    `json:"kind"`
	Sources []config.Source `json:"sources"`
	Dir     string          `json:"dir"`
	// OneTask has one map task read all files, so that a number of rows can be counted off.
	OneTask bool `json:"one_task,omitempty"`

	Decontaminate config.Decontaminate `json:"decontaminate,omitzero"`
	Seeds         []config.Source      `json:"seeds,omitempty"` // of the run, where segments are kept clean of them
}

// Listing says how many map tasks there are. The files of each lie in S3.
type Listing struct {
	Tasks int   `json:"tasks"`
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// file is one object to be read, and how.
type file struct {
	Bucket string        `json:"bucket"`
	Own    bool          `json:"own"` // Key is one of the run's store, below its prefix
	Key    string        `json:"key"`
	Name   string        `json:"name"` // what rows carry as their source
	Size   int64         `json:"size"`
	Source config.Source `json:"source"`
}

// MapInput is one map task.
type MapInput struct {
	Kind     dataset.Kind    `json:"kind"`
	Dir      string          `json:"dir"`
	Task     int             `json:"task"`
	Segments config.Segments `json:"segments"`
	// Prompts says how prompts and responses are read.
	Prompts *corpus.PromptOptions `json:"prompts,omitempty"`

	Decontaminate bool `json:"decontaminate,omitempty"`
}

// PlanInput asks how many partitions the spilled rows need.
type PlanInput struct {
	Dir   string      `json:"dir"`
	Tasks int         `json:"tasks"`
	Data  config.Data `json:"data"`
}

// MergePlan fixes the number of partitions; the list of spills lies under Key.
type MergePlan struct {
	Bits  int    `json:"bits"`
	Rows  int64  `json:"rows"`  // duplicates among them included
	Input int64  `json:"input"` // rows, and what map tasks turned away
	Key   string `json:"key"`
}

// MergeWork makes one partition of rows that map tasks spilled.
type MergeWork struct {
	Kind      dataset.Kind `json:"kind"`
	Output    string       `json:"output"`
	Bits      int          `json:"bits"`
	Plan      string       `json:"plan"` // key of the list of spills
	Partition int          `json:"partition"`
}

func taskKey(dir string, task int) string {
	return fmt.Sprintf("%s/%s/files-%05d.json", dir, ingestFolder, task)
}

func summaryKey(dir string, task int) string {
	return fmt.Sprintf("%s/%s/rows-%05d.json", dir, ingestFolder, task)
}

// listingKey is written once the files of every task are: from then on the listing stands.
func listingKey(dir string) string { return dir + "/" + ingestFolder + "/listing.json" }

func spillName(task int) string { return fmt.Sprintf("task-%05d", task) }

// ListSources finds every object of the sources and deals them out to map tasks in order of their names, so that the same
// sources give the same tasks. A listing that was made stands: an ingest that stopped goes on with the files it began with,
// whatever came to the sources since. A source that is not there needs a person.
func (s *Sources) ListSources(ctx context.Context, in ListInput) (Listing, error) {
	standing, err := s.listing(ctx, in.Dir)
	if !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	var files []file
	for _, source := range in.Sources {
		found, err := s.list(ctx, source)
		if err != nil {
			return Listing{}, err
		}
		files = append(files, found...)
		activity.RecordHeartbeat(ctx, len(files))
		if len(files) > maxFiles {
			return Listing{}, blocked("source", fmt.Errorf("more than %d files", maxFiles), "pack them into fewer, for instance as JSONL, and start a new run")
		}
	}
	if err := s.listEvaluation(ctx, in); err != nil {
		return Listing{}, err
	}
	out := Listing{Files: len(files)}
	for _, f := range files {
		out.Bytes += f.Size
	}
	tasks := deal(files, out.Bytes)
	if in.OneTask {
		tasks = [][]file{files}
	}
	for _, task := range tasks {
		body, err := json.Marshal(task)
		if err != nil {
			return Listing{}, fmt.Errorf("list sources: %w", err)
		}
		if err := s.Store.Put(ctx, taskKey(in.Dir, out.Tasks), body); err != nil {
			return Listing{}, err
		}
		out.Tasks++
	}
	body, err := json.Marshal(out)
	if err != nil {
		return Listing{}, fmt.Errorf("list sources: %w", err)
	}
	err = s.Store.PutIfAbsent(ctx, listingKey(in.Dir), body)
	if errors.Is(err, blob.ErrExists) { // another attempt was first
		return s.listing(ctx, in.Dir)
	}
	return out, err
}

func (s *Sources) listing(ctx context.Context, dir string) (Listing, error) {
	body, err := s.Store.Get(ctx, listingKey(dir))
	if err != nil {
		return Listing{}, err
	}
	var out Listing
	if err := json.Unmarshal(body, &out); err != nil {
		return Listing{}, fmt.Errorf("listing of sources: %w", err)
	}
	return out, nil
}

// unreadable turns an answer of S3 that will not change by itself into trouble that a person is told of.
func unreadable(source string, err error) error {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		switch answer.HTTPStatusCode() {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMovedPermanently:
			return blocked("source", fmt.Errorf("source %s: %w", source, err), "make it readable with the credentials of the workers, then retry")
		}
	}
	if errors.Is(err, blob.ErrNotFound) {
		return blocked("source", fmt.Errorf("source %s is gone: %w", source, err), "put it back, then retry")
	}
	return err
}

// deal splits files into at most maxMapTasks runs of about equal bytes and files.
func deal(files []file, total int64) [][]file {
	mostBytes := max(taskBytes, total/maxMapTasks*2)
	mostFiles := max(taskFiles, len(files)/maxMapTasks*2)
	var tasks [][]file
	var task []file
	size := int64(0)
	for _, f := range files {
		if len(task) > 0 && (size+f.Size > mostBytes || len(task) >= mostFiles) {
			tasks = append(tasks, task)
			task, size = nil, 0
		}
		task = append(task, f)
		size += f.Size
	}
	if len(task) > 0 {
		tasks = append(tasks, task)
	}
	return tasks
}

// list finds the objects of one source: the object itself, or all that lie under it as a folder.
func (s *Sources) list(ctx context.Context, source config.Source) ([]file, error) {
	bucket, key, ok := splitS3(source.Path)
	if !ok {
		return nil, blocked("source", fmt.Errorf("source %s is not in S3", source.Path),
			"start runs with the starter, which uploads local files; a worker opens no path that a run names")
	}
	own := false
	if inside, ok := strings.CutPrefix(source.Path, s.Store.URI("")); ok {
		own, key = true, inside
	}
	store, err := s.store(ctx, bucket, own)
	if err != nil {
		return nil, err
	}
	one := func(info blob.Info) file {
		return file{Bucket: bucket, Own: own, Key: info.Key, Name: store.URI(info.Key), Size: info.Size, Source: source}
	}
	if key != "" && !strings.HasSuffix(key, "/") {
		info, err := store.Stat(ctx, key)
		if err == nil {
			return []file{one(info)}, nil
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return nil, unreadable(source.Path, err)
		}
		key += "/"
	}
	var out []file
	err = store.List(ctx, key, func(info blob.Info) error {
		if info.Size > 0 && !hidden(strings.TrimPrefix(info.Key, key)) {
			out = append(out, one(info))
		}
		return nil
	})
	if err != nil {
		return nil, unreadable(source.Path, err)
	}
	if len(out) == 0 {
		return nil, blocked("source", fmt.Errorf("there is nothing at %s", source.Path), "put the files there, then retry")
	}
	slices.SortFunc(out, func(a, b file) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// hidden reports whether a name in a folder is one that tools leave behind.
func hidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			return true
		}
	}
	return false
}

// store returns the run's own store, or one over another bucket.
func (s *Sources) store(ctx context.Context, bucket string, own bool) (*blob.Store, error) {
	if own {
		return s.Store, nil
	}
	return s.Bucket(ctx, bucket)
}

func splitS3(uri string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, bucket != ""
}

// MapSources reads the files of a task and spills rows and rejects, sorted by id. What was read is not read again.
func (s *Sources) MapSources(ctx context.Context, in MapInput) error {
	if _, err := s.Store.Stat(ctx, summaryKey(in.Dir, in.Task)); !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	switch in.Kind {
	case dataset.KindSeeds:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Seed { return item.Seed })
	case dataset.KindPrompts:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Prompt { return item.Prompt })
	case dataset.KindResponses:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Response { return item.Response })
	}
	return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Segment { return item.Segment })
}

func mapInto[T dataset.Row](ctx context.Context, s *Sources, in MapInput, take func(corpus.Item) *T) error {
	body, err := s.Store.Get(ctx, taskKey(in.Dir, in.Task))
	if err != nil {
		return err
	}
	var files []file
	if err := json.Unmarshal(body, &files); err != nil {
		return fmt.Errorf("map task %d: %w", in.Task, err)
	}
	index, err := s.evaluationIndex(ctx, in)
	if err != nil {
		return err
	}
	told := mapSummary{Sources: map[string]*dataset.Tally{}, Examples: dataset.Examples{}}
	spiller := dataset.NewSpiller[T](s.Store, in.Dir+"/"+ingestFolder, spillName(in.Task), spillMemory)
	defer spiller.Discard()
	s.mapping.Add(1)
	defer s.mapping.Add(-1)
	beat := newHeart(ctx)
	defer beat.keep()() // a spill of half a gigabyte takes its time
	rest := in          // what may still be read of prompts
	for _, f := range files {
		if in.Prompts != nil && in.Prompts.Limit > 0 && rest.Prompts != nil && rest.Prompts.Limit <= 0 {
			break
		}
		read := int64(0)
		tally := told.of(f.Source.Path)
		if err := s.mapFile(ctx, rest, f, index, func(item corpus.Item) error {
			beat.at(1)
			spiller.Hold(spillMemory / int(s.mapping.Load()))
			read++
			if in.Prompts == nil {
				item.Tally(tally, told.Examples)
			}
			if item.Reject != nil {
				return spiller.Reject(ctx, *item.Reject)
			}
			return spiller.Add(ctx, *take(item))
		}); err != nil {
			return err
		}
		if in.Prompts != nil && in.Prompts.Limit > 0 {
			left := *rest.Prompts
			left.Limit -= read
			rest.Prompts = &left
		}
	}
	if told.SpillSummary, err = spiller.Close(ctx); err != nil {
		return err
	}
	body, err = json.Marshal(told)
	if err != nil {
		return fmt.Errorf("map task %d: %w", in.Task, err)
	}
	return s.Store.Put(ctx, summaryKey(in.Dir, in.Task), body)
}

// mapSummary is what a map task tells of its rows.
type mapSummary struct {
	dataset.SpillSummary
	Sources  map[string]*dataset.Tally `json:"sources,omitempty"` // by the path of the source
	Examples dataset.Examples          `json:"examples,omitempty"`
}

func (m mapSummary) of(source string) *dataset.Tally {
	if m.Sources[source] == nil {
		m.Sources[source] = &dataset.Tally{}
	}
	return m.Sources[source]
}

// mapFile reads one file and hands over its rows. A table without the columns asked for needs a person.
func (s *Sources) mapFile(ctx context.Context, in MapInput, f file, index *contamination.Index, take func(corpus.Item) error) error {
	store, err := s.store(ctx, f.Bucket, f.Own)
	if err != nil {
		return err
	}
	for item, err := range itemsOf(ctx, in, f, store, index) {
		var column *corpus.ColumnError
		if errors.As(err, &column) {
			return blocked("source", err, "name the columns under the source in the spec, then start a new run")
		}
		if err != nil {
			return unreadable(f.Name, err)
		}
		if err := take(item); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
	}
	return nil
}

// opened returns a file of a store as package intake takes it.
func opened(f file, store *blob.Store) intake.File {
	return intake.File{
		Name:   f.Name,
		Stream: func(ctx context.Context) (io.ReadCloser, error) { return store.Stream(ctx, f.Key) },
		At:     func(ctx context.Context) (intake.ReaderAt, error) { return store.Reader(ctx, f.Key) },
	}
}

func seedOptions(s config.Source) corpus.SeedOptions {
	return corpus.SeedOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Language: s.Language}
}

func itemsOf(ctx context.Context, in MapInput, f file, store *blob.Store, index *contamination.Index) iter.Seq2[corpus.Item, error] {
	from := opened(f, store)
	if in.Prompts != nil {
		opts := *in.Prompts
		opts.Format = f.Source.Format
		return intake.Prompts(ctx, from, opts)
	}
	if in.Kind == dataset.KindSeeds {
		return intake.Seeds(ctx, from, seedOptions(f.Source))
	}
	return intake.Documents(ctx, from, corpus.DocumentOptions{
		Format: f.Source.Format, Text: f.Source.Text, Language: f.Source.Language, Segments: corpus.SegmentRules(in.Segments),
		Contaminated: contaminated(index),
	})
}

// PlanPartitions fixes the number of partitions from what the map tasks spilled.
func (s *Sources) PlanPartitions(ctx context.Context, in PlanInput) (MergePlan, error) {
	defer newHeart(ctx).keep()()
	var spills []dataset.SpillRef
	var funnel dataset.Funnel
	out := MergePlan{Key: in.Dir + "/" + ingestFolder + "/plan.json"}
	for task := range in.Tasks {
		body, err := s.Store.Get(ctx, summaryKey(in.Dir, task))
		if err != nil {
			return out, err
		}
		var summary mapSummary
		if err := json.Unmarshal(body, &summary); err != nil {
			return out, fmt.Errorf("summary of map task %d: %w", task, err)
		}
		funnel.Add(summary.Sources, summary.Examples)
		out.Rows += summary.Rows
		out.Input += summary.Rows + summary.Rejected
		spills = append(spills, summary.Spills...)
	}
	if funnel.Total.Pieces > 0 || len(funnel.Total.Whole) > 0 {
		if err := dataset.WriteFunnel(ctx, s.Store, in.Dir, funnel); err != nil {
			return out, err
		}
	}
	minBits := 0
	if in.Data.MinPartitions > 1 {
		minBits = bits.Len(uint(in.Data.MinPartitions - 1))
	}
	out.Bits = dataset.BitsFor(out.Rows, in.Data.RowsPerPartition, minBits)
	body, err := json.Marshal(spills)
	if err != nil {
		return out, fmt.Errorf("plan partitions: %w", err)
	}
	return out, s.Store.Put(ctx, out.Key, body)
}

// MergePartition reads its part of every spill into one committed partition.
func (s *Sources) MergePartition(ctx context.Context, w MergeWork) (PartitionResult, error) {
	body, err := s.Store.Get(ctx, w.Plan)
	if errors.Is(err, blob.ErrNotFound) {
		// The spills are removed once the dataset stands: a late attempt finds its partition.
		receipt, err := dataset.ReadReceipt(ctx, s.Store, w.Output, w.Partition)
		return PartitionResult{Receipt: receipt, Done: err == nil}, err
	}
	if err != nil {
		return PartitionResult{}, err
	}
	var spills []dataset.SpillRef
	if err := json.Unmarshal(body, &spills); err != nil {
		return PartitionResult{}, fmt.Errorf("merge plan: %w", err)
	}
	beat := newHeart(ctx)
	defer beat.keep()()
	var receipt dataset.Receipt
	switch w.Kind {
	case dataset.KindSeeds:
		receipt, err = dataset.MergePartition[dataset.Seed](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	case dataset.KindPrompts:
		receipt, err = dataset.MergePartition[dataset.Prompt](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	case dataset.KindResponses:
		receipt, err = dataset.MergePartition[dataset.Response](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	default:
		receipt, err = dataset.MergePartition[dataset.Segment](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	}
	return PartitionResult{Receipt: receipt, Done: err == nil}, err
}

// RemoveSpills deletes what the shuffle of a committed dataset left.
func (s *Sources) RemoveSpills(ctx context.Context, dir string) error {
	defer newHeart(ctx).keep()()
	var keys []string
	err := s.Store.List(ctx, dir+"/"+ingestFolder+"/", func(info blob.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if err != nil {
		return err
	}
	return s.Store.Delete(ctx, keys...)
}
