package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/publish"
	"github.com/selfalign/selfalign/workflows"
)

// Publishable makes, or finds, the export of a run, and the facts of its card. A generate-and-score run has its export already. Of a
// self-training run the curated set of an iteration (the newest when negative) becomes the default config, beside all
// candidates and the seeds. Errors: ErrNotFound while the run has not come that far.
func (c *Client) Publishable(ctx context.Context, run string, iteration int) (publish.Export, publish.Facts, error) {
	seen, err := c.Status(ctx, run)
	if err != nil {
		return publish.Export{}, publish.Facts{}, err
	}
	if seen.Recipe == workflows.RecipeScore {
		e, err := publish.Open(ctx, c.Store, "runs/"+run+"/export")
		if err != nil {
			if err = c.storeError(err); errors.Is(err, ErrNotFound) {
				err = fmt.Errorf("run %s: results %w; it is %s. Try: starter watch %s", run, ErrNotFound, seen.Phase, run)
			}
			return e, publish.Facts{}, err
		}
		facts, err := c.scoreFacts(ctx, run, seen)
		return e, facts, err
	}
	return c.trainingExport(ctx, run, iteration, seen)
}

// scoreFacts are the facts of a card for a push beside the one that the run itself made.
func (c *Client) scoreFacts(ctx context.Context, run string, seen Seen) (publish.Facts, error) {
	var in workflows.ScoreInput
	if err := c.getJSON(ctx, recordKey(run), &in); err != nil {
		return publish.Facts{}, err
	}
	facts := workflows.ScoreFacts(in.Spec, seen.Results)
	commit, err := publish.CommitOf(ctx, c.Store, facts.Steps)
	if err != nil {
		return facts, c.storeError(err)
	}
	in.Spec.Load = in.Spec.Load.At(commit)
	return facts, c.storeError(facts.Complete(ctx, c.Store, "score.yaml", in.Spec))
}

func (c *Client) trainingExport(ctx context.Context, run string, iteration int, seen Seen) (publish.Export, publish.Facts, error) {
	fail := func(err error) (publish.Export, publish.Facts, error) { return publish.Export{}, publish.Facts{}, err }
	if len(seen.Sets) == 0 {
		return fail(fmt.Errorf("run %s: curated set %w; it is %s. Try: starter watch %s", run, ErrNotFound, seen.Phase, run))
	}
	at := slices.IndexFunc(seen.Sets, func(s workflows.IterationSummary) bool { return s.Iteration == iteration })
	if iteration < 0 {
		at = len(seen.Sets) - 1
	}
	if at < 0 {
		return fail(fmt.Errorf("run %s: curated set of iteration %d %w", run, iteration, ErrNotFound))
	}
	set := seen.Sets[at]
	have, err := c.Datasets(ctx, run, set.Iteration)
	if err != nil {
		return fail(err)
	}
	spec, err := c.Spec(ctx, run)
	if err != nil {
		return fail(err)
	}
	leaves := []publish.Leaf{{Config: "curated", Default: true, Dataset: set.Training, Origin: dataset.OriginAugmented}}
	if ref, ok := have[dataset.KindCandidates]; ok {
		leaves = append(leaves, publish.Leaf{Config: "augmented", Dataset: ref})
	}
	if ref, ok := have[dataset.KindSeeds]; ok {
		leaves = append(leaves, publish.Leaf{Config: "seeds", Dataset: ref})
	}
	e, err := publish.Write(ctx, c.Store, fmt.Sprintf("runs/%s/%02d/export", run, set.Iteration), leaves, true, func() {})
	if err != nil {
		return fail(err)
	}
	facts := workflows.TrainFacts(run, spec, []workflows.IterationSummary{set}, seen.Distilled,
		have[dataset.KindSeeds], have[dataset.KindSegments], have[dataset.KindCandidates])
	facts.Title = fmt.Sprintf("%s, iteration %d", run, set.Iteration)
	facts.About += " The config `curated` holds the selected pairs, `augmented` all that were generated, `seeds` the human-written pairs that the models were trained on first."
	return e, facts, c.storeError(facts.Complete(ctx, c.Store, "run.yaml", spec))
}

// DownloadExport writes an export and its card to a folder: Parquet, or JSONL, which is made where the export has none. Each file
// appears whole or not at all.
func (c *Client) DownloadExport(ctx context.Context, e publish.Export, facts publish.Facts, folder string, jsonl bool) (int, error) {
	if jsonl && !slices.ContainsFunc(e.Files, func(f publish.File) bool { return f.JSONL }) {
		var err error
		if e, err = publish.Write(ctx, c.Store, e.Dir+"-jsonl", e.Leaves, true, func() {}); err != nil {
			return 0, c.storeError(err)
		}
	}
	facts.JSONL = jsonl
	card, err := publish.Card(ctx, c.Store, e, facts)
	if err != nil {
		return 0, c.storeError(err)
	}
	readme, err := card.README()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range e.Files {
		if f.JSONL != jsonl {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
			return n, fmt.Errorf("export names the file %q", f.Path)
		}
		if err := c.Download(ctx, f.Key, filepath.Join(folder, filepath.FromSlash(f.Path))); err != nil {
			return n, err
		}
		n++
	}
	return n, WriteFile(filepath.Join(folder, "README.md"), func(w io.Writer) error {
		_, err := w.Write(readme)
		return err
	})
}
