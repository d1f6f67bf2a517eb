package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/starter/runs"
)

// settings are the worker's settings, which tell where Temporal and S3 are.
type settings struct {
	Worker string `short:"w" default:"worker.yaml" env:"SELFALIGN_WORKER" placeholder:"FILE" help:"Settings of the worker: where Temporal and S3 are (default: ${default})."`
}

// AfterApply keeps what proposed commands must have on their command lines too. The parser calls it.
func (s settings) AfterApply(a *app) error {
	if s.Worker != "worker.yaml" && s.Worker != os.Getenv("SELFALIGN_WORKER") {
		a.settings = " -w " + s.Worker
	}
	return nil
}

// load reads the settings.
func (s settings) load() (config.Worker, error) {
	w, err := config.LoadWorker(s.Worker)
	if errors.Is(err, fs.ErrNotExist) {
		return w, usage(fmt.Sprintf("no worker settings at %s. Try: -w FILE, or begin with examples/openai/worker.yaml", s.Worker))
	}
	return w, err
}

// open connects to the places that the settings name.
func (s settings) open(a *app) (*runs.Client, error) {
	w, err := s.load()
	if err != nil {
		return nil, err
	}
	return a.dial(w)
}

// dial connects, and has what is wrong before any request count as bad input: a variable that is not exported, a profile that
// is not there.
func (a *app) dial(w config.Worker) (*runs.Client, error) {
	client, err := a.connect(a.ctx, w)
	if err != nil {
		return nil, usage(err.Error())
	}
	client.Slow = func(waiting string) { a.warn("%s", waiting) }
	client.Settings = cmp.Or(strings.TrimPrefix(a.settings, " -w "), os.Getenv("SELFALIGN_WORKER"), "worker.yaml")
	return client, nil
}

// specFile is a run spec with changes.
type specFile struct {
	File string   `short:"f" default:"run.yaml" placeholder:"FILE" help:"The run spec (default: ${default})."`
	Name string   `short:"n" placeholder:"NAME" help:"Name of the run, in place of the spec's."`
	Set  []string `placeholder:"PATH=VALUE" sep:"none" help:"Change one value of the spec, such as augment.temperature=0.2. Repeatable."`
}

// load reads the spec and checks it together with the worker's settings; every mistake of both comes at once.
func (s specFile) load(w settings) (config.Run, config.Worker, error) {
	run, runErr := config.LoadRun(s.File, s.overrides()...)
	if errors.Is(runErr, fs.ErrNotExist) {
		runErr = usage(fmt.Sprintf("no run spec at %s. Try: -f FILE, or begin with examples/openai/run.yaml", s.File))
	}
	worker, workerErr := w.load()
	if err := errors.Join(runErr, workerErr); err != nil {
		return run, worker, err
	}
	return run, worker, config.In(s.File, config.CheckTogether(run, worker))
}

func (s specFile) overrides() []string { return overrides(s.Set, s.Name) }

// overrides are the changes of a spec, a name in place of its own among them.
func overrides(set []string, name string) []string {
	if name == "" {
		return set
	}
	return append(append([]string(nil), set...), "name="+name)
}

// dir is the folder that paths in the spec are relative to.
func (s specFile) dir() string { return filepath.Dir(s.File) }

// runName is the run that a command is about.
type runName struct {
	Of string `arg:"" name:"run" help:"Name of the run."`
}

// asJSON asks for output that programs read.
type asJSON struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// print writes a value as indented JSON.
func (a *app) print(value any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (a *app) say(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }

func (a *app) warn(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// link returns the address of a run in Temporal's Web UI, or "".
func link(c *runs.Client, run string) string {
	if c.UI == "" {
		return ""
	}
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s", strings.TrimRight(c.UI, "/"), c.Namespace, run)
}
