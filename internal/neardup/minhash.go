package neardup

import "math"

// LeastRecall is the chance with which a pair exactly at the threshold becomes a candidate, at least. Pairs that are more
// alike have a better one: Banding.Chance.
const LeastRecall = 0.9

// Banding cuts a signature into bands: two texts are candidates when they agree in all rows of a band.
type Banding struct {
	Bands int `json:"bands"`
	Rows  int `json:"rows"`
}

// Chance returns the probability that two texts of a Jaccard similarity become candidates: 1 − (1 − j^rows)^bands.
func (b Banding) Chance(j float64) float64 {
	return 1 - math.Pow(1-math.Pow(j, float64(b.Rows)), float64(b.Bands))
}

// Banding returns the bands with the most rows, and so the fewest false candidates, that find a pair at the threshold with
// a chance of LeastRecall. What is false among candidates is sorted out by comparing them, so that finding counts more
// than in the usual choice of datasketch, which weighs both alike. 128 permutations and a threshold of 0.8 give 16 bands of 8.
func (r Rules) Banding() Banding {
	for rows := r.Permutations; rows > 1; rows-- {
		if b := (Banding{Bands: r.Permutations / rows, Rows: rows}); b.Chance(r.Threshold) >= LeastRecall {
			return b
		}
	}
	return Banding{Bands: r.Permutations, Rows: 1}
}

// minhasher computes band keys. Its permutations x → (a·x + b) mod 2^64 div 2^32 (multiply-shift, Dietzfelbinger) follow
// from SplitMix64 with a fixed seed, so that equal texts have equal keys everywhere and for ever.
type minhasher struct {
	banding Banding
	a, b    []uint64
	mins    []uint32
}

const permutationSeed = 0x53656c66416c6967 // "SelfAlig"

func newMinhasher(r Rules) *minhasher {
	h := &minhasher{banding: r.Banding()}
	n := h.banding.Bands * h.banding.Rows
	state := uint64(permutationSeed)
	for range n {
		state += 0x9e3779b97f4a7c15
		h.a = append(h.a, mix(state)|1)
		state += 0x9e3779b97f4a7c15
		h.b = append(h.b, mix(state))
	}
	h.mins = make([]uint32, n)
	return h
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// signature returns the least value of every permutation, in a slice that the next call overwrites.
func (h *minhasher) signature(set []uint32) []uint32 {
	n := len(h.mins)
	i := 0
	for ; i+4 <= n; i += 4 { // four at a time: one alone waits for its own minimum
		a0, a1, a2, a3 := h.a[i], h.a[i+1], h.a[i+2], h.a[i+3]
		b0, b1, b2, b3 := h.b[i], h.b[i+1], h.b[i+2], h.b[i+3]
		m0, m1, m2, m3 := uint32(math.MaxUint32), uint32(math.MaxUint32), uint32(math.MaxUint32), uint32(math.MaxUint32)
		for _, x := range set {
			x := uint64(x)
			m0 = min(m0, uint32((a0*x+b0)>>32))
			m1 = min(m1, uint32((a1*x+b1)>>32))
			m2 = min(m2, uint32((a2*x+b2)>>32))
			m3 = min(m3, uint32((a3*x+b3)>>32))
		}
		h.mins[i], h.mins[i+1], h.mins[i+2], h.mins[i+3] = m0, m1, m2, m3
	}
	for ; i < n; i++ {
		least := uint32(math.MaxUint32)
		for _, x := range set {
			least = min(least, uint32((h.a[i]*uint64(x)+h.b[i])>>32))
		}
		h.mins[i] = least
	}
	return h.mins
}

// keyBits is the width of a band key. Two different bands of 10^8 texts collide some thousand times in 48 bits: that many
// candidates are compared in vain.
const keyBits = 48

// bandKeys appends one key a band: equal where all rows of the band are equal.
func (h *minhasher) bandKeys(to []uint64, set []uint32) []uint64 {
	if len(set) == 0 {
		return to
	}
	mins := h.signature(set)
	for band := range h.banding.Bands {
		key := mix(uint64(band) + permutationSeed)
		for _, m := range mins[band*h.banding.Rows:][:h.banding.Rows] {
			key = mix(key ^ uint64(m))
		}
		to = append(to, key>>(64-keyBits))
	}
	return to
}
