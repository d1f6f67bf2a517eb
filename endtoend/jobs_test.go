package endtoend

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// trainedBy has the lab's worker know one more trainer.
func (l *lab) trainedBy(name, settings string) {
	l.changed = func(text string) string {
		return strings.Replace(text, "trainers: {", "trainers: {"+name+": "+settings+", ", 1)
	}
}

// TestTrainedByAService is a run whose trainer calls back. It is looked at once an hour, so that only callbacks can end its jobs;
// strangers cannot, the worker is killed while jobs are waited for, and in the end the callback is lost.
func TestTrainedByAService(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := newTrainingService(t)
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	secret := "whsec_" + base64.StdEncoding.EncodeToString(raw)
	modelKey := ""
	s.key, s.modelKey, s.pocket = &secret, &modelKey, l.stack.PocketURL
	port := freePort(t)
	l.secrets["webhook secret"] = secret
	env := "E2E_WEBHOOK_" + strings.ToUpper(rand.Text())
	l.moreEnv = []string{env + "=" + secret}
	l.trainedBy("service", fmt.Sprintf("{backend: http, url: %q, secret_env: %s, poll: 1h}", s.url, env))
	l.more = fmt.Sprintf("callbacks: {listen: '127.0.0.1:%d', url: 'http://127.0.0.1:%d/below'}\n", port, port)
	l.work(wiring{})
	l.start("iterations=1", "model.trainer=service")

	backward, first := s.job("myx"), s.job("m0")
	stranger := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	require.Equal(t, http.StatusUnauthorized, s.send(s.callback(stranger, backward.ID)))
	forged := s.callback(secret, backward.ID)
	forged.Header.Set("webhook-timestamp", fmt.Sprint(time.Now().Add(-time.Hour).Unix()))
	require.Equal(t, http.StatusUnauthorized, s.send(forged))
	require.Equal(t, backward.looks, s.job("myx").looks, "a stranger has the job looked at")

	// From now on jobs are looked at every second; those that wait already keep their pace.
	path := filepath.Join(l.dir, "worker.yaml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("poll: 1h"), []byte("poll: 1s"), 1), 0o600))
	l.kill(partWorker) // while both are waited for and nothing else is done, whose loss would have to be noticed
	s.release(first.ID)
	told := s.callback(secret, first.ID)
	require.Eventually(t, func() bool { return s.send(told) == http.StatusNoContent }, time.Minute, 100*time.Millisecond, "called again until somebody answers")
	l.await("M0", func(seen runs.Seen) bool { return stage(seen, "00 train m0").State == workflows.StageDone })

	s.release(backward.ID)
	told = s.callback(secret, backward.ID)
	require.Equal(t, http.StatusNoContent, s.send(told))
	l.await("the backward model", func(seen runs.Seen) bool { return stage(seen, "00 train myx").State == workflows.StageDone })
	looks := s.job("myx").looks
	require.Equal(t, http.StatusNoContent, s.send(told), "the same callback again")

	last := s.job("m1")
	s.release(last.ID) // nobody calls
	l.finished()
	require.Equal(t, looks, s.job("myx").looks, "a repeated callback has the job looked at again")
	require.Len(t, s.jobs, 3)
	for _, j := range s.jobs {
		require.Equal(t, "succeeded", j.cleaned, j.Key)
	}
	l.checkSecrets(runName)
}

// TestMachineThatTrainsIsSilent loses the machine that trains: the run is blocked and says what can be done, and when the
// machine is back, its job goes on where it is.
func TestMachineThatTrainsIsSilent(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	done := filepath.Join(l.dir, "done")
	begun := filepath.Join(l.dir, "begun")
	script := fmt.Sprintf(`echo begun >> %s; while [ -d %s ] && [ ! -e %s ]; do sleep 0.1; done; echo '{"model": "pocketlm-base"}'`, begun, l.dir, done)
	programs := func() int {
		raw, _ := os.ReadFile(begun)
		return strings.Count(string(raw), "begun")
	}
	l.trainedBy("gpu", fmt.Sprintf("{backend: command, command: [sh, -c, %q], dir: %q, poll: 500ms, host_timeout: 10s}", script, filepath.Join(l.dir, "jobs")))
	l.queues = "control,llm,cpu"
	l.work(wiring{})
	machine := l.another("train")
	l.start("iterations=1", "model.trainer=gpu")
	require.Eventually(t, func() bool { return programs() == 2 }, 2*time.Minute, 50*time.Millisecond)
	machine.Stop(time.Second) // it stops and is not seen again
	seen := l.await("the silence to be noticed", at(workflows.PhaseBlocked))
	host, err := os.Hostname()
	require.NoError(t, err)
	for _, words := range []string{"no worker on machine " + host, "10s", "Start the worker", "starter retry", "selfalign-claim.json"} {
		require.Contains(t, seen.Message, words)
	}
	require.NoError(t, os.WriteFile(done, nil, 0o600))
	l.another("train")
	l.tell(workflows.UpdateRetry, nil)
	l.finished()
	require.Equal(t, 3, programs(), "one for each model")
}

// TestJobsThatEndBadlyLeaveNothing has both jobs of a run fail, or be cancelled, and kills the worker in the midst of clearing up
// after them.
func TestJobsThatEndBadlyLeaveNothing(t *testing.T) {
	t.Parallel()
	files, cancels := regexp.MustCompile(`^/v1/files/`), regexp.MustCompile(`^/v1/fine_tuning/jobs/[^/]+/cancel$`)
	begin := func(t *testing.T, f pocketlm.Faults, traps ...*trap) *lab {
		t.Parallel()
		l := newLab(t)
		l.work(wiring{model: (&warden{l: l, traps: traps}).front(l.stack.PocketURL)})
		l.misbehave(f)
		l.start("iterations=1")
		t.Cleanup(func() {
			for _, p := range traps {
				require.True(t, p.sprung, "never came by: %s", p.name)
			}
		})
		return l
	}
	t.Run("failed", func(t *testing.T) {
		other := &trap{name: "job failed, its file not removed", method: http.MethodDelete, path: files}
		one := &trap{name: "file of a failed job removed, answer lost", method: http.MethodDelete, path: files, with: other}
		l := begin(t, pocketlm.Faults{TrainingFails: "no machine to train on"}, one, other)
		require.Eventually(t, func() bool {
			s, err := l.client.Status(t.Context(), runName)
			return err == nil && s.Phase == workflows.PhaseBlocked && strings.Count(s.Message, "no machine to train on") == 2 && len(l.trainingFiles()) == 0
		}, patience, 100*time.Millisecond)
	})
	t.Run("cancelled", func(t *testing.T) {
		other := &trap{name: "job cancelled, its file not removed", method: http.MethodDelete, path: files}
		one := &trap{name: "job cancelled, answer lost", method: http.MethodPost, path: cancels, with: other}
		l := begin(t, pocketlm.Faults{TrainingTime: 600_000}, one, other)
		live := func() int { return l.jobs("validating_files") + l.jobs("queued") + l.jobs("running") }
		require.Eventually(t, func() bool { return live() == 2 }, patience, 100*time.Millisecond)
		require.NoError(t, l.client.Cancel(t.Context(), runName))
		require.Eventually(t, func() bool {
			seen, err := l.client.Status(t.Context(), runName)
			return err == nil && seen.Phase == workflows.PhaseCancelled
		}, patience, 100*time.Millisecond)
		require.Equal(t, 2, l.jobs("cancelled"))
		require.Zero(t, live())
		require.Empty(t, l.trainingFiles())
	})
}

// TestCancelledWhileSubmitting cancels a run whose worker was killed when a job was made and not told of: it does not train on.
func TestCancelledWhileSubmitting(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	submitted := post("job made, worker killed, run cancelled", `^/v1/fine_tuning/jobs$`)
	submitted.meanwhile = func(l *lab) {
		if err := l.client.Cancel(context.WithoutCancel(l.t.Context()), runName); err != nil {
			l.logf("cancel: %v", err)
			l.t.Fail()
		}
	}
	w := &warden{l: l, traps: []*trap{submitted}}
	l.work(wiring{model: w.front(l.stack.PocketURL)})
	l.misbehave(pocketlm.Faults{TrainingTime: 600_000})
	l.start("iterations=1")
	require.Eventually(t, func() bool {
		seen, err := l.client.Status(t.Context(), runName)
		return err == nil && seen.Phase == workflows.PhaseCancelled
	}, patience, 100*time.Millisecond)
	require.True(t, submitted.sprung)
	jobs := l.listed("/v1/fine_tuning/jobs?limit=100")
	require.NotEmpty(t, jobs)
	require.Len(t, jobs, l.jobs("cancelled"))
	require.Empty(t, l.trainingFiles())
}

// another starts one more worker, for some queues.
func (l *lab) another(queues string) *child.Keeper {
	l.t.Helper()
	k, err := child.Keep(l.t.Context(), child.Spec{
		Name: "worker for " + queues, Command: []string{workerBinary, "-config", filepath.Join(l.dir, "worker.yaml"), "-queues", queues},
		Env: append(os.Environ(), child.ParentStdin+"=1"), Dir: l.dir, Log: filepath.Join(l.dir, "logs", "worker-"+queues+".log"), Ready: 60 * time.Second,
	}, func(e child.Event) { l.logf("%s", e) })
	require.NoError(l.t, err)
	l.t.Cleanup(func() { k.Stop(20 * time.Second) })
	return k
}

// jobs counts the jobs of the model server in a state.
func (l *lab) jobs(state string) (n int) {
	for _, j := range l.listed("/v1/fine_tuning/jobs?limit=100") {
		if j.Status == state {
			n++
		}
	}
	return n
}

// trainingFiles are the files of training sets that lie at the model server.
func (l *lab) trainingFiles() (names []string) {
	for _, f := range l.listed("/v1/files") {
		if f.Purpose == "fine-tune" {
			names = append(names, f.Filename)
		}
	}
	return names
}

type entry struct{ Status, Purpose, Filename string }

func (l *lab) listed(path string) []entry {
	l.t.Helper()
	req, err := http.NewRequest(http.MethodGet, l.stack.PocketURL+path, nil)
	require.NoError(l.t, err)
	req.Header.Set("Authorization", "Bearer "+l.secrets["model key"])
	resp, err := http.DefaultClient.Do(req)
	require.NoError(l.t, err)
	defer resp.Body.Close()
	var page struct{ Data []entry }
	require.NoError(l.t, json.NewDecoder(resp.Body).Decode(&page))
	return page.Data
}

func freePort(t *testing.T) int {
	t.Helper()
	t.Helper()
	port, err := loopback.Free()
	require.NoError(t, err)
	return port
}
