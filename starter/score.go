package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/internal/publish"
	"github.com/selfalign/selfalign/starter/estimate"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

type scoreCmd struct {
	settings
	asJSON
	File  string   `short:"f" default:"score.yaml" placeholder:"FILE" help:"The spec of the recipe (default: ${default})."`
	Name  string   `short:"n" placeholder:"NAME" help:"Name of the run, in place of the spec's."`
	Set   []string `placeholder:"PATH=VALUE" sep:"none" help:"Change one value of the spec, such as generate.temperature=0.2. Repeatable."`
	Watch bool     `help:"Watch the run after it started."`
	Check bool     `help:"Check spec and settings together, and start nothing."`
}

// Help teaches by example.
func (scoreCmd) Help() string {
	return `
The generate-and-score recipe: load prompts, have a model answer them, have another score each answer from 1 to 5 with a reason, keep the wanted columns, and push the result to the Hugging Face Hub. It is a run as any other: list, watch, pause, resume, set, retry, approve, cancel, report and pull work on it. Starting the same spec again finds it where it is; no answer is paid for twice.

Examples:

    starter score -f examples/score.yaml -w worker.yaml --watch
    starter score -f score.yaml --name cooler --set generate.temperature=0.2
    starter score -f score.yaml --set load.num_examples=20 --set push.hub.repo=me/trial
    starter push my-run --folder out            the same files on this machine
`
}

// Run is the command.
func (c *scoreCmd) Run(a *app) error {
	if isTraining(c.File) {
		return usage(fmt.Sprintf("%s describes a self-training run. Try: starter start -f %s%s", c.File, c.File, a.settings))
	}
	spec, specErr := config.LoadScore(c.File, overrides(c.Set, c.Name)...)
	if errors.Is(specErr, fs.ErrNotExist) {
		specErr = usage(fmt.Sprintf("no spec at %s. Try: -f FILE, or begin with examples/score.yaml", c.File))
	}
	worker, workerErr := c.settings.load()
	if err := errors.Join(specErr, workerErr); err != nil {
		return err
	}
	if err := config.In(c.File, config.CheckScoreTogether(spec, worker)); err != nil {
		return err
	}
	dir := filepath.Dir(c.File)
	if err := checkScoreFiles(spec, dir); err != nil {
		return err
	}
	if runs.LocalSource(spec.Load.Path) {
		in, err := inputs(a.ctx, []config.Source{loadSource(spec.Load)}, dir, worker)
		if err == nil {
			_, err = estimate.HavePrompts(a.ctx, in[0], spec.Load, spec.Generate == nil)
		}
		if err != nil {
			return usage(err.Error())
		}
	}
	if c.Check {
		a.say("%s: run %s is well formed; its models are asked and its sources read when it starts", c.File, spec.Name)
		return nil
	}
	client, err := a.dial(worker)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := a.preflight(client); err != nil {
		return err
	}
	if err := client.FreeScore(a.ctx, spec, dir); err != nil {
		return err
	}
	if spec, err = client.PrepareScore(a.ctx, spec, dir, a.uploads()); err != nil {
		return err
	}
	started, err := client.StartScore(a.ctx, spec)
	if err != nil {
		return err
	}
	return a.started(client, started, c.JSON, c.Watch)
}

// checkScoreFiles finds local files that are missing or broken before anything is sent.
func checkScoreFiles(spec config.Score, dir string) error {
	if runs.LocalSource(spec.Load.Path) {
		if _, err := runs.LocalFiles(runs.Local(dir, spec.Load.Path)); err != nil {
			return usage(fmt.Sprintf("load.path: %v", err))
		}
	}
	texts, err := runs.InlineScorePrompts(spec.Prompts, dir)
	if err != nil {
		return usage(err.Error())
	}
	for _, t := range []struct{ name, text string }{{"respond", texts.Respond}, {"score", texts.Score}} {
		if t.text == "" {
			continue
		}
		if _, err := prompt.Parse(t.name, t.text); err != nil {
			return usage(fmt.Sprintf("prompts.%s: %v", t.name, err))
		}
	}
	return nil
}

type pushCmd struct {
	runName
	settings
	asJSON
	Repo      string   `placeholder:"OWNER/NAME" help:"Dataset of the Hugging Face Hub; it is made, private, if it is not there."`
	Branch    string   `placeholder:"NAME" help:"Branch that gets the commit (default: main)."`
	Public    bool     `help:"Make the dataset public, or allow one that is."`
	License   string   `placeholder:"ID" help:"The Hub's identifier of a licence, such as apache-2.0, for the card."`
	Source    []string `placeholder:"NOTE" sep:"none" help:"A note about where texts come from and under which terms, for the card. Repeatable."`
	Folder    string   `placeholder:"DIR" help:"Write the files to a folder of this machine, beside or instead of the Hub."`
	JSONL     bool     `name:"jsonl" help:"Folder: JSONL in place of Parquet."`
	Iteration int      `default:"-1" placeholder:"N" help:"Iteration of a self-training run whose curated set is pushed (default: the newest)."`
}

// Help teaches by example.
func (pushCmd) Help() string {
	return `
Pushes what a run made to the Hugging Face Hub, as one commit with a dataset card: of a self-training run the curated set of an iteration, all candidates and the seeds as the configs curated, augmented and seeds; of a generate-and-score run its results. The token is that of hub.token_env in the worker's settings. Repeating the command after a crash makes no second commit.

Examples:

    starter push my-run --repo me/my-dataset
    starter push my-run --repo me/my-dataset --license cc-by-4.0 --source 'Documents: our own wiki, CC BY 4.0'
    starter push my-run --folder out --jsonl
`
}

// Run is the command.
func (c *pushCmd) Run(a *app) error {
	if c.Repo == "" && c.Folder == "" {
		return usage("nowhere to push to. Try: --repo OWNER/NAME or --folder DIR")
	}
	worker, err := c.settings.load()
	if err != nil {
		return err
	}
	if c.Repo != "" && worker.Hub.TokenEnv == "" {
		return usage("the worker's settings name no variable with the Hub's token. Try: hub: {token_env: HF_TOKEN}")
	}
	client, err := a.dial(worker)
	if err != nil {
		return err
	}
	defer client.Close()
	export, facts, err := client.Publishable(a.ctx, c.Of, c.Iteration)
	if err != nil {
		return err
	}
	if c.License != "" {
		facts.License = c.License
	}
	facts.Sources = append(facts.Sources, c.Source...)
	if c.Folder != "" {
		n, err := client.DownloadExport(a.ctx, export, facts, c.Folder, c.JSONL)
		if err != nil {
			return err
		}
		a.say("%s: %d files", c.Folder, n)
	}
	if c.Repo == "" {
		return nil
	}
	card, err := publish.Card(a.ctx, client.Store, export, facts)
	if err != nil {
		return err
	}
	to := publish.Target{Repo: c.Repo, Branch: c.Branch, Public: c.Public, Title: "Push " + facts.Title}
	datasets, err := hub.Connect(worker.Hub.Endpoint, worker.Hub.TokenEnv, nil)
	if err != nil {
		return usage(err.Error())
	}
	done, err := publish.Push(a.ctx, datasets, client.Store, export, to, card, nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.print(done)
	}
	what := "pushed"
	if done.Already {
		what = "was there already"
	}
	a.say("%s (%s)", done.URL, what)
	for _, s := range export.Splits {
		a.say("  %s/%s  %s rows", s.Config, s.Name, screen.Count(s.Rows))
	}
	a.say("load it with: load_dataset(%q, %q)", strings.TrimSpace(c.Repo), export.Splits[0].Config)
	return nil
}
