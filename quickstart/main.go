// Command quickstart runs the example end to end on this machine: it starts Temporal with its Web UI, an S3 server, a small
// model server and a worker on loopback, starts the run and shows it. It needs nothing but Go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitWaiting     = 3 // the run is blocked or waits for an approval
	exitCancelled   = 4
	exitInterrupted = 130
)

// basePort is the first of the four ports, where nothing else is known to be.
const basePort = 18230

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(withGoRun(ctx), os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	once, crash, fresh, noUI bool
	data, runName            string
	portBase                 int
}

const usageText = `quickstart runs the example end to end on this machine, on loopback: Temporal, S3, a small model server and a worker.

  go run ./quickstart             run it and stay up, so that you can look around; Ctrl-C ends it
  go run ./quickstart -once       end when the run has ended; the exit code tells how
  go run ./quickstart -crash      kill the worker twice in mid-run and show what that cost:
                                  calls in flight and the last two seconds of answers, nothing else

Started again it goes on where it was, whatever was killed. Exit codes: 0 done, 1 failure, 2 bad usage, 3 the run is
blocked or waits for an approval, 4 cancelled, 130 interrupted.

`

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.once, "once", false, "end when the run has ended")
	flags.BoolVar(&o.crash, "crash", false, "kill -9 the worker twice in mid-run, in a new data folder; implies -once")
	flags.BoolVar(&o.fresh, "fresh", false, "begin in a new data folder")
	flags.BoolVar(&o.noUI, "no-ui", false, "leave Temporal's Web UI out")
	flags.StringVar(&o.data, "data", "", "data `folder` (default: quickstart in the state folder of the user)")
	flags.StringVar(&o.runName, "run-name", "", "`name` of the run (default: that of examples/quickstart/run.yaml)")
	flags.IntVar(&o.portBase, "port-base", basePort, "first of four `ports`: Temporal, Web UI, S3, model server; 0: free ones")
	flags.Usage = func() { fmt.Fprint(stderr, usageText); flags.PrintDefaults() }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	if problem := o.check(flags.Args()); problem != "" {
		fmt.Fprintf(stderr, "quickstart: %s. Try: quickstart -h\n", problem)
		return exitUsage
	}
	o.once = o.once || o.crash
	q := &quickstart{options: o, console: newConsole(stdout), began: time.Now()}
	code, err := q.run(ctx)
	if err != nil {
		q.console.end()
		if ctx.Err() != nil {
			fmt.Fprintln(stderr, "quickstart: interrupted. The same command goes on where it was.")
			return exitInterrupted
		}
		fmt.Fprintf(stderr, "quickstart: %v\n", advise(err))
	}
	return code
}

func (o options) check(rest []string) string {
	switch {
	case len(rest) > 0:
		return fmt.Sprintf("what is %q?", rest[0])
	case o.fresh && o.data != "":
		return "-fresh chooses a folder and -data names one"
	case o.portBase != 0 && (o.portBase < 1024 || o.portBase > 65532):
		return fmt.Sprintf("-port-base: must be between 1024 and 65532, or 0 (got %d)", o.portBase)
	}
	return ""
}

// withGoRun ends the context when the go command that started this program is gone: kill -9 of it would otherwise leave this
// program behind, since a signal to go run does not reach what it runs.
func withGoRun(ctx context.Context) context.Context {
	program, err := os.Executable()
	parent := os.Getppid()
	if err != nil || !strings.Contains(program, "/go-build") || parent <= 1 {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for os.Getppid() == parent {
			time.Sleep(500 * time.Millisecond)
		}
		cancel()
	}()
	return ctx
}
