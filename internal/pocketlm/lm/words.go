package lm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// word is a word of a text: its bytes [at, end) and its lower-case form.
type word struct {
	lower   string
	at, end int
	stop    bool // function word
}

// wordsOf cuts text into words: runs of letters and digits, with apostrophes and hyphens between them.
func wordsOf(text string) []word {
	low := lower(text)
	out := make([]word, 0, len(text)/5)
	for i := 0; i < len(low); {
		n := wordRune(low, i)
		if n == 0 {
			i++
			continue
		}
		start := i
		for i < len(low) {
			if n := wordRune(low, i); n > 0 {
				i += n
			} else if (low[i] == '\'' || low[i] == '-') && i+1 < len(low) && wordRune(low, i+1) > 0 {
				i++
			} else {
				break
			}
		}
		w := low[start:i]
		out = append(out, word{lower: w, at: start, end: i, stop: stopWords[w]})
	}
	return out
}

// wordRune is the length of the letter or digit at i, or 0.
func wordRune(s string, i int) int {
	c := s[i]
	if c < utf8.RuneSelf {
		if isLetter(c) || isDigit(c) {
			return 1
		}
		return 0
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if unicode.IsLetter(r) || unicode.IsDigit(r) {
		return n
	}
	return 0
}

// lower is strings.ToLower where that keeps every byte in its place, else only ASCII letters are lowered.
func lower(s string) string {
	if l := strings.ToLower(s); len(l) == len(s) {
		return l
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// stem cuts the commonest English endings, so that "tomatoes" and "tomato", "pruned" and "pruning" meet.
func stem(w string) string {
	n := len(w)
	if i := strings.IndexByte(w, '\''); i > 0 {
		w, n = w[:i], i
	}
	switch {
	case n > 5 && strings.HasSuffix(w, "ing"):
		w = undouble(w[:n-3])
	case n > 4 && strings.HasSuffix(w, "ied"), n > 4 && strings.HasSuffix(w, "ies"):
		w = w[:n-3] + "i"
	case n > 4 && strings.HasSuffix(w, "ed"):
		w = undouble(w[:n-2])
	case n > 4 && strings.HasSuffix(w, "es"):
		w = w[:n-2]
	case n > 3 && w[n-1] == 's' && w[n-2] != 's':
		w = w[:n-1]
	case n > 4 && strings.HasSuffix(w, "ly"):
		w = w[:n-2]
	}
	if n = len(w); n > 3 && (w[n-1] == 'e' || w[n-1] == 'y') {
		w = w[:n-1]
	}
	return w
}

func undouble(w string) string {
	if n := len(w); n > 3 && w[n-1] == w[n-2] && w[n-1] != 'l' && w[n-1] != 's' {
		return w[:n-1]
	}
	return w
}

func wordSet(s string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(s) {
		m[w] = true
	}
	return m
}

var stopWords = wordSet(`a about above after again against all also although always am an and another any are aren't around as at away back be
became because been before being below best better between both but by came can can't cannot come could couldn't did didn't do does doesn't doing don't done
down during each either else enough even ever every few first for from get gets getting give given gives go goes going good got had hadn't has hasn't have
haven't having he her here hers herself him himself his how however i i'd i'll i'm i've if in into instead is isn't it it's its itself just keep know last least less let let's like
likely long made make makes making many may maybe me mean means might mine more most much must my myself need needs never new next no nor not nothing now of off often
on once one only onto or other others our ours ourselves out over own part per perhaps put quite rather really right same say see seem seems several shall she should
shouldn't since so some something sometimes soon still such sure take takes tell than that that's the their theirs them themselves then there there's therefore these they
they're thing things think this those though three through thus till to together too toward towards two under unless until up upon us use used uses using usually very
want was wasn't way ways we we're we've well were weren't what what's whatever when where whether which while who whole whom whose why will with within without won't
work works would wouldn't yes yet you you'd you'll you're you've your yours yourself please want example explain describe give write list`)

// sentencesOf cuts text into sentences and lines; list marks stay with their line.
func sentencesOf(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		start := 0
		for i := 0; i < len(line); i++ {
			if c := line[i]; c != '.' && c != '!' && c != '?' {
				continue
			}
			if i+1 < len(line) && line[i+1] != ' ' || i > 0 && i-start < 3 {
				continue
			}
			if s := strings.TrimSpace(line[start : i+1]); s != "" {
				out = append(out, s)
			}
			start = i + 1
		}
		if s := strings.TrimSpace(line[start:]); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// listMark is the kind of list item that a line is: 'n' numbered, 'b' bulleted, 0 none; rest is the line without its mark.
func listMark(line string) (kind byte, number int, rest string) {
	i := 0
	for i < len(line) && i < 3 && isDigit(line[i]) {
		number = number*10 + int(line[i]-'0')
		i++
	}
	if i > 0 && i+1 < len(line) && (line[i] == '.' || line[i] == ')') && line[i+1] == ' ' {
		return 'n', number, line[i+2:]
	}
	for _, mark := range []string{"- ", "* ", "• ", "– ", "+ "} {
		if strings.HasPrefix(line, mark) {
			return 'b', 0, line[len(mark):]
		}
	}
	return 0, 0, line
}

func hashOf(s string) uint32 {
	h := uint32(2166136261)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

func hashPair(a, b uint32) uint32 {
	h := a*0x9e3779b1 ^ b
	h ^= h >> 15
	h *= 0x85ebca77
	return h ^ h>>13
}
