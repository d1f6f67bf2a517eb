package endtoend

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/examples"
	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// patience is how long a run may take, whatever befalls it here.
const patience = 8 * time.Minute

// runName is that of every run: it is part of the trained models' names, which are part of what pocketlm draws from.
const runName = "short"

// lab is a data folder with all services, a worker, and somebody who starts and watches a run.
type lab struct {
	t         *testing.T
	dir       string
	stack     *devstack.Stack
	worker    *child.Keeper
	settings  config.Worker
	client    *runs.Client
	spec      config.Run
	documents string            // prefix of their keys in S3, where they are listed by a pattern
	secrets   map[string]string // by what they are for
	more      string            // of the worker's settings
	queues    string            // that the worker serves; "": all
	changed   func(text string) string
	moreEnv   []string          // of the worker's environment
	prepared  func(*config.Run) // what is changed of the spec when local sources are in S3; nil: nothing

	mu    sync.Mutex
	kills []kill
}

// wiring is what a lab's worker reaches its services through; an empty address is the service's own.
type wiring struct{ temporal, s3, model string }

const settingsText = `
temporal: {address: %q, namespace: default}
store: {bucket: %q, endpoint: %q, region: us-east-1, path_style: true, access_key_env: %s, secret_key_env: %s}
providers:
  pocketlm:
    url: %q
    key_env: %s
    prices: {"*": {input: 1, output: 2, training: 3}}
trainers: {pocketlm: {backend: openai, provider: pocketlm, poll: 200ms}}
servers: {pocketlm: {backend: openai, provider: pocketlm}}
process: {log_format: json, log_level: debug}
`

const specText = `
name: short
seeds: [{path: seeds.jsonl, format: pairs}]
documents: [{path: corpus/}]
data: {min_partitions: 8}
model: {base: pocketlm-base, trainer: pocketlm, server: pocketlm, provider: pocketlm}
augment: {max_tokens: 64, in_flight: 8}
rate: {max_tokens: 96, in_flight: 8, calibration: {pairs: 8}}
curate: {threshold: 4}
iterations: 2
`

// newLab starts the services in a folder of the test's own. The worker is started by work.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), secrets: map[string]string{}}
	var err error
	l.stack, err = devstack.Start(t.Context(), devstack.Options{
		Dir: l.dir, NoUI: true, Embedded: true, Notify: func(message string) { l.logf("%s", message) },
	})
	require.NoError(t, err)
	t.Cleanup(l.stack.Stop)
	return l
}

// logf logs while the test runs: services that are kept may speak later.
func (l *lab) logf(format string, args ...any) {
	if l.t.Context().Err() == nil {
		l.t.Logf("%s "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...)
	}
}

// work starts the worker, and the client through which the run is started and watched.
func (l *lab) work(via wiring) {
	t := l.t
	t.Helper()
	tag := strings.ToUpper(rand.Text())
	access, secret, model := "E2E_ACCESS_"+tag, "E2E_SECRET_"+tag, "E2E_MODEL_"+tag
	l.secrets["model key"] = "sk-e2e-" + rand.Text()
	env := []string{model + "=" + l.secrets["model key"]}
	for _, pair := range l.stack.Env() { // under names of this lab, since labs share the environment
		switch name, value, _ := strings.Cut(pair, "="); name {
		case devstack.AccessKeyEnv:
			l.secrets["access key"] = value
			env = append(env, access+"="+value)
		case devstack.SecretKeyEnv:
			l.secrets["secret key"] = value
			env = append(env, secret+"="+value)
		}
	}
	env = append(env, l.moreEnv...)
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		require.NoError(t, os.Setenv(name, value))
	}
	or := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	load := func(file string, via wiring) (string, config.Worker) {
		text := fmt.Sprintf(settingsText, or(via.temporal, l.stack.TemporalAddress), l.stack.S3.Bucket, or(via.s3, l.stack.S3.Endpoint),
			access, secret, or(via.model, l.stack.PocketURL)+"/v1", model) + l.more
		if l.changed != nil {
			text = l.changed(text)
		}
		path := filepath.Join(l.dir, file)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		settings, err := config.LoadWorker(path)
		require.NoError(t, err)
		return path, settings
	}
	path, _ := load("worker.yaml", via)
	_, l.settings = load("starter.yaml", wiring{})
	var err error
	command := []string{workerBinary, "-config", path}
	if l.queues != "" {
		command = append(command, "-queues", l.queues)
	}
	l.worker, err = child.Keep(t.Context(), child.Spec{
		Name: "worker", Command: command, Env: append(env, child.ParentStdin+"=1"), Dir: l.dir,
		Log: filepath.Join(l.dir, "logs", "worker.log"), Ready: 60 * time.Second,
	}, func(e child.Event) { l.logf("%s", e) })
	require.NoError(t, err)
	t.Cleanup(func() { l.worker.Stop(20 * time.Second) })
	l.client, err = runs.Connect(t.Context(), l.settings)
	require.NoError(t, err)
	t.Cleanup(l.client.Close)
}

// start starts the run as the starter does: local sources are uploaded, the spec is recorded, the workflow begins.
func (l *lab) start(change ...string) {
	t := l.t
	t.Helper()
	dir := filepath.Join(l.dir, "spec")
	reduceExample(t, dir)
	path := filepath.Join(dir, "run.yaml")
	require.NoError(t, os.WriteFile(path, []byte(specText), 0o600))
	spec, err := config.LoadRun(path, change...)
	require.NoError(t, err)
	_, err = l.client.Preflight(t.Context())
	require.NoError(t, err)
	l.spec, err = l.client.Prepare(t.Context(), spec, dir, func(runs.UploadProgress) {})
	require.NoError(t, err)
	if l.prepared != nil {
		l.prepared(&l.spec)
	}
	started, err := l.client.Start(t.Context(), l.spec, nil)
	require.NoError(t, err)
	require.True(t, started.New)
}

// reduceExample writes a part of the example's seeds and corpus: enough to disagree about, little enough to wait for.
func reduceExample(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "corpus"), 0o700))
	seeds, err := examples.FS.ReadFile("seeds.jsonl")
	require.NoError(t, err)
	lines := bytes.SplitAfter(seeds, []byte("\n"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "seeds.jsonl"), bytes.Join(lines[:min(30, len(lines))], nil), 0o600))
	pages, err := examples.FS.ReadDir("corpus")
	require.NoError(t, err)
	for i, page := range pages {
		if i%4 != 0 {
			continue
		}
		body, err := examples.FS.ReadFile("corpus/" + page.Name())
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "corpus", page.Name()), body, 0o600))
	}
}

// misbehave tells the model server how to.
func (l *lab) misbehave(f pocketlm.Faults) {
	l.t.Helper()
	body, err := json.Marshal(f)
	require.NoError(l.t, err)
	require.Eventually(l.t, func() bool {
		response, err := http.Post(l.stack.PocketURL+"/pocketlm/faults", "application/json", bytes.NewReader(body))
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
}

// await looks at the run until it is as wanted. A run that ended otherwise, or waits for a person, fails the test.
func (l *lab) await(what string, wanted func(runs.Seen) bool) runs.Seen {
	t := l.t
	t.Helper()
	deadline := time.Now().Add(patience)
	var seen runs.Seen
	var err error
	for time.Now().Before(deadline) {
		seen, err = l.client.Status(t.Context(), runName)
		if err == nil && wanted(seen) {
			return seen
		}
		if err == nil && seen.Live && (seen.Ended() || seen.Phase == workflows.PhaseBlocked) {
			t.Fatalf("waiting for %s, the run is %s: %s", what, seen.Phase, seen.Message)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s did not come in %s: %v, %s", what, patience, err, describe(seen))
	return seen
}

// finished waits for the end of the run.
func (l *lab) finished() runs.Seen {
	l.t.Helper()
	return l.await("the end", func(s runs.Seen) bool { return s.Phase == workflows.PhaseCompleted && s.Live })
}

func describe(s runs.Seen) string {
	text := s.Phase
	for _, st := range s.Stages {
		text += fmt.Sprintf("; %s %s %d/%d", st.Key, st.State, st.Done, st.Total)
	}
	return text
}

// stage returns the status of a stage, zero if it has not begun.
func stage(s runs.Seen, key string) workflows.StageStatus {
	for _, st := range s.Stages {
		if st.Key == key {
			return st
		}
	}
	return workflows.StageStatus{}
}
