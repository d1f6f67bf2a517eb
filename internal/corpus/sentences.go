package corpus

import (
	"fmt"
	"iter"
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
	h, _ := hearers.Get().(*hearer)
	defer h.end()
	h.begin()
	for sentence := range sentences(said) {
		if h.words = wordHashes(h.words[:0], sentence); len(h.words) < max(minSentenceWords, n) {
			continue
		}
		if len(h.seen) == maxSentences {
			break
		}
		// Most sentences say nothing that was said: they share too few n-grams with all before to share enough with one.
		sized, known := h.hear(sentence, n)
		if float64(known)/float64(sized) <= limit {
			continue
		}
		last := len(h.seen) - 1
		grams := h.set(last)
		for i := range last {
			if j := jaccard(grams, h.set(i), limit); j > limit {
				return fmt.Sprintf("%.2f between %q and %q", j, clip(strings.TrimSpace(h.seen[i].said), 80), clip(strings.TrimSpace(sentence), 80))
			}
		}
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
	const offset, prime = 14695981039346656037, 1099511628211 // as in FNV-1a, over eight bytes at a time
	hash, part, size := uint64(offset), uint64(0), 0
	for i := 0; i < len(sentence); {
		c := sentence[i]
		if low := wordBytes[c]; low != 0 {
			part = part<<8 | uint64(low)
			if size++; size&7 == 0 {
				hash, part = (hash^part)*prime, 0
			}
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(sentence[i:])
			i += width
			if r = unicode.ToLower(r); unicode.IsLetter(r) || unicode.IsDigit(r) {
				hash, part, size = ((hash^part)*prime^uint64(r)<<32)*prime, 0, size+8&^7
				continue
			}
		} else {
			i++
		}
		if size > 0 {
			list = append(list, (hash^part)*prime)
			hash, part, size = offset, 0, 0
		}
	}
	if size > 0 {
		list = append(list, (hash^part)*prime)
	}
	return list
}

// wordBytes are the bytes of ASCII that words are made of, in lower case; 0 for all others.
var wordBytes = func() (low [256]byte) {
	for c := byte(0); c < utf8.RuneSelf; c++ {
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '\'':
			low[c] = c
		case 'A' <= c && c <= 'Z':
			low[c] = c + 'a' - 'A'
		}
	}
	return low
}()

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
