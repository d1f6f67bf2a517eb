// Command bench measures selfalign against a referee: an endpoint in a process of its own that counts every call, every
// answer that was asked for twice, every token, and the calls in flight.
//
//	go run ./bench stage     one stage over several partitions, without Temporal
//	go run ./bench run       whole runs: Temporal, worker, S3 and referee on this machine
//	go run ./bench crash     a run whose worker, S3 and Temporal are killed at random moments
//	go run ./bench neardup   the search for near-duplicates, without Temporal
//	go run ./bench history   how long workflow histories become in a huge stage
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// command is one thing that bench does.
type command struct {
	name string
	run  func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

var commands = []command{
	{"stage", stageCommand},
	{"run", runCommand},
	{"crash", crashCommand},
	{"neardup", neardupCommand},
	{"history", historyCommand},
	{refereeChild, refereeMain},
	{s3Child, s3Main},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
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
	fmt.Fprintln(stderr, "usage: go run ./bench stage|run|crash|neardup|history -h")
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
