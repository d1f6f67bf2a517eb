package main

import (
	"io"

	"github.com/selfalign/selfalign/internal/report"
	"github.com/selfalign/selfalign/starter/runs"
)

type compareCmd struct {
	A string `arg:"" name:"run" help:"One run."`
	B string `arg:"" name:"other" help:"The other."`
	settings
	asJSON
	HTML string `name:"html" placeholder:"FILE" help:"Write a page in place of tables."`
	Rows int64  `default:"200000" placeholder:"N" help:"Rows that are read of each set, the first by id (default: ${default})."`
}

// Help teaches by example.
func (compareCmd) Help() string {
	return `
What two runs were asked differently, what came of it, and how their sets differ: rows that only one has, and rows of both with another instruction or score.

Examples:

    starter compare my-run my-run-k4
    starter compare my-run my-run-k4 --html compare.html
    starter compare my-run my-run-k4 --json | jq .spec
`
}

// Run is the command.
func (c *compareCmd) Run(a *app) error {
	switch {
	case c.A == c.B:
		return usage("a run is not compared with itself. Try: two names of starter list")
	case c.Rows < 1:
		return usage("--rows is below 1. Try: --rows 200000")
	case c.JSON && c.HTML != "":
		return usage("--json and --html are two ways to see it. Try: one of them")
	}
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	var data [2]report.Data
	var specs [2]report.Spec
	for i, run := range []string{c.A, c.B} {
		if data[i], err = client.ReportData(a.ctx, run, report.Options{}); err != nil {
			return err
		}
		if specs[i], err = client.Asked(a.ctx, run); err != nil {
			return err
		}
	}
	compared, err := report.Compare(a.ctx, client.Store, data[0], data[1], specs[0], specs[1], report.Options{Scan: c.Rows})
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return a.print(compared)
	case c.HTML != "":
		if err := runs.WriteFile(c.HTML, func(w io.Writer) error { return compared.HTML(w) }); err != nil {
			return err
		}
		a.say("%s", c.HTML)
		return nil
	}
	return compared.Text(a.out)
}
