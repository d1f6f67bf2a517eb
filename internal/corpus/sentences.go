package corpus

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/RadhiFadlillah/whatlanggo"
	"github.com/zeebo/xxh3"
)

// Sentences below this many words say little about repetition; above maxSentences a text is compared in part, which
// no segment of sensible length reaches.
const (
	minSentenceWords = 5
	maxSentences     = 600
)

var sentenceEnd = regexp.MustCompile(`[.!?]+["”')\]]*\s+|\n\s*\n|\n\s*(?:[-*+]|\d+[.)])\s+`)

// repetition looks for two sentences whose sets of word n-grams have a Jaccard similarity above the limit, and
// describes the first such pair.
func repetition(text string, n int, limit float64) string {
	var seen [][]uint64
	var said []string
	for _, sentence := range sentenceEnd.Split(prose(text), -1) {
		words := strings.FieldsFunc(strings.ToLower(sentence), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' })
		if len(words) < max(minSentenceWords, n) {
			continue
		}
		if len(seen) == maxSentences {
			break
		}
		grams := ngrams(words, n)
		for i, other := range seen {
			if j := jaccard(grams, other); j > limit {
				return fmt.Sprintf("%.2f between %q and %q", j, clip(said[i], 80), clip(strings.TrimSpace(sentence), 80))
			}
		}
		seen, said = append(seen, grams), append(said, strings.TrimSpace(sentence))
	}
	return ""
}

// prose returns the text without fenced code, tables and header lines, whose lines resemble each other by nature.
func prose(text string) string {
	var b strings.Builder
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

// ngrams returns the sorted set of hashed n-grams.
func ngrams(words []string, n int) []uint64 {
	grams := make([]uint64, 0, len(words)-n+1)
	for i := 0; i+n <= len(words); i++ {
		grams = append(grams, xxh3.HashString(strings.Join(words[i:i+n], " ")))
	}
	slices.Sort(grams)
	return slices.Compact(grams)
}

// jaccard compares two sorted sets.
func jaccard(a, b []uint64) float64 {
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

// languageSample is how much of a text is looked at, in characters, and languageMin the least that tells anything.
const (
	languageSample = 1000
	languageMin    = 100
)

// wrongLanguage names the language of a text when it is not the one wanted: when the detector is sure, and where
// English is wanted also when it hesitates between two others and hardly a word is English.
func wrongLanguage(text, want string) string {
	if want == "any" {
		return ""
	}
	sample := clip(prose(text), languageSample)
	if len(sample) < languageMin {
		return ""
	}
	share, sure := englishShare(sample)
	if want == "en" && sure {
		return ""
	}
	info := whatlanggo.Detect(sample)
	got := info.Lang.Iso6391()
	if got == want || got == "" || !info.IsReliable() && (want != "en" || share > 0.03) {
		return ""
	}
	return fmt.Sprintf("%s (%.2f), %s wanted", got, info.Confidence, want)
}

// english are words that make up a fifth to a third of English prose and next to nothing of any other language.
var english = map[string]bool{
	"the": true, "and": true, "to": true, "that": true, "with": true, "you": true, "this": true, "are": true,
	"from": true, "have": true, "it": true, "which": true, "they": true, "or": true, "not": true, "be": true,
	"by": true, "but": true, "when": true, "if": true, "your": true,
}

// englishShare returns which part of the words is on that list. It is sure of a text with a tenth of at least five
// kinds, which spares the detector: that costs more than all other work on a page together.
func englishShare(text string) (share float64, sure bool) {
	words, hits := 0, 0
	kinds := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		words++
		word = strings.ToLower(strings.Trim(word, ".,;:!?()\"'*_"))
		if english[word] {
			hits++
			kinds[word] = true
		}
	}
	share = float64(hits) / float64(max(words, 1))
	return share, share >= 0.1 && len(kinds) >= 5 && kinds["the"]
}
