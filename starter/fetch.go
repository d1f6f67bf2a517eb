package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"runtime/debug"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/trainset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

type forkCmd struct {
	runName
	settings
	asJSON
	From  int      `required:"" placeholder:"ITERATION" help:"The iteration that the fork does first."`
	File  string   `short:"f" placeholder:"FILE" help:"The fork's run spec (default: that of the run)."`
	Name  string   `short:"n" required:"" placeholder:"NAME" help:"Name of the fork."`
	Set   []string `placeholder:"PATH=VALUE" sep:"none" help:"Change one value of the spec. Repeatable."`
	Watch bool     `help:"Watch the fork after it started."`
}

// Help teaches by example.
func (forkCmd) Help() string {
	return `
The fork has the seeds, segments, candidates and models that the run had when the iteration began, and goes on under its own spec and budget. The run itself is not touched.

Examples:

    starter fork my-run --from 2 --name my-run-k4 --set curate.threshold=4
    starter fork my-run --from 1 --name judged -f judged.yaml --watch
`
}

// Run is the command.
func (c *forkCmd) Run(a *app) error {
	worker, err := c.load()
	if err != nil {
		return err
	}
	var spec config.Run
	if c.File != "" {
		if spec, _, err = (specFile{File: c.File, Name: c.Name, Set: c.Set}).load(c.settings); err != nil {
			return err
		}
		if err := errors.Join(checkPrompts(spec.Prompts, filepath.Dir(c.File)), checkSources(spec, filepath.Dir(c.File))); err != nil {
			return err
		}
		if err := a.checkContents(spec, filepath.Dir(c.File), worker); err != nil {
			return err
		}
	}
	client, err := a.dial(worker)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.File == "" {
		parent, err := client.Spec(a.ctx, c.Of)
		if err != nil {
			return err
		}
		body, err := json.Marshal(parent)
		if err != nil {
			return fmt.Errorf("fork: %w", err)
		}
		name := "the spec of run " + c.Of
		spec, err = config.ParseRun(name, body, append(append([]string(nil), c.Set...), "name="+c.Name)...)
		if err = errors.Join(err, config.In(name, config.CheckTogether(spec, worker))); err != nil {
			return err
		}
	}
	if err := a.preflight(client); err != nil {
		return err
	}
	if c.File != "" {
		if err := client.Free(a.ctx, spec, filepath.Dir(c.File)); err != nil {
			return err
		}
		if spec, err = client.Prepare(a.ctx, spec, filepath.Dir(c.File), a.uploads()); err != nil {
			return err
		}
	}
	started, err := client.Fork(a.ctx, c.Of, c.From, spec)
	if err != nil {
		return err
	}
	return a.started(client, started, c.JSON, c.Watch)
}

type pullCmd struct {
	runName
	settings
	Set        string  `default:"training" placeholder:"SET" enum:"training,ratings,candidates,segments,seeds,curated,preferences,responses,prompts" help:"Dataset, one of ${enum} (default: ${default}; of a generate-and-score run curated, its result)."`
	Iteration  int     `default:"-1" placeholder:"N" help:"Iteration of training and ratings (default: the newest)."`
	Out        string  `short:"o" placeholder:"DIR" help:"Folder to write to (default: RUN-SET, of a format of trainers RUN-SET-FORMAT); - is standard output, with --format jsonl."`
	Format     string  `default:"parquet" placeholder:"FORMAT" enum:"parquet,jsonl,openai,trl,axolotl,llamafactory" help:"One of ${enum} (default: ${default}). Parquet comes with its manifest and the rejected rows; the last four are a training set as these trainers read it."`
	Validation float64 `default:"-1" placeholder:"SHARE" help:"Share held out for validation, in the formats of trainers (default: that of the run)."`
}

// Help teaches by example.
func (pullCmd) Help() string {
	return `
An interrupted pull goes on where it stopped: files appear whole or not at all, and datasets never change.

Examples:

    starter pull my-run                                       the newest training set, as Parquet, to my-run-training
    starter pull my-run --set ratings --iteration 1 --out r1
    starter pull my-run --format jsonl --out - | head -1
    starter pull my-recipe                                    what a generate-and-score run kept, to my-recipe-curated
    starter pull my-run --format trl --validation 0.05        for load_dataset("my-run-training-trl/messages"), or prompt-completion
`
}

// Run is the command.
func (c *pullCmd) Run(a *app) error {
	if c.Out == "-" && c.Format != "jsonl" {
		return usage("Parquet is not written to standard output. Try: --format jsonl, or --out DIR")
	}
	trainers := c.Format != "parquet" && c.Format != "jsonl"
	if trainers && (c.Set != "training" || c.Out == "-") {
		return usage("format " + c.Format + " is for training sets, in a folder. Try: --set training --out DIR")
	}
	if c.Validation != -1 && (!trainers || c.Validation < 0 || c.Validation > 0.5) {
		return usage("--validation is a share from 0 to 0.5 and goes with the formats of trainers. Try: --format trl --validation 0.05")
	}
	client, err := c.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	if c.Set == string(dataset.KindTraining) && !trainers {
		seen, err := client.Status(a.ctx, c.Of)
		if err != nil {
			return err
		}
		if seen.Recipe == workflows.RecipeScore { // it trains nothing
			c.Set = string(dataset.KindCurated)
		}
	}
	ref, err := client.Dataset(a.ctx, c.Of, dataset.Kind(c.Set), c.Iteration)
	if err != nil {
		return err
	}
	if c.Out == "" {
		if c.Out = c.Of + "-" + c.Set; trainers {
			c.Out += "-" + c.Format
		}
	}
	switch {
	case trainers:
		return c.export(a, client, ref)
	case c.Out == "-":
		out := bufio.NewWriterSize(a.out, 1<<20)
		_, err := client.WriteJSONL(a.ctx, ref, out)
		return errors.Join(err, out.Flush())
	case c.Format == "jsonl":
		var rows int64
		target := filepath.Join(c.Out, c.Set+".jsonl")
		err := runs.WriteFile(target, func(w io.Writer) (err error) {
			rows, err = client.WriteJSONL(a.ctx, ref, w)
			return err
		})
		if err != nil {
			return err
		}
		a.say("%s: %s rows", target, screen.Count(rows))
		return nil
	}
	var last runs.PullProgress
	if err := client.Pull(a.ctx, ref, c.Out, func(p runs.PullProgress) { last = p }); err != nil {
		return err
	}
	a.say("%s: %s rows in %d files, %s, %d there before", c.Out, screen.Count(ref.Rows), last.Files, screen.Bytes(last.Bytes), last.Skipped)
	if c.Out != "" {
		a.warn("read it with: duckdb -c \"from '%s/*.parquet' limit 5\"", filepath.ToSlash(c.Out))
	}
	return nil
}

// export writes a training set as a trainer reads it.
func (c *pullCmd) export(a *app, client *runs.Client, ref dataset.Ref) error {
	share := c.Validation
	if share < 0 {
		spec, err := client.Spec(a.ctx, c.Of)
		if err != nil {
			return err
		}
		share = spec.Model.Validation
	}
	m, err := trainset.Export{
		Format: c.Format, Run: c.Of, Share: share, Dataset: ref.Digest,
		Rows: func() iter.Seq2[dataset.Example, error] {
			return dataset.Rows[dataset.Example](a.ctx, client.Store, ref)
		},
		Create: func(path string, fill func(io.Writer) error) error {
			return runs.WriteFile(filepath.Join(c.Out, filepath.FromSlash(path)), fill)
		},
	}.Write(a.ctx)
	if err != nil {
		return err
	}
	a.say("%s: %s rows to train on (%s seeds, %s augmented), %s held out, in %d files; digest %.16s", c.Out, screen.Count(m.Rows),
		screen.Count(m.Seeds), screen.Count(m.Augmented), screen.Count(m.Validation), len(m.Files), m.Digest)
	a.warn("the paper trains so many for %d steps of %d: see %s", m.Paper.Steps, m.Paper.BatchSize, filepath.ToSlash(filepath.Join(c.Out, trainset.ManifestFile)))
	return nil
}

type versionCmd struct{ asJSON }

// Run is the command.
func (c *versionCmd) Run(a *app) error {
	v := struct {
		Version  string `json:"version"`
		Revision string `json:"revision,omitempty"`
		Modified bool   `json:"modified,omitempty"`
		Go       string `json:"go"`
	}{Version: "(devel)"}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Go = info.GoVersion
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if c.JSON {
		return a.print(v)
	}
	a.say("selfalign %s %s %s", v.Version, v.Revision, v.Go)
	return nil
}
