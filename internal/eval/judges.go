package eval

import (
	"cmp"
	"math"
	"slices"
)

// Opinion is what two judges said of one item: whom they preferred, or which score they gave.
type Opinion struct {
	ID          string `json:"id"`
	Instruction string `json:"instruction"`
	A           string `json:"a"` // model, neither or baseline; or the score
	B           string `json:"b"`
	// Contradicts says of comparisons that a judge chose otherwise when the order was turned.
	ContradictsA bool `json:"contradicts_a,omitempty"`
	ContradictsB bool `json:"contradicts_b,omitempty"`

	ScoreA float64 `json:"-"` // of ratings
	ScoreB float64 `json:"-"`
}

// Judges is how far two judges agree about the same items.
type Judges struct {
	A string `json:"a"` // what people call them
	B string `json:"b"`
	Agreement
	Words []string  `json:"words"` // what was said, ascending
	Table [][]int64 `json:"table"` // items by [word of A][word of B]
	// Alone are the items that one of both did not judge, or of which it saw other answers.
	Alone int64 `json:"alone"`
	// Of comparisons: items on which A, B and both chose otherwise when the order was turned.
	ContradictsA    int64 `json:"contradicts_a"`
	ContradictsB    int64 `json:"contradicts_b"`
	ContradictsBoth int64 `json:"contradicts_both"`
	// Of ratings: the share of pairs of items that both put into the same order (of the first 2,000), and being selected.
	Order    *float64   `json:"order,omitempty"`
	Selected *Agreement `json:"selected,omitempty"`
	MeanA    float64    `json:"mean_a,omitempty"`
	MeanB    float64    `json:"mean_b,omitempty"`
	// Examples are items on which they differ, those that differ most first.
	Examples []Opinion `json:"examples"`
}

const (
	mostOrdered   = 2000 // items whose pairs are put in order
	judgeExamples = 5
)

// CompareJudges measures the agreement of two judges. With a threshold above 0 the opinions are ratings.
func CompareJudges(items []Opinion, threshold float64) Judges {
	j := Judges{Examples: []Opinion{}}
	a, b := make([]string, len(items)), make([]string, len(items))
	for i, o := range items {
		a[i], b[i] = o.A, o.B
		j.Words = append(j.Words, o.A, o.B)
		if o.ContradictsA {
			j.ContradictsA++
		}
		if o.ContradictsB {
			j.ContradictsB++
		}
		if o.ContradictsA && o.ContradictsB {
			j.ContradictsBoth++
		}
		if o.A != o.B {
			j.Examples = append(j.Examples, o)
		}
	}
	slices.Sort(j.Words)
	j.Words = slices.Compact(j.Words)
	j.Agreement = Agree(a, b)
	j.Table = make([][]int64, len(j.Words))
	for i := range j.Table {
		j.Table[i] = make([]int64, len(j.Words))
	}
	for i := range items {
		row, _ := slices.BinarySearch(j.Words, a[i])
		column, _ := slices.BinarySearch(j.Words, b[i])
		j.Table[row][column]++
	}
	if threshold > 0 && len(items) > 0 {
		j.rate(items, threshold)
	}
	slices.SortStableFunc(j.Examples, func(x, y Opinion) int {
		return cmp.Or(cmp.Compare(math.Abs(y.ScoreA-y.ScoreB), math.Abs(x.ScoreA-x.ScoreB)), cmp.Compare(x.ID, y.ID))
	})
	j.Examples = j.Examples[:min(len(j.Examples), judgeExamples)]
	return j
}

func (j *Judges) rate(items []Opinion, threshold float64) {
	var scoresA, scoresB []float64
	var pickedA, pickedB []int
	for _, o := range items {
		scoresA, scoresB = append(scoresA, o.ScoreA), append(scoresB, o.ScoreB)
		pickedA, pickedB = append(pickedA, picked(o.ScoreA, threshold)), append(pickedB, picked(o.ScoreB, threshold))
	}
	j.MeanA, j.MeanB = mean(scoresA), mean(scoresB)
	selected := Agree(pickedA, pickedB)
	j.Selected = &selected
	n := min(len(items), mostOrdered)
	if order, ok := PairwiseAgreement(scoresA[:n], scoresB[:n]); ok {
		j.Order = &order
	}
}

func picked(score, threshold float64) int {
	if score >= threshold {
		return 1
	}
	return 0
}
