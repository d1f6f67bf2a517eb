package lm

import "math"

// Indices of the features of a pair.
const (
	pCover = iota
	pCoverHead
	pDensity
	pLift
	pPhrase
	pFocus
	pEcho
	pNone
	numPair
)

// corpusStats are word statistics of everything the model has read: what a word is worth as evidence of a topic.
type corpusStats struct {
	docs int
	df   map[string]int32 // by stem
	cf   map[string]int32
	all  float64
}

func (c *corpusStats) read(words []word) {
	if c.df == nil {
		c.df, c.cf = map[string]int32{}, map[string]int32{}
	}
	c.docs++
	seen := make(map[string]struct{}, len(words))
	for _, w := range words {
		if w.stop {
			continue
		}
		st := stem(w.lower)
		c.cf[st]++
		c.all++
		if _, ok := seen[st]; !ok {
			seen[st] = struct{}{}
			c.df[st]++
		}
	}
}

func (c *corpusStats) idf(st string) float64 {
	return math.Log((float64(c.docs) + 2) / (float64(c.df[st]) + 0.7))
}

// stems are the distinct content stems of a text, in order, at most so many.
func stems(words []word, most int) []string {
	var out []string
	seen := map[string]struct{}{}
	for _, w := range words {
		if w.stop || len(w.lower) < 2 {
			continue
		}
		st := stem(w.lower)
		if _, ok := seen[st]; !ok && len(out) < most {
			seen[st] = struct{}{}
			out = append(out, st)
		}
	}
	return out
}

// pair measures how an output belongs to an instruction. hits are the instruction's stems found, best first.
func (c *corpusStats) pair(inst, out []word) (f [numPair]float64, hits, missing []string) {
	want := stems(inst, 40)
	if len(want) == 0 {
		f[pNone] = 1
		return f, nil, nil
	}
	index := make(map[string]int, len(want))
	for i, s := range want {
		index[s] = i
	}
	tf := make([]float64, len(want))
	head := make([]bool, len(want))
	content := 0.0
	prevInst := map[[2]string]struct{}{}
	for i := 1; i < len(inst); i++ {
		if !inst[i].stop && !inst[i-1].stop {
			prevInst[[2]string{stem(inst[i-1].lower), stem(inst[i].lower)}] = struct{}{}
		}
	}
	phrases := 0
	counts := make(map[string]int32, 256)
	var order []string
	for i, w := range out {
		if w.stop {
			continue
		}
		content++
		st := stem(w.lower)
		if counts[st]++; counts[st] == 2 {
			order = append(order, st)
		}
		if k, ok := index[st]; ok {
			tf[k]++
			if i < 60 {
				head[k] = true
			}
			if i > 0 && len(prevInst) > 0 && !out[i-1].stop {
				if _, ok := prevInst[[2]string{stem(out[i-1].lower), st}]; ok {
					phrases++
				}
			}
		}
	}
	var total, cover, coverHead, density, lift float64
	for i, s := range want {
		v := c.idf(s)
		total += v
		if tf[i] > 0 {
			cover += v
			density += v * math.Min(tf[i], 4)
			hits = append(hits, s)
		} else {
			missing = append(missing, s)
		}
		if head[i] {
			coverHead += v
		}
		bg := (float64(c.cf[s]) + 0.5) / (c.all + 1000)
		p := 0.5*tf[i]/max(content, 1) + 0.5*bg
		lift += min(max(math.Log(p/bg), -1), 6)
	}
	f[pCover] = cover / total
	f[pCoverHead] = coverHead / total
	f[pDensity] = math.Log1p(density / total)
	f[pLift] = lift / float64(len(want)) / 4
	f[pPhrase] = math.Min(float64(phrases), 3) / 3
	f[pEcho] = echo(inst, out)
	f[pFocus] = c.focus(order, counts, index)
	return f, hits, missing
}

// focus is how much of what an output keeps coming back to (its eight weightiest stems that occur twice) the instruction names.
func (c *corpusStats) focus(order []string, counts map[string]int32, named map[string]int) float64 {
	type heavy struct {
		weight float64
		named  bool
	}
	var top [8]heavy
	for _, s := range order {
		_, is := named[s]
		h := heavy{float64(counts[s]) * c.idf(s), is}
		for i := range top {
			if h.weight > top[i].weight {
				h, top[i] = top[i], h
			}
		}
	}
	var all, hit float64
	for _, h := range top {
		all += h.weight
		if h.named {
			hit += h.weight
		}
	}
	return hit / (all + 1)
}

// echo is the share of the instruction's words that the output's opening repeats in order.
func echo(inst, out []word) float64 {
	if len(inst) == 0 {
		return 0
	}
	at, same := 0, 0
	for _, w := range out[:min(len(out), 2*len(inst))] {
		for k := at; k < len(inst) && k < at+3; k++ {
			if inst[k].lower == w.lower {
				same++
				at = k + 1
				break
			}
		}
	}
	return float64(same) / float64(len(inst))
}
