package corpus

import (
	"fmt"
	"slices"
	"strings"
)

// languageSample is how much of a text is looked at, in characters, and languageMin the least that tells anything.
const (
	languageSample = 1000
	languageMin    = 100
)

// wrongLanguage names the language of prose with the detector's confidence, when it is none of those wanted and the
// detector is at least as sure as asked for; where English is wanted also when it hesitates between two others and hardly
// a word is English. No language wanted means that all are.
func wrongLanguage(said string, want []string, confidence float64) string {
	if len(want) == 0 {
		return ""
	}
	english := slices.Contains(want, "en")
	sample := clip(said, languageSample)
	if len(sample) < languageMin {
		return ""
	}
	share, sure := englishShare(sample)
	if english && sure {
		return ""
	}
	got, sureness := language(sample)
	if got == "" || slices.Contains(want, got) || sureness < confidence && (!english || share > 0.03) {
		return ""
	}
	return fmt.Sprintf("%s with confidence %.2f, %s wanted", got, sureness, strings.Join(want, " or "))
}

// english are words that make up a fifth to a third of English prose and next to nothing of any other language, packed.
var english = func() (table [64]uint64) {
	for word := range strings.FieldsSeq(`the and to that with you this are from have it which they or
not be by but when if your`) {
		key := uint64(0)
		for i := range len(word) {
			key = key<<8 | uint64(word[i])
		}
		i := englishSlot(key)
		for table[i] != 0 {
			i = (i + 1) % len(table)
		}
		table[i] = key
	}
	return table
}()

const (
	longestEnglish = 5  // bytes of the longest of them
	enoughWords    = 40 // after which a text that looks English is taken for it
	keyThe         = 't'<<16 | 'h'<<8 | 'e'
)

func englishSlot(key uint64) int { return int(key * 0x9e3779b97f4a7c15 >> 58) }

// englishWord returns the word of that list that a word is, in any case and without the signs around it, packed; 0 for none.
func englishWord(word string) uint64 {
	if len(word) > 2*longestEnglish {
		return 0
	}
	key, letters := uint64(0), 0
	for i := range len(word) {
		c := word[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if 'a' <= c && c <= 'z' {
			key = key<<8 | uint64(c)
			letters++
		} else if strings.IndexByte(".,;:!?()\"'*_", c) < 0 {
			return 0
		}
	}
	if letters == 0 || letters > longestEnglish {
		return 0
	}
	for i := englishSlot(key); english[i] != 0; i = (i + 1) % len(english) {
		if english[i] == key {
			return key
		}
	}
	return 0
}

// englishShare returns which part of the words is on that list. It is sure of a text with a tenth of at least five
// kinds, which spares the detector.
func englishShare(text string) (share float64, sure bool) {
	words, hits := 0, 0
	var kinds [4]uint64 // of those counted, four different ones
	different, the := 0, false
	for word := range strings.FieldsSeq(text) {
		words++
		key := englishWord(word)
		if key == 0 {
			continue
		}
		hits++
		the = the || key == keyThe
		if different < 5 && !slices.Contains(kinds[:min(different, len(kinds))], key) {
			if different < len(kinds) {
				kinds[different] = key
			}
			different++
		}
		if words >= enoughWords && the && different >= 5 && hits*10 >= words {
			break
		}
	}
	share = float64(hits) / float64(max(words, 1))
	return share, share >= 0.1 && different >= 5 && the
}
