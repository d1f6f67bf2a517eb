package finetune

import "math"

// Hyper is how a model is trained. A zero field leaves the choice to the trainer.
type Hyper struct {
	Epochs          float64 `json:"epochs"`            // passes over the examples
	Steps           int     `json:"steps"`             // optimiser steps; wins over Epochs where a trainer knows both
	BatchSize       int     `json:"batch_size"`        // examples in a step
	LearningRate    float64 `json:"learning_rate"`     // at the first step
	LearningRateEnd float64 `json:"learning_rate_end"` // at the last step, reached in a straight line
	WeightDecay     float64 `json:"weight_decay"`
	Dropout         float64 `json:"dropout"`
}

// SmallSet is the number of examples under which the paper trains with batches of 8 instead of 32.
const SmallSet = 3000

// published is the paper's table of examples, batch size and steps (appendix A of arXiv 2308.06259).
var published = []struct{ examples, batch, steps int }{
	{100, 8, 30},
	{800, 8, 300},
	{1600, 8, 600},
	{3200, 32, 500},
	{6400, 32, 600},
	{12800, 32, 600},
	{25600, 32, 1200},
	{51200, 32, 1600},
}

// PaperHyper returns the paper's recipe for n training examples: learning rate 1e-5 falling in a straight line to
// 9e-6, weight decay 0.1, dropout 0.1, batches of 32 (8 under SmallSet examples).
//
// The published table gives steps for eight sizes. These rows are met exactly. Between two rows the number of
// passes over the data (steps × batch ÷ examples) is interpolated on a straight line over log N, since steps
// themselves jump where the batch size does. Beyond the table's ends the passes of the nearest row hold: 2.4
// under 100 examples, 1 over 51,200. There is always at least one step; n below 1 counts as 1.
func PaperHyper(n int64) Hyper {
	n = max(n, 1)
	batch := 32
	if n < SmallSet {
		batch = 8
	}
	steps := max(1, int(math.Round(passes(float64(n))*float64(n)/float64(batch))))
	return Hyper{
		Epochs:          float64(steps*batch) / float64(n),
		Steps:           steps,
		BatchSize:       batch,
		LearningRate:    1e-5,
		LearningRateEnd: 9e-6,
		WeightDecay:     0.1,
		Dropout:         0.1,
	}
}

// Passes returns how often a training goes over so many examples; 0 where the recipe leaves it open.
func (h Hyper) Passes(examples int64) float64 {
	if h.Steps > 0 && h.BatchSize > 0 && examples > 0 {
		return float64(h.Steps) * float64(h.BatchSize) / float64(examples)
	}
	return h.Epochs
}

// passes returns how often the paper's recipe goes over n examples.
func passes(n float64) float64 {
	of := func(i int) float64 {
		r := published[i]
		return float64(r.steps*r.batch) / float64(r.examples)
	}
	last := len(published) - 1
	if n <= float64(published[0].examples) {
		return of(0)
	}
	for i := range last {
		from, to := float64(published[i].examples), float64(published[i+1].examples)
		if n > to {
			continue
		}
		share := math.Log(n/from) / math.Log(to/from)
		return of(i) + share*(of(i+1)-of(i))
	}
	return of(last)
}

// Override returns h with every field of by that is not zero in its place. Giving epochs without steps, or a
// batch size alone, drops the paper's steps, which would contradict them.
func (h Hyper) Override(by Hyper) Hyper {
	if by.Steps == 0 && (by.Epochs != 0 || by.BatchSize != 0) {
		h.Steps = 0
	}
	if by.Steps != 0 && by.Epochs == 0 {
		h.Epochs = 0
	}
	set := func(to *float64, v float64) {
		if v != 0 {
			*to = v
		}
	}
	set(&h.Epochs, by.Epochs)
	set(&h.LearningRate, by.LearningRate)
	set(&h.LearningRateEnd, by.LearningRateEnd)
	set(&h.WeightDecay, by.WeightDecay)
	set(&h.Dropout, by.Dropout)
	if by.Steps != 0 {
		h.Steps = by.Steps
	}
	if by.BatchSize != 0 {
		h.BatchSize = by.BatchSize
	}
	if h.LearningRateEnd > h.LearningRate {
		h.LearningRateEnd = h.LearningRate
	}
	return h
}
