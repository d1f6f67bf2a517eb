// Command starter starts, watches and steers runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/starter/estimate"
	"github.com/selfalign/selfalign/starter/runs"
)

// Exit codes, on which scripts may rely.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2   // bad input: the spec, the settings, the command line, or a conflict with what is there
	exitWaiting     = 3   // the run is blocked or waits for an approval
	exitCancelled   = 4   // the run was cancelled
	exitNotFound    = 5   // no such run, or nothing yet of what was asked
	exitUnreachable = 6   // Temporal, a worker or S3 does not answer
	exitInterrupted = 130 // interrupted from the keyboard
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with everything given to it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{ctx: ctx, in: stdin, out: stdout, err: stderr, connect: runs.Connect}
	return a.run(args)
}

// app is what commands work with.
type app struct {
	ctx      context.Context //nolint:containedctx // one command is one call
	in       io.Reader
	out, err io.Writer
	connect  func(context.Context, config.Worker) (*runs.Client, error)
	settings string // -w of the command line, for commands that are proposed; "" where they need none
}

// cli is the command line. The help of each command stands beside it.
type cli struct {
	Explain explainCmd `cmd:"" group:"start" help:"Explain what becomes of each piece of a source. Writes nothing."`
	Plan    planCmd    `cmd:"" group:"start" help:"Tell what a run would ask, cost and take. Spends nothing."`
	Start   startCmd   `cmd:"" group:"start" help:"Start a run, or find it where it is."`
	Score   scoreCmd   `cmd:"" group:"start" help:"Generate and score: prompts in, rated answers out, pushed to the Hub."`

	Watch   watchCmd   `cmd:"" group:"steer" help:"Watch a run until it ends or waits for you."`
	Status  statusCmd  `cmd:"" group:"steer" help:"Show once how a run is."`
	List    listCmd    `cmd:"" group:"steer" help:"List the runs in the bucket."`
	Pause   pauseCmd   `cmd:"" group:"steer" help:"Pause a run: no new calls, those in flight finish."`
	Resume  resumeCmd  `cmd:"" group:"steer" help:"Go on after a pause."`
	Approve approveCmd `cmd:"" group:"steer" help:"Open, or refuse, the gate that a run waits at."`
	Set     setCmd     `cmd:"" group:"steer" help:"Change the budget, speed, threshold or iterations of a run."`
	Retry   retryCmd   `cmd:"" group:"steer" help:"Try again what blocked a run."`
	Fork    forkCmd    `cmd:"" group:"steer" help:"Start a new run from an iteration of another."`
	Cancel  cancelCmd  `cmd:"" group:"steer" help:"End a run. What it made stays."`

	Report  reportCmd  `cmd:"" group:"results" help:"Write the report of a run: HTML, Markdown or JSON, once or live."`
	Pull    pullCmd    `cmd:"" group:"results" help:"Download a dataset of a run, as Parquet or JSONL."`
	Push    pushCmd    `cmd:"" group:"results" help:"Push what a run made to the Hugging Face Hub, or to a folder."`
	Eval    evalCmd    `cmd:"" group:"results" help:"Evaluate a model: win rate against a baseline, by a judge."`
	Compare compareCmd `cmd:"" group:"results" help:"Put two runs side by side: specs, figures, sets row by row."`

	Version versionCmd `cmd:"" group:"more" help:"Print the version."`
}

// groups are the headings under which the help lists commands, in this order.
var groups = []kong.Group{
	{Key: "start", Title: "Before and at the start:"},
	{Key: "steer", Title: "While it runs:"},
	{Key: "results", Title: "Results:"},
	{Key: "more", Title: "More:"},
}

const about = `Self-alignment by instruction backtranslation, on Temporal and S3.

A run is described by run.yaml; worker.yaml says where Temporal, the bucket and the models are. First: starter plan, then starter start --watch, with a worker running (worker -config worker.yaml). Both files begin as copies of those in examples/openai or examples/vllm.

Exit codes: 0 done · 1 failure · 2 bad input · 3 the run is blocked or waits for an approval · 4 cancelled · 5 not found · 6 Temporal, a worker or S3 does not answer · 130 interrupted.`

// exited carries the exit code out of the parser, which ends by a call.
type exited int

func (a *app) run(args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	var line cli
	parser, err := kong.New(&line, kong.Name("starter"), kong.Description(about), kong.Writers(a.out, a.err),
		kong.Exit(func(code int) { panic(exited(code)) }), kong.UsageOnError(), kong.Bind(a), kong.ExplicitGroups(groups),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}))
	if err != nil {
		return a.fail(err)
	}
	args = spelled(args)
	command, err := parser.Parse(args)
	if err != nil {
		hint := "starter --help"
		var parse *kong.ParseError
		if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() != "" {
			command := strings.Fields(parse.Context.Command())[0]
			if hint = "starter " + command + " --help"; namesSpec(args) {
				hint = "starter " + command + " -f FILE; " + hint
			}
		}
		fmt.Fprintf(a.err, "%v. Try: %s\n", err, hint)
		return exitUsage
	}
	return a.fail(command.Run(a))
}

// spelled returns the arguments as the parser knows them, where people also write them otherwise.
func spelled(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "--version":
		return []string{"version"}
	case args[0] == "ingest": // as explain was called
		return append([]string{"explain"}, args[1:]...)
	case args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	default:
		return args
	}
}

// namesSpec reports whether a spec was given without -f.
func namesSpec(args []string) bool {
	return len(args) == 2 && (strings.HasSuffix(args[1], ".yaml") || strings.HasSuffix(args[1], ".yml"))
}

// status is the error of a command that did its work and has an exit code to tell.
type status int

func (s status) Error() string { return fmt.Sprintf("exit %d", int(s)) }

// usage is a mistake in what was asked for.
type usage string

func (u usage) Error() string { return string(u) }

// fail prints an error and returns its exit code.
func (a *app) fail(err error) int {
	var told status
	if err == nil || errors.As(err, &told) {
		return int(told)
	}
	if a.ctx.Err() != nil || errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.err, "interrupted; a run that was started goes on by itself")
		return exitInterrupted
	}
	fmt.Fprintln(a.err, err)
	var (
		spec     *config.Error
		wrong    usage
		conflict *runs.ConflictError
		fields   *estimate.FieldsError
		empty    *estimate.EmptyError
		column   *corpus.ColumnError
	)
	switch {
	case errors.As(err, &spec), errors.As(err, &wrong), errors.As(err, &conflict), errors.As(err, &fields), errors.As(err, &empty), errors.As(err, &column):
		return exitUsage
	case unreachable(err):
		return exitUnreachable
	case errors.Is(err, runs.ErrNotFound):
		return exitNotFound
	default:
		return exitFailure
	}
}

func unreachable(err error) bool {
	var u *runs.UnreachableError
	return errors.As(err, &u)
}
