package corpus

import (
	"math"
	"slices"
	"sync"
	"unicode"
	_ "unsafe" // for go:linkname

	"github.com/RadhiFadlillah/whatlanggo"
)

// latinProfiles are the detector's own profiles of languages in Latin script: the commonest trigrams of each, commonest first. The
// detector looks each of its 13,000 trigrams up in a map made of the text, which takes half a millisecond a text and a quarter of all
// that ingest does with pages in many languages. Here the text's trigrams are looked up in an index of the profiles, with the same
// result. A version of the detector without them under this name leaves the map empty, and the detector does it all.
//
//go:linkname latinProfiles github.com/RadhiFadlillah/whatlanggo.latinLangs
var latinProfiles map[whatlanggo.Lang][]string

// profileLength is the detector's length of a profile: the weight of its first trigram.
const profileLength = 300

// profiles is the index: open addressing, a power of two, less than half full.
type profiles struct {
	langs []whatlanggo.Lang
	slots []profileSlot
	marks []mark // of all trigrams, one trigram's after the other
	known int    // trigrams
}

// profileSlot holds a trigram and its place in marks.
type profileSlot struct {
	trigram  uint64 // 0: free
	from, to int32
	number   int32
}

// mark says what a trigram tells of a language.
type mark struct {
	lang   int32 // in langs
	weight int32
}

// packTrigram packs three runes of 21 bits. A space is not 0, so no trigram is.
func packTrigram(a, b, c rune) uint64 { return uint64(a)<<42 | uint64(b)<<21 | uint64(c) }

var latinIndex = sync.OnceValue(func() *profiles {
	p := &profiles{}
	for lang := range latinProfiles {
		p.langs = append(p.langs, lang)
	}
	slices.Sort(p.langs)
	of := map[uint64][]mark{}
	for i, lang := range p.langs {
		for rank, trigram := range latinProfiles[lang] {
			if r := []rune(trigram); len(r) == 3 {
				key := packTrigram(r[0], r[1], r[2])
				of[key] = append(of[key], mark{lang: int32(i), weight: int32(profileLength - rank)})
			}
		}
	}
	size := 1024
	for size < 3*len(of) {
		size *= 2
	}
	p.slots = make([]profileSlot, size)
	for key, marks := range of {
		s := p.find(key)
		*s = profileSlot{trigram: key, from: int32(len(p.marks)), to: int32(len(p.marks) + len(marks)), number: int32(p.known)}
		p.marks = append(p.marks, marks...)
		p.known++
	}
	return p
})

// find returns the slot of a trigram, or the free one where it would be.
func (p *profiles) find(trigram uint64) *profileSlot {
	mask := uint64(len(p.slots) - 1)
	for i := trigram * 0x9e3779b97f4a7c15 >> 40 & mask; ; i = (i + 1) & mask {
		if s := &p.slots[i]; s.trigram == trigram || s.trigram == 0 {
			return s
		}
	}
}

// language returns the language of a text by its ISO 639-1 code, none where there is no telling or no code, with the detector's
// confidence.
func language(text string) (code string, confidence float64) {
	if len(latinProfiles) < 2 || !plainLatin(text) {
		info := whatlanggo.Detect(text)
		return info.Lang.Iso6391(), info.Confidence
	}
	lang, confidence := latinIndex().detect(text)
	return lang.Iso6391(), confidence
}

// plainLatin reports whether the only letters of a text are Latin, as far as can be told at a glance.
func plainLatin(text string) bool {
	letters := false
	for _, r := range text {
		if r >= 0x250 && (r < 0x2000 || r > 0x206f) { // general punctuation belongs to no script
			return false
		}
		letters = letters || 'a' <= r|0x20 && r|0x20 <= 'z'
	}
	return letters
}

// stopBytes are the bytes of ASCII that the detector takes for a space, and all others in lower case.
var stopBytes = func() (low [128]byte) {
	for c := range low {
		r := rune(c)
		low[c] = byte(unicode.ToLower(r))
		if stopChar(r) {
			low[c] = ' '
		}
	}
	return low
}()

func stopChar(r rune) bool {
	return unicode.IsSymbol(r) || unicode.IsSpace(r) || unicode.IsPunct(r) || unicode.IsDigit(r)
}

// trigramChar is a character as trigrams have it.
func trigramChar(r rune) rune {
	switch {
	case r < 128:
		return rune(stopBytes[r])
	case stopChar(r):
		return ' '
	}
	return unicode.ToLower(r)
}

// score is how far a text's trigrams are those of a language.
type score struct{ dist, trigrams int }

// detect does what the detector does. Where two languages are equally near, it takes always the same.
func (p *profiles) detect(text string) (whatlanggo.Lang, float64) {
	scores := make([]score, len(p.langs))
	seen := make([]bool, p.known)
	add := func(a, b, c rune) {
		if b == ' ' && (a == ' ' || c == ' ') {
			return
		}
		s := p.find(packTrigram(a, b, c))
		if s.trigram == 0 {
			return
		}
		first := 0
		if !seen[s.number] {
			seen[s.number], first = true, 1
		}
		for _, m := range p.marks[s.from:s.to] {
			scores[m.lang].dist += int(m.weight)
			scores[m.lang].trigrams += first
		}
	}
	a, b := ' ', rune(-1)
	for _, r := range text {
		c := trigramChar(r)
		if b >= 0 {
			add(a, b, c)
			a = b
		}
		b = c
	}
	add(a, b, ' ')
	return p.nearest(scores)
}

// nearest returns the language with the highest score, and the detector's confidence in it.
func (p *profiles) nearest(scores []score) (whatlanggo.Lang, float64) {
	best, next := 0, 1
	if scores[next].dist > scores[best].dist {
		best, next = next, best
	}
	for i, s := range scores[2:] {
		switch {
		case s.dist > scores[best].dist:
			best, next = i+2, best
		case s.dist > scores[next].dist:
			next = i + 2
		}
	}
	high, low := scores[best], scores[next]
	switch {
	case high.dist == 0:
		return -1, 0
	case low.dist == 0:
		return p.langs[best], float64(min(high.dist/500, 1)) // a whole number, as the detector has it
	}
	rate := float64(high.dist-low.dist) / float64(low.dist)
	confident := 12.0/float64(high.trigrams) + 0.05
	if rate > confident {
		return p.langs[best], 1
	}
	return p.langs[best], math.Round(rate/confident*100) / 100
}
