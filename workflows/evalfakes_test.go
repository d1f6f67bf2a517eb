package workflows

import (
	"context"
	"fmt"
	"strings"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// fakeEvals stands in for the activities of evaluations.
type fakeEvals struct{ w *world }

func (f *fakeEvals) made(kind dataset.Kind, dir string, rows int64) dataset.Ref {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	ref := dataset.Ref{Kind: kind, Dir: dir, Rows: rows, Digest: dir}
	f.w.evaluated = append(f.w.evaluated, dir)
	return ref
}

func (f *fakeEvals) WritePrompts(_ context.Context, in activities.PromptsInput) (dataset.Ref, error) {
	return f.made(dataset.KindPrompts, in.Output, 10), nil
}

func (f *fakeEvals) ImportOutputs(_ context.Context, in activities.OutputsInput) (dataset.Ref, error) {
	return f.made(dataset.KindResponses, in.Output, 10), nil
}

func (f *fakeEvals) PairOutputs(_ context.Context, in activities.PairInput) (dataset.Ref, error) {
	return f.made(dataset.KindComparisons, in.Output, 10), nil
}

func (f *fakeEvals) MeasureContest(_ context.Context, in activities.ContestInput) (eval.Result, error) {
	out := in.Known
	rate := 0.5
	if f.w.rate != nil {
		rate = f.w.rate(out)
	}
	out.WinRate = eval.WinRate{N: 100, Rate: rate, Low: rate - 0.1, High: rate + 0.1}
	return out, nil
}

func (f *fakeEvals) HoldOut(_ context.Context, in activities.HoldOutInput) (string, error) {
	return fmt.Sprintf("%032d", in.N), nil
}

func (f *fakeEvals) CompareSets(_ context.Context, in activities.DriftInput) (eval.Drift, error) {
	return eval.Drift{From: in.From, To: in.To, Kept: 9, In: 1, Jaccard: f.w.jaccard}, nil
}

func (f *fakeEvals) TakeSubset(_ context.Context, in activities.SubsetInput) (dataset.Ref, error) {
	return f.made(dataset.KindTraining, in.Output, in.Rows), nil
}

func (f *fakeEvals) WriteLabelled(_ context.Context, in activities.LabelledInput) (dataset.Ref, error) {
	return f.made(dataset.KindCandidates, in.Output, 4), nil
}

func (f *fakeEvals) MeasureSelection(_ context.Context, in activities.SelectionInput) (eval.Judged, error) {
	out := in.Known
	out.Threshold = in.Threshold
	if !in.Before.IsZero() {
		out.WithPrevious = &eval.Agreement{N: 4}
	}
	return out, nil
}

func (f *fakeEvals) FitScaling(_ context.Context, in activities.FitInput) (eval.Scaled, error) {
	line, err := eval.FitScaling(in.Points)
	out := in.Known
	out.Scaling = line
	return out, err
}

// made reports whether an evaluation made something in a folder with this ending.
func (w *world) has(ending string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, dir := range w.evaluated {
		if strings.HasSuffix(dir, ending) {
			return true
		}
	}
	return false
}
