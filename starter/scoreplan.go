package main

import (
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/starter/estimate"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
)

// isScore reports whether a file is a spec of the generate-and-score recipe: what it loads, and what scores it.
func isScore(path string) bool { return has(path, "load", "score") }

// isTraining reports whether a file is a spec of a self-training run.
func isTraining(path string) bool { return has(path, "seeds", "documents") }

// has reports whether a YAML file has all of these fields at its top.
func has(path string, fields ...string) bool {
	body, err := os.ReadFile(path)
	if err != nil || len(body) > 1<<20 {
		return false // whoever reads it for good says why
	}
	var top map[string]any
	if yaml.Unmarshal(body, &top) != nil {
		return false
	}
	for _, f := range fields {
		if top[f] == nil {
			return false
		}
	}
	return true
}

// loadSource is what a recipe loads, as a source.
func loadSource(l config.Load) config.Source {
	return config.Source{Path: l.Path, Format: l.Format, Language: "any", Config: l.Config, Split: l.Split, Revision: l.Revision}
}

// planScore is plan of the generate-and-score recipe.
func (c *planCmd) planScore(a *app) error {
	spec, err := config.LoadScore(c.File, c.overrides()...)
	if err != nil {
		return err
	}
	worker, err := c.settings.load()
	if err != nil {
		return err
	}
	if err := config.In(c.File, config.CheckScoreTogether(spec, worker)); err != nil {
		return err
	}
	dir := filepath.Dir(c.File)
	if err := checkScoreFiles(spec, dir); err != nil {
		return err
	}
	in, err := inputs(a.ctx, []config.Source{loadSource(spec.Load)}, dir, worker)
	if err != nil {
		return err
	}
	counted, err := estimate.CountPrompts(a.ctx, in[0], spec.Load, spec.Generate == nil)
	if err != nil {
		return err
	}
	texts, err := runs.InlineScorePrompts(spec.Prompts, dir)
	if err != nil {
		return err
	}
	var overhead estimate.ScorePrompts
	if overhead.Respond, err = templateTokens(prompt.Respond, texts.Respond); err != nil {
		return err
	}
	rate := prompt.Rate
	if spec.Score.Rubric == config.RubricAdditive {
		rate = prompt.RateAdditive
	}
	if overhead.Score, err = templateTokens(rate, texts.Score); err != nil {
		return err
	}
	plan := estimate.MakeScore(spec, worker, counted.Texts, overhead)
	if c.JSON {
		return a.print(struct {
			estimate.Plan
			PromptsRead estimate.Counted `json:"prompts_read"`
		}{plan, counted})
	}
	a.say("plan of %s (nothing was asked or spent)\n", plan.Run)
	a.say("prompts    %s in %s, %s, %.0f + %.0f tokens each; %s rejected\n", screen.Count(counted.Rows), plural(int64(counted.Files), "file"), screen.Bytes(counted.Bytes),
		counted.Instruction, counted.Output, plural(counted.Rejected, "record"))
	return a.printStages(plan)
}
