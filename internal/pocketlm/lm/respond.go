package lm

import (
	"math"
	"sort"
	"strings"
)

// respond answers an instruction from what was learnt: the output of an example that asks nearly the same, else the
// sentences of the nearest outputs that say most about it.
func (m *Model) respond(inst string) []Choice {
	words := wordsOf(inst)
	near := m.index.nearest(words, 5)
	want := stems(words, 40)
	if len(near) == 0 || near[0].sim < 0.05 {
		return []Choice{{Text: "I have learnt nothing about " + topicOf(words, m.stats) + ".", P: 0.8}, {Text: "I cannot answer that from what I was trained on.", P: 0.2}}
	}
	var out []Choice
	total := 0.0
	for i, n := range near {
		if i == 3 {
			break
		}
		text := m.examples[n.doc].Assistant
		if n.sim < 0.6 {
			text = m.compose(want, append([]neighbour{n}, near...))
		}
		p := math.Exp(6 * (n.sim - near[0].sim))
		total += p
		out = append(out, Choice{Text: text, P: p})
	}
	for i := range out {
		out[i].P /= total
	}
	return out
}

// compose takes the six sentences that say most about the wanted stems, from the nearest outputs, in their order.
func (m *Model) compose(want []string, near []neighbour) string {
	index := map[string]bool{}
	for _, s := range want {
		index[s] = true
	}
	type scored struct {
		text  string
		order int
		score float64
	}
	var all []scored
	seen := map[string]bool{}
	for rank, n := range near {
		for k, s := range sentencesOf(m.examples[n.doc].Assistant) {
			if seen[s] || len(s) > 600 {
				continue
			}
			seen[s] = true
			score := 0.0
			words := wordsOf(s)
			for _, st := range stems(words, 60) {
				if index[st] {
					score += m.stats.idf(st)
				}
			}
			score = score/math.Sqrt(float64(len(words))+4) + 0.4*n.sim - 0.02*float64(k)
			if rank == 0 && k == 0 {
				score += 0.5 // it opens as the nearest answer does
			}
			all = append(all, scored{s, rank*1000 + k, score})
		}
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].score > all[b].score })
	all = all[:min(6, len(all))]
	sort.Slice(all, func(a, b int) bool { return all[a].order < all[b].order })
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = s.text
	}
	return strings.Join(parts, " ")
}
