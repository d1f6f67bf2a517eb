package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
	"github.com/selfalign/selfalign/internal/intake"
)

const (
	driftExamples = 20  // rows of each kind that are kept to be looked at
	driftText     = 600 // characters of a text in them
)

// DriftInput names the training sets of two iterations.
type DriftInput struct {
	Before dataset.Ref `json:"before"`
	After  dataset.Ref `json:"after"`
	From   int         `json:"from"`
	To     int         `json:"to"`
	Key    string      `json:"key"` // of the object with examples
}

// CompareSets counts which augmented rows came into the curated set and which went out, and keeps examples of both.
func (e *Evals) CompareSets(ctx context.Context, in DriftInput) (eval.Drift, error) {
	beat := newHeart(ctx)
	out := eval.DriftExamples{Drift: eval.Drift{From: in.From, To: in.To, Key: in.Key}}
	row := func(x dataset.Example) eval.DriftRow {
		return eval.DriftRow{ID: x.ID, Instruction: cut(x.Instruction, driftText), Output: cut(x.Output, driftText)}
	}
	for p := range in.After.Partitions() {
		before := map[string]dataset.Example{}
		for x, err := range dataset.RowsOf[dataset.Example](ctx, e.Store, in.Before, in.After.Bits, p) {
			if err != nil {
				return eval.Drift{}, err
			}
			beat.at(1)
			if x.Origin == dataset.OriginAugmented {
				before[x.ID] = x
			}
		}
		for x, err := range dataset.RowsOf[dataset.Example](ctx, e.Store, in.After, in.After.Bits, p) {
			if err != nil {
				return eval.Drift{}, err
			}
			beat.at(1)
			if x.Origin != dataset.OriginAugmented {
				continue
			}
			if _, stays := before[x.ID]; stays {
				delete(before, x.ID)
				out.Kept++
				continue
			}
			out.In++
			if len(out.Entered) < driftExamples {
				r := row(x)
				r.After = x.Score
				out.Entered = append(out.Entered, r)
			}
		}
		out.Out += int64(len(before))
		gone := make([]dataset.Example, 0, len(before))
		for _, x := range before {
			gone = append(gone, x)
		}
		slices.SortFunc(gone, func(a, b dataset.Example) int { return cmp.Compare(a.ID, b.ID) })
		for _, x := range gone[:min(len(gone), driftExamples-len(out.Left))] {
			r := row(x)
			r.Before = x.Score
			out.Left = append(out.Left, r)
		}
	}
	out.Jaccard = eval.Similarity(out.Kept, out.In, out.Out)
	return out.Drift, putJSON(ctx, e.Store, in.Key, out)
}

func cut(s string, chars int) string {
	if r := []rune(s); len(r) > chars {
		return string(r[:chars]) + "…"
	}
	return s
}

// HoldOutInput says how many seeds are held out.
type HoldOutInput struct {
	Seeds dataset.Ref `json:"seeds"`
	N     int         `json:"n"`
}

// HoldOut returns the id of the last of the first N seeds: they and no others have ids up to it. Holding out more than half of
// the seeds needs a person.
func (e *Evals) HoldOut(ctx context.Context, in HoldOutInput) (string, error) {
	defer newHeart(ctx).keep()()
	if int64(2*in.N) > in.Seeds.Rows {
		return "", blocked("setting", fmt.Errorf("gate.holdout is %d, and there are only %d seeds: fewer than half would be trained on", in.N, in.Seeds.Rows),
			"start a new run with a smaller gate.holdout, or with more seeds")
	}
	n := 0
	for s, err := range dataset.Rows[dataset.Seed](ctx, e.Store, in.Seeds) {
		if err != nil {
			return "", err
		}
		if n++; n == in.N {
			return s.ID, nil
		}
	}
	return "", errors.New("hold out: fewer seeds than their dataset says")
}

// SubsetInput says how much of a training set is taken.
type SubsetInput struct {
	Training dataset.Ref `json:"training"`
	Rows     int64       `json:"rows"`
	Output   string      `json:"output"`
	About
}

// TakeSubset writes the first rows of a training set by id: a fair sample, which holds every smaller one.
func (e *Evals) TakeSubset(ctx context.Context, in SubsetInput) (dataset.Ref, error) {
	if _, standing, err := dataset.Open(ctx, e.Store, in.Output); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	if in.Rows > in.Training.Rows {
		return dataset.Ref{}, blocked("setting", fmt.Errorf("a part of %d rows was asked for, and the training set has %d", in.Rows, in.Training.Rows),
			"start again under another name, with sizes up to that")
	}
	beat, taken := newHeart(ctx), int64(0)
	for p := range in.Training.Partitions() {
		var rows []dataset.Example
		if taken < in.Rows {
			whole, err := dataset.ReadPartition[dataset.Example](ctx, e.Store, in.Training.Dir, p)
			if err != nil {
				return dataset.Ref{}, err
			}
			slices.SortFunc(whole, func(a, b dataset.Example) int { return cmp.Compare(a.ID, b.ID) })
			rows = whole[:min(int64(len(whole)), in.Rows-taken)]
		}
		taken += int64(len(rows))
		receipt := dataset.Receipt{Partition: p, Input: int64(len(rows))}
		if _, err := dataset.WritePartition(ctx, e.Store, in.Output, in.Training.Bits, p, rows, nil, receipt); err != nil {
			return dataset.Ref{}, err
		}
		beat.at(int64(len(rows)))
	}
	all, err := dataset.CommitRange(ctx, e.Store, in.Output, 0, in.Training.Partitions())
	if err != nil {
		return dataset.Ref{}, err
	}
	m := dataset.Manifest{
		Kind: dataset.KindTraining, Bits: in.Training.Bits, Run: in.Run, Spec: in.Spec, Iteration: in.Iteration,
		Parents: []dataset.Ref{in.Training}, Input: taken,
	}
	return dataset.Commit(ctx, e.Store, in.Output, m, []dataset.RangeSummary{all})
}

// What a labelled pair is, told in Candidate.Generator and kept by its rating.
const (
	labelledGood = "labelled good"
	labelledBad  = "labelled bad"
)

// LabelledInput names files of labelled pairs.
type LabelledInput struct {
	Sources []config.Source `json:"sources"`
	Output  string          `json:"output"`
	About
}

// WriteLabelled writes labelled pairs as candidates to be rated.
func (e *Evals) WriteLabelled(ctx context.Context, in LabelledInput) (dataset.Ref, error) {
	defer newHeart(ctx).keep()()
	if _, standing, err := dataset.Open(ctx, e.Store, in.Output); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	var rows []dataset.Candidate
	var rejects []dataset.Reject
	seen := map[string]bool{}
	err := read(ctx, e.Sources, in.Sources, func(name string, x intake.Exercise) {
		c := dataset.Candidate{
			Instruction: x.Instruction, Output: x.Output, Generator: labelledBad, Source: name, Document: fmt.Sprint(x.Number), Offset: x.Number - 1,
		}
		c.ID = dataset.PairID(c.Instruction, c.Output)
		good, ok := eval.IsGood(x.Label)
		if good {
			c.Generator = labelledGood
		}
		reason := ""
		switch {
		case c.Instruction == "" || c.Output == "":
			reason = "empty_field"
		case !ok:
			reason = "bad_label"
		case seen[c.ID]:
			reason = "duplicate"
		case len(rows) == maxLabelled:
			reason = "over_limit"
		}
		if reason == "" {
			seen[c.ID] = true
			rows = append(rows, c)
			return
		}
		rejects = append(rejects, dataset.Reject{
			ID: c.ID, Stage: "labelled", Reason: reason, Detail: cut(x.Label, 40), Instruction: c.Instruction, Text: c.Output,
			Source: name, Document: c.Document, Offset: c.Offset,
		})
	})
	if err != nil {
		return dataset.Ref{}, err
	}
	if len(rows) == 0 {
		return dataset.Ref{}, blocked("source", errors.New("the files hold no labelled pairs"), "give objects with instruction, output and label, in a new run")
	}
	return writeWhole(ctx, e.Store, in.Output, in.About, dataset.Manifest{Kind: dataset.KindCandidates}, rows, rejects)
}

const maxLabelled = 5000 // pairs; their pairs are compared with one another

// SelectionInput names a judge's ratings of labelled pairs.
type SelectionInput struct {
	Pairs     dataset.Ref `json:"pairs"`
	Ratings   dataset.Ref `json:"ratings"`
	Before    dataset.Ref `json:"before,omitzero"` // ratings of the same pairs by the judge of the iteration before
	Threshold float64     `json:"threshold"`
	Known     eval.Judged `json:"known"`
}

// MeasureSelection tells how well a judge picks the good pairs, and writes it.
func (e *Evals) MeasureSelection(ctx context.Context, in SelectionInput) (eval.Judged, error) {
	defer newHeart(ctx).keep()()
	m, _, err := dataset.Open(ctx, e.Store, in.Ratings.Dir)
	if err != nil {
		return eval.Judged{}, err
	}
	now, err := e.scores(ctx, in.Ratings)
	if err != nil {
		return eval.Judged{}, err
	}
	var before map[string]float64
	if !in.Before.IsZero() {
		if before, err = e.scores(ctx, in.Before); err != nil {
			return eval.Judged{}, err
		}
	}
	var set []eval.Labelled
	var picked, pickedBefore []int
	pick := func(scores map[string]float64, id string) int {
		if s, ok := scores[id]; ok && s >= in.Threshold {
			return 1
		}
		return 0
	}
	for c, err := range dataset.Rows[dataset.Candidate](ctx, e.Store, in.Pairs) {
		if err != nil {
			return eval.Judged{}, err
		}
		score, rated := now[c.ID]
		set = append(set, eval.Labelled{Good: c.Generator == labelledGood, Rated: rated, Score: score})
		picked, pickedBefore = append(picked, pick(now, c.ID)), append(pickedBefore, pick(before, c.ID))
	}
	out := in.Known
	out.Format, out.Selection, out.ParseRate = 1, eval.Select(set, in.Threshold), m.Answers.ParseRate()
	if before != nil {
		a := eval.Agree(picked, pickedBefore)
		out.WithPrevious = &a
	}
	return out, putJSON(ctx, e.Store, out.Key, out)
}

func (e *Evals) scores(ctx context.Context, ratings dataset.Ref) (map[string]float64, error) {
	out := map[string]float64{}
	for r, err := range dataset.Rows[dataset.Rating](ctx, e.Store, ratings) {
		if err != nil {
			return nil, err
		}
		out[r.ID] = r.Score
	}
	return out, nil
}

// FitInput is what the parts of a training set came to.
type FitInput struct {
	Points []eval.Point `json:"points"`
	Known  eval.Scaled  `json:"known"`
}

// FitScaling fits the scaling line, and writes it.
func (e *Evals) FitScaling(ctx context.Context, in FitInput) (eval.Scaled, error) {
	defer newHeart(ctx).keep()()
	line, err := eval.FitScaling(in.Points)
	if err != nil {
		return eval.Scaled{}, blocked("setting", err, "start again under another name, with other sizes")
	}
	out := in.Known
	out.Format, out.Scaling = 1, line
	return out, putJSON(ctx, e.Store, out.Key, out)
}
