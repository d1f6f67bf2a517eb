package endtoend

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// TestSteered is a run that a person approves, pauses, resumes, gives more budget and tries again. It ends with the rows of
// one that was left alone.
func TestSteered(t *testing.T) {
	t.Parallel()
	want := mustReference(t)
	l := newLab(t)
	l.work(wiring{})
	slow := pocketlm.Faults{Latency: 60}
	l.misbehave(slow)
	l.start("approve=[finetune]", "budget.calls=120")

	seen := l.await("the first gate", at(workflows.PhaseApproval))
	require.Equal(t, workflows.GateFinetune, seen.Gate)
	require.Zero(t, readAccount(t, l.stack.PocketDir).jobs, "nothing is spent before the gate")
	for strings.Count(seen.Message, "waits for approval") < 2 { // the backward model and M0
		seen = l.await("both gates", at(workflows.PhaseApproval))
	}
	l.tell(workflows.UpdateApprove, workflows.Approval{By: "test"})
	l.await("some instructions", func(s runs.Seen) bool { return l.answers() > 20 })
	began := time.Now()
	l.tell(workflows.UpdatePause, nil)
	l.quiet()
	require.Less(t, time.Since(began), 20*time.Second, "a pause is to be noticed in 5 s") // on a machine with nothing else to do
	l.await("the pause", at(workflows.PhasePaused))
	l.tell(workflows.UpdateResume, nil)

	seen = l.await("the end of the budget", at(workflows.PhaseBlocked))
	require.Contains(t, seen.Message, "budget")
	require.LessOrEqual(t, seen.Spent.Calls+seen.InDoubt.Calls, int64(120))
	require.LessOrEqual(t, l.answers(), 120)
	require.Greater(t, l.answers(), 110, "a budget is there to be used")
	l.tell(workflows.UpdateSet, workflows.Settings{Budget: &config.Budget{Calls: 5000}})
	gate := func(key string) {
		l.await("the gate of "+key, func(s runs.Seen) bool {
			return s.Phase == workflows.PhaseApproval && strings.Contains(s.Message, key)
		})
		l.tell(workflows.UpdateApprove, workflows.Approval{Gate: workflows.GateFinetune, By: "test"})
	}
	gate("01 train m1")
	l.await("the last model", func(s runs.Seen) bool { return stage(s, "02 select").State == workflows.StageDone })
	failing := slow
	failing.TrainingFails = "no machine to train on"
	l.misbehave(failing)
	gate("02 train m2")
	seen = l.await("the failed job", at(workflows.PhaseBlocked))
	require.Contains(t, seen.Message, "no machine to train on")
	l.misbehave(slow)
	l.tell(workflows.UpdateRetry, nil)
	seen = l.finished()
	require.Equal(t, want, digests(t, l.client.Store))
	require.Zero(t, readAccount(t, l.stack.PocketDir).repeated(t, nil), "answered chat requests asked twice")
	require.Equal(t, int64(l.answers()), seen.Spent.Calls)
	require.Zero(t, seen.InDoubt)
	record(t, "steered", l.executions(runName))
}

func at(phase string) func(runs.Seen) bool {
	return func(s runs.Seen) bool { return s.Phase == phase && s.Live }
}

// tell sends an update that must be taken.
func (l *lab) tell(name string, payload any) {
	l.t.Helper()
	_, err := l.client.Update(l.t.Context(), runName, name, payload)
	require.NoError(l.t, err)
}

// answers counts the answers to rows' questions so far.
func (l *lab) answers() int {
	l.t.Helper()
	n, _ := readAccount(l.t, l.stack.PocketDir).answered()
	return n
}

// quiet returns when no question was answered for two seconds.
func (l *lab) quiet() {
	l.t.Helper()
	last, since := l.answers(), time.Now()
	for time.Since(since) < 2*time.Second {
		time.Sleep(50 * time.Millisecond)
		if n := l.answers(); n != last {
			last, since = n, time.Now()
		}
	}
}
