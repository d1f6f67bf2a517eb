// Package contamination tells with which evaluation sets a text shares an n-gram of words, from an index of bounded size.
//
// Words are runs of letters and digits, in lower case and without apostrophes, as GPT-3's decontamination has them (Brown et al. 2020,
// appendix C: lower case, no punctuation, n-grams of 13 words at most). A text of the set that is shorter than an n-gram counts
// whole when it has at least MinWords words (the least that the same appendix uses), else not at all.
package contamination

import (
	"cmp"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/selfalign/selfalign/internal/corpus"
)

// Bounds of an index.
const (
	DefaultNGram = 13
	MinWords     = 8
	MaxGrams     = 8 << 20 // n-grams, 16 bytes each
	maxSets      = 1 << 12
	maxHits      = 8 // sets that are named for one text
)

// ErrTooLarge says that the sets have more n-grams than an index holds.
var ErrTooLarge = errors.New("the evaluation sets have more than 8 million n-grams")

// Set says how much of an evaluation set is in the index.
type Set struct {
	Name  string `json:"name"`
	Rows  int64  `json:"rows"`
	Texts int64  `json:"texts"` // of all rows
	Short int64  `json:"short"` // texts of fewer words than MinWords, which are not looked for
	Grams int64  `json:"grams"` // n-grams, those twice in the set included
}

// gram is an n-gram's hash and the row that it is from, as an index into rows.
type gram struct {
	hash uint64
	row  uint32
}

type row struct {
	set    uint16
	number int64
}

// Index holds the n-grams of evaluation sets. Fill it with Add, then Seal it; a sealed index may be asked by many at once.
type Index struct {
	n       int
	most    int
	lengths []int // in words, that occur: n, and those of shorter texts
	sets    []Set
	rows    []row
	grams   []gram
	filter  []uint64 // one bit of a hash each, so that most words cost one look
	shift   int
	scratch sync.Pool
}

// New returns an empty index of n-grams of n words; 0 means DefaultNGram.
func New(n int) *Index {
	if n <= 0 {
		n = DefaultNGram
	}
	return &Index{n: max(n, MinWords), most: MaxGrams}
}

// Sets says what the index holds.
func (x *Index) Sets() []Set { return x.sets }

// Add takes the texts of one row of a set; rows of one set come together. The error is ErrTooLarge.
func (x *Index) Add(set string, number int64, texts []string) error {
	if len(x.sets) == 0 || x.sets[len(x.sets)-1].Name != set {
		if len(x.sets) == maxSets {
			return ErrTooLarge
		}
		x.sets = append(x.sets, Set{Name: set})
	}
	s := &x.sets[len(x.sets)-1]
	s.Rows++
	added := false
	for _, text := range texts {
		w := words{}
		w.read(text)
		s.Texts++
		length := min(x.n, len(w.ends))
		if length < MinWords {
			s.Short++
			continue
		}
		if !slices.Contains(x.lengths, length) {
			x.lengths = append(x.lengths, length)
		}
		if !added {
			x.rows = append(x.rows, row{uint16(len(x.sets) - 1), number})
			added = true
		}
		power := pow(length)
		for i := 0; i+length <= len(w.ends); i++ {
			x.grams = append(x.grams, gram{w.gram(i, length, power), uint32(len(x.rows) - 1)})
			s.Grams++
		}
		if len(x.grams) >= x.most {
			if x.compact(); len(x.grams) > x.most*7/8 {
				return ErrTooLarge
			}
		}
	}
	return nil
}

// compact sorts the n-grams and keeps the first row of each set for each.
func (x *Index) compact() {
	slices.SortFunc(x.grams, func(a, b gram) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.row, b.row)) })
	x.grams = slices.CompactFunc(x.grams, func(a, b gram) bool {
		return a.hash == b.hash && x.rows[a.row].set == x.rows[b.row].set
	})
}

// Seal makes the index ready to be asked.
func (x *Index) Seal() {
	x.compact()
	x.grams = slices.Clip(x.grams)
	slices.Sort(x.lengths)
	size := max(6, bits.Len(uint(len(x.grams)*16)))
	x.filter, x.shift = make([]uint64, 1<<(size-6)), 64-size
	for _, g := range x.grams {
		at := g.hash >> x.shift
		x.filter[at/64] |= 1 << (at % 64)
	}
	x.scratch.New = func() any { return new(words) }
}

// Find returns the sets with which a text shares an n-gram, in the order in which they were added, each with the row and the
// words of the first.
func (x *Index) Find(text string) []corpus.Hit {
	if len(x.grams) == 0 {
		return nil
	}
	w, _ := x.scratch.Get().(*words)
	defer x.scratch.Put(w)
	w.read(text)
	var hits []corpus.Hit
	var seen []uint16
	for _, length := range x.lengths {
		power := pow(length)
		for i := 0; i+length <= len(w.ends); i++ {
			hash := w.gram(i, length, power)
			if at := hash >> x.shift; x.filter[at/64]&(1<<(at%64)) == 0 {
				continue
			}
			j, _ := slices.BinarySearchFunc(x.grams, hash, func(g gram, h uint64) int { return cmp.Compare(g.hash, h) })
			for ; j < len(x.grams) && x.grams[j].hash == hash && len(hits) < maxHits; j++ {
				r := x.rows[x.grams[j].row]
				if slices.Contains(seen, r.set) {
					continue
				}
				seen = append(seen, r.set)
				hits = append(hits, corpus.Hit{Set: x.sets[r.set].Name, Row: r.number, Words: w.spoken(text, i, length)})
			}
		}
	}
	slices.SortStableFunc(hits, func(a, b corpus.Hit) int { return x.rank(a.Set) - x.rank(b.Set) })
	return hits
}

func (x *Index) rank(set string) int {
	return slices.IndexFunc(x.sets, func(s Set) bool { return s.Name == set })
}

// words are the words of a text as sums of a polynomial of their hashes: the hash of any run of words is a difference.
type words struct {
	sums         []uint64 // sums[i] is that of the first i words
	starts, ends []int    // in the text
}

const base = 0x9e3779b97f4a7c15

func pow(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= base
	}
	return p
}

func (w *words) read(text string) {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a, over characters
	w.sums, w.starts, w.ends = append(w.sums[:0], 0), w.starts[:0], w.ends[:0]
	hash, start := uint64(offset), -1
	end := func(at int) {
		w.sums = append(w.sums, w.sums[len(w.sums)-1]*base+mix(hash))
		w.ends = append(w.ends, at)
		hash, start = offset, -1
	}
	for i, r := range text {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		case 'A' <= r && r <= 'Z':
			r += 'a' - 'A'
		case r == '\'' || r == '’':
			continue
		case r >= 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			r = unicode.ToLower(r)
		default:
			if start >= 0 {
				end(i)
			}
			continue
		}
		if start < 0 {
			start = i
			w.starts = append(w.starts, i)
		}
		hash = (hash ^ uint64(r)) * prime
	}
	if start >= 0 {
		end(len(text))
	}
}

// gram returns the hash of length words from word i on.
func (w *words) gram(i, length int, power uint64) uint64 {
	return mix(w.sums[i+length]-w.sums[i]*power) + uint64(length)
}

// spoken returns words as they stand in the index.
func (w *words) spoken(text string, i, length int) string {
	said := make([]string, length)
	for j := range said {
		word := strings.ToLower(text[w.starts[i+j]:w.ends[i+j]])
		said[j] = strings.NewReplacer("'", "", "’", "").Replace(word)
	}
	return strings.Join(said, " ")
}

func mix(h uint64) uint64 {
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32
}
