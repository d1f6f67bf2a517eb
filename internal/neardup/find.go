package neardup

import "iter"

// Match says of a text which earlier one it repeats.
type Match struct {
	Of         int     // position of the text kept; -1 for a text that is kept itself
	Similarity float64 // Jaccard, with Of
}

// Find goes through texts in order and keeps each that is no near-duplicate of one kept before; of the others it says
// which one they repeat, the first if there are several. It is what the steps over datasets do, for texts that fit into
// memory: about 4 bytes a word, and 32 a band, so 100,000 segments of 300 words take 200 MB, as many instructions of 20
// words 60 MB. Only texts within one bucket of maxLeaders are compared with each other.
func Find(rules Rules, texts iter.Seq[string]) ([]Match, error) {
	if err := rules.Validate(); err != nil {
		return nil, err
	}
	var out []Match
	cut, hasher := newShingler(rules.Shingle), newMinhasher(rules)
	sets := [][]uint32{}
	leaders := map[uint64][]int32{}
	tried := map[int32]bool{}
	var keys []uint64
	for text := range texts {
		set := cut.set(text)
		m := Match{Of: -1}
		clear(tried)
		keys = hasher.bandKeys(keys[:0], set)
		for _, key := range keys {
			for _, other := range leaders[key] {
				if tried[other] {
					continue
				}
				tried[other] = true
				if j := rules.alike(set, sets[other]); j > 0 && (m.Of < 0 || int(other) < m.Of) {
					m = Match{Of: int(other), Similarity: j}
				}
			}
		}
		if m.Of < 0 {
			at := int32(len(out))
			for _, key := range keys {
				if len(leaders[key]) < maxLeaders {
					leaders[key] = append(leaders[key], at)
				}
			}
			set = append([]uint32(nil), set...)
		} else {
			set = nil // nothing is compared with it
		}
		sets = append(sets, set)
		out = append(out, m)
	}
	return out, nil
}

// alike returns the similarity of two sets where it reaches the threshold, else 0.
func (r Rules) alike(a, b []uint32) float64 {
	if !mayReach(len(a), len(b), r.Threshold) {
		return 0
	}
	if j := jaccard(a, b); j >= r.Threshold {
		return j
	}
	return 0
}
