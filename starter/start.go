package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/starter/estimate"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

type startCmd struct {
	specFile
	settings
	asJSON
	Watch bool `help:"Watch the run after it started."`
}

// Help teaches by example.
func (startCmd) Help() string {
	return `
Checks the spec, uploads local sources (what is in the bucket already is not sent again), and starts the run. Starting the same spec again is safe: it finds the run where it is, and starts it if a crash or a lost Temporal kept it from starting.

Examples:

    starter start -f run.yaml -w worker.yaml --watch
    starter start -f run.yaml --name warmer --set augment.temperature=1.0
    starter start -f run.yaml --set 'approve=[finetune]' --set budget.calls=20000
`
}

// Run is the command.
func (c *startCmd) Run(a *app) error {
	if isScore(c.File) {
		return usage(fmt.Sprintf("%s describes the generate-and-score recipe. Try: starter score -f %s%s", c.File, c.File, a.settings))
	}
	spec, worker, err := c.specFile.load(c.settings)
	if err != nil {
		return err
	}
	if err := checkPrompts(spec.Prompts, c.dir()); err != nil {
		return err
	}
	if err := checkSources(spec, c.dir()); err != nil {
		return err
	}
	if err := a.checkContents(spec, c.dir(), worker); err != nil {
		return err
	}
	client, err := a.dial(worker)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := a.preflight(client); err != nil {
		return err
	}
	if err := client.Free(a.ctx, spec, c.dir()); err != nil {
		return err
	}
	for _, w := range estimate.Unbounded(spec, worker) {
		a.warn("warning: %s", w)
	}
	if spec, err = client.Prepare(a.ctx, spec, c.dir(), a.uploads()); err != nil {
		return err
	}
	started, err := client.Start(a.ctx, spec, nil)
	if err != nil {
		return err
	}
	return a.started(client, started, c.JSON, c.Watch)
}

// preflight finds out what cannot be reached before anything is sent.
func (a *app) preflight(client *runs.Client) error {
	warnings, err := client.Preflight(a.ctx)
	for _, w := range warnings {
		a.warn("warning: %s", w)
	}
	return err
}

// started tells what Start did, and goes on to watch.
func (a *app) started(client *runs.Client, s runs.Started, json, watch bool) error {
	if watch {
		a.warn("%s", startedLine(s))
		return a.watch(client, s.Run, json, false)
	}
	if json {
		return a.print(s)
	}
	a.say("%s", startedLine(s))
	if l := link(client, s.Run); l != "" {
		a.say("in the browser: %s", l)
	}
	a.say("next: starter watch %s%s", s.Run, a.settings)
	return nil
}

func startedLine(s runs.Started) string {
	seen := runs.Seen{}
	seen.Phase = s.Phase
	switch {
	case s.New:
		return fmt.Sprintf("run %s is started", s.Run)
	case s.Begun:
		return fmt.Sprintf("run %s was recorded before and is started now", s.Run)
	case seen.Ended():
		return fmt.Sprintf("run %s has ended before: %s", s.Run, s.Phase)
	default:
		return fmt.Sprintf("run %s is there already: %s", s.Run, s.Phase)
	}
}

// checkSources lists the local sources, so that those which cannot be uploaded are found before anything is sent.
func checkSources(spec config.Run, dir string) error {
	var wrong []string
	var sets []config.Source
	for _, s := range spec.Decontaminate.Sets {
		sets = append(sets, s.Source())
	}
	for field, sources := range map[string][]config.Source{"seeds": spec.Seeds, "documents": spec.Documents, "decontaminate.sets": sets} {
		for i, s := range sources {
			if !s.Local() {
				continue
			}
			if _, err := runs.LocalFiles(runs.Local(dir, s.Path)); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s[%d].path: %v", field, i, err))
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return usage(strings.Join(wrong, "\n"))
}

// checkContents looks into local sources, so that those without a single usable row are found before anything is sent. A
// source that gives nothing beside others that do is a warning.
func (a *app) checkContents(spec config.Run, dir string, worker config.Worker) error {
	seeds, documents := local(spec.Seeds), local(spec.Documents)
	seedInputs, err := inputs(a.ctx, seeds, dir, worker)
	if err != nil {
		return err
	}
	documentInputs, err := inputs(a.ctx, documents, dir, worker)
	if err != nil {
		return err
	}
	haveSeeds, seedsErr := estimate.HaveSeeds(a.ctx, seedInputs)
	haveDocuments, documentsErr := estimate.HaveDocuments(a.ctx, documentInputs, spec.Segments)
	var wrong error
	for _, part := range []struct {
		err     error
		read    estimate.Counted
		of, all []config.Source
	}{{seedsErr, haveSeeds, seeds, spec.Seeds}, {documentsErr, haveDocuments, documents, spec.Documents}} {
		var empty *estimate.EmptyError
		switch {
		case len(part.of) == 0:
		case errors.As(part.err, &empty) && len(part.of) < len(part.all):
			a.warn("warning: %v", part.err) // what lies elsewhere may have some
		case part.err != nil:
			wrong = errors.Join(wrong, part.err)
		default:
			for _, e := range part.read.Empty {
				a.warn("warning: %v", e)
			}
		}
	}
	return wrong
}

// local returns the sources that are files of this machine.
func local(sources []config.Source) (out []config.Source) {
	for _, s := range sources {
		if s.Local() {
			out = append(out, s)
		}
	}
	return out
}

// checkPrompts reads the templates that a spec names, so that a broken one is found before anything is sent.
func checkPrompts(p config.Prompts, dir string) error {
	texts, err := runs.InlinePrompts(p, dir)
	if err != nil {
		return usage(err.Error())
	}
	for _, t := range []struct{ name, file, text string }{
		{"backtranslate", p.Backtranslate, texts.Backtranslate},
		{"rate", p.Rate, texts.Rate},
	} {
		if t.file == "" {
			continue
		}
		if _, err := prompt.Parse(t.name, t.text); err != nil {
			return usage(fmt.Sprintf("prompts.%s: %s: %v", t.name, t.file, err))
		}
	}
	return nil
}

// uploads returns a function that tells how far uploads are: on a terminal in place, elsewhere once for each source.
func (a *app) uploads() func(runs.UploadProgress) {
	f, isFile := a.err.(*os.File)
	tty := isFile && isatty.IsTerminal(f.Fd())
	var last time.Time
	return func(p runs.UploadProgress) {
		done := p.Files == p.Of && !p.HashingOnly
		if !done && (!tty || time.Since(last) < 100*time.Millisecond) {
			return
		}
		last = time.Now()
		what, start, end := "uploaded", "", "\n"
		switch {
		case p.HashingOnly:
			what = "read"
		case !done:
			what = "uploading"
		}
		if tty {
			start = "\r\x1b[K"
			if !done {
				end = ""
			}
		}
		there := ""
		if p.Skipped > 0 {
			there = fmt.Sprintf(", %s there before", screen.Count(int64(p.Skipped)))
		}
		fmt.Fprintf(a.err, "%s%s %s: %s of %s files, %s of %s%s%s", start, what, filepath.Base(p.Source),
			screen.Count(int64(p.Files)), screen.Count(int64(p.Of)), screen.Bytes(p.Bytes), screen.Bytes(p.OfB), there, end)
	}
}
