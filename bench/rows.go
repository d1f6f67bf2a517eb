package main

import (
	"math/rand/v2"
	"strings"
)

// Lengths of segments as in the paper: 1.7 ± 0.6 KB, within the bounds of ingest.
const (
	meanLength, deviation     = 1700, 600
	shortestText, longestText = 650, 2950
)

// vocabulary are pronounceable words that mean nothing.
var vocabulary = func() []string {
	onsets := strings.Fields("b br ch d dr f fl g gr h k l m n p pl qu r s st t tr v w")
	vowels := strings.Fields("a e i o u ai ea ou")
	codas := strings.Fields("n r s t l m nd st ck")
	rng := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 4000)
	for i := range words {
		var b strings.Builder
		for range 1 + rng.IntN(3) {
			b.WriteString(onsets[rng.IntN(len(onsets))])
			b.WriteString(vowels[rng.IntN(len(vowels))])
		}
		b.WriteString(codas[rng.IntN(len(codas))])
		words[i] = b.String()
	}
	return words
}()

// text is the i-th text of a seed: sentences and paragraphs of realistic length, the same at every call.
func text(seed uint64, i int) string {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	want := min(longestText, max(shortestText, int(meanLength+deviation*rng.NormFloat64())))
	var b strings.Builder
	b.Grow(want + 32)
	for b.Len() < want {
		for n := 6 + rng.IntN(14); n >= 0; n-- {
			word := vocabulary[min(rng.IntN(len(vocabulary)), rng.IntN(len(vocabulary)))]
			if n == 0 {
				b.WriteString(word + ". ")
			} else {
				b.WriteString(word + " ")
			}
		}
		if rng.IntN(6) == 0 && b.Len() < want {
			b.WriteString("\n\n")
		}
	}
	return strings.TrimSpace(b.String())
}
