// Command bench measures selfalign against a referee: an endpoint in a process of its own that counts every call, every
// answer that was asked for twice, every token, and the calls in flight.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// command is one thing that bench does. One without about is for bench itself.
type command struct {
	name  string
	about string
	run   func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"stage", "one stage (augment or rate) over several partitions, without Temporal: calls/s, share of the ideal, CPU, memory", stageCommand},
	{"run", "a whole run, with Temporal, worker, S3 and referee on this machine: the same, with time by step and history events", runCommand},
	{"crash", "a run whose worker, Temporal and S3 are killed or cut off at random moments, compared with an undisturbed one", crashCommand},
	{"neardup", "the search for near-duplicates, without Temporal: time by step, memory, bytes", neardupCommand},
	{"ingest", "a crawl through map tasks and merges, without Temporal, beside the libraries alone: MB/s a core, memory", ingestCommand},
	{"history", "a stage of 100 million rows whose activities do nothing: how long workflow histories become", historyCommand},
	{refereeChild, "", refereeMain},
	{s3Child, "", s3Main},
	{ingestChild, "", ingestMain},
}

// help says what there is to measure.
func help(w io.Writer) {
	fmt.Fprint(w, `Measures selfalign on this machine, against a referee: an endpoint in a process of its own that answers at once or after a latency, and
counts every call, every answer that was asked for twice, every token, and the calls in flight. It needs nothing but Go, and asks no real model.

`)
	for _, c := range commands {
		if c.about != "" {
			fmt.Fprintf(w, "  go run ./bench %-8s %s\n", c.name, c.about)
		}
	}
	fmt.Fprint(w, `
Each has flags of its own: go run ./bench stage -h. All know -json (every figure, for programs) and -dir (keep the data).
Words: ideal = calls in flight wanted ÷ mean latency. In doubt = calls that a dead process may have made and did not write down.
Exit codes: 0 measured, 1 failed or a promise was not kept, 2 wrong command line.
`)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		if slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
			help(stdout)
			return exitOK
		}
		for _, c := range commands {
			if c.name != args[0] {
				continue
			}
			err := c.run(ctx, args[1:], stdout, stderr)
			var usage usageError
			switch {
			case err == nil, errors.Is(err, flag.ErrHelp):
				return exitOK
			case errors.As(err, &usage):
				fmt.Fprintf(stderr, "bench %s: %v\n", c.name, err)
				return exitUsage
			default:
				fmt.Fprintf(stderr, "bench %s: %v\n", c.name, err)
				return exitFailure
			}
		}
	}
	if len(args) > 0 {
		fmt.Fprintf(stderr, "bench: there is no %q\n\n", args[0])
	}
	help(stderr)
	return exitUsage
}

// usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// parse reads flags and nothing else.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError(err.Error())
	}
	if flags.NArg() > 0 {
		return usageError(fmt.Sprintf("what is %q?", flags.Arg(0)))
	}
	return nil
}
