package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/config"
)

// TestTrainingSetsArePublishedAtTheEnd pushes the sets of both iterations once the run has come to its end, after a person agreed, and
// again where the Hub refused.
func TestTrainingSetsArePublishedAtTheEnd(t *testing.T) {
	t.Parallel()
	w, p := newWorld(2, 10), &fakePublishing{refuse: 1}
	s := spec()
	s.Approve = []string{config.GatePublish}
	s.Publish = &config.Push{S3: "s3://other/folder/", Hub: &config.PushHub{Repo: "me/sets", License: "apache-2.0"}}
	var seen []string
	got, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		env.RegisterActivity(p)
		if iteration < 2 {
			return
		}
		look := func() (out Status) {
			v, err := env.QueryWorkflow(QueryStatus)
			if err != nil || v.Get(&out) != nil {
				t.Error(err)
			}
			return out
		}
		env.RegisterDelayedCallback(func() {
			now := look()
			seen = append(seen, now.Phase+" "+now.Gate)
			update[Status](t, env, UpdateApprove, nil, Approval{Gate: config.GatePublish, By: "me"})
		}, 30*24*time.Hour)
		env.RegisterDelayedCallback(func() {
			now := look()
			seen = append(seen, now.Phase)
			if !strings.Contains(now.Message, "the token may not write") {
				t.Errorf("message %q", now.Message)
			}
			update[Status](t, env, UpdateRetry, nil)
		}, 31*24*time.Hour)
	})
	if err != nil || got.Phase != PhaseCompleted || len(got.Pushed) != 2 {
		t.Fatal(got.Phase, got.Message, got.Pushed, err)
	}
	if want := []string{"approval publish", "blocked"}; !slices.Equal(seen, want) {
		t.Fatalf("seen %q, expected %q", seen, want)
	}
	if want := []string{"export iteration-1,iteration-2", "s3 s3://other/folder/", "hub me/sets"}; !slices.Equal(p.done, want) {
		t.Fatalf("published %q, expected %q", p.done, want)
	}
	f := p.in.Facts
	if p.in.Run == nil || f.License != "apache-2.0" || f.Scores.IsZero() || len(f.Models) != 2 || len(f.Steps) < 6 {
		t.Fatalf("facts %+v", f)
	}
}

// TestRefusedPushEndsWell: a person who does not want the sets published has lost nothing else.
func TestRefusedPushEndsWell(t *testing.T) {
	t.Parallel()
	refuse := func(env *testsuite.TestWorkflowEnvironment) {
		env.RegisterDelayedCallback(func() {
			update[Status](t, env, UpdateApprove, nil, Approval{Gate: config.GatePublish, Reject: true})
		}, 30*24*time.Hour)
	}
	check := func(what string, got Status, p *fakePublishing, err error) {
		if err != nil || got.Phase != PhaseCompleted || len(got.Pushed) != 0 || len(p.done) != 1 || !strings.HasPrefix(p.done[0], "export ") ||
			!strings.HasPrefix(got.Message, "not published to the private dataset me/sets: refused") {
			t.Errorf("%s: %s by %q, %q, published %v, %v", what, got.Phase, got.EndedBy, got.Message, p.done, err)
		}
	}
	w, p := newWorld(1, 10), &fakePublishing{}
	s := spec()
	s.Iterations = 1
	s.Approve = []string{config.GatePublish}
	s.Publish = &config.Push{Hub: &config.PushHub{Repo: "me/sets"}}
	got, err := w.play(t, s, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		env.RegisterActivity(p)
		if iteration == 1 {
			refuse(env)
		}
	})
	check("self-training", got, p, err)
	if got.Result == nil || got.EndedBy != EndedIterations || got.Report == "" {
		t.Errorf("result %v by %q, report %q", got.Result, got.EndedBy, got.Report)
	}

	w, p = newWorld(1, 5), &fakePublishing{}
	recipe := scoreSpec(t, "approve=[publish]", "push.hub.repo=me/sets")
	recipe.Push.S3 = ""
	got, err = playScore(t, w, p, recipe, refuse)
	check("generate and score", got, p, err)
	if got.Report == "" || len(got.Results) == 0 {
		t.Errorf("report %q, results %v", got.Report, got.Results)
	}
}

// TestWithoutPublishNothingIsExported holds a run to the steps it had before.
func TestWithoutPublishNothingIsExported(t *testing.T) {
	t.Parallel()
	w, p := newWorld(1, 4), &fakePublishing{}
	got, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, _ int) { env.RegisterActivity(p) })
	if err != nil || got.Phase != PhaseCompleted || len(p.done) != 0 {
		t.Fatal(got.Phase, p.done, err)
	}
}
