package lm

import (
	"math"
	"math/rand/v2"
	"sort"
)

const (
	folds       = 10
	maxJudged   = 3000 // examples that the judge is fitted on at most, spread over the file
	gramSpace   = 1 << bits
	crossSpace  = 1 << 10
	denseAt     = gramSpace
	squareAt    = denseAt + numDense
	pairAt      = squareAt + numDense
	crossAt     = pairAt + numPair
	weightCount = crossAt + crossSpace
)

// feature is one non-zero entry of a pair's feature vector.
type feature struct {
	at uint32
	v  float32
}

// judge tells answers like those the model was fitted on from other text, given the instruction: a logistic model fitted
// by noise-contrastive estimation. It is fitted once on everything and once without each tenth of the outputs, so that
// training outputs are scored by weights that never saw them; what these score is the scale of the ratings.
type judge struct {
	stats      *corpusStats
	mean, dev  [numDense]float64
	enough     [numPair]float64 // of each measure of relevance, what most true pairs have: more is not better
	common     []uint64         // bit set over gram hashes: frequent enough to be style, not topic
	full       []float32
	held       [folds][]float32
	known      map[uint64]int // hash of a training output → its fold
	pos, neg   []float64      // held-out logits of true pairs and of noise, ascending
	skill      float64        // 0 untrained … 1: how well held-out pairs were told from noise, with how much evidence
	examples   int
	loss       float64
	separation float64 // held-out AUC
}

func textKey(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

type sample struct {
	feats  []feature
	target float64
	weight float64
	fold   int
}

// fitJudge fits on examples, deterministic for (examples, options).
func fitJudge(all []Example, stats *corpusStats, opt FitOptions) *judge {
	ex := spread(all, maxJudged)
	j := &judge{stats: stats, known: make(map[uint64]int, len(all)), examples: len(ex)}
	var members [folds][]int // indices into ex
	for i, e := range ex {
		k := textKey(e.Assistant)
		if _, ok := j.known[k]; !ok {
			j.known[k] = len(j.known) % folds
		}
		members[j.known[k]] = append(members[j.known[k]], i)
	}
	rng := rand.New(rand.NewPCG(uint64(opt.Seed), 0x6a756467))
	type pending struct {
		contrast
		inst []word
		st   *style
		fold int
	}
	var pend []pending
	insts := make([][]word, len(ex))
	styles := make([]*style, len(ex))
	for i, e := range ex {
		insts[i], styles[i] = wordsOf(e.User), styleOf(e.Assistant)
	}
	for i := range ex {
		fold := j.known[textKey(ex[i].Assistant)]
		for _, c := range contrastsOf(ex, i, members[fold], topicOf(insts[i], stats), rng) {
			p := pending{contrast: c, inst: insts[i], fold: fold}
			if c.text != "" {
				p.st = styleOf(c.text)
			} else {
				p.st = styles[c.out]
			}
			pend = append(pend, p)
		}
	}
	j.scale(styles)
	j.saturate(insts, styles)
	j.selectGrams(func(yield func(*style)) {
		for _, p := range pend {
			yield(p.st)
		}
	}, len(pend))
	samples := make([]sample, len(pend))
	for i, p := range pend {
		f, _, _, _ := j.features(p.inst, p.st, nil)
		w := 1.0
		if p.target == 1 {
			w = 2
		}
		samples[i] = sample{feats: f, target: p.target, weight: w, fold: p.fold}
	}
	passes := opt.Passes
	if len(samples) > 4000 { // as many steps, not as many passes
		passes = max(3, passes*4000/len(samples))
	}
	j.full, j.loss = descend(samples, -1, passes, opt.Rate, opt.Seed, opt.Progress)
	for f := range folds {
		j.held[f], _ = descend(samples, f, passes, opt.Rate, opt.Seed, nil)
	}
	for _, s := range samples {
		z := dot(j.held[s.fold], s.feats)
		switch {
		case s.target == 1:
			j.pos = append(j.pos, z)
		case s.target < 0.2:
			j.neg = append(j.neg, z)
		}
	}
	sort.Float64s(j.pos)
	sort.Float64s(j.neg)
	j.separation = auc(j.pos, j.neg)
	n := float64(len(j.pos))
	j.skill = max(0, 2*j.separation-1) * n / (n + 12)
	return j
}

// spread takes at most n examples, evenly over the file.
func spread(ex []Example, n int) []Example {
	if len(ex) <= n {
		return ex
	}
	out := make([]Example, n)
	for i := range out {
		out[i] = ex[i*len(ex)/n]
	}
	return out
}

// topicOf is the rarest content words of an instruction, in their order.
func topicOf(inst []word, stats *corpusStats) string {
	best, at := 0.0, -1
	for i, w := range inst {
		if v := stats.idf(stem(w.lower)); !w.stop && v > best {
			best, at = v, i
		}
	}
	if at < 0 {
		return "this"
	}
	topic := inst[at].lower
	if at > 0 && !inst[at-1].stop {
		return inst[at-1].lower + " " + topic
	}
	return topic
}

// scale learns mean and deviation of the style of the true outputs.
func (j *judge) scale(styles []*style) {
	n := float64(len(styles))
	for k := range numDense {
		var sum, sq float64
		for _, s := range styles {
			sum += s.dense[k]
			sq += s.dense[k] * s.dense[k]
		}
		j.mean[k] = sum / n
		j.dev[k] = math.Sqrt(max(sq/n-j.mean[k]*j.mean[k], 0)) + denseFloor[k]
	}
}

// saturate learns how relevant an output is when it is relevant enough. A text that repeats its instruction more often
// than true answers do earns nothing by it.
func (j *judge) saturate(insts [][]word, styles []*style) {
	values := make([][]float64, numPair)
	for i, s := range styles {
		pair, _, _ := j.stats.pair(insts[i], s.words)
		for k, v := range pair {
			values[k] = append(values[k], v)
		}
	}
	for k := range values {
		sort.Float64s(values[k])
		j.enough[k] = quantile(values[k], 0.3)
	}
	j.enough[pEcho], j.enough[pNone] = 1, 1 // of these less is better, or nothing is known
}

// denseFloor is the least deviation of each dense feature: a feature that was always the same in few examples must not
// condemn everything else.
var denseFloor = func() (f [numDense]float64) {
	for k := range f {
		f[k] = 0.02
	}
	f[fLength], f[fSentence], f[fSentenceSpread] = 0.3, 0.2, 0.2
	f[fEnds], f[fBegins], f[fListStart], f[fCode], f[fVariety] = 0.3, 0.3, 0.3, 0.3, 0.05
	f[fBullets], f[fNumbered], f[fFragments], f[fHeading], f[fExclaim], f[fQuestion] = 0.1, 0.1, 0.1, 0.1, 0.05, 0.05
	return f
}()

// selectGrams keeps the grams that a share of the texts have, so that topics cannot be learnt by heart.
func (j *judge) selectGrams(each func(func(*style)), n int) {
	df := make([]uint16, gramSpace)
	each(func(s *style) {
		for _, k := range s.grams {
			if df[k] < math.MaxUint16 {
				df[k]++
			}
		}
	})
	need := uint16(min(max(float64(n)*0.02, 3), 40))
	j.common = make([]uint64, gramSpace/64)
	for k, c := range df {
		if c >= need {
			j.common[k/64] |= 1 << (k % 64)
		}
	}
}

// features makes the feature vector of a pair, into buf if it is large enough.
func (j *judge) features(inst []word, st *style, buf []feature) (f []feature, pair [numPair]float64, hits, missing []string) {
	f = buf[:0]
	kept := 0
	for _, k := range st.grams {
		if j.common[k/64]&(1<<(k%64)) != 0 {
			f = append(f, feature{at: k})
			kept++
		}
	}
	v := float32(2 / math.Sqrt(float64(kept)+10))
	for i := range f {
		f[i].v = v
	}
	for k, d := range st.dense {
		z := (d - j.mean[k]) / j.dev[k]
		z = min(max(z, -3), 3)
		f = append(f, feature{uint32(denseAt + k), float32(z * 0.4)}, feature{uint32(squareAt + k), float32(z * z * 0.12)})
	}
	pair, hits, missing = j.stats.pair(inst, st.words)
	for k, p := range pair {
		f = append(f, feature{uint32(pairAt + k), float32(min(p, j.enough[k]) * 2)})
	}
	kind := uint32(7)
	for i, w := range inst {
		if i == 2 {
			break
		}
		kind = hashPair(kind, hashOf(w.lower))
		for b := range uint32(6) {
			on := st.flags>>b&1 == 1
			h := hashPair(kind, b<<1)
			if on {
				h = hashPair(kind, b<<1|1)
			}
			f = append(f, feature{uint32(crossAt) + h%crossSpace, 0.15})
		}
	}
	return f, pair, hits, missing
}

func dot(w []float32, f []feature) float64 {
	var z float64
	for _, x := range f {
		z += float64(w[x.at]) * float64(x.v)
	}
	return z + float64(w[weightCount])
}

// descend fits the weights by AdaGrad over the samples that are not in the fold left out (-1: none).
func descend(samples []sample, without, passes int, rate float64, seed int64, progress func(int, int, float64)) ([]float32, float64) {
	const step, decay = 0.12, 2e-4
	w := make([]float32, weightCount+1)
	g2 := make([]float32, weightCount+1)
	rng := rand.New(rand.NewPCG(uint64(seed), 0x646573))
	order := rng.Perm(len(samples))
	loss := 0.0
	for pass := range passes {
		loss = 0
		n := 0.0
		for _, i := range order {
			s := &samples[i]
			if s.fold == without {
				continue
			}
			p := 1 / (1 + math.Exp(-dot(w, s.feats)))
			loss -= s.target*math.Log(p+1e-9) + (1-s.target)*math.Log(1-p+1e-9)
			n++
			grad := (p - s.target) * s.weight
			for _, x := range s.feats {
				g := float32(grad)*x.v + decay*w[x.at]
				g2[x.at] += g * g
				w[x.at] -= float32(step*rate) * g / float32(math.Sqrt(float64(g2[x.at])+1e-4))
			}
			g := float32(grad)
			g2[weightCount] += g * g
			w[weightCount] -= float32(step*rate) * g / float32(math.Sqrt(float64(g2[weightCount])+1e-4))
		}
		if loss /= max(n, 1); progress != nil {
			progress(pass+1, passes, loss)
		}
		rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	}
	return w, loss
}

// auc is the probability that a positive stands above a negative. Both are ascending.
func auc(pos, neg []float64) float64 {
	if len(pos) == 0 || len(neg) == 0 {
		return 0.5
	}
	sum, k := 0.0, 0
	for _, p := range pos {
		for k < len(neg) && neg[k] < p {
			k++
		}
		sum += float64(k)
	}
	return sum / float64(len(pos)) / float64(len(neg))
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
