package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"sync/atomic"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/contamination"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
)

// Bounds of ingest.
const (
	maxMapTasks  = 500
	taskBytes    = 64 << 20 // of sources in a map task, where that makes few enough tasks
	taskFiles    = 1000     // likewise
	fewTasks     = 16       // sources of less than so many times taskBytes are dealt out to about so many tasks, for all cores to have one,
	leastBytes   = 4 << 20  // but for fewer bytes a task is not worth while
	spillMemory  = 64 << 20 // bytes of rows held in memory by all map tasks of a process
	ingestFolder = "_ingest"
)

// Sources turns what a user points at into datasets of seeds and segments: a sort-based shuffle over S3.
type Sources struct {
	Store *blob.Store
	// Bucket opens another bucket for reading, with the credentials of the store.
	Bucket    func(ctx context.Context, bucket string) (*blob.Store, error)
	Hub       *hub.Client // nil: hf:// sources need a person
	Web       *origin.Web // nil: so do https:// ones
	PathsBase string      // what stands before the lines of a paths list

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
	Tasks   int              `json:"tasks"`
	Files   int              `json:"files"`
	Bytes   int64            `json:"bytes"`
	Set     string           `json:"set,omitempty"`     // names the objects that hold the files
	Origins []dataset.Origin `json:"origins,omitempty"` // what the sources were when they were listed
}

// file is one file to be read, and how.
type file struct {
	origin.File
	Source config.Source `json:"source"`
}

// MapInput is one map task.
type MapInput struct {
	Kind     dataset.Kind    `json:"kind"`
	Dir      string          `json:"dir"`
	Task     int             `json:"task"`
	Set      string          `json:"set,omitempty"` // of the listing
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

// taskKey names the list of a task's files. Two attempts at a listing may find different files; each writes under a set of its
// own, and the listing that stands says which set counts.
func taskKey(dir, set string, task int) string {
	if set != "" {
		set = "-" + set
	}
	return fmt.Sprintf("%s/%s/files%s-%05d.json", dir, ingestFolder, set, task)
}

func summaryKey(dir string, task int) string {
	return fmt.Sprintf("%s/%s/rows-%05d.json", dir, ingestFolder, task)
}

// listingKey is written once the files of every task are: from then on the listing stands.
func listingKey(dir string) string { return dir + "/" + ingestFolder + "/listing.json" }

func spillName(task int) string { return fmt.Sprintf("task-%05d", task) }

// ListSources finds and pins every file of the sources and deals them out to map tasks in order of their names, so that the
// same sources give the same tasks. A listing that was made stands: an ingest that stopped goes on with the files it began
// with, and with the commits that names of the Hub stood for, whatever came to the sources since. A source that is not there
// needs a person.
func (s *Sources) ListSources(ctx context.Context, in ListInput) (Listing, error) {
	standing, err := s.listing(ctx, in.Dir)
	if !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	defer newHeart(ctx).keep()()
	var files []file
	var out Listing
	for _, source := range in.Sources {
		found, pinned, err := s.list(ctx, source, in.Kind)
		if err != nil {
			return Listing{}, err
		}
		for _, f := range found {
			out.Bytes += f.Bytes()
		}
		files = append(files, found...)
		out.Files += pinned.Files
		out.Origins = append(out.Origins, pinned)
		if len(files) > origin.MaxFiles {
			return Listing{}, blocked("source", fmt.Errorf("more than %d files", origin.MaxFiles), "pack them into fewer, for instance as JSONL, and start a new run")
		}
	}
	if err := s.listEvaluation(ctx, in); err != nil {
		return Listing{}, err
	}
	tasks := deal(files, out.Bytes)
	if in.OneTask {
		tasks = [][]file{files}
	}
	bodies := make([][]byte, len(tasks))
	digest := sha256.New()
	for i, task := range tasks {
		if bodies[i], err = json.Marshal(task); err != nil {
			return Listing{}, fmt.Errorf("list sources: %w", err)
		}
		digest.Write(bodies[i])
	}
	out.Tasks, out.Set = len(tasks), hex.EncodeToString(digest.Sum(nil)[:8])
	for i, body := range bodies {
		if err := s.Store.Put(ctx, taskKey(in.Dir, out.Set, i), body); err != nil {
			return Listing{}, err
		}
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

// list finds and pins the files of one source.
func (s *Sources) list(ctx context.Context, source config.Source, kind dataset.Kind) ([]file, dataset.Origin, error) {
	found, pinned, err := s.places().List(ctx, WantOf(source, kind))
	if err != nil {
		return nil, pinned, forPerson(err)
	}
	files := make([]file, len(found))
	for i, f := range found {
		files[i] = file{File: f, Source: source}
	}
	return files, pinned, nil
}

// WantOf says what a source of a spec asks for. Only documents are read in parts: the messages of a conversation may lie in
// several parts of a file, and prompts are counted in order.
func WantOf(s config.Source, kind dataset.Kind) origin.Want {
	return origin.Want{
		Path: s.Path, Format: s.Format, Revision: s.Revision, Config: s.Config, Split: s.Split, Limit: s.Limit, Whole: kind != dataset.KindSegments,
	}
}

func (s *Sources) places() *origin.Places {
	return &origin.Places{Store: s.Store, Bucket: s.Bucket, Hub: s.Hub, Web: s.Web, PathsBase: s.PathsBase}
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

// forPerson turns what will not change by itself into trouble that a person is told of.
func forPerson(err error) error {
	var ours *origin.Error
	var column *corpus.ColumnError
	switch {
	case errors.As(err, &column):
		return blocked("source", err, "name the columns in the spec, then start a new run")
	case errors.As(err, &ours):
		return blocked("source", errors.New(ours.Message()), ours.Try)
	}
	return err
}

// deal splits files into at most maxMapTasks runs of about equal bytes and files.
func deal(files []file, total int64) [][]file {
	mostBytes := max(min(taskBytes, max(leastBytes, total/fewTasks)), total/maxMapTasks*2)
	mostFiles := max(taskFiles, len(files)/maxMapTasks*2)
	var tasks [][]file
	var task []file
	size := int64(0)
	for _, f := range files {
		if len(task) > 0 && (size+f.Bytes() > mostBytes || len(task) >= mostFiles) {
			tasks = append(tasks, task)
			task, size = nil, 0
		}
		task = append(task, f)
		size += f.Bytes()
	}
	if len(task) > 0 {
		tasks = append(tasks, task)
	}
	return tasks
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
	body, err := s.Store.Get(ctx, taskKey(in.Dir, in.Set, in.Task))
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
		tally.Looked(setNames(index))
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

// mapFile reads one file and hands over its rows. A table without the columns asked for needs a person, and so does a file
// that is gone or another one than was listed.
func (s *Sources) mapFile(ctx context.Context, in MapInput, f file, index *contamination.Index, take func(corpus.Item) error) error {
	for item, err := range itemsOf(ctx, in, f, s.places().Open(f.File), index) {
		if err != nil {
			return forPerson(err)
		}
		if err := take(item); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
	}
	return nil
}

func seedOptions(s config.Source) corpus.SeedOptions {
	return corpus.SeedOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Language: s.Language}
}

func itemsOf(ctx context.Context, in MapInput, f file, from intake.File, index *contamination.Index) iter.Seq2[corpus.Item, error] {
	if in.Prompts != nil {
		opts := *in.Prompts
		opts.Format = f.Source.Format
		return intake.Prompts(ctx, from, opts)
	}
	if in.Kind == dataset.KindSeeds {
		return intake.Seeds(ctx, from, seedOptions(f.Source))
	}
	return intake.Documents(ctx, from, corpus.DocumentOptions{
		Format: formatOf(f), Text: f.Source.Text, Title: f.Source.Title, Language: f.Source.Language, Segments: corpus.SegmentRules(in.Segments),
		Contaminated: contaminated(index),
	})
}

// formatOf is the format of a file, which is not that of the list that named it.
func formatOf(f file) string {
	if f.Source.Format == corpus.FormatPaths {
		return corpus.FormatAuto
	}
	return f.Source.Format
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
