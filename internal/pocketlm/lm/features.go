package lm

import (
	"math"
	"strings"
)

// bits is the size of the hashed feature space, as a power of two.
const bits = 14

// Indices of the dense style features. Rates are per word, shares between 0 and 1.
const (
	fLength = iota
	fSentence
	fSentenceSpread
	fExclaim
	fQuestion
	fFirstSingular
	fFirstPlural
	fSecond
	fCapitals
	fDigits
	fBullets
	fNumbered
	fFragments
	fSymbols
	fLinks
	fEnds
	fBegins
	fListStart
	fVariety
	fRepeats
	fStopShare
	fCode
	fShout
	fTitle
	fPast
	fColons
	fHeading
	numDense
)

// style is what a text looks like, whatever it is about.
type style struct {
	dense [numDense]float64
	words []word
	grams []uint32 // hashed places of words and of word pairs in the feature space, each once
	flags uint32   // structure, for crossing with the kind of instruction
}

var (
	firstSingular = wordSet("i me my mine myself i'm i've i'd i'll")
	firstPlural   = wordSet("we us our ours ourselves we're we've we'll")
	second        = wordSet("you your yours yourself you're you've you'll you'd")
)

func styleOf(text string) *style {
	s := &style{words: wordsOf(text)}
	n := len(s.words)
	if n == 0 {
		return s
	}
	d := &s.dense
	rate := 1 / float64(n)
	var stops, caps, title, past, distinct int
	seen := make(map[string]struct{}, n)
	s.grams = make([]uint32, 0, 2*n)
	prev := uint32(1)
	var once [gramSpace / 64]uint64
	for i, w := range s.words {
		if w.stop {
			stops++
		}
		switch {
		case firstSingular[w.lower]:
			d[fFirstSingular] += rate
		case firstPlural[w.lower]:
			d[fFirstPlural] += rate
		case second[w.lower]:
			d[fSecond] += rate
		}
		if c := text[w.at]; c >= 'A' && c <= 'Z' {
			if w.end-w.at > 2 && isUpper(text[w.at:w.end]) {
				caps++
			} else if i > 0 && text[w.at-1] == ' ' {
				title++
			}
		}
		if len(w.lower) > 4 && strings.HasSuffix(w.lower, "ed") {
			past++
		}
		if _, ok := seen[w.lower]; !ok {
			seen[w.lower] = struct{}{}
			if i < 200 {
				distinct++
			}
		}
		h := hashOf(w.lower)
		for _, g := range [...]uint32{h >> (32 - bits), hashPair(prev, h) >> (32 - bits)} {
			if once[g/64]>>(g%64)&1 == 0 {
				once[g/64] |= 1 << (g % 64)
				s.grams = append(s.grams, g)
			}
		}
		prev = h
	}
	d[fStopShare] = float64(stops) * rate
	d[fShout] = float64(caps) * rate
	d[fTitle] = float64(title) * rate
	d[fPast] = float64(past) * rate
	d[fVariety] = float64(distinct) / float64(min(n, 200))
	d[fLength] = math.Log(float64(n))
	s.characters(text, rate)
	s.lines(text)
	return s
}

func isUpper(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'a' && s[i] <= 'z' {
			return false
		}
	}
	return true
}

func (s *style) characters(text string, rate float64) {
	var letters, upper, digits, symbols, colons float64
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z':
			letters++
		case c >= 'A' && c <= 'Z':
			letters++
			upper++
		case c >= '0' && c <= '9':
			digits++
		case c == '|' || c == '$' || c == '@' || c == '#' || c == '>' || c == '%':
			symbols++
		case c == ':' || c == '(' || c == ';':
			colons++
		case c == 0xC2 || c == 0xE2: // leading bytes of © ® » € ™ • …
			symbols += 0.5
		}
	}
	d := &s.dense
	d[fCapitals] = upper / (letters + 1)
	d[fDigits] = digits / float64(len(text))
	d[fSymbols] = math.Sqrt(symbols * rate)
	d[fColons] = math.Sqrt(colons * rate)
	d[fLinks] = math.Sqrt(float64(strings.Count(text, "http")+strings.Count(text, "www.")) * rate)
}

func (s *style) lines(text string) {
	d := &s.dense
	var lines, bullets, numbered, fragments, headings, repeats float64
	first, lastLine := 0, ""
	var sentences, length, square, exclaim, question float64
	seen := make(map[string]struct{}, 16)
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		lines++
		lastLine = line
		kind, number, rest := listMark(line)
		switch {
		case kind == 'b':
			bullets++
		case kind == 'n':
			if numbered++; first == 0 {
				first = number
			}
		case strings.HasPrefix(line, "#"):
			headings++
		case strings.Count(line, " ") < 5 && !strings.ContainsAny(line[len(line)-1:], ".!?:`}"):
			fragments++
		}
		if _, ok := seen[rest]; ok {
			repeats++
		}
		seen[rest] = struct{}{}
		for at := 0; at < len(rest); {
			end := at
			for end < len(rest) && !(strings.IndexByte(".!?", rest[end]) >= 0 && (end+1 == len(rest) || rest[end+1] == ' ')) {
				end++
			}
			if end < len(rest) {
				switch rest[end] {
				case '!':
					exclaim++
				case '?':
					question++
				}
			}
			w := float64(strings.Count(rest[at:end], " ") + 1)
			sentences++
			length += w
			square += w * w
			at = end + 2
		}
	}
	mean := length / max(sentences, 1)
	d[fSentence] = math.Log(mean + 1)
	d[fSentenceSpread] = math.Sqrt(max(square/max(sentences, 1)-mean*mean, 0)) / (mean + 1)
	d[fExclaim] = exclaim / max(sentences, 1)
	d[fQuestion] = question / max(sentences, 1)
	d[fBullets], d[fNumbered], d[fFragments] = bullets/max(lines, 1), numbered/max(lines, 1), fragments/max(lines, 1)
	d[fHeading] = headings / max(lines, 1)
	d[fRepeats] = repeats / max(lines, 1)
	if lastLine != "" && strings.IndexByte(".!?`)}", lastLine[len(lastLine)-1]) >= 0 {
		d[fEnds] = 1
	}
	if t := strings.TrimSpace(text); t != "" && (t[0] >= 'A' && t[0] <= 'Z' || t[0] == '`') {
		d[fBegins] = 1
	}
	if first > 1 {
		d[fListStart] = 1 // begins in the middle
	}
	if strings.Contains(text, "```") || strings.Contains(text, "\n    ") || strings.Contains(text, "();") || strings.Contains(text, "():") {
		d[fCode] = 1
	}
	for i, on := range [...]bool{numbered > 1, bullets > 1, d[fCode] > 0, len(s.words) < 60, len(s.words) > 300, lines < 3} {
		if on {
			s.flags |= 1 << i
		}
	}
}
