package runs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/workflows"
)

// EvaluationDigest names the spec of an evaluation by its content.
func EvaluationDigest(e config.Evaluation) string {
	body, err := json.Marshal(e)
	if err != nil { // only NaN and infinities cannot be marshalled, and Validate refuses both
		body = fmt.Appendf(nil, "%#v", e)
	}
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// PrepareEvaluation uploads the local sources of a spec, relative to dir, and resolves the iterations that it names to the models
// that stand. Errors: ErrNotFound where a run or its model is not there.
func (c *Client) PrepareEvaluation(ctx context.Context, spec config.Evaluation, dir string, progress func(UploadProgress)) (workflows.EvaluateInput, error) {
	lists := []*[]config.Source{&spec.Prompts, &spec.Model.Outputs, &spec.Baseline.Outputs}
	if err := c.uploadAll(ctx, lists, dir, progress); err != nil {
		return workflows.EvaluateInput{}, err
	}
	in := workflows.EvaluateInput{Spec: spec, Digest: EvaluationDigest(spec), Queue: c.Queue, Withdraw: true, Preflight: true}
	var err error
	if in.Baseline, err = c.side(ctx, spec.Baseline, spec.Run); err != nil {
		return in, err
	}
	if in.Judge, err = c.side(ctx, spec.Judge, spec.Run); err != nil {
		return in, err
	}
	if spec.Scaling == nil {
		if in.Model, err = c.side(ctx, spec.Model, spec.Run); err != nil {
			return in, err
		}
	} else {
		run, err := c.Spec(ctx, spec.Run)
		if err != nil {
			return in, err
		}
		in.Trains = run.Model
		set, err := c.set(ctx, spec.Run, spec.Scaling.Iteration)
		if err != nil {
			return in, err
		}
		in.Training = set.Training
		if largest := spec.Scaling.Sizes[len(spec.Scaling.Sizes)-1]; int64(largest) > set.Training.Rows {
			return in, &ConflictError{
				What: fmt.Sprintf("the training set of iteration %d has %d rows, fewer than the largest size, %d", spec.Scaling.Iteration, set.Training.Rows, largest),
				Try:  "smaller sizes",
			}
		}
	}
	if spec.SeedPrompts {
		_, in.Seeds, err = dataset.Open(ctx, c.Store, fmt.Sprintf("runs/%s/00/%s", spec.Run, dataset.KindSeeds))
		if err != nil {
			return in, c.storeError(err)
		}
	}
	in.Serving, err = c.lent(ctx, in.Model, in.Baseline, in.Judge)
	return in, err
}

// lent returns how the models of runs among these are deployed, where they have to be.
func (c *Client) lent(ctx context.Context, models ...workflows.NamedModel) ([]workflows.Serving, error) {
	var out []workflows.Serving
	for _, m := range models {
		if m.Run == "" || slices.ContainsFunc(out, func(s workflows.Serving) bool { return s.Model == m.Model }) {
			continue
		}
		seen, err := c.Status(ctx, m.Run)
		if err != nil {
			return nil, err
		}
		for _, s := range seen.Serving {
			if s.Model == m.Model {
				s.Again, s.Left = false, "" // the evaluation has not touched it yet
				out = append(out, s)
				break
			}
		}
	}
	return out, nil
}

// side resolves a model by provider and name, or by run and iteration.
func (c *Client) side(ctx context.Context, s config.Side, run string) (workflows.NamedModel, error) {
	switch {
	case s.Provider != "":
		return workflows.NamedModel{
			Label: s.Provider + "/" + s.Model, Model: dataset.ModelRef{Provider: s.Provider, Name: s.Model, Revision: s.Model},
		}, nil
	case s.Iteration < 0:
		return workflows.NamedModel{}, nil // outputs
	}
	of := cmp.Or(s.Run, run)
	label := fmt.Sprintf("M%d", s.Iteration)
	if of != run {
		label += " of " + of
	}
	model, err := c.modelOf(ctx, of, s.Iteration)
	return workflows.NamedModel{Label: label, Model: model, Run: of}, err
}

// modelOf returns Mt of a run.
func (c *Client) modelOf(ctx context.Context, run string, t int) (dataset.ModelRef, error) {
	if t == 0 {
		states, err := c.states(ctx, run)
		if err != nil {
			return dataset.ModelRef{}, err
		}
		var state workflows.State
		if key, ok := states[1]; ok {
			err = c.getJSON(ctx, key, &state)
		} else {
			var record workflows.SelfTrainInput
			if err = c.getJSON(ctx, recordKey(run), &record); err == nil && record.Resume != nil { // a fork brings it along
				state = *record.Resume
			}
		}
		if err != nil {
			return dataset.ModelRef{}, err
		}
		if len(state.Models) > 0 {
			return state.Models[0], nil
		}
		return dataset.ModelRef{}, fmt.Errorf("run %s has no M0: %w. A run with a fixed judge trains it only for a gate or an evaluation", run, ErrNotFound)
	}
	set, err := c.set(ctx, run, t)
	if err == nil && set.Model == (dataset.ModelRef{}) {
		err = fmt.Errorf("run %s trained no model in iteration %d: %w", run, t, ErrNotFound)
	}
	return set.Model, err
}

// set returns what an iteration made.
func (c *Client) set(ctx context.Context, run string, t int) (workflows.IterationSummary, error) {
	seen, err := c.Status(ctx, run)
	if err != nil {
		return workflows.IterationSummary{}, err
	}
	for _, s := range seen.Sets {
		if s.Iteration == t {
			return s, nil
		}
	}
	return workflows.IterationSummary{}, fmt.Errorf("run %s has not finished iteration %d: %w. Try: starter watch %s", run, t, ErrNotFound, run)
}

// StartEvaluation records an evaluation and starts its workflow. It is idempotent, as Start is.
func (c *Client) StartEvaluation(ctx context.Context, in workflows.EvaluateInput) (Started, error) {
	id := workflows.EvaluationID(in.Spec)
	return launch(ctx, c, id, workflows.TypeEvaluate, in, in.Digest, evaluationSummary, func(standing workflows.EvaluateInput) error {
		if standing.Digest == in.Digest {
			return nil
		}
		return &ConflictError{
			What: "there is an evaluation " + id + " with another spec",
			Try:  "another name; answers that were paid for are used again, whatever it is called",
		}
	})
}

func evaluationSummary(in workflows.EvaluateInput) string {
	model := cmp.Or(in.Model.Label, "outputs")
	if s := in.Spec.Scaling; s != nil {
		model = fmt.Sprintf("parts of iteration %d", s.Iteration)
	}
	return fmt.Sprintf("%s against %s, compared by %s", model, cmp.Or(in.Baseline.Label, "outputs"), in.Judge.Label)
}
