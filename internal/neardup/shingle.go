// Package neardup finds texts that say almost the same: MinHash signatures, locality-sensitive hashing, and the true
// Jaccard similarity of every pair that these propose. For datasets of any size the steps are a sort-based shuffle over
// objects in S3 (Task); for up to some hundred thousand texts in memory there is Find.
package neardup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/zeebo/xxh3"
)

// Rules say which texts are near-duplicates. The names are those of datasketch and its kin.
type Rules struct {
	// Threshold is the least Jaccard similarity of near-duplicates, over 0 and at most 1.
	Threshold float64 `json:"threshold"`
	// Shingle is how many consecutive words are compared as one.
	Shingle int `json:"shingle"`
	// Permutations is the length of a MinHash signature, at least 16.
	Permutations int `json:"permutations"`
}

// Bounds of Rules.
const (
	MaxShingle      = 100
	MinPermutations = 16
	MaxPermutations = 1024
)

// Validate says what is wrong with the rules.
func (r Rules) Validate() error {
	switch {
	case !(r.Threshold > 0 && r.Threshold <= 1):
		return fmt.Errorf("near-duplicates: threshold %v is not over 0 and at most 1", r.Threshold)
	case r.Shingle < 1 || r.Shingle > MaxShingle:
		return fmt.Errorf("near-duplicates: a shingle of %d words is outside 1 to %d", r.Shingle, MaxShingle)
	case r.Permutations < MinPermutations || r.Permutations > MaxPermutations:
		return fmt.Errorf("near-duplicates: %d permutations are outside %d to %d", r.Permutations, MinPermutations, MaxPermutations)
	}
	return nil
}

// shingler cuts texts into shingles. It keeps its buffers between texts and is not safe for concurrent use.
type shingler struct {
	words  int
	text   []byte // normalised: words in lower case, each followed by a space
	starts []int  // of words in text
	out    []uint32
}

func newShingler(words int) *shingler { return &shingler{words: words} }

// set returns the text's distinct shingles in ascending order, in a slice that the next call overwrites.
func (s *shingler) set(text string) []uint32 {
	slices.Sort(s.each(text))
	s.out = slices.Compact(s.out)
	return s.out
}

// each returns the text's shingles in the order of the text, in a slice that the next call overwrites: the lower halves of
// the XXH3 hashes of every run of words. A text is its words in lower case: runs of letters, marks and digits; where
// a script sets no spaces between words (Han, Kana, Thai and their kin) every letter is one. A text with fewer words than
// a shingle is one shingle, one without any word has none, and is like no other.
func (s *shingler) each(text string) []uint32 {
	s.normalise(text)
	s.out = s.out[:0]
	n := len(s.starts) - 1 // the last one is the end
	if n < 1 {
		return nil
	}
	for i := range max(1, n-s.words+1) {
		end := s.starts[min(n, i+s.words)]
		s.out = append(s.out, uint32(xxh3.Hash(s.text[s.starts[i]:end])))
	}
	return s.out
}

func (s *shingler) normalise(text string) {
	s.text, s.starts = s.text[:0], s.starts[:0]
	inside := false
	leave := func() {
		if inside {
			s.text, inside = append(s.text, ' '), false
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			i++
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if ('a' > c || c > 'z') && ('0' > c || c > '9') {
				leave()
				continue
			}
			if !inside {
				s.starts, inside = append(s.starts, len(s.text)), true
			}
			s.text = append(s.text, c)
			continue
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		mark := unicode.IsMark(r)
		if r == utf8.RuneError || (!mark && !unicode.IsLetter(r) && !unicode.IsDigit(r)) {
			leave()
			continue
		}
		alone := !mark && spaceless(r)
		if alone {
			leave()
		}
		if !inside {
			s.starts, inside = append(s.starts, len(s.text)), true
		}
		s.text = utf8.AppendRune(s.text, unicode.ToLower(r))
		if alone {
			leave()
		}
	}
	leave()
	s.starts = append(s.starts, len(s.text))
}

// spaceless reports whether a letter's script sets no spaces between words.
func spaceless(r rune) bool {
	return r >= 0x0E00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// jaccard returns |a ∩ b| ÷ |a ∪ b| of two ascending sets, 0 of two empty ones.
func jaccard(a, b []uint32) float64 {
	both, i, j := 0, 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			both, i, j = both+1, i+1, j+1
		}
	}
	if all := len(a) + len(b) - both; all > 0 {
		return float64(both) / float64(all)
	}
	return 0
}

// mayReach reports whether sets of these sizes can have a similarity of at least threshold.
func mayReach(a, b int, threshold float64) bool {
	return float64(min(a, b)) >= threshold*float64(max(a, b))*(1-1e-9) // the sizes' quotient is rounded
}

var errDamaged = errors.New("the object is damaged. Try: run the step again")

// appendSet encodes an ascending set as differences.
func appendSet(to []byte, set []uint32) []byte {
	last := uint32(0)
	for _, x := range set {
		to = binary.AppendUvarint(to, uint64(x-last))
		last = x
	}
	return to
}

// readSet is the inverse of appendSet; it appends to set.
func readSet(set []uint32, b []byte) ([]uint32, error) {
	last := uint64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errDamaged
		}
		if last += d; d > 1<<32-1 || last > 1<<32-1 {
			return nil, errDamaged
		}
		set, b = append(set, uint32(last)), b[n:]
	}
	return set, nil
}
