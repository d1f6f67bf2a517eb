package corpus

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
)

// hearer remembers the word n-grams of the sentences of one text. Its memory serves many texts.
type hearer struct {
	words []uint64 // of the sentence in work, hashed
	grams []uint64 // of all sentences, one after the other
	seen  []heard

	table []slot // open addressing, a power of two, less than half full
	used  int
	first uint32 // number of the text's first sentence; slots with less are free
	next  uint32 // number of the next sentence
}

// heard is a sentence, with its place in grams.
type heard struct {
	said     string
	from, to int
	sorted   bool
}

// slot holds an n-gram and the last sentence that it stood in.
type slot struct {
	gram uint64
	last uint32
}

const (
	firstSlots  = 2048
	mostHearing = 1 << 20 // bytes of a table that is kept for the next text
)

var hearers = sync.Pool{New: func() any { return &hearer{next: 1} }}

// begin forgets the text before.
func (h *hearer) begin() {
	if len(h.table) == 0 || len(h.table) > mostHearing/16 || h.next > 1<<31 {
		h.table, h.next = make([]slot, firstSlots), 1
	}
	if cap(h.grams) > mostHearing/8 {
		h.grams = nil
	}
	h.first, h.used = h.next, 0
	h.grams = h.grams[:0]
}

// end gives the hearer back. It holds nothing of the text.
func (h *hearer) end() {
	clear(h.seen)
	h.seen = h.seen[:0]
	hearers.Put(h)
}

// hear takes the sentence whose words are in h. It returns how many different n-grams it has, and how many of them stood in a
// sentence before.
func (h *hearer) hear(said string, n int) (different, known int) {
	from := len(h.grams)
	for i := 0; i+n <= len(h.words); i++ {
		gram := uint64(0)
		for _, w := range h.words[i : i+n] {
			gram = (bits.RotateLeft64(gram, 29) ^ w) * 0x9e3779b97f4a7c15
		}
		if h.used*2 >= len(h.table) {
			h.grow()
		}
		s := h.find(gram)
		switch {
		case s.last == h.next: // twice in this sentence
			continue
		case s.last >= h.first:
			known++
		default:
			s.gram = gram
			h.used++
		}
		s.last = h.next
		h.grams = append(h.grams, gram)
	}
	h.next++
	h.seen = append(h.seen, heard{said: said, from: from, to: len(h.grams)})
	return len(h.grams) - from, known
}

// slotSeed keeps a text from being made so that its n-grams crowd in a few slots.
var slotSeed = rand.Uint64()

// find returns the slot of an n-gram, or the free one where it goes.
func (h *hearer) find(gram uint64) *slot {
	mask := uint64(len(h.table) - 1)
	for i := (gram ^ slotSeed) * 0x9e3779b97f4a7c15 >> 32 & mask; ; i = (i + 1) & mask {
		if s := &h.table[i]; s.last < h.first || s.gram == gram {
			return s
		}
	}
}

func (h *hearer) grow() {
	old := h.table
	h.table = make([]slot, 2*len(old))
	for _, s := range old {
		if s.last >= h.first {
			*h.find(s.gram) = s
		}
	}
}

// set returns the n-grams of a sentence in order.
func (h *hearer) set(i int) []uint64 {
	s := &h.seen[i]
	grams := h.grams[s.from:s.to]
	if !s.sorted {
		slices.Sort(grams)
		s.sorted = true
	}
	return grams
}
