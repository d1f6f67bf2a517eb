package endtoend

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// What can be killed.
const (
	partWorker   = "worker"
	partTemporal = "Temporal"
	partLocal    = "S3 and model server"
	partAll      = "everything"
)

// Runs that are killed at random, and how often each; SELFALIGN_KILLS sets another number, SELFALIGN_SEED repeats a plan.
const (
	randomRuns  = 4
	randomKills = 3
)

// slow is a model server that leaves time to be killed in.
var slow = pocketlm.Faults{Latency: 250, LatencySigma: 0.5}

// TestKilledAtRandom kills processes with -9 at random moments. They are started again as a supervisor would, and the run
// goes on by itself: it ends with the rows of an undisturbed one, and pays twice for nothing that had been written down.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	want := mustReference(t)
	kills := randomKills
	if text := os.Getenv("SELFALIGN_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "SELFALIGN_KILLS")
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SELFALIGN_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "SELFALIGN_SEED")
		seed = n
	}
	for i := range randomRuns {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			t.Logf("SELFALIGN_SEED=%d", seed)
			l := newLab(t)
			l.work(wiring{})
			l.misbehave(slow)
			l.start()
			l.await("the preflight", func(s runs.Seen) bool { return stage(s, "00 preflight").State == workflows.StageDone })
			l.harass(rand.New(rand.NewPCG(seed, uint64(i))), kills, i)
			l.survived(want)
		})
	}
}

// harass kills something some times. The first is another part in each run.
func (l *lab) harass(r *rand.Rand, kills, first int) {
	l.t.Helper()
	parts := []string{partWorker, partAll, partLocal, partTemporal}
	for n := range kills {
		part := parts[(first+n*(1+r.IntN(3)))%len(parts)]
		answers, wait := 1+r.IntN(230/kills), time.Duration(r.IntN(8000))*time.Millisecond
		if r.IntN(3) > 0 { // in the middle of a stage: after some answers
			wait = 2 * time.Minute
		} else { // at any moment: while models are trained, while the last death is not noticed yet
			answers = 1 << 30
		}
		if !l.reached(answers, wait) {
			l.logf("the run ended before kill %d of %d", n+1, kills)
			return
		}
		l.kill(part)
	}
}

// reached waits for a number of further answers, at most for some time. It returns false once the run has ended.
func (l *lab) reached(answers int, wait time.Duration) bool {
	l.t.Helper()
	deadline, target := time.Now().Add(wait), l.answers()+answers
	for time.Now().Before(deadline) && l.answers() < target {
		if seen, err := l.client.Status(l.t.Context(), runName); err == nil && seen.Ended() {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}

// processes are those of a part. One that is just being started again may be dead.
func (l *lab) processes(part string) []*child.Process {
	switch part {
	case partWorker:
		return []*child.Process{l.worker.Process()}
	case partTemporal:
		return []*child.Process{l.stack.Service(devstack.ServiceTemporal)}
	case partLocal:
		return []*child.Process{l.stack.Service(devstack.ServiceLocal)}
	default:
		return slices.Concat(l.processes(partWorker), l.processes(partTemporal), l.processes(partLocal))
	}
}

// kill ends a part as kill -9 does, and returns when it is dead.
func (l *lab) kill(part string) {
	k := kill{what: part, sent: time.Now()}
	var dead sync.WaitGroup
	for _, p := range l.processes(part) {
		dead.Go(func() {
			if err := p.Kill(); err != nil {
				l.t.Error(err)
			}
		})
	}
	dead.Wait()
	k.buried = time.Now()
	l.mu.Lock()
	l.kills = append(l.kills, k)
	l.mu.Unlock()
	l.logf("kill -9 of %s", part)
}

func (l *lab) killed() []kill {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.kills)
}

// survived waits for the end of a run that was killed, and holds it to what is promised.
func (l *lab) survived(want map[string]string) {
	t := l.t
	t.Helper()
	seen := l.finished()
	st := l.client.Store
	require.Equal(t, want, digests(t, st), "rows differ from those of an undisturbed run")
	require.Empty(t, leftovers(t, st))
	l.submitted(iterations)
	require.Empty(t, l.trainingFiles(), "files of jobs that have ended")
	a := readAccount(t, l.stack.PocketDir)
	repeated := a.repeated(t, l.killed())
	answers, questions := a.answered()
	t.Logf("%d kills, %d questions, %d answers, %d of them repeated; the run says %d calls and %d in doubt",
		len(l.killed()), questions, answers, repeated, seen.Spent.Calls, seen.InDoubt.Calls)
	require.Equal(t, reference.answers, questions, "questions")
	require.LessOrEqual(t, seen.Spent.Calls, int64(answers), "the run says that it paid for more than it got")
	require.GreaterOrEqual(t, seen.Spent.Calls+seen.InDoubt.Calls, int64(answers), "the run does not know what it may have been billed")
	body, err := st.Get(t.Context(), "runs/"+runName+"/report.html")
	require.NoError(t, err)
	require.Contains(t, string(body), workflows.PhaseCompleted)
}
