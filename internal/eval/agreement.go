package eval

import (
	"cmp"
	"slices"
)

// Agreement is how far two judges agree about the same items.
type Agreement struct {
	N        int     `json:"n"`
	Agreed   float64 `json:"agreed"`   // share of items on which both say the same
	Expected float64 `json:"expected"` // share that would be by chance, from how often each says what
	Kappa    float64 `json:"kappa"`    // Cohen's: 0 is chance, 1 is always; 0 where chance alone explains everything
}

// Agree compares two judges' words about the same items, in the same order. Panics if the lists differ in length.
func Agree[T cmp.Ordered](a, b []T) Agreement {
	if len(a) != len(b) {
		panic("eval: judges of different items")
	}
	out := Agreement{N: len(a)}
	if out.N == 0 {
		return out
	}
	n := float64(out.N)
	inA, inB := map[T]float64{}, map[T]float64{}
	same := 0
	for i := range a {
		inA[a[i]]++
		inB[b[i]]++
		if a[i] == b[i] {
			same++
		}
	}
	words := make([]T, 0, len(inA))
	for w := range inA {
		words = append(words, w)
	}
	slices.Sort(words) // sums of floats depend on their order
	for _, w := range words {
		out.Expected += inA[w] / n * inB[w] / n
	}
	out.Agreed = float64(same) / n
	if out.Expected < 1 {
		out.Kappa = (out.Agreed - out.Expected) / (1 - out.Expected)
	}
	return out
}

// PairwiseAgreement returns the share of pairs of items that scores put into the same order as people (or another judge) do,
// as published agreement with people is counted: pairs that people put level are left out, and ones that the scores put
// level count half. ok is false where there is no such pair. Panics if the lists differ in length.
func PairwiseAgreement(scores, people []float64) (share float64, ok bool) {
	if len(scores) != len(people) {
		panic("eval: judges of different items")
	}
	sum, n := 0.0, 0
	for i := range people {
		for j := range i {
			order := cmp.Compare(people[i], people[j])
			if order == 0 {
				continue
			}
			n++
			switch cmp.Compare(scores[i], scores[j]) {
			case order:
				sum++
			case 0:
				sum += 0.5
			}
		}
	}
	if n == 0 {
		return 0, false
	}
	return sum / float64(n), true
}
