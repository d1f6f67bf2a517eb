package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/selfalign/selfalign/internal/report"
	"github.com/selfalign/selfalign/starter/runs"
)

type reportCmd struct {
	runName
	settings
	Out    string        `short:"o" placeholder:"FILE" help:"Where to write it (default: RUN.html, RUN.md or RUN.json); - is standard output."`
	Format string        `default:"html" placeholder:"FORMAT" enum:"html,md,json" help:"One of ${enum} (default: ${default}). Markdown fits a dataset card."`
	Watch  bool          `help:"Write the file again and again until the run ends; an open page follows by itself."`
	Every  time.Duration `default:"5s" placeholder:"TIME" help:"Time between two writings, with --watch (default: ${default})."`
}

// Help teaches by example.
func (reportCmd) Help() string {
	return `
One HTML file that opens without a network: what came in, what came out, what it cost and whether it is better; the paper's tables beside what was measured, where documents and rows went and why, ratings, win rates, diversity, pairs to browse, lineage. It is made anew of what stands, while the run goes on as well as after evaluations of a run that ended.

Examples:

    starter report my-run
    starter report my-run --watch                 open my-run.html in a browser
    starter report my-run --format md --out -     for a dataset card or a pull request
    starter report my-run --format json -o - | jq .evidence.win_rates
`
}

// Run is the command.
func (c *reportCmd) Run(a *app) error {
	if c.Watch && c.Out == "-" {
		return usage("standard output cannot be written again. Try: --out FILE")
	}
	if c.Every < time.Second {
		return usage("--every is below a second. Try: --every 5s")
	}
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Out == "" {
		c.Out = c.Of + "." + c.Format
	}
	memo, failed := &report.Memo{}, 0
	for told := false; ; {
		d, err := client.ReportData(a.ctx, c.Of, report.Options{Memo: memo})
		switch {
		case a.ctx.Err() != nil:
			return a.ctx.Err()
		case err != nil && told && unreachable(err) && failed < patience:
			failed++ // it was there a moment ago
		case err != nil:
			return err
		default:
			failed = 0
			ended := !d.EndedAt.IsZero()
			if c.Watch && !ended {
				d.Refresh = max(int(c.Every/time.Second), 1)
			}
			if err := c.write(a, d); err != nil {
				return err
			}
			if !told && c.Out != "-" {
				a.say("%s", c.Out)
			}
			told = true
			if !c.Watch || ended {
				return nil
			}
		}
		select {
		case <-a.ctx.Done():
			return a.ctx.Err()
		case <-time.After(c.Every):
		}
	}
}

func (c *reportCmd) write(a *app, d report.Data) error {
	to := func(w io.Writer) error {
		switch c.Format {
		case "md":
			return report.Markdown(w, d)
		case "json":
			return writeJSON(w, d)
		default:
			return report.HTML(w, d)
		}
	}
	if c.Out == "-" {
		var whole bytes.Buffer // nothing is printed of a report that cannot be made
		if err := to(&whole); err != nil {
			return err
		}
		_, err := whole.WriteTo(a.out)
		return err
	}
	return runs.WriteFile(c.Out, to)
}

func writeJSON(w io.Writer, value any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
