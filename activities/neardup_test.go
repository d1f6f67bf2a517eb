package activities

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/neardup"
)

// search drives the steps of a search as its workflow does.
type search struct {
	t   *testing.T
	env *testsuite.TestActivityEnvironment
	st  *blob.Store
}

func call[T any](s *search, name string, in any) T {
	s.t.Helper()
	var out T
	value, err := s.env.ExecuteActivity(name, in)
	if err == nil && value.HasValue() {
		err = value.Get(&out)
	}
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return out
}

// run searches in and commits dir.
func (s *search) run(in dataset.Ref, dir string, rules config.NearDuplicates) dataset.Ref {
	s.t.Helper()
	plan := call[PlannedSearch](s, "PlanNearDuplicates", NearDuplicatesInput{Input: in, Dir: dir, Rules: rules})
	for _, step := range neardup.Steps()[plan.Done:] {
		for task := range plan.Job.Tasks(step) {
			call[any](s, "SearchNearDuplicates", SearchTask{Job: plan.Job, Step: step, Task: task})
		}
		call[neardup.Counts](s, "GatherRuns", SearchTask{Job: plan.Job, Step: step})
	}
	for p := range in.Partitions() {
		if r := call[PartitionResult](s, "DropPartition", DropWork{Job: plan.Job, Output: dir, Partition: p}); !r.Done {
			s.t.Fatalf("partition %d is not done", p)
		}
	}
	whole, err := dataset.CommitRange(s.t.Context(), s.st, dir, 0, in.Partitions())
	if err != nil {
		s.t.Fatal(err)
	}
	ref, err := dataset.Commit(s.t.Context(), s.st, dir, dataset.Manifest{Kind: dataset.KindSegments, Bits: in.Bits, Input: in.Rows + in.Rejected}, []dataset.RangeSummary{whole})
	if err != nil {
		s.t.Fatal(err)
	}
	return ref
}

// Sources with copies that differ in a word become a dataset with one of each; everything that went in is accounted for, and
// nothing is left beside the dataset.
func TestNearDuplicatesFromSourcesToDataset(t *testing.T) {
	t.Parallel()
	m := newShuffle(t, dataset.KindSegments)
	st := m.sources.Store
	var lines []string
	line := func(text string) {
		b, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	for i := range 6 {
		var words []string
		for w := range 120 {
			words = append(words, fmt.Sprintf("word%d", (i*997+w*31)%5003))
		}
		text := strings.Join(words, " ") + ". The end of it."
		line(text)
		line(strings.Replace(text, words[60], "changed", 1))
		line(strings.Replace(text, words[61], "altered", 1))
		line(text)
	}
	line("too short")
	dir := "runs/r/00/segments"
	m.dir = MergedDir(dir)
	source := putAt(t, st, "in/a.jsonl", strings.Join(lines, "\n"))
	source.Language = "any"
	merged, err := m.run(source)
	if err != nil {
		t.Fatal(err)
	}
	if merged.Rows != 18 || merged.Rejected != 7 {
		t.Fatalf("merged %d rows, rejected %d", merged.Rows, merged.Rejected)
	}
	s := &search{t: t, env: activityEnv(t, &NearDuplicates{Store: st}), st: st}
	rules := config.NearDuplicates{Threshold: 0.8, NGram: 5, Permutations: 128}
	ref := s.run(merged, dir, rules)
	if ref.Rows != 6 || ref.Rejected != 19 {
		t.Fatalf("%d rows kept, %d rejected", ref.Rows, ref.Rejected)
	}
	reasons := map[string]int{}
	for r, err := range dataset.RejectsOf(t.Context(), st, ref) {
		if err != nil {
			t.Fatal(err)
		}
		reasons[r.Reason]++
		if r.Reason == neardup.Reason && (r.Text == "" || r.Source == "" || !strings.Contains(r.Detail, "Jaccard similarity 0.9")) {
			t.Errorf("reject %+v", r)
		}
	}
	if reasons["near_duplicate"] != 12 || reasons["duplicate"] != 6 || reasons["too_short"] != 1 {
		t.Errorf("reasons %v", reasons)
	}
	again := s.run(merged, dir, config.NearDuplicates{Threshold: 0.99, NGram: 2, Permutations: 64})
	if again != ref {
		t.Errorf("done again: %+v, was %+v", again, ref)
	}
	activityEnv(t, m.sources).ExecuteActivity("RemoveSpills", dir)
	var left []string
	if err := st.List(t.Context(), dir+"/", func(i blob.Info) error { left = append(left, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(left, func(k string) bool { return strings.Contains(k, "_ingest") }) || len(left) == 0 {
		t.Errorf("left: %q", left)
	}
}

// A plan that stands is gone on with, whatever is asked for; one that makes no sense needs a person.
func TestPlanOfASearchStands(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	env := activityEnv(t, &NearDuplicates{Store: st})
	s := &search{t: t, env: env, st: st}
	in := NearDuplicatesInput{Input: dataset.Ref{Kind: dataset.KindSegments, Dir: "m", Bits: 10, Rows: 1 << 22}, Dir: "d", Rules: config.NearDuplicates{Threshold: 0.8, NGram: 5, Permutations: 128}}
	first := call[PlannedSearch](s, "PlanNearDuplicates", in)
	if first.Done != 0 || first.Job.Groups != 256 || first.Job.Buckets != 64 {
		t.Errorf("planned %+v", first)
	}
	in.Input.Rows, in.Rules.Threshold = 10, 0.5
	if again := call[PlannedSearch](s, "PlanNearDuplicates", in); again != first {
		t.Errorf("planned %+v, stood %+v", again, first)
	}
	in.Dir, in.Rules.NGram = "e", 0
	_, err := env.ExecuteActivity("PlanNearDuplicates", in)
	if trouble, ok := TroubleOf(err); !ok || trouble.Class != "setting" {
		t.Errorf("%v", errors.Unwrap(err))
	}
}
