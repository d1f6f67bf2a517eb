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

// wrongLanguage names the language of a text when it is surely not the one wanted.
func wrongLanguage(text, want string) string {
	if want == "any" {
		return ""
	}
	sample := clip(prose(text), languageSample)
	if len(sample) < languageMin {
		return ""
	}
	if want == "en" && plainlyEnglish(sample) {
		return ""
	}
	info := whatlanggo.Detect(sample)
	got := info.Lang.Iso6391()
	otherScript := want == "en" && info.Script != nil && info.Script != unicode.Latin // whichever language it is
	if got == want || !otherScript && (got == "" || !info.IsReliable()) {
		return ""
	}
	return fmt.Sprintf("%s (%.2f), %s wanted", got, info.Confidence, want)
}

// english are words that make up a fifth to a third of English prose and next to nothing of any other language.
var english = map[string]bool{
	"the": true, "and": true, "of": true, "to": true, "that": true, "with": true, "you": true, "this": true,
	"are": true, "from": true, "have": true, "it": true, "is": true, "which": true, "they": true, "or": true,
}

// plainlyEnglish spares the detector, which costs ten times as much as the rest of the work, what a few words tell: a
// tenth of the text, of at least five kinds.
func plainlyEnglish(text string) bool {
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
	return len(kinds) >= 5 && kinds["the"] && hits*10 >= words
}
