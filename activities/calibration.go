package activities

import (
	"context"
	"errors"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// What a pair of a calibration is, told in Candidate.Generator and kept by its rating.
const (
	pairOfSeed   = "seed pair"
	shuffledPair = "shuffled pair"
)

// CalibrationInput says which pairs a judge is tried out on.
type CalibrationInput struct {
	Seeds     dataset.Ref `json:"seeds"`
	Pairs     int         `json:"pairs"` // seed pairs at most; about as many shuffled ones are added
	Output    string      `json:"output"`
	Run       string      `json:"run"`
	Spec      string      `json:"spec"` // digest
	Iteration int         `json:"iteration"`
}

// PairCalibration writes the dataset that a judge is tried out on: the first seed pairs by id, which are a fair sample
// since ids are digests, and instructions of these with another's output. Fewer than two seed pairs make none: the
// reference is then zero.
func (s *Sets) PairCalibration(ctx context.Context, in CalibrationInput) (dataset.Ref, error) {
	_, standing, err := dataset.Open(ctx, s.Store, in.Output)
	if !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	var seeds []dataset.Seed
	for seed, err := range dataset.Rows[dataset.Seed](ctx, s.Store, in.Seeds) {
		if err != nil {
			return dataset.Ref{}, err
		}
		if len(seeds) == in.Pairs {
			break
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) < 2 {
		return dataset.Ref{}, nil
	}
	rows := calibrationPairs(seeds)
	if _, err := dataset.WritePartition(ctx, s.Store, in.Output, 0, 0, rows, nil, dataset.Receipt{Input: int64(len(rows))}); err != nil {
		return dataset.Ref{}, err
	}
	all, err := dataset.CommitRange(ctx, s.Store, in.Output, 0, 1)
	if err != nil {
		return dataset.Ref{}, err
	}
	m := dataset.Manifest{
		Kind: dataset.KindCandidates, Run: in.Run, Spec: in.Spec, Iteration: in.Iteration,
		Parents: []dataset.Ref{in.Seeds}, Input: int64(len(rows)),
	}
	return dataset.Commit(ctx, s.Store, in.Output, m, []dataset.RangeSummary{all})
}

// calibrationPairs returns the seeds' pairs and, for each instruction, one with the output of the next seed that makes
// a pair which is not true by chance.
func calibrationPairs(seeds []dataset.Seed) []dataset.Candidate {
	var rows []dataset.Candidate
	used := map[string]bool{}
	add := func(instruction, output dataset.Seed, kind string) bool {
		id := dataset.PairID(instruction.Instruction, output.Output)
		if used[id] {
			return false
		}
		used[id] = true
		rows = append(rows, dataset.Candidate{
			ID: id, Instruction: instruction.Instruction, Output: output.Output, Generator: kind,
			Source: output.Source, Document: output.Document, Offset: output.Offset,
		})
		return true
	}
	for _, s := range seeds {
		add(s, s, pairOfSeed)
	}
	for i, s := range seeds {
		for k := 1; k < len(seeds); k++ {
			other := seeds[(i+k)%len(seeds)]
			if other.Instruction != s.Instruction && other.Output != s.Output && add(s, other, shuffledPair) {
				break
			}
		}
	}
	return rows
}

// MeasureInput says which ratings tell how good a judge is.
type MeasureInput struct {
	Pairs      dataset.Ref `json:"pairs"`   // as PairCalibration made them
	Ratings    dataset.Ref `json:"ratings"` // of these
	Threshold  float64     `json:"threshold"`
	OnTraining bool        `json:"on_training"` // the judge was trained on the seed pairs
}

// MeasureCalibration compares the ratings of good pairs with those of bad ones.
func (s *Sets) MeasureCalibration(ctx context.Context, in MeasureInput) (eval.Calibration, error) {
	m, _, err := dataset.Open(ctx, s.Store, in.Ratings.Dir)
	if err != nil {
		return eval.Calibration{}, err
	}
	count, scores := map[string]int64{}, map[string][]float64{}
	for c, err := range dataset.Rows[dataset.Candidate](ctx, s.Store, in.Pairs) {
		if err != nil {
			return eval.Calibration{}, err
		}
		count[c.Generator]++
	}
	for r, err := range dataset.Rows[dataset.Rating](ctx, s.Store, in.Ratings) {
		if err != nil {
			return eval.Calibration{}, err
		}
		scores[r.Generator] = append(scores[r.Generator], r.Score)
	}
	c := eval.Calibrate(scores[pairOfSeed], scores[shuffledPair], count[pairOfSeed], count[shuffledPair], in.Threshold)
	c.ParseRate, c.OnTraining = m.Answers.ParseRate(), in.OnTraining
	return c, nil
}
