package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

type listCmd struct {
	settings
	asJSON
}

// Help teaches by example.
func (listCmd) Help() string {
	return `
Lists every run that has a record in the bucket, the newest first, those that Temporal has forgotten included. The evaluations asked for of a run (starter eval) stand under it, by the names that watch, status and cancel know them by. With --json a record a line; all of a run is in starter status RUN --json.

Examples:

    starter list
    starter list --json | jq -r '.[] | select(.phase == "blocked") | .run'
`
}

// Run is the command.
func (c *listCmd) Run(a *app) error {
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	all, err := client.List(a.ctx)
	if err != nil {
		if all == nil {
			return err
		}
		a.warn("warning: %v", err)
	}
	if c.JSON {
		return printListed(a.out, all)
	}
	if len(all) == 0 {
		a.say("no runs in %s. Try: starter start -f run.yaml", client.Store.URI("runs"))
		return nil
	}
	table := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tPHASE\tITERATION\tNOW\tSPENT\tSTARTED\tUPDATED")
	for _, s := range all {
		iteration := fmt.Sprintf("%d/%d", s.Iteration, s.Iterations)
		if s.Recipe != "" {
			iteration = s.Recipe
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Run, s.Phase, iteration, screen.Clean(doing(s)),
			screen.Money(s.Spent), when(s.StartedAt), when(s.UpdatedAt))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// listed is a run in the JSON of the list: its status without stages and sets.
type listed struct {
	Run        string        `json:"run"`
	Recipe     string        `json:"recipe,omitempty"` // "" for self-training
	Phase      string        `json:"phase"`
	Message    string        `json:"message,omitempty"`
	Iteration  int           `json:"iteration"`
	Iterations int           `json:"iterations"`
	Now        string        `json:"now,omitempty"` // stages at work
	Spent      dataset.Usage `json:"spent"`
	Budget     config.Budget `json:"budget"`
	StartedAt  time.Time     `json:"started_at"`
	UpdatedAt  time.Time     `json:"updated_at"`
	Live       bool          `json:"live"`
	Note       string        `json:"note,omitempty"`
}

// printListed writes an array with a run a line.
func printListed(w io.Writer, all []runs.Seen) error {
	var b strings.Builder
	for i, s := range all {
		now := doing(s)
		if now == "-" {
			now = ""
		}
		line, err := json.Marshal(listed{
			Run: s.Run, Recipe: s.Recipe, Phase: s.Phase, Message: s.Message, Iteration: s.Iteration, Iterations: s.Iterations, Now: now,
			Spent: s.Spent, Budget: s.Budget, StartedAt: s.StartedAt, UpdatedAt: s.UpdatedAt, Live: s.Live, Note: s.Note,
		})
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if i > 0 {
			b.WriteString(",\n")
		}
		b.Write(line)
	}
	if _, err := fmt.Fprintf(w, "[%s]\n", b.String()); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// doing says in a word or two what a run is at.
func doing(s runs.Seen) string {
	if s.Ended() {
		return "-"
	}
	var names []string
	for _, stage := range s.Stages {
		if stage.State == workflows.StageRunning {
			names = append(names, stage.Name)
		}
	}
	for _, stage := range s.Stages { // what waits for a person
		if len(names) == 0 && stage.State == workflows.StageStopped {
			return stage.Name
		}
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if time.Since(t) > 300*24*time.Hour {
		return t.Local().Format("2006-01-02")
	}
	return t.Local().Format("Jan 02 15:04") // a line is to fit 80 columns
}
