// Command temporald serves Temporal and its Web UI on loopback for one data folder. It is a program of its own because
// linking the server costs minutes: who wants one starts it as a child. It prints one line of JSON when it serves and leaves
// when its standard input closes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/folder"
	"github.com/selfalign/selfalign/internal/devstack/loopback"
	"github.com/selfalign/selfalign/internal/devstack/temporald/embedded"
)

func main() {
	stdout := os.Stdout
	os.Stdout = os.Stderr // libraries print banners; standard output carries the ready line alone
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("temporald", flag.ContinueOnError)
	flags.SetOutput(stderr)
	options := embedded.Options{}
	flags.StringVar(&options.Dir, "dir", "", "data folder")
	flags.IntVar(&options.Port, "port", 0, "port of the service; 0: a free one")
	flags.BoolVar(&options.UI, "ui", false, "serve the Web UI")
	flags.IntVar(&options.UIPort, "ui-port", 0, "port of the Web UI; 0: a free one")
	flags.DurationVar(&options.Retention, "retention", 0, "how long closed workflows are kept, in a new database (default 2160h)")
	flags.StringVar(&options.LogLevel, "log-level", "", "least level written to temporal.log (default warn)")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if options.Dir == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "temporald: -dir is missing, or there are arguments beyond the flags")
		return 2
	}
	options.Attributes = map[string]enumspb.IndexedValueType{
		"SelfalignRun":       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"SelfalignStage":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		"SelfalignIteration": enumspb.INDEXED_VALUE_TYPE_INT,
		"SelfalignModel":     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	}

	ctx, down := child.Life(ctx, stdin, 10*time.Second)
	defer down()
	server, err := embedded.Start(ctx, options)
	if err != nil {
		fmt.Fprintf(stderr, "temporald: %v\n", err)
		if errors.Is(err, folder.ErrLocked) || errors.Is(err, loopback.ErrTaken) || errors.Is(err, embedded.ErrVersion) {
			return child.Refused
		}
		return 1
	}
	defer server.Stop()
	if err := child.Ready(stdout, map[string]string{"address": server.Address(), "ui": server.UIURL()}); err != nil {
		fmt.Fprintf(stderr, "temporald: %v\n", err)
		return 1
	}
	<-ctx.Done()
	return 0
}
