package workflows

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/neardup"
)

// fakeNear remembers which tasks were done.
type fakeNear struct {
	mu       sync.Mutex
	w        *world
	groups   int
	standing int
	done     map[string]int
	gathered []neardup.Step
	inWork   int
	most     int
	fail     error
	drops    int64 // rows of each partition
	together int   // tasks wait until so many were in work at once
}

func (f *fakeNear) PlanNearDuplicates(_ context.Context, in activities.NearDuplicatesInput) (activities.PlannedSearch, error) {
	job := neardup.Job{Input: in.Input, Dir: in.Dir + "/near", Groups: f.groups, Buckets: 2}
	return activities.PlannedSearch{Job: job, Done: f.standing}, nil
}

func (f *fakeNear) SearchNearDuplicates(_ context.Context, in activities.SearchTask) error {
	f.mu.Lock()
	f.done[fmt.Sprint(in.Step, in.Task)]++
	f.inWork++
	f.most = max(f.most, f.inWork)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inWork--
		f.mu.Unlock()
	}()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		enough := f.most >= f.together
		f.mu.Unlock()
		if enough {
			break
		}
	}
	return f.fail
}

func (f *fakeNear) GatherRuns(_ context.Context, in activities.SearchTask) (neardup.Counts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for task := range in.Job.Tasks(in.Step) {
		if f.done[fmt.Sprint(in.Step, task)] == 0 {
			return neardup.Counts{}, fmt.Errorf("task %d of %s was not done", task, in.Step)
		}
	}
	f.gathered = append(f.gathered, in.Step)
	return neardup.Counts{Rows: 1}, nil
}

func (f *fakeNear) DropPartition(_ context.Context, in activities.DropWork) (activities.PartitionResult, error) {
	return f.w.done(in.Output, in.Partition, f.w.rows, f.w.rows-f.drops, 0), nil
}

// nearEnv is an environment with a search in it, whose run hears signals.
func nearEnv(t *testing.T, w *world, near *fakeNear) *testsuite.TestWorkflowEnvironment {
	t.Helper()
	w.near = near
	env := w.env(t)
	env.OnSignalExternalWorkflow(mock.Anything, "demo", "", SignalProgress, mock.Anything).Return(nil).Maybe()
	return env
}

func newFakeNear(w *world, groups int) *fakeNear {
	return &fakeNear{w: w, groups: groups, done: map[string]int{}}
}

func ingestInput(threshold float64) IngestInput {
	return IngestInput{
		Run: "demo", Stage: "ingest", Queue: "selfalign", Kind: dataset.KindSegments, Dir: "runs/demo/00/segments",
		NearDuplicates: config.NearDuplicates{Threshold: threshold, NGram: 5, Permutations: 128},
	}
}

// With near-duplicates on, ingest merges aside, searches, and makes its dataset of what is left; off, it merges into its dataset.
func TestIngestWithoutNearDuplicates(t *testing.T) {
	t.Parallel()
	for _, threshold := range []float64{0, 0.8} {
		w := newWorld(2, 10)
		near := newFakeNear(w, 4)
		near.drops = 1
		env := nearEnv(t, w, near)
		in := ingestInput(threshold)
		env.ExecuteWorkflow(Ingest, in)
		var out StageResult
		if err := env.GetWorkflowResult(&out); err != nil {
			t.Fatal(err)
		}
		want := int64(40)
		if threshold > 0 {
			want = 36
		}
		if out.Dataset.Dir != in.Dir || out.Dataset.Rows != want {
			t.Errorf("threshold %g: %+v", threshold, out.Dataset)
		}
		if _, aside := w.datasets[activities.MergedDir(in.Dir)]; aside != (threshold > 0) || len(near.gathered) > 0 != (threshold > 0) {
			t.Errorf("threshold %g: merged aside %v, steps %v", threshold, aside, near.gathered)
		}
	}
}

// As many tasks are in work at once as the spec says, and as before where it says nothing.
func TestWindowOfTasks(t *testing.T) {
	t.Parallel()
	for _, window := range []int{0, 2, 9} {
		w := newWorld(2, 10)
		near := newFakeNear(w, 16)
		want := cmp.Or(window, cpuWindow)
		near.together = want
		env := nearEnv(t, w, near)
		in := ingestInput(0.8)
		in.Data.TasksInWork = window
		env.ExecuteWorkflow(Ingest, in)
		if err := env.GetWorkflowError(); err != nil {
			t.Fatal(err)
		}
		if near.most != want {
			t.Errorf("window %d: %d tasks in work at once, want %d", window, near.most, want)
		}
	}
}

// Seeds are never searched.
func TestSeedsAreNotSearched(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	env := nearEnv(t, w, newFakeNear(w, 1))
	in := ingestInput(0.8)
	in.Kind = dataset.KindSeeds
	env.ExecuteWorkflow(Ingest, in)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
}

// A search goes on in a fresh history when the old one is long, does every task once, and does no step again that is done.
func TestSearchContinuesAsNew(t *testing.T) {
	t.Parallel()
	for _, standing := range []int{0, 2, 5} {
		w := newWorld(0, 1)
		near := newFakeNear(w, 32)
		near.standing = standing
		in := NearDuplicatesInput{Queue: "selfalign", Plan: activities.NearDuplicatesInput{Dir: "d"}}
		executions := 0
		for {
			executions++
			env := nearEnv(t, w, near)
			suggestAfter(env, near, 7)
			env.ExecuteWorkflow(NearDuplicates, in)
			var next *workflow.ContinueAsNewError
			err := env.GetWorkflowError()
			if errors.As(err, &next) {
				in = NearDuplicatesInput{}
				if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var out NearDuplicatesResult
			if err := env.GetWorkflowResult(&out); err != nil {
				t.Fatal(err)
			}
			for task, times := range near.done {
				if times != 1 {
					t.Errorf("%s was done %d times", task, times)
				}
			}
			if want := 5 - standing; len(near.gathered) != want || out.Counts.Rows != int64(want) || out.Job.Groups != 32 {
				t.Errorf("%d steps stood: gathered %v, result %+v", standing, near.gathered, out)
			}
			break
		}
		if standing == 0 && executions < 5 {
			t.Errorf("%d executions", executions)
		}
	}
}

// suggestAfter has the server suggest continue-as-new once some more tasks were done.
func suggestAfter(env *testsuite.TestWorkflowEnvironment, near *fakeNear, tasks int) {
	before := len(near.done)
	env.SetOnActivityStartedListener(func(*activity.Info, context.Context, converter.EncodedValues) {
		near.mu.Lock()
		defer near.mu.Unlock()
		env.SetContinueAsNewSuggested(len(near.done)-before >= tasks)
	})
}

// What needs a person ends the search and the ingest with it.
func TestTroubleOfASearch(t *testing.T) {
	t.Parallel()
	w := newWorld(0, 10)
	near := newFakeNear(w, 2)
	near.fail = activities.NewTrouble("setting", "no", "mend it")
	env := nearEnv(t, w, near)
	env.ExecuteWorkflow(Ingest, ingestInput(0.8))
	if trouble, ok := activities.TroubleOf(env.GetWorkflowError()); !ok || trouble.Message != "no" {
		t.Errorf("%v", env.GetWorkflowError())
	}
}
