package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack"
	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/starter/runs"
)

// quickstart is one start of the program.
type quickstart struct {
	options options
	console *console
	began   time.Time

	root, dir, worker string // module, data folder, the worker's binary
	stack             *devstack.Stack
	keeper            *child.Keeper // of the worker
	settingsPath      string
	settings          config.Worker
	spec              config.Run
	client            *runs.Client
}

// run does everything and returns the exit code. What was started is stopped before it returns.
func (q *quickstart) run(ctx context.Context) (int, error) {
	var err error
	if q.dir, err = dataDir(q.options, q.began); err != nil {
		return exitFailure, err
	}
	q.console.say("selfalign quickstart: everything stays on this machine, in %s", q.dir)
	if q.root, err = gobuild.Root(); err != nil {
		return exitFailure, err
	}
	var specDir string
	if q.spec, specDir, err = loadSpec(q.root, q.options.runName); err != nil {
		return exitUsage, err
	}
	lock, err := folder.Acquire(q.dir, "quickstart")
	if err != nil {
		return exitFailure, err
	}
	defer func() { _ = lock.Release() }()
	if err := onlyOurTemporal(q.dir); err != nil {
		return exitFailure, err
	}
	if err := q.build(ctx); err != nil {
		return exitFailure, err
	}
	defer q.stop()
	if err := q.start(ctx); err != nil {
		return exitFailure, err
	}
	return q.follow(ctx, specDir)
}

// build builds the worker and the services' programs in one go: the first time takes minutes.
func (q *quickstart) build(ctx context.Context) error {
	cache, err := gobuild.Dir()
	if err != nil {
		return err
	}
	// One folder for each copy of the sources: programs there are replaced when the sources change.
	out := filepath.Join(cache, "from-"+digestOf(q.root))
	q.worker = filepath.Join(out, "worker")
	began := time.Now()
	err = gobuild.Together(ctx, q.root, cache, out, []string{"worker"}, devstack.Programs(q.stackOptions()), func(p gobuild.Progress) {
		q.console.building("worker, Temporal, S3 and model server", p)
	})
	if err != nil {
		return err
	}
	q.console.say("built in %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

func (q *quickstart) stackOptions() devstack.Options {
	o := devstack.Options{
		Dir: q.dir, NoUI: q.options.noUI,
		Building: func(program string, p gobuild.Progress) { q.console.building(program, p) },
		Notify:   func(message string) { q.console.say("%s", message) },
	}
	if q.options.portBase != 0 {
		o.Ports = devstack.PortsFrom(q.options.portBase)
	}
	return o
}

// start starts the services and the worker.
func (q *quickstart) start(ctx context.Context) error {
	var err error
	if q.stack, err = devstack.Start(ctx, q.stackOptions()); err != nil {
		return err
	}
	if err := q.stack.Setenv(); err != nil {
		return fmt.Errorf("set keys: %w", err)
	}
	if q.settingsPath, q.settings, err = writeSettings(q.dir, q.stack); err != nil {
		return err
	}
	q.console.say("Temporal      %s (%s)", q.stack.TemporalAddress, q.stack.TemporalKind)
	if q.stack.UIURL != "" {
		q.console.say("Web UI        %s", q.stack.UIURL)
	}
	q.console.say("S3            %s, bucket %s", q.stack.S3.Endpoint, q.stack.S3.Bucket)
	q.console.say("model server  %s/v1", q.stack.PocketURL)

	q.keeper, err = child.Keep(ctx, child.Spec{
		Name: "worker", Command: []string{q.worker, "-config", q.settingsPath},
		Env: append(q.stack.Env(), child.ParentStdin+"=1"), Dir: q.dir,
		Log: filepath.Join(q.dir, "logs", "worker.log"), Ready: 60 * time.Second,
	}, func(e child.Event) { q.console.say("%s", e) })
	if err != nil {
		return err
	}
	q.console.say("worker        process %d, log %s", q.keeper.Process().Pid(), filepath.Join(q.dir, "logs", "worker.log"))
	if q.client, err = runs.Connect(ctx, q.settings); err != nil {
		return err
	}
	return nil
}

// stop stops what was started, in the order that loses nothing: the worker finishes its calls while the services are there.
func (q *quickstart) stop() {
	if q.client != nil {
		q.client.Close()
	}
	if q.keeper != nil {
		q.keeper.Stop(time.Duration(q.settings.Process.StopTimeout) + 10*time.Second)
	}
	if q.stack != nil {
		q.stack.Stop()
	}
}

// advise adds the way out that this program offers.
func advise(err error) error {
	switch {
	case errors.Is(err, loopback.ErrTaken):
		return fmt.Errorf("%w: -port-base %d, or -port-base 0 for free ones", err, basePort+100)
	case errors.Is(err, folder.ErrLocked):
		return fmt.Errorf("%w: -data FOLDER, or -fresh", err)
	}
	var exit *child.ExitError
	if errors.As(err, &exit) && exit.Log != "" {
		if _, statErr := os.Stat(exit.Log); statErr == nil {
			return err
		}
	}
	return err
}
