package activities

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/eval"
)

func seedRows(n int) (rows []dataset.Seed) {
	for i := range n {
		s := dataset.Seed{Instruction: fmt.Sprintf("Question %d?", i), Output: fmt.Sprintf("Answer %d.", i), Source: "test", Offset: int64(i)}
		s.ID = dataset.PairID(s.Instruction, s.Output)
		rows = append(rows, s)
	}
	return rows
}

// writeOne writes a dataset of one partition.
func writeOne[T dataset.Row](t *testing.T, st *blob.Store, kind dataset.Kind, dir string, rows []T, receipt dataset.Receipt) dataset.Ref {
	t.Helper()
	receipt.Input = int64(len(rows))
	if _, err := dataset.WritePartition(t.Context(), st, dir, 0, 0, rows, nil, receipt); err != nil {
		t.Fatal(err)
	}
	all, err := dataset.CommitRange(t.Context(), st, dir, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := dataset.Commit(t.Context(), st, dir, dataset.Manifest{Kind: kind}, []dataset.RangeSummary{all})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestCalibrationFromSeedsToFigures(t *testing.T) {
	t.Parallel()
	sets := &Sets{Store: s3test.Store(t)}
	seeds := writeOne(t, sets.Store, dataset.KindSeeds, "seeds", seedRows(30), dataset.Receipt{})
	in := CalibrationInput{Seeds: seeds, Pairs: 20, Output: "runs/r/01/calibration", Run: "r", Iteration: 1}
	pairs, err := sets.PairCalibration(t.Context(), in)
	if err != nil || pairs.Rows != 40 {
		t.Fatalf("%+v, %v", pairs, err)
	}
	if again, err := sets.PairCalibration(t.Context(), in); err != nil || again != pairs {
		t.Errorf("another time: %+v, %v", again, err)
	}
	var ratings []dataset.Rating
	good := 0
	for c, err := range dataset.Rows[dataset.Candidate](t.Context(), sets.Store, pairs) {
		if err != nil {
			t.Fatal(err)
		}
		same := strings.TrimSuffix(strings.TrimPrefix(c.Instruction, "Question "), "?") == strings.TrimSuffix(strings.TrimPrefix(c.Output, "Answer "), ".")
		if same != (c.Generator == pairOfSeed) {
			t.Errorf("%+v", c)
		}
		score := 2.0
		if same {
			if good++; good == 1 {
				continue // not readable
			}
			score = 5
		}
		ratings = append(ratings, dataset.Rating{ID: c.ID, Score: score, Scores: []float64{score}, Generator: c.Generator})
	}
	rated := writeOne(t, sets.Store, dataset.KindRatings, "ratings", ratings, dataset.Receipt{Answers: dataset.Answers{Read: 39, Unreadable: 13}})
	got, err := sets.MeasureCalibration(t.Context(), MeasureInput{Pairs: pairs, Ratings: rated, Threshold: 4.5, OnTraining: true})
	want := eval.Calibration{
		Positives: 20, Negatives: 20, Rated: 39, ParseRate: 0.75, Threshold: 4.5, TruePositives: 19, Precision: 1, Recall: 0.95,
		MeanPositive: 5, MeanNegative: 2, AUC: 1, OnTraining: true,
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v, %s", err, d)
	}
	one := writeOne(t, sets.Store, dataset.KindSeeds, "one", seedRows(1), dataset.Receipt{})
	if ref, err := sets.PairCalibration(t.Context(), CalibrationInput{Seeds: one, Pairs: 20, Output: "x"}); err != nil || !ref.IsZero() {
		t.Errorf("one seed pair: %+v, %v", ref, err)
	}
}

// A shuffled pair is never a true one, whatever repeats among the seeds.
func TestShuffledPairsAreNotTrueOnes(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
	rapid.Check(t, func(t *rapid.T) {
		seeds := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) dataset.Seed {
			return dataset.Seed{Instruction: word.Draw(t, "instruction"), Output: word.Draw(t, "output")}
		}), 2, 12).Draw(t, "seeds")
		rows := calibrationPairs(seeds)
		truth, ids := map[[2]string]bool{}, map[string]bool{}
		for _, s := range seeds {
			truth[[2]string{s.Instruction, s.Output}] = true
		}
		good := 0
		for _, r := range rows {
			if ids[r.ID] {
				t.Fatalf("%s is there twice", r.ID)
			}
			ids[r.ID] = true
			is := truth[[2]string{r.Instruction, r.Output}]
			if is != (r.Generator == pairOfSeed) || r.ID != dataset.PairID(r.Instruction, r.Output) {
				t.Fatalf("%+v", r)
			}
			if is {
				good++
			}
		}
		if good != len(truth) || len(rows) > 2*len(seeds) {
			t.Fatalf("%d of %d true pairs among %d", good, len(truth), len(rows))
		}
		if d := cmp.Diff(rows, calibrationPairs(seeds)); d != "" {
			t.Fatal(d)
		}
	})
}
