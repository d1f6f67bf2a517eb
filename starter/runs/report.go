package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/report"
	"github.com/selfalign/selfalign/workflows"
)

// buildDeadline bounds the making of a report: it reads a bounded sample, whatever the size of the run.
const buildDeadline = 10 * time.Minute

// ReportData makes the report of a run as far as it has come: of what its workflow says, or its records in S3, and of the datasets
// and evaluations that stand. Of an evaluation it is what its worker wrote at its end. Errors: ErrNotFound.
func (c *Client) ReportData(ctx context.Context, run string, opt report.Options) (report.Data, error) {
	seen, err := c.Watch(ctx, run)
	if err != nil {
		return report.Data{}, err
	}
	var written report.Data
	err = c.getJSON(ctx, activities.ReportDataKey(run), &written)
	stands := err == nil && written.Format == 1
	if err != nil && !errors.Is(err, ErrNotFound) {
		return report.Data{}, err
	}
	if seen.Recipe != "" && seen.Recipe != workflows.RecipeScore {
		if of, _, part := strings.Cut(run, "/eval/"); !stands && part && seen.Recipe == workflows.RecipeEvaluate {
			return written, fmt.Errorf("%s: %w as a report of its own: its results stand in that of its run. Try: starter report %s", run, ErrNotFound, of)
		}
		if !stands {
			return written, fmt.Errorf("run %s: report %w; it is written at the end. Try: starter watch %s", run, ErrNotFound, run)
		}
		return written, nil
	}
	known := written.Input
	if !stands || !seen.Ended() || written.Phase != seen.Phase {
		if seen.Recipe == workflows.RecipeScore {
			known, err = c.scoreReportInput(ctx, run, seen)
		} else {
			known, err = c.reportInput(ctx, run, seen, written.Input)
		}
		if err != nil {
			return report.Data{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, buildDeadline)
	defer cancel()
	d, err := report.Build(ctx, c.Store, known, opt)
	if err != nil {
		return d, c.storeError(err)
	}
	return d, nil
}

// reportInput puts together what a worker would tell the report.
func (c *Client) reportInput(ctx context.Context, run string, seen Seen, written report.Input) (report.Input, error) {
	var record workflows.SelfTrainInput
	if err := c.getJSON(ctx, recordKey(run), &record); err != nil {
		return report.Input{}, err
	}
	states, err := c.states(ctx, run)
	if err != nil {
		return report.Input{}, err
	}
	newest := -1
	for n := range states {
		newest = max(newest, n)
	}
	var state workflows.State
	switch {
	case newest >= 0:
		err = c.getJSON(ctx, states[newest], &state)
	case record.Resume != nil:
		state = *record.Resume
	default:
		err = c.firstSets(ctx, run, &state)
	}
	if err != nil {
		return report.Input{}, err
	}
	if len(written.Trainings) > len(state.Trainings) {
		state.Trainings = written.Trainings
	}
	in := activities.ReportInput{Known: workflows.ReportInput(seen.Status, state, record.Spec, record.Digest, time.Now()), Spec: record.Spec}
	if seen.Note != "" && in.Known.Message == "" {
		in.Known.Message = seen.Note
	}
	if seen.Ended() {
		in.Known.EndedAt = seen.UpdatedAt
	} else if err := c.beingRated(ctx, run, seen, &in.Known); err != nil {
		return report.Input{}, err
	}
	return in.Complete(c.UI, c.Namespace)
}

// scoreReportInput is reportInput of the generate-and-score recipe.
func (c *Client) scoreReportInput(ctx context.Context, run string, seen Seen) (report.Input, error) {
	var record workflows.ScoreInput
	if err := c.getJSON(ctx, recordKey(run), &record); err != nil {
		return report.Input{}, err
	}
	var ratings dataset.Ref
	if err := c.standing(ctx, fmt.Sprintf("runs/%s/00/%s", run, dataset.KindRatings), &ratings); err != nil {
		return report.Input{}, err
	}
	var made report.Recipe
	for _, kind := range []dataset.Kind{dataset.KindPrompts, dataset.KindResponses, dataset.KindCurated} {
		var ref dataset.Ref
		if err := c.standing(ctx, fmt.Sprintf("runs/%s/00/%s", run, kind), &ref); err != nil {
			return report.Input{}, err
		}
		made.Add(ref)
	}
	in := workflows.ScoreReport(seen.Status, record.Spec, record.Digest, ratings, made, time.Now())
	if seen.Note != "" && in.Known.Message == "" {
		in.Known.Message = seen.Note
	}
	if seen.Ended() {
		in.Known.EndedAt = seen.UpdatedAt
	}
	return in.Complete(c.UI, c.Namespace)
}

// firstSets finds what stands before the first iteration, of which no state tells yet.
func (c *Client) firstSets(ctx context.Context, run string, state *workflows.State) error {
	for kind, ref := range map[dataset.Kind]*dataset.Ref{
		dataset.KindSeeds: &state.Seeds, dataset.KindSegments: &state.Segments, dataset.KindCandidates: &state.Candidates, dataset.KindTraining: &state.Base,
	} {
		if err := c.standing(ctx, fmt.Sprintf("runs/%s/00/%s", run, kind), ref); err != nil {
			return err
		}
	}
	return nil
}

// beingRated adds the ratings of an iteration that has not ended.
func (c *Client) beingRated(ctx context.Context, run string, seen Seen, known *report.Input) error {
	if seen.Iteration < 1 || known.Rounds[len(known.Rounds)-1].Iteration >= seen.Iteration {
		return nil
	}
	round := report.Round{Iteration: seen.Iteration, Threshold: known.Threshold, Calibration: seen.Calibration}
	if err := c.standing(ctx, fmt.Sprintf("runs/%s/%02d/%s", run, seen.Iteration, dataset.KindRatings), &round.Ratings); err != nil {
		return err
	}
	if !round.Ratings.IsZero() {
		known.Rounds = append(known.Rounds, round)
	}
	return nil
}

// standing sets ref to the dataset in a folder, where there is one.
func (c *Client) standing(ctx context.Context, dir string, ref *dataset.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	_, found, err := dataset.Open(ctx, c.Store, dir)
	if err = c.storeError(err); errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		*ref = found
	}
	return err
}

// Asked returns the spec of a run of any recipe, and what updates changed while it went on.
func (c *Client) Asked(ctx context.Context, run string) (report.Spec, error) {
	body, err := c.specJSON(ctx, run)
	if err != nil {
		return report.Spec{}, err
	}
	seen, err := c.Status(ctx, run)
	return report.Spec{JSON: body, Set: inForce(seen.Set)}, err
}

// inForce names the fields of a spec that updates changed, and to what.
func inForce(s *workflows.Settings) map[string]string {
	out := map[string]string{}
	if s == nil {
		return out
	}
	if b := s.Budget; b != nil {
		out["budget.usd"], out["budget.calls"], out["budget.tokens"] = fmt.Sprint(b.USD), fmt.Sprint(b.Calls), fmt.Sprint(b.Tokens)
	}
	if n := s.InFlight; n != nil {
		out["augment.in_flight"], out["rate.in_flight"] = fmt.Sprint(*n), fmt.Sprint(*n)
	}
	if k := s.Threshold; k != nil {
		out["curate.threshold"] = fmt.Sprint(*k)
	}
	if n := s.Iterations; n != nil {
		out["iterations"] = fmt.Sprint(*n)
	}
	return out
}

func (c *Client) specJSON(ctx context.Context, run string) (json.RawMessage, error) {
	var in struct {
		Spec  json.RawMessage `json:"spec"`
		Score json.RawMessage `json:"score"`
	}
	if err := c.getJSON(ctx, recordKey(run), &in); err != nil {
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("run %s: %w. Try: starter list", run, ErrNotFound)
		}
		return nil, err
	}
	if len(in.Score) > 0 {
		return in.Score, nil
	}
	return in.Spec, nil
}
