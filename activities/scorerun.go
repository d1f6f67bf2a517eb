package activities

import (
	"context"
	"fmt"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/internal/stage"
)

// PreflightScore is Preflight of the generate-and-score recipe.
func (r *Runs) PreflightScore(ctx context.Context, spec config.Score) error {
	defer newHeart(ctx).keep()()
	if err := config.CheckScoreTogether(spec, r.Settings); err != nil {
		return blocked("setting", err, "mend the settings of the workers and restart them, then retry")
	}
	if err := r.Store.Check(ctx); err != nil {
		return blocked("store", err, "make the bucket writable for the workers, then retry")
	}
	for _, t := range []struct{ task, text string }{{stage.TaskRespond, spec.Prompts.Respond}, {stage.TaskRate, spec.Prompts.Score}} {
		if t.text == "" {
			continue
		}
		if _, err := prompt.Parse(t.task, t.text); err != nil {
			return blocked("setting", fmt.Errorf("prompts: %w", err), "start a new run with the template mended")
		}
	}
	for _, m := range spec.ModelsAsked() {
		if err := r.checkModel(ctx, m.Provider, m.Model); err != nil {
			return err
		}
	}
	if g := spec.Generate; g != nil {
		if err := r.checkBatches(ctx, g.Provider, g.Model, g.Sampling); err != nil {
			return err
		}
	}
	return r.checkBatches(ctx, spec.Score.Provider, spec.Score.Model, spec.Score.Sampling)
}
