package workflows

import (
	"cmp"
	"errors"
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
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/stage"
)

// fakeServer keeps the models that are loaded.
type fakeServer struct {
	mu      sync.Mutex
	loaded  []string
	most    int
	deploys []string
	refuse  func(name string) error // of deploying
	stuck   bool                    // nothing can be torn down

	provider string // where models answer; "p" unless set
}

func (s *fakeServer) deploy(in activities.DeployInput) (dataset.ModelRef, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := in.Submit.Run + "/" + in.Submit.Name
	s.deploys = append(s.deploys, name)
	if !slices.Contains(s.loaded, name) {
		s.loaded = append(s.loaded, name)
	}
	s.most = max(s.most, len(s.loaded))
	if s.refuse != nil {
		if err := s.refuse(name); err != nil {
			return dataset.ModelRef{}, err
		}
	}
	return dataset.ModelRef{Provider: cmp.Or(s.provider, "p"), Name: name, Revision: name}, nil
}

func (s *fakeServer) tearDown(in activities.DeployInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck {
		return errors.New("no route to host")
	}
	s.loaded = slices.DeleteFunc(s.loaded, func(name string) bool { return name == in.Submit.Run+"/"+in.Submit.Name })
	return nil
}

func (s *fakeServer) lose(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = slices.DeleteFunc(s.loaded, func(n string) bool { return n == name })
}

func (s *fakeServer) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.loaded, name)
}

// answersFrom has every question answered by a model that is loaded, or not at all.
func (w *world) answersFrom(s *fakeServer) {
	w.serves = s
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if !s.has(work.Model.Name) {
			return activities.PartitionResult{}, activities.NewTrouble("not_found", "no model "+work.Model.Name, "make it answer, then retry")
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
}

// What a run deployed is taken down when nobody asks it any more, and at its end except for what the spec keeps.
func TestModelsAreTakenDown(t *testing.T) {
	t.Parallel()
	for keep, want := range map[string][]string{
		"":              {"demo/m2"},
		config.KeepLast: {"demo/m2"},
		config.KeepNone: {},
		config.KeepAll:  {"demo/m0", "demo/m1", "demo/m2", "demo/myx"},
	} {
		t.Run("keep "+keep, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(2, 5), &fakeServer{}
			w.answersFrom(s)
			run := spec()
			run.Model.Keep = keep
			status, err := w.play(t, run, nil)
			if err != nil || status.Phase != PhaseCompleted {
				t.Fatalf("%s, %v", status.Phase, err)
			}
			slices.Sort(s.loaded)
			if !slices.Equal(s.loaded, want) {
				t.Errorf("still served: %v, want %v", s.loaded, want)
			}
			if keep != config.KeepAll && s.most > 2 {
				t.Errorf("%d models were served at once", s.most)
			}
			if len(s.deploys) != 4 {
				t.Errorf("deployed %v", s.deploys)
			}
		})
	}
}

// A cancelled run leaves nothing behind but what it keeps, not even what is being deployed just then.
func TestCancelTakesModelsDown(t *testing.T) {
	t.Parallel()
	for keep, want := range map[string]int{config.KeepNone: 0, config.KeepLast: 1} {
		t.Run("keep "+keep, func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(2, 5), &fakeServer{}
			w.answersFrom(s)
			run := spec()
			run.Model.Keep = keep
			_, err := w.play(t, run, func(env *testsuite.TestWorkflowEnvironment, iteration int) {
				if iteration == 2 {
					s.refuse = func(name string) error {
						if name == "demo/m2" {
							env.CancelWorkflow()
							return errors.New("still loading")
						}
						return nil
					}
				}
			})
			if !temporal.IsCanceledError(err) {
				t.Fatalf("ended with %v", err)
			}
			if len(s.loaded) != want || want == 1 && s.loaded[0] != "demo/m1" {
				t.Errorf("still served: %v", s.loaded)
			}
		})
	}
}

// A model that cannot be deployed is taken down before the run waits for a person; after retry it is deployed anew.
func TestDeploymentThatNeedsAPerson(t *testing.T) {
	t.Parallel()
	w, s := newWorld(1, 5), &fakeServer{}
	w.answersFrom(s)
	refused := 0
	s.refuse = func(name string) error {
		if name == "demo/m1" && refused == 0 {
			refused++
			return activities.NewTrouble("server", "rank 64 is too high", "restart it, then retry")
		}
		return nil
	}
	var blocked Status
	status, err := w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, iteration int) {
		if iteration != 1 {
			return
		}
		env.RegisterDelayedCallback(func() {
			if v, err := env.QueryWorkflow(QueryStatus); err != nil || v.Get(&blocked) != nil {
				t.Error(err)
			}
			if s.has("demo/m1") {
				t.Error("what could not be deployed is still served")
			}
			var after Status
			update(t, env, UpdateRetry, &after)
		}, time.Hour)
	})
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	if blocked.Phase != PhaseBlocked || !strings.Contains(blocked.Message, "rank 64 is too high. Restart it") {
		t.Errorf("%s: %s", blocked.Phase, blocked.Message)
	}
}

// A model that its server lost is deployed again and the stage goes on by itself; one that stays away needs a person.
func TestLostModelsAreDeployedAgain(t *testing.T) {
	t.Parallel()
	w, s := newWorld(3, 5), &fakeServer{}
	w.answersFrom(s)
	inner, asked := w.ask, 0
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Task == stage.TaskRate {
			w.mu.Lock() // partitions are asked side by side
			asked++
			lost := asked%3 == 0 // the server starts anew again and again
			w.mu.Unlock()
			if lost {
				s.lose(work.Model.Name)
			}
		}
		return inner(work)
	}
	status, err := w.play(t, spec(), nil)
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v: %s", status.Phase, err, status.Message)
	}
	again := 0
	for _, name := range s.deploys {
		if name == "demo/m0" {
			again++
		}
	}
	if again < 3 {
		t.Errorf("deployed %v", s.deploys)
	}

	w, s = newWorld(1, 5), &fakeServer{}
	w.answersFrom(s)
	s.refuse = func(name string) error {
		go s.lose(name)
		return nil
	}
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		return activities.PartitionResult{}, activities.NewTrouble("not_found", "no model", "make it answer, then retry")
	}
	_, err = w.play(t, spec(), func(env *testsuite.TestWorkflowEnvironment, _ int) {
		env.RegisterDelayedCallback(func() {
			var st Status
			if v, err := env.QueryWorkflow(QueryStatus); err != nil || v.Get(&st) != nil || st.Phase != PhaseBlocked {
				t.Errorf("%s, %v", st.Phase, err)
			}
			env.CancelWorkflow()
		}, time.Hour)
	})
	if !temporal.IsCanceledError(err) {
		t.Error(err)
	}
	if n := len(s.deploys); n > 2+revivals {
		t.Errorf("deployed %d times: %v", n, s.deploys)
	}
}

// A fork deploys models of the run before it again, and takes down what it deployed, but nothing that still serves the other.
func TestForkAndModelsOfTheRunBefore(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{true, false} {
		t.Run(fmt.Sprintf("still served: %v", there), func(t *testing.T) {
			t.Parallel()
			w, s := newWorld(1, 5), &fakeServer{}
			w.answersFrom(s)
			if there {
				s.loaded = []string{"old/m0"}
			}
			m0 := dataset.ModelRef{Provider: "p", Name: "old/m0", Revision: "old/m0"}
			in := SelfTrainInput{Spec: spec(), Digest: "spec", Queue: "selfalign", Resume: &State{
				Iteration: 1, Seeds: dataset.Ref{Dir: "seeds", Rows: 5}, Segments: dataset.Ref{Dir: "segments", Rows: 10, Bits: 1},
				Candidates: dataset.Ref{Dir: "candidates", Rows: 10, Bits: 1},
				Base:       dataset.Ref{Dir: "base", Rows: 5, Digest: "base"}, Training: dataset.Ref{Dir: "base", Rows: 5, Digest: "base"},
				Models: []dataset.ModelRef{m0},
				Serving: []Serving{{
					Model: m0, Queue: "selfalign-control",
					Deploy: activities.DeployInput{Submit: activities.SubmitInput{Run: "old", Name: "m0"}},
				}},
			}}
			in.Spec.Iterations = 1
			env := w.env(t)
			env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "demo"})
			env.ExecuteWorkflow(SelfTrain, in)
			var status Status
			if err := env.GetWorkflowResult(&status); err != nil {
				t.Fatal(err)
			}
			if s.has("old/m0") != there || !s.has("demo/m1") {
				t.Errorf("served: %v", s.loaded)
			}
		})
	}
}

// A model that the run before took down is deployed before anybody asks it: where nothing listens any more, nobody could say
// that it is not there. It is asked where it came to answer.
func TestForkAsksNoModelThatIsDown(t *testing.T) {
	t.Parallel()
	w, s := newWorld(1, 5), &fakeServer{provider: "slot2"}
	w.serves = s
	var mu sync.Mutex
	var wrong []string
	w.ask = func(work stage.Work) (activities.PartitionResult, error) {
		if work.Model.Name == "old/m0" && (!s.has("old/m0") || work.Model.Provider != "slot2") {
			mu.Lock()
			wrong = append(wrong, work.Model.Provider)
			mu.Unlock()
		}
		return w.done(work.Output, work.Partition, w.rows, w.rows, w.rows), nil
	}
	m0 := dataset.ModelRef{Provider: "p", Name: "old/m0", Revision: "old/m0"}
	in := SelfTrainInput{Spec: spec(), Digest: "spec", Queue: "selfalign", Resume: &State{
		Iteration: 1, Seeds: dataset.Ref{Dir: "seeds", Rows: 5}, Segments: dataset.Ref{Dir: "segments", Rows: 10, Bits: 1},
		Candidates: dataset.Ref{Dir: "candidates", Rows: 10, Bits: 1},
		Base:       dataset.Ref{Dir: "base", Rows: 5, Digest: "base"}, Training: dataset.Ref{Dir: "base", Rows: 5, Digest: "base"},
		Models: []dataset.ModelRef{m0},
		Serving: []Serving{{
			Model: m0, Queue: "selfalign-control", Down: true,
			Deploy: activities.DeployInput{Submit: activities.SubmitInput{Run: "old", Name: "m0"}},
		}},
	}}
	in.Spec.Iterations = 1
	env := w.env(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "demo"})
	env.ExecuteWorkflow(SelfTrain, in)
	var status Status
	if err := env.GetWorkflowResult(&status); err != nil {
		t.Fatal(err)
	}
	if len(wrong) > 0 || len(s.deploys) == 0 || s.deploys[0] != "old/m0" {
		t.Errorf("asked at %v, deployed %v", wrong, s.deploys)
	}
}

// A server that is gone holds up no run: its models are told as left behind.
func TestServerThatIsGoneHoldsUpNoRun(t *testing.T) {
	t.Parallel()
	w, s := newWorld(1, 5), &fakeServer{stuck: true}
	w.answersFrom(s)
	status, err := w.play(t, spec(), nil)
	if err != nil || status.Phase != PhaseCompleted {
		t.Fatalf("%s, %v", status.Phase, err)
	}
	told := strings.Join(status.Warnings, "\n")
	if !strings.Contains(told, "demo/m1 at provider p could not be taken down") || strings.Contains(told, "demo/m2") {
		t.Errorf("warnings: %s", told)
	}
}
