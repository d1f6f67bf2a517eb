package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/workflows"
)

const minimal = `temporal: {address: "127.0.0.1:1"}
store: {bucket: b, endpoint: "http://127.0.0.1:1", access_key_env: PATH, secret_key_env: PATH}
providers: {p: {url: "http://127.0.0.1:1/v1"}, p2: {url: "http://127.0.0.1:2/v1"}}
trainers:
  tuner: {backend: openai, provider: p}
  local: {backend: command, command: ["true"], dir: DIR}
  cloud: {backend: together, provider: p, lora: 16}
  service: {backend: http, url: "http://127.0.0.1:1/jobs", secret_env: SELFALIGN_TEST_NO_SECRET}
  cluster: {backend: slurm, template: "#SBATCH --gres=gpu:1", dir: DIR}
  aws: {backend: sagemaker, region: eu-central-1, template: "{AlgorithmSpecification: {A: b}, RoleArn: r, ResourceConfig: {A: b}, StoppingCondition: {A: b}}"}
servers:
  tuner: {backend: openai, provider: p}
  fixed: {backend: static, provider: p, model: "{run}-{role}-{digest}"}
  loaded: {backend: vllm, provider: p, dir: DIR}
  made: {backend: ollama, provider: p}
  started: {backend: command, provider: p, slots: [p2], command: ["true"], dir: DIR}
`

func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", t.TempDir())), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// output is written by one goroutine and read by another.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Bad settings are told with their way out, exit code 2, and nothing is begun.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	good := settingsFile(t, minimal)
	for about, c := range map[string]struct {
		args []string
		want string
	}{
		"no file":          {[]string{"-config", "nowhere.yaml"}, "nowhere.yaml"},
		"unknown field":    {[]string{"-config", settingsFile(t, minimal+"stores: 1\n")}, "stores: unknown field"},
		"several mistakes": {[]string{"-config", settingsFile(t, "store: {bucket: 3}\nproviders: {}\nnonsense: x\n")}, "nonsense: unknown field"},
		"unknown role":     {[]string{"-config", good, "-queues", "gpu"}, `got "gpu"`},
		"a role twice":     {[]string{"-config", good, "-queues", "llm,llm"}, "twice"},
		"unknown flag":     {[]string{"-nope"}, "-nope"},
		"an argument":      {[]string{"worker.yaml"}, `what is "worker.yaml"? Try: worker -h`},
	} {
		var out, errs output
		if code := run(t.Context(), c.args, strings.NewReader(""), &out, &errs); code != exitUsage || !strings.Contains(errs.String(), c.want) || out.String() != "" {
			t.Errorf("%s: exit code %d\n%s%s", about, code, out.String(), errs.String())
		}
	}
	var out, errs output
	if code := run(t.Context(), []string{"-h"}, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(errs.String(), "-queues llm") {
		t.Errorf("help: %d, %s", code, errs.String())
	}
}

// Without Temporal or a bucket a worker waits, says so, and stops when it is told to.
func TestWaitsForTemporal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs output
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"-config", settingsFile(t, minimal)}, strings.NewReader(""), &out, &errs)
	}()
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(errs.String(), "waiting for Temporal") || !strings.Contains(errs.String(), "cannot use the bucket") {
		if time.Now().After(deadline) {
			t.Fatalf("says nothing of the wait: %s", errs.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	select {
	case code := <-done:
		if code != exitOK {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("goes on waiting")
	}
	if strings.Contains(out.String(), "ready") {
		t.Error("ready without Temporal")
	}
}

// Under a supervisor a worker ends with the pipe that holds it, so that it never outlives who started it.
func TestStopsWithItsSupervisor(t *testing.T) {
	t.Setenv(stopOnStdin, "1")
	stdin, supervisor := io.Pipe()
	var out, errs output
	done := make(chan int, 1)
	go func() {
		done <- run(context.Background(), []string{"-config", settingsFile(t, minimal)}, stdin, &out, &errs)
	}()
	select {
	case code := <-done:
		t.Fatalf("ended with %d before its supervisor: %s", code, errs.String())
	case <-time.After(300 * time.Millisecond):
	}
	if err := supervisor.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("outlives its supervisor")
	}
}

func TestQueuesOfRoles(t *testing.T) {
	t.Parallel()
	settings := config.DefaultWorker()
	settings.Temporal.Queue, settings.Process.Partitions = "q", 7
	for roles, want := range map[string][]queue{
		"llm":           {{workflows.RoleLLM, "q-llm", 7}},
		"train":         {{workflows.RoleTrain, "q-train", 20}, {workflows.RoleTrain, "q-train-host", 20}},
		"control,cpu":   {{workflows.RoleControl, "q-control", 20}, {workflows.RoleCPU, "q-cpu", max(4, runtime.GOMAXPROCS(0))}},
		"control,train": {{workflows.RoleControl, "q-control", 20}, {workflows.RoleTrain, "q-train", 20}, {workflows.RoleTrain, "q-train-host", 20}},
	} {
		settings.Process.Queues = strings.Split(roles, ",")
		if got := queuesOf(settings, "host"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", roles, got, want)
		}
	}
}

func TestPartitionsFollowCallsInFlight(t *testing.T) {
	t.Parallel()
	settings := config.DefaultWorker()
	for _, c := range []struct{ set, inFlight, want int }{{0, 64, 4}, {0, 2000, 6}, {0, 5000, 15}, {7, 5000, 7}} {
		settings.Process.Partitions = c.set
		settings.Providers = map[string]config.Provider{"p": {Limits: config.Limits{InFlight: c.inFlight}}}
		if got := partitionsOf(settings); got != c.want {
			t.Errorf("set %d, %d in flight: %d partitions, want %d", c.set, c.inFlight, got, c.want)
		}
	}
	settings.Process.Partitions = 0
	settings.Providers["q"] = config.Provider{Limits: config.Limits{InFlight: 64}}
	if got := partitionsOf(settings); got != 17 {
		t.Errorf("two providers: %d partitions", got)
	}
}

// Settings become dependencies; a local trainer's jobs are looked after on its own machine.
func TestBuild(t *testing.T) {
	t.Parallel()
	settings, err := config.LoadWorker(settingsFile(t, minimal))
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(t.Context(), settings, "host", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if p.trainers.Trainers["tuner"].Queue != "selfalign-train" || p.trainers.Trainers["local"].Queue != "selfalign-train-host" {
		t.Errorf("queues %q and %q", p.trainers.Trainers["tuner"].Queue, p.trainers.Trainers["local"].Queue)
	}
	for name, queue := range map[string]string{
		"tuner": "", "fixed": "", "loaded": "selfalign-control", "made": "selfalign-control", "started": "selfalign-train-host",
	} {
		if got := p.trainers.Servers[name]; got.Server == nil || got.Queue != queue {
			t.Errorf("server %s: %T, queue %q, want %q", name, got.Server, got.Queue, queue)
		}
	}
	if len(p.trainers.Servers) != 5 || p.trainers.Trainers["tuner"].Poll <= 0 {
		t.Errorf("servers %v, poll %v", p.trainers.Servers, p.trainers.Trainers["tuner"].Poll)
	}
}

func TestKeysComeFromTheEnvironment(t *testing.T) {
	t.Setenv("SOME_KEY", " secret\n")
	settings := config.DefaultWorker()
	settings.Providers = map[string]config.Provider{
		"with": {URL: "http://x/v1", KeyEnv: "SOME_KEY", Prices: map[string]config.Price{"m*": {Input: 1, Output: 2, Training: 3}}},
		"none": {URL: "http://y/v1"},
	}
	got, err := providersOf(settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got["with"].Key.Reveal() != "secret" || got["none"].Key.Reveal() != "" || got["with"].Prices["m*"].Output != 2 {
		t.Error("keys or prices were not taken over")
	}
	if told, err := json.Marshal(got["with"]); err != nil || strings.Contains(string(told), "secret") {
		t.Errorf("the key is told: %s, %v", told, err)
	}
	if got := trainingPrices(settings.Providers["with"]); len(got) != 1 || got["m*"] != 3 {
		t.Errorf("prices of training %v", got)
	}
}

// A key that is missing is told at the start, and one that is there is not.
func TestMissingKeysAreTold(t *testing.T) {
	t.Setenv("SOME_KEY", "secret")
	settings := config.DefaultWorker()
	settings.Providers = map[string]config.Provider{
		"with": {KeyEnv: "SOME_KEY"}, "none": {}, "without": {KeyEnv: "SELFALIGN_NO_SUCH_KEY"},
	}
	var b bytes.Buffer
	warnOfKeys(settings, slog.New(slog.NewTextHandler(&b, nil)))
	if told := b.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told, "SELFALIGN_NO_SUCH_KEY") || strings.Contains(told, "secret") {
		t.Errorf("told: %s", told)
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	if _, err := newLogger(config.Process{LogLevel: "loud"}, io.Discard); err == nil || !strings.Contains(err.Error(), "process.log_level") {
		t.Errorf("level: %v", err)
	}
	var b bytes.Buffer
	log, err := newLogger(config.Process{LogLevel: "info", LogFormat: "auto"}, &b)
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("hidden")
	log.Info("said", "n", 3)
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["msg"] != "said" || line["n"] != 3.0 {
		t.Errorf("outside of a terminal: %s, %v", b.String(), err)
	}
}

// Metrics are served as Prometheus reads them; a name that comes with other labels later does no harm.
func TestMetrics(t *testing.T) {
	t.Parallel()
	if m, err := serveMetrics(t.Context(), "", nil); err != nil || m != client.MetricsNopHandler {
		t.Errorf("no address: %v, %v", m, err)
	}
	port, err := loopback.FreeHere() // not one that the system gives to others once it is closed
	if err != nil {
		t.Fatal(err)
	}
	addr := loopback.Address(port)
	busy, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if _, err := serveMetrics(t.Context(), addr, log); err == nil || !strings.Contains(err.Error(), "Try: another process.metrics_addr") {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := serveMetrics(t.Context(), addr, log)
	if err != nil {
		t.Fatal(err)
	}
	m.WithTags(map[string]string{"queue": "q"}).Counter("polls").Inc(3)
	m.Counter("polls").Inc(1) // other labels
	m.Gauge("slots").Update(7)
	m.Timer("latency").Record(2 * time.Second)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`polls{queue="q"} 3`, "slots 7", "latency_seconds_sum 2", "go_goroutines"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s is missing", want)
		}
	}
}
