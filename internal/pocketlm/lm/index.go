package lm

import (
	"math"
	"sort"
)

// index finds the training examples whose user turn is nearest to a text, by the cosine of weighted stems.
type index struct {
	stats    *corpusStats
	postings map[string][]posting
	n        int
}

type posting struct {
	doc    int32
	weight float32
}

// neighbour is an example found and how near it is, from 0 to 1.
type neighbour struct {
	doc int
	sim float64
}

const indexedStems = 80

// vector weights a text's stems and keeps the heaviest, normalised, in a fixed order.
func (x *index) vector(words []word) (names []string, weights []float64) {
	tf := map[string]float64{}
	for _, w := range words {
		if !w.stop && len(w.lower) > 1 {
			st := stem(w.lower)
			if tf[st] == 0 {
				names = append(names, st)
			}
			tf[st]++
		}
	}
	value := func(s string) float64 { return (1 + math.Log(tf[s])) * x.stats.idf(s) }
	sort.SliceStable(names, func(a, b int) bool { return value(names[a]) > value(names[b]) })
	names = names[:min(len(names), indexedStems)]
	norm := 0.0
	for _, s := range names {
		v := value(s)
		weights = append(weights, v)
		norm += v * v
	}
	for i := range weights {
		weights[i] /= math.Sqrt(norm)
	}
	return names, weights
}

func (x *index) add(words []word) {
	names, weights := x.vector(words)
	for i, s := range names {
		x.postings[s] = append(x.postings[s], posting{int32(x.n), float32(weights[i])})
	}
	x.n++
}

// nearest finds at most k neighbours, nearest first; those that share nothing are not found.
func (x *index) nearest(words []word, k int) []neighbour {
	names, weights := x.vector(words)
	sim := make([]float64, x.n)
	for i, s := range names {
		for _, p := range x.postings[s] {
			sim[p.doc] += weights[i] * float64(p.weight)
		}
	}
	var out []neighbour
	least := 0.0 // of the k nearest so far
	for d, v := range sim {
		if v <= least {
			continue
		}
		if out = append(out, neighbour{d, v}); len(out) >= 4*k {
			sortNear(out)
			out, least = out[:k], out[k-1].sim
		}
	}
	sortNear(out)
	return out[:min(k, len(out))]
}

func sortNear(out []neighbour) {
	sort.Slice(out, func(a, b int) bool {
		if out[a].sim != out[b].sim {
			return out[a].sim > out[b].sim
		}
		return out[a].doc < out[b].doc
	})
}
