package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
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
