package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/stage"
)

func scoreSpec(t *testing.T, change ...string) config.Score {
	t.Helper()
	s, err := config.ParseScore("score.yaml", []byte(`
name: recipe
load: {path: hf://owner/prompts, split: test, instruction: prompt}
generate: {provider: p, model: writer, num_generations: 2, in_flight: 8}
score: {provider: q, model: judge, in_flight: 4}
keep: {preferences: true, scored: true}
push: {hub: {repo: me/recipe}, s3: s3://other/folder/}
`), change...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fakePublishing remembers what was sent.
type fakePublishing struct {
	mu     sync.Mutex
	done   []string
	refuse int // pushes that are refused first
	in     activities.PushInput
}

func (f *fakePublishing) say(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, what)
}

func (f *fakePublishing) ExportLeaves(_ context.Context, in activities.ExportLeavesInput) (activities.ExportedLeaves, error) {
	var names []string
	for _, l := range in.Leaves {
		names = append(names, l.Config)
	}
	f.say("export " + strings.Join(names, ","))
	return activities.ExportedLeaves{Dir: in.Dir}, nil
}

func (f *fakePublishing) WriteCard(context.Context, activities.PushInput) error { return nil }

func (f *fakePublishing) PushHub(_ context.Context, in activities.PushInput) (activities.Published, error) {
	f.mu.Lock()
	f.refuse--
	refused := f.refuse >= 0
	f.in = in
	f.mu.Unlock()
	if refused {
		return activities.Published{}, activities.NewTrouble("hub", "the token may not write", "get one that may")
	}
	f.say("hub " + in.To.Repo)
	return activities.Published{Where: "hub", Address: "https://hub/" + in.To.Repo}, nil
}

func (f *fakePublishing) CopyExport(_ context.Context, in activities.CopyInput) (activities.Published, error) {
	f.say("s3 " + in.To)
	return activities.Published{Where: "s3", Address: in.To}, nil
}

func (f *fakeSets) KeepPartition(_ context.Context, w activities.KeepWork) (activities.PartitionResult, error) {
	kept := f.w.rows
	if f.w.keepNone {
		kept = 0
	}
	return f.w.done(w.Output, w.Partition, f.w.rows, kept, 0), nil
}

func (f *fakeRuns) PreflightScore(context.Context, config.Score) error { return nil }

func playScore(t *testing.T, w *world, p *fakePublishing, spec config.Score, during func(*testsuite.TestWorkflowEnvironment)) (Status, error) {
	t.Helper()
	env := w.env(t)
	env.RegisterActivity(p)
	if during != nil {
		during(env)
	}
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: spec.Name})
	env.ExecuteWorkflow(Score, ScoreInput{Spec: spec, Digest: "spec", Queue: "selfalign", Some: true})
	if !env.IsWorkflowCompleted() {
		t.Fatal("the workflow did not end")
	}
	var s Status
	err := env.GetWorkflowError()
	if err == nil {
		err = env.GetWorkflowResult(&s)
	}
	return s, err
}

func TestScoreRecipe(t *testing.T) {
	t.Parallel()
	w, p := newWorld(2, 10), &fakePublishing{}
	var mu sync.Mutex
	asked := map[string]stage.Work{}
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		mu.Lock()
		asked[work.Task] = work
		mu.Unlock()
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	s, err := playScore(t, w, p, scoreSpec(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Phase != PhaseCompleted || s.Recipe != RecipeScore || !s.Distilled || len(s.Pushed) != 2 || len(s.Results) != 6 || s.Report == "" {
		t.Fatalf("status %+v", s)
	}
	if want := []string{"export default,preferences,scored", "s3 s3://other/folder/", "hub me/recipe"}; !slices.Equal(p.done, want) {
		t.Fatalf("published %q, expected %q", p.done, want)
	}
	g, j := asked[stage.TaskRespond], asked[stage.TaskRate]
	if g.Samples != 2 || g.Model.Name != "writer" || g.InFlight != 4 || j.Input.Dir != g.Output || j.Model.Provider != "q" || j.InFlight != 2 {
		t.Fatalf("asked %+v, then %+v", g, j)
	}
	if f := p.in.Facts; f.Scores.Dir != j.Output || len(f.Steps) != 6 || len(f.Models) != 2 {
		t.Fatalf("facts %+v", f)
	}
	if _, ok := w.records["recipe/status.json"]; !ok {
		t.Fatal("no record of the end")
	}
}

func TestScoreOfPairsGeneratesNothing(t *testing.T) {
	t.Parallel()
	w, p := newWorld(1, 5), &fakePublishing{}
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task != stage.TaskRate || !strings.HasSuffix(work.Input.Dir, "responses") {
			return activities.PartitionResult{}, temporal.NewNonRetryableApplicationError("asked for "+work.Task, "x", nil)
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	spec := scoreSpec(t)
	spec.Generate = nil
	if s, err := playScore(t, w, p, spec, nil); err != nil || s.Phase != PhaseCompleted {
		t.Fatal(s.Phase, err)
	}
}

func TestScoreWaitsForAPersonAndForTheHub(t *testing.T) {
	t.Parallel()
	w, p := newWorld(1, 5), &fakePublishing{refuse: 1}
	spec := scoreSpec(t, "approve=[publish]")
	var seen []string
	look := func(env *testsuite.TestWorkflowEnvironment) Status {
		v, err := env.QueryWorkflow(QueryStatus)
		if err != nil {
			t.Error(err)
			return Status{}
		}
		var s Status
		if err := v.Get(&s); err != nil {
			t.Error(err)
		}
		return s
	}
	s, err := playScore(t, w, p, spec, func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			s := look(env)
			seen = append(seen, s.Phase+" "+s.Gate+fmt.Sprint(len(p.done)))
			update[Status](t, env, UpdateApprove, nil, Approval{Gate: config.GatePublish, By: "me"})
		}, time.Hour)
		env.RegisterDelayedCallback(func() {
			s := look(env)
			seen = append(seen, s.Phase+" "+fmt.Sprint(strings.Contains(s.Message, "the token may not write")))
			update[Status](t, env, UpdateRetry, nil)
		}, 2*time.Hour)
	})
	if err != nil || s.Phase != PhaseCompleted {
		t.Fatal(s.Phase, err)
	}
	if want := []string{"approval publish1", "blocked true"}; !slices.Equal(seen, want) {
		t.Fatalf("seen %q, expected %q", seen, want)
	}
}

func TestScorePausesAndGoesOn(t *testing.T) {
	t.Parallel()
	w, p := newWorld(3, 4), &fakePublishing{}
	paused := false
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		w.mu.Lock()
		first := work.Partition == 1 && work.Task == stage.TaskRespond && !paused
		paused = paused || first
		w.mu.Unlock()
		if first {
			return activities.PartitionResult{Stop: activities.StopCancelled}, nil
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	s, err := playScore(t, w, p, scoreSpec(t), nil)
	if err != nil || s.Phase != PhaseCompleted || s.Spent.Calls != 2*8*4 {
		t.Fatalf("%s, %d calls: %v", s.Phase, s.Spent.Calls, err)
	}
}

// TestScoreOfNothingWaits: a step that keeps no row is the last one. Nothing more is asked, and nothing is pushed over what is there.
func TestScoreOfNothingWaits(t *testing.T) {
	t.Parallel()
	for step, about := range map[string]struct{ says, way string }{
		"generate": {"all 10 answers were rejected", "generate.max_tokens"},
		"score":    {"none of 10 answers got a score", "score.method"},
		"keep":     {"none of 10 scored answers was kept", "keep.min_score"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			w, p := newWorld(1, 5), &fakePublishing{}
			task := map[string]string{"generate": stage.TaskRespond, "score": stage.TaskRate}[step]
			w.ask = func(work stage.Work) (activities.PartitionResult, error) {
				kept := w.rows
				if work.Task == task {
					kept = 0
				}
				return w.done(work.Output, work.Partition, w.rows, kept, w.rows), nil
			}
			w.keepNone = step == "keep"
			var seen Status
			_, err := playScore(t, w, p, scoreSpec(t), func(env *testsuite.TestWorkflowEnvironment) {
				env.RegisterDelayedCallback(func() {
					if v, err := env.QueryWorkflow(QueryStatus); err != nil || v.Get(&seen) != nil {
						t.Error(err)
					}
					env.CancelWorkflow()
				}, time.Hour)
			})
			if !temporal.IsCanceledError(err) || seen.Phase != PhaseBlocked || !strings.Contains(seen.Message, about.says) || !strings.Contains(seen.Message, about.way) {
				t.Errorf("%s, %q: %v", seen.Phase, seen.Message, err)
			}
			if last := seen.Stages[len(seen.Stages)-1].Name; (step != "keep" && last != step) || len(p.done) > 0 {
				t.Errorf("went on to %s, published %q", last, p.done)
			}
		})
	}
}
