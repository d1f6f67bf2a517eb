// Command worker serves the workflows and activities of self-training runs. As many as wanted may run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/workflows"
)

// stopOnStdin is the environment variable under which a worker stops when its standard input closes, so that it never
// outlives the supervisor that started it.
const stopOnStdin = "SELFALIGN_PARENT_STDIN"

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "worker.yaml", "settings of the worker: `file`")
	queues := flags.String("queues", "", "roles to serve, in place of the settings': control, llm, cpu, train, separated by commas")
	flags.Usage = func() { usage(stderr, flags) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "worker: what is %q? Try: worker -h\n", flags.Arg(0))
		return exitUsage
	}
	settings, err := config.LoadWorker(*path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(stderr, "no worker settings at %s. Try: -config FILE, or begin with examples/openai/worker.yaml\n", *path)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if *queues != "" {
		settings.Process.Queues = strings.Split(*queues, ",")
		if err := settings.Validate(); err != nil {
			fmt.Fprintf(stderr, "-queues %s: %v\n", *queues, err)
			return exitUsage
		}
	}
	log, err := newLogger(settings.Process, stderr)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	if os.Getenv(stopOnStdin) == "1" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, stdin) // ends when the supervisor does
			cancel()
		}()
	}
	if err := work(ctx, settings, log, stdout); err != nil {
		log.Error("worker", "error", err)
		return exitFailure
	}
	return exitOK
}

func usage(w io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(w, `worker serves the workflows and activities of self-training runs.

  worker -config worker.yaml                  serve all roles
  worker -config worker.yaml -queues llm      serve model calls only; start as many as wanted

Roles: %s (workflows, short activities), %s (model calls), %s (ingest, selection, reports), %s (fine-tuning jobs;
a trainer that runs as a program wants this role on the machine that shall train, and only there).
SIGTERM or Ctrl-C: no new calls, calls in flight finish, work goes to other workers. A worker may be killed at any time.
Memory is held under 300 MB where that is possible: it grows with calls in flight, not with rows. GOMEMLIMIT in the environment sets
another limit, such as GOMEMLIMIT=2GiB.

`, workflows.RoleControl, workflows.RoleLLM, workflows.RoleCPU, workflows.RoleTrain)
	flags.PrintDefaults()
}

func newLogger(p config.Process, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(p.LogLevel)); err != nil {
		return nil, fmt.Errorf("process.log_level: %w", err)
	}
	format := p.LogFormat
	if format == "auto" {
		format = "json"
		if f, ok := w.(*os.File); ok && isTerminal(f) {
			format = "text"
		}
	}
	if format == "json" {
		return slog.New(calm{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})}), nil
	}
	return slog.New(calm{textHandler(w, level)}), nil
}
