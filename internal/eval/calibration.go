// Package eval measures how well models do: plain arithmetic over scores and counts.
package eval

import (
	"cmp"
	"slices"
)

// Calibration is how a judge rated pairs that are known to be good (positives) or bad (negatives). A pair without a readable
// rating is not selected, whatever it is.
type Calibration struct {
	Positives      int64   `json:"positives"`       // good pairs that went in
	Negatives      int64   `json:"negatives"`       // bad pairs that went in
	Rated          int64   `json:"rated"`           // pairs of both with a readable rating
	ParseRate      float64 `json:"parse_rate"`      // share of the judge's answers that could be read, all attempts together
	Threshold      float64 `json:"threshold"`       // pairs with at least this score are selected
	TruePositives  int64   `json:"true_positives"`  // good pairs that were selected
	FalsePositives int64   `json:"false_positives"` // bad pairs that were selected
	Precision      float64 `json:"precision"`       // share of the selected pairs that are good; 0 when none is selected
	Recall         float64 `json:"recall"`          // share of the good pairs that were selected
	MeanPositive   float64 `json:"mean_positive"`
	MeanNegative   float64 `json:"mean_negative"`
	AUC            float64 `json:"auc"`         // chance that a good pair is rated above a bad one, ties by half; 0.5 where there is nothing to compare
	OnTraining     bool    `json:"on_training"` // the judge was trained on the good pairs, which flatters it
}

// Calibrate compares the scores that good and bad pairs got. positives and negatives say how many went in; those
// without a score were not readable.
func Calibrate(good, bad []float64, positives, negatives int64, threshold float64) Calibration {
	c := Calibration{
		Positives: positives, Negatives: negatives, Rated: int64(len(good) + len(bad)), Threshold: threshold,
		TruePositives: above(good, threshold), FalsePositives: above(bad, threshold),
		MeanPositive: mean(good), MeanNegative: mean(bad), AUC: AUC(good, bad),
	}
	if selected := c.TruePositives + c.FalsePositives; selected > 0 {
		c.Precision = float64(c.TruePositives) / float64(selected)
	}
	if positives > 0 {
		c.Recall = float64(c.TruePositives) / float64(positives)
	}
	return c
}

func above(scores []float64, threshold float64) (n int64) {
	for _, s := range scores {
		if s >= threshold {
			n++
		}
	}
	return n
}

func mean(scores []float64) float64 {
	if len(scores) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range scores {
		sum += s
	}
	return sum / float64(len(scores))
}

// AUC returns the chance that one of good stands above one of bad, ties counted by half: the area under the ROC curve. It is
// 0.5 where one of both is empty.
func AUC(good, bad []float64) float64 {
	if len(good) == 0 || len(bad) == 0 {
		return 0.5
	}
	bad = slices.Sorted(slices.Values(bad))
	sum := 0.0
	for _, g := range good {
		below, _ := slices.BinarySearch(bad, g)
		notAbove, _ := slices.BinarySearchFunc(bad, g, func(b, g float64) int {
			if b <= g {
				return -1
			}
			return cmp.Compare(b, g)
		})
		sum += float64(below) + float64(notAbove-below)/2
	}
	return sum / float64(len(good)) / float64(len(bad))
}
