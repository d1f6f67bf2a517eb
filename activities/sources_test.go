package activities

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/testsuite"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/origin"
)

// shuffle drives the steps of an ingest as its workflow does.
type shuffle struct {
	t       *testing.T
	env     *testsuite.TestActivityEnvironment
	sources *Sources
	kind    dataset.Kind
	dir     string
	data    config.Data

	segments      config.Segments
	decontaminate config.Decontaminate
	seeds         []config.Source
}

func newShuffle(t *testing.T, kind dataset.Kind, elsewhere ...*blob.Store) *shuffle {
	t.Helper()
	s := &Sources{Store: s3test.Store(t), Bucket: func(_ context.Context, bucket string) (*blob.Store, error) {
		for _, st := range elsewhere {
			if st.Bucket() == bucket {
				return st, nil
			}
		}
		return nil, fmt.Errorf("no bucket %s", bucket)
	}}
	return &shuffle{t: t, env: activityEnv(t, s), sources: s, kind: kind, dir: "runs/r/00/" + string(kind), data: config.Data{RowsPerPartition: 4096, MinPartitions: 4}, segments: config.DefaultRun().Segments}
}

func do[T any](s *shuffle, name string, in any) (out T, err error) {
	s.t.Helper()
	value, err := s.env.ExecuteActivity(name, in)
	if err == nil && value.HasValue() {
		err = value.Get(&out)
	}
	return out, err
}

// run shuffles the sources into a committed dataset.
func (s *shuffle) run(sources ...config.Source) (dataset.Ref, error) {
	s.t.Helper()
	listing, err := do[Listing](s, "ListSources", ListInput{Kind: s.kind, Sources: sources, Dir: s.dir, Decontaminate: s.decontaminate, Seeds: s.seeds})
	if err != nil {
		return dataset.Ref{}, err
	}
	for task := range listing.Tasks {
		in := MapInput{Kind: s.kind, Dir: s.dir, Task: task, Set: listing.Set, Segments: s.segments, Decontaminate: s.decontaminate.On()}
		if _, err := do[any](s, "MapSources", in); err != nil {
			return dataset.Ref{}, err
		}
	}
	plan, err := do[MergePlan](s, "PlanPartitions", PlanInput{Dir: s.dir, Tasks: listing.Tasks, Data: s.data})
	if err != nil {
		return dataset.Ref{}, err
	}
	for p := range 1 << plan.Bits {
		work := MergeWork{Kind: s.kind, Output: s.dir, Bits: plan.Bits, Plan: plan.Key, Partition: p}
		if result, err := do[PartitionResult](s, "MergePartition", work); err != nil || !result.Done {
			return dataset.Ref{}, errors.Join(err, fmt.Errorf("partition %d: done %v", p, result.Done))
		}
	}
	all, err := dataset.CommitRange(s.t.Context(), s.sources.Store, s.dir, 0, 1<<plan.Bits)
	if err != nil {
		return dataset.Ref{}, err
	}
	m := dataset.Manifest{Kind: s.kind, Bits: plan.Bits, Input: plan.Input}
	return dataset.Commit(s.t.Context(), s.sources.Store, s.dir, m, []dataset.RangeSummary{all})
}

func putAt(t *testing.T, st *blob.Store, key, body string) config.Source {
	t.Helper()
	if err := st.Put(t.Context(), key, []byte(body)); err != nil {
		t.Fatal(err)
	}
	return config.Source{Path: st.URI(key), Format: "auto", Instruction: "instruction", Output: "output", Text: "text"}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func instructions(t *testing.T, st *blob.Store, ref dataset.Ref) []string {
	t.Helper()
	var out []string
	for row, err := range dataset.Rows[dataset.Seed](t.Context(), st, ref) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row.Instruction)
	}
	slices.Sort(out)
	return out
}

const pairs = `{"instruction":"Name a colour.","output":"Red is one."}
{"instruction":"Name a number.","output":"Seven is one."}
`

// Sources of several kinds and buckets become one dataset: equal rows once, broken ones with a reason, all of them counted.
func TestIngestFromListToCommit(t *testing.T) {
	t.Parallel()
	other := s3test.Store(t)
	s := newShuffle(t, dataset.KindSeeds, other)
	own := putAt(t, s.sources.Store, "in/a.jsonl", pairs+"{not json\n")
	own.Path = s.sources.Store.URI("in/")
	putAt(t, s.sources.Store, "in/b.jsonl.gz", zipped(t, pairs+`{"instruction":"Name a tree.","output":"An oak is one."}`))
	putAt(t, s.sources.Store, "in/.hidden/c.jsonl", `{"instruction":"Hidden?","output":"Yes, it is."}`)
	putAt(t, s.sources.Store, "in/empty.jsonl", "")
	foreign := putAt(t, other, "d.jsonl", `{"instruction":"Name a bird.","output":"A wren is one."}`)
	ref, err := s.run(own, foreign)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Name a bird.", "Name a colour.", "Name a number.", "Name a tree."}
	if got := instructions(t, s.sources.Store, ref); !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	reasons := map[string]int{}
	for r, err := range dataset.RejectsOf(t.Context(), s.sources.Store, ref) {
		if err != nil {
			t.Fatal(err)
		}
		reasons[r.Reason]++
	}
	if ref.Rejected != 3 || reasons["duplicate"] != 2 || len(reasons) != 2 || ref.Bits != 2 {
		t.Errorf("rejected %d, by reason %v, in 2^%d partitions; want two duplicates and a line that is no JSON, in four", ref.Rejected, reasons, ref.Bits)
	}
	if _, err := do[any](s, "RemoveSpills", s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.sources.Store.List(t.Context(), s.dir+"/"+ingestFolder+"/", func(i blob.Info) error { return errors.New(i.Key) }); err != nil {
		t.Errorf("left behind: %v", err)
	}
	// An attempt that comes late finds its partition.
	late := MergeWork{Kind: s.kind, Output: s.dir, Bits: 2, Plan: s.dir + "/" + ingestFolder + "/plan.json", Partition: 1}
	if result, err := do[PartitionResult](s, "MergePartition", late); err != nil || !result.Done {
		t.Errorf("a late attempt: %+v, %v", result, err)
	}
}

// An ingest that stopped goes on with the files it began with, and reads none of them again.
func TestIngestGoesOnWithItsListing(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSeeds)
	source := putAt(t, s.sources.Store, "in/a.jsonl", pairs)
	source.Path = s.sources.Store.URI("in/")
	list := ListInput{Kind: s.kind, Sources: []config.Source{source}, Dir: s.dir}
	first, err := do[Listing](s, "ListSources", list)
	if err != nil || first.Files != 1 || first.Tasks != 1 || first.Bytes != int64(len(pairs)) {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := do[any](s, "MapSources", MapInput{Kind: s.kind, Dir: s.dir, Set: first.Set}); err != nil {
		t.Fatal(err)
	}
	putAt(t, s.sources.Store, "in/b.jsonl", `{"instruction":"Came later?","output":"Yes, it did."}`)
	if err := s.sources.Store.Delete(t.Context(), "in/a.jsonl"); err != nil {
		t.Fatal(err)
	}
	if again, err := do[Listing](s, "ListSources", list); err != nil || !reflect.DeepEqual(again, first) {
		t.Errorf("listed again: %+v, %v; want %+v", again, err, first)
	}
	ref, err := s.run(source)
	if err != nil || ref.Rows != 2 {
		t.Errorf("%d rows, %v; want the two that were read", ref.Rows, err)
	}
}

// What a person must mend parks the run with a way out, before anything is read; what passes is tried again.
func TestSourcesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSeeds)
	lost := s3test.Store(t)
	for about, c := range map[string]struct{ path, want string }{
		"local":            {"/etc/passwd", "is not in S3"},
		"not allowed":      {"https://example.com/a", "is not among the addresses"},
		"no Hub":           {"hf://owner/name", "no Hub is known"},
		"a bad pattern":    {s.sources.Store.URI("in/[a"), "pattern cannot be read"},
		"another scheme":   {"ftp://example.com/a", "is not in S3"},
		"no bucket":        {"s3://", "is not in S3"},
		"nothing there":    {s.sources.Store.URI("nowhere/"), "there is nothing at"},
		"no such object":   {s.sources.Store.URI("nowhere.jsonl"), "there is nothing at"},
		"hidden files":     {s.sources.Store.URI("dots/"), "there is nothing at"},
		"no such bucket":   {"s3://bucket-that-is-not/x", "bucket-that-is-not"},
		"lost in between":  {"", ""},
		"bucket elsewhere": {lost.URI("x"), "no bucket"},
	} {
		if about == "lost in between" {
			continue // below
		}
		putAt(t, s.sources.Store, "dots/.DS_Store", "x")
		_, err := do[Listing](s, "ListSources", ListInput{Kind: s.kind, Sources: []config.Source{{Path: c.path}}, Dir: s.dir})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", about, err)
			continue
		}
		if trouble, known := TroubleOf(err); known != !strings.Contains(c.want, "bucket") || known && trouble.Way == "" {
			t.Errorf("%s: trouble %+v, %v", about, trouble, known)
		}
	}
	source := putAt(t, s.sources.Store, "in/a.jsonl", pairs)
	listing, err := do[Listing](s, "ListSources", ListInput{Kind: s.kind, Sources: []config.Source{source}, Dir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.sources.Store.Put(t.Context(), "in/a.jsonl", []byte("other")); err != nil {
		t.Fatal(err)
	}
	_, err = do[any](s, "MapSources", MapInput{Kind: s.kind, Dir: s.dir, Set: listing.Set})
	if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Message, "has changed since the run found it") {
		t.Errorf("changed in between: %v", err)
	}
	if err := s.sources.Store.Delete(t.Context(), "in/a.jsonl"); err != nil {
		t.Fatal(err)
	}
	_, err = do[any](s, "MapSources", MapInput{Kind: s.kind, Dir: s.dir, Set: listing.Set})
	if trouble, known := TroubleOf(err); !known || !strings.Contains(trouble.Way, "put it back") || !strings.Contains(trouble.Message, "in/a.jsonl") {
		t.Errorf("lost in between: %v", err)
	}
}

// Hostile bytes cost their own records and nothing else.
func TestHostileSources(t *testing.T) {
	t.Parallel()
	s := newShuffle(t, dataset.KindSeeds)
	source := putAt(t, s.sources.Store, "in/a.jsonl", pairs)
	source.Path = s.sources.Store.URI("in/")
	putAt(t, s.sources.Store, "in/binary.jsonl", "\x00\xff\xfe\x01garbage\x80\n")
	putAt(t, s.sources.Store, "in/cut.jsonl.gz", zipped(t, strings.Repeat(pairs, 50))[:40])
	putAt(t, s.sources.Store, "in/deep.jsonl", strings.Repeat("[", 100_000)+"\n")
	putAt(t, s.sources.Store, "in/long.jsonl", `{"instruction":"`+strings.Repeat("a", 3<<20)+`","output":"x"}`+"\n")
	putAt(t, s.sources.Store, "in/notzip.jsonl.gz", "this is no gzip")
	putAt(t, s.sources.Store, "in/types.jsonl", `{"instruction":3,"output":["a"]}`+"\n"+`{"instruction":"only"}`+"\n")
	ref, err := s.run(source)
	if err != nil {
		t.Fatal(err)
	}
	got := instructions(t, s.sources.Store, ref)
	if !slices.Contains(got, "Name a colour.") || !slices.Contains(got, "Name a number.") || ref.Rejected < 6 {
		t.Errorf("%d rows, %d rejected", len(got), ref.Rejected)
	}
}

// deal gives each file to one task, in order, in few tasks of bounded size.
func TestDeal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(0, 200<<20), 0, 3000).Draw(t, "sizes")
		var files []file
		var total int64
		for i, n := range sizes {
			files = append(files, file{File: origin.File{Key: fmt.Sprint(i), Size: n}})
			total += n
		}
		tasks := deal(files, total)
		var flat []file
		for _, task := range tasks {
			if len(task) == 0 {
				t.Fatal("an empty task")
			}
			flat = append(flat, task...)
		}
		if len(flat) != len(files) || len(tasks) > maxMapTasks+1 {
			t.Fatalf("%d of %d files in %d tasks", len(flat), len(files), len(tasks))
		}
		for i := range flat {
			if flat[i].Key != files[i].Key {
				t.Fatalf("file %d is out of order", i)
			}
		}
	})
}
