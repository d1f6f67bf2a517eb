package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/links"
	"github.com/selfalign/selfalign/internal/pocketlm"
	"github.com/selfalign/selfalign/starter/runs"
)

// lab is everything that a run needs, on this machine: Temporal, S3, a worker process and a referee.
type lab struct {
	dir      string
	stack    *devstack.Stack
	server   *service // the referee
	referee  referee
	worker   *child.Keeper
	client   *runs.Client
	settings config.Worker
	wires    map[string]*links.Wire // of the worker, by what they lead to; none unless the lab is wired
}

// Links of a worker.
const (
	linkTemporal = "link to Temporal"
	linkS3       = "link to S3"
)

// workerEnv names a variable with more of the environment of workers, such as GOMEMLIMIT=200MiB.
const workerEnv = "SELFALIGN_BENCH_WORKER_ENV"

const settingsText = `temporal: {address: %q, namespace: %q}
store: {bucket: %q, endpoint: %q, region: us-east-1, path_style: true, access_key_env: %s, secret_key_env: %s}
providers:
  referee:
    url: %q
    limits: {in_flight: %d}
    prices: {"*": {input: 1, output: 2, as_of: 2026-01-01}}
trainers:
  referee: {backend: openai, provider: referee, poll: 500ms}
servers:
  referee: {backend: openai, provider: referee}
process: {log_format: text, log_level: warn}
`

// startLab builds what must be built and starts everything in a folder.
// wired says that the worker reaches Temporal and S3 through links that can be hurt.
func startLab(ctx context.Context, dir string, f pocketlm.Faults, inFlight int, wired bool, stderr io.Writer) (_ *lab, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	for _, pair := range os.Environ() { // another Temporal's settings are not for this one
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "TEMPORAL_") {
			if err := os.Unsetenv(name); err != nil {
				return nil, err
			}
		}
	}
	l := &lab{dir: dir}
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	binary, err := buildWorker(ctx, dir, stderr)
	if err != nil {
		return nil, err
	}
	said := false
	l.stack, err = devstack.Start(ctx, devstack.Options{Dir: filepath.Join(dir, "stack"), NoUI: true, Embedded: true, Building: func(program string, _ gobuild.Progress) {
		if !said {
			said = true
			fmt.Fprintf(stderr, "building %s; minutes, once\n", program)
		}
	}})
	if err != nil {
		return nil, err
	}
	if err := l.stack.Setenv(); err != nil {
		return nil, err
	}
	if l.server, err = startService(ctx, refereeChild, dir); err != nil {
		return nil, err
	}
	l.referee = referee{l.server.url}
	if err := l.referee.behave(ctx, f); err != nil {
		return nil, err
	}
	s := l.stack
	_, host, _ := strings.Cut(s.S3.Endpoint, "://")
	via := map[string]string{linkTemporal: s.TemporalAddress, linkS3: host}
	settings := func(name string, via map[string]string) (string, error) {
		body := fmt.Sprintf(settingsText, via[linkTemporal], s.Namespace, s.S3.Bucket, strings.Replace(s.S3.Endpoint, host, via[linkS3], 1),
			s.S3.AccessKeyEnv, s.S3.SecretKeyEnv, l.server.url+"/v1", inFlight)
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, []byte(body), 0o600)
	}
	path, err := settings("settings.yaml", via)
	if err != nil {
		return nil, err
	}
	if l.settings, err = config.LoadWorker(path); err != nil {
		return nil, err
	}
	if wired {
		l.wires = map[string]*links.Wire{}
		for name, upstream := range via {
			if l.wires[name], err = links.Lay(name, upstream); err != nil {
				return nil, err
			}
			via[name] = l.wires[name].Addr()
		}
	}
	if path, err = settings("worker.yaml", via); err != nil {
		return nil, err
	}
	l.worker, err = child.Keep(ctx, child.Spec{
		Name: "worker", Command: []string{binary, "-config", path}, Env: append(strings.Fields(os.Getenv(workerEnv)), child.ParentStdin+"=1"),
		Log: filepath.Join(dir, "worker.log"), Ready: 60 * time.Second,
	}, nil)
	if err != nil {
		return nil, err
	}
	l.client, err = runs.Connect(ctx, l.settings)
	return l, err
}

func buildWorker(ctx context.Context, dir string, stderr io.Writer) (string, error) {
	root, err := gobuild.Root()
	if err != nil {
		return "", err
	}
	fmt.Fprintln(stderr, "building the worker")
	out := filepath.Join(dir, "bin")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	return filepath.Join(out, "worker"), gobuild.Build(ctx, root, []string{"worker"}, out+string(filepath.Separator), nil)
}

func (l *lab) stop() {
	if l.client != nil {
		l.client.Close()
	}
	if l.worker != nil {
		l.worker.Stop(40 * time.Second)
	}
	for _, w := range l.wires {
		if w != nil {
			w.Close()
		}
	}
	if l.server != nil {
		l.server.stop()
	}
	if l.stack != nil {
		l.stack.Stop()
	}
}

// meters are those of the lab's processes.
func (l *lab) meters() *meters {
	of := func(name string) func() int {
		return func() int {
			if p := l.stack.Service(name); p != nil {
				return p.Pid()
			}
			return 0
		}
	}
	return newMeters(map[string]func() int{
		"worker": func() int { return l.worker.Process().Pid() }, "referee": l.server.pid,
		"temporal": of(devstack.ServiceTemporal), "s3": of(devstack.ServiceLocal),
	})
}

// runSpec writes sources of some size and returns the spec of a run over them, and the folder that it is relative to.
func (l *lab) runSpec(name string, rows, inFlight, partitionRows, iterations int) (config.Run, string, error) {
	dir := filepath.Join(l.dir, "sources")
	if err := writeSources(dir, rows); err != nil {
		return config.Run{}, "", err
	}
	spec := config.DefaultRun()
	spec.Name = name
	body := fmt.Sprintf(`name: %s
seeds: [{path: seeds.jsonl, format: pairs}]
documents: [{path: documents/, format: jsonl}]
data: {rows_per_partition: %d}
model: {base: %s, trainer: referee, server: referee, provider: referee}
augment: {in_flight: %d, max_tokens: 256}
rate: {in_flight: %d, max_tokens: 512}
curate: {threshold: 5}
iterations: %d
`, name, partitionRows, pocketlm.BaseModel, inFlight, inFlight, iterations)
	path := filepath.Join(dir, "run.yaml")
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		return spec, "", err
	}
	spec, err := config.LoadRun(path)
	return spec, dir, err
}

const documentsInFile = 20_000

// writeSources writes documents of one segment each as JSONL, and some seed pairs.
func writeSources(dir string, rows int) (err error) {
	if err := os.MkdirAll(filepath.Join(dir, "documents"), 0o755); err != nil {
		return err
	}
	for from := 0; from < rows; from += documentsInFile {
		path := filepath.Join(dir, "documents", fmt.Sprintf("%05d.jsonl", from/documentsInFile))
		err := writeLines(path, min(documentsInFile, rows-from), func(i int) any { return map[string]string{"text": text(1, from+i)} })
		if err != nil {
			return err
		}
	}
	return writeLines(filepath.Join(dir, "seeds.jsonl"), 200, func(i int) any {
		t := text(2, i)
		return map[string]string{"instruction": "Write about " + t[:40] + ".", "output": t}
	})
}

func writeLines(path string, n int, line func(i int) any) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	e := json.NewEncoder(w)
	for i := range n {
		if err := e.Encode(line(i)); err != nil {
			return err
		}
	}
	return w.Flush()
}

// start uploads the sources and starts the run.
func (l *lab) start(ctx context.Context, spec config.Run, dir string) error {
	prepared, err := l.client.Prepare(ctx, spec, dir, func(runs.UploadProgress) {})
	if err != nil {
		return err
	}
	_, err = l.client.Start(ctx, prepared, nil)
	return err
}

// follow calls look about every second until the run has ended, and returns its last status.
func (l *lab) follow(ctx context.Context, run string, look func(runs.Seen)) (runs.Seen, error) {
	for {
		seen, err := l.client.Status(ctx, run)
		if err == nil {
			look(seen)
			switch {
			case seen.Waiting():
				return seen, fmt.Errorf("the run waits for a person: %s", seen.Message)
			case seen.Ended():
				return seen, nil
			}
		}
		select {
		case <-ctx.Done():
			return seen, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
