package corpus

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sentences below this many words say little about repetition; above maxSentences a text is compared in part, which
// no segment of sensible length reaches.
const (
	minSentenceWords = 5
	maxSentences     = 600
)

// repetition looks for two sentences whose sets of word n-grams have a Jaccard similarity above the limit, and
// describes the first such pair.
func repetition(said string, n int, limit float64) string {
	type heard struct {
		grams []uint64
		said  string
	}
	seen := make([]heard, 0, 32)
	words := make([]uint64, 0, 64)
	all := make([]uint64, 0, len(said)/4) // room for the n-grams of every sentence
	for sentence := range sentences(said) {
		if words = wordHashes(words[:0], sentence); len(words) < max(minSentenceWords, n) {
			continue
		}
		if len(seen) == maxSentences {
			break
		}
		from := len(all)
		all = ngrams(all, words, n)
		grams := all[from:]
		for _, other := range seen {
			if j := jaccard(grams, other.grams, limit); j > limit {
				return fmt.Sprintf("%.2f between %q and %q", j, clip(other.said, 80), clip(strings.TrimSpace(sentence), 80))
			}
		}
		seen = append(seen, heard{grams, strings.TrimSpace(sentence)})
	}
	return ""
}

// sentences splits a text after stops that a space follows, at blank lines, and where list items begin.
func sentences(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		from := 0
		for i := 0; i < len(text); {
			if c := text[i]; c != '.' && c != '\n' && c != '!' && c != '?' {
				i++
				continue
			}
			end := sentenceEnd(text, i)
			if end < 0 {
				i++
				continue
			}
			if !yield(text[from:i]) {
				return
			}
			from, i = end, end
		}
		yield(text[from:])
	}
}

// sentenceEnd returns where the next sentence begins if one ends at i, else -1.
func sentenceEnd(text string, i int) int {
	switch text[i] {
	case '.', '!', '?':
		j := i
		for j < len(text) && (text[j] == '.' || text[j] == '!' || text[j] == '?') {
			j++
		}
		for j < len(text) {
			if r, size := utf8.DecodeRuneInString(text[j:]); strings.ContainsRune("\"”')]", r) {
				j += size
				continue
			}
			break
		}
		if k := skipSpace(text, j); k > j {
			return k
		}
	case '\n':
		j := skipSpace(text, i+1)
		if k := strings.LastIndexByte(text[i+1:j], '\n'); k >= 0 {
			return i + 1 + k + 1
		}
		k := j
		for k < len(text) && text[k] >= '0' && text[k] <= '9' {
			k++
		}
		item := k < len(text) && (k > j && (text[k] == '.' || text[k] == ')') || k == j && (text[k] == '-' || text[k] == '*' || text[k] == '+'))
		if item {
			if end := skipSpace(text, k+1); end > k+1 {
				return end
			}
		}
	}
	return -1
}

func skipSpace(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r' || text[i] == '\f') {
		i++
	}
	return i
}

// wordHashes adds a hash of each word, in lower case, to list.
func wordHashes(list []uint64, sentence string) []uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a, over characters
	hash, inside := uint64(offset), false
	for i := 0; i < len(sentence); {
		r, size := rune(sentence[i]), 1
		letter := 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '\''
		switch {
		case 'A' <= r && r <= 'Z':
			r, letter = r+'a'-'A', true
		case r >= utf8.RuneSelf:
			r, size = utf8.DecodeRuneInString(sentence[i:])
			r = unicode.ToLower(r)
			letter = unicode.IsLetter(r) || unicode.IsDigit(r)
		}
		i += size
		if letter {
			hash, inside = (hash^uint64(r))*prime, true
		} else if inside {
			list = append(list, hash)
			hash, inside = offset, false
		}
	}
	if inside {
		list = append(list, hash)
	}
	return list
}

// prose returns the text without fenced code, tables and header lines, whose lines resemble each other by nature.
func prose(text string) string {
	if !strings.ContainsAny(text, "`~|#") {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	fenced := false
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(line)
		if strings.HasPrefix(bare, "```") || strings.HasPrefix(bare, "~~~") {
			fenced = !fenced
			continue
		}
		if fenced || strings.HasPrefix(bare, "|") || strings.HasPrefix(bare, "#") {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

// ngrams adds the sorted set of hashed n-grams to a list.
func ngrams(list, words []uint64, n int) []uint64 {
	from := len(list)
	for i := 0; i+n <= len(words); i++ {
		hash := uint64(0)
		for _, w := range words[i : i+n] {
			hash = (bits.RotateLeft64(hash, 29) ^ w) * 0x9e3779b97f4a7c15
		}
		list = append(list, hash)
	}
	slices.Sort(list[from:])
	return list[:from+len(slices.Compact(list[from:]))]
}

// jaccard compares two sorted sets, or returns 0 where their sizes keep it below the limit.
func jaccard(a, b []uint64, limit float64) float64 {
	if float64(min(len(a), len(b))) <= limit*float64(max(len(a), len(b))) {
		return 0
	}
	common := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			common++
			i++
			j++
		case a[i] < b[j]:
			i++
		default:
			j++
		}
	}
	return float64(common) / float64(len(a)+len(b)-common)
}
