package lm

import (
	"math"
	"sort"
	"strings"
)

// kindOf is the grammar of what fills a slot.
type slotKind byte

const (
	slotNoun slotKind = iota
	slotVerb
	slotGerund
)

// frame is the part of an instruction that does not come from the text it asks for.
type frame struct {
	before, after string
	kind          slotKind
}

// backward writes instructions: frames learnt from the training instructions, filled with phrases of the text at hand.
type backward struct {
	frames  []frame // one for each example, empty if none could be learnt
	count   map[frame]float64
	popular []frame
	verbs   map[string]float64 // stems that stand after "to", "you" …: how much more often than after "the", "a" …
	typical float64            // mean words of an instruction
}

var (
	verbAfter = wordSet("to you can should could must will don't let's i we they cannot may")
	nounAfter = wordSet("the a an of this that these in on with for your its their our my")
)

func fitBackward(ex []Example, texts []string) *backward {
	b := &backward{count: map[frame]float64{}, verbs: map[string]float64{}}
	df := map[string]int{}
	for i, e := range ex {
		seen := map[string]bool{}
		w := wordsOf(e.Assistant)
		b.typical += float64(len(w)) / float64(len(ex))
		for _, x := range w {
			if !seen[x.lower] {
				seen[x.lower] = true
				df[x.lower]++
			}
		}
		b.learnVerbs(w)
		b.learnVerbs(wordsOf(texts[i]))
	}
	need := max(3, len(ex)/25)
	for i, e := range ex {
		f, ok := frameOf(e.Assistant, texts[i], func(w word) bool { return w.stop || df[w.lower] >= need })
		if ok {
			b.count[f]++
		} else {
			f = frame{}
		}
		b.frames = append(b.frames, f)
	}
	for f := range b.count {
		b.popular = append(b.popular, f)
	}
	sort.Slice(b.popular, func(x, y int) bool {
		p, q := b.popular[x], b.popular[y]
		if b.count[p] != b.count[q] {
			return b.count[p] > b.count[q]
		}
		return p.before+"\x00"+p.after < q.before+"\x00"+q.after
	})
	return b
}

func (b *backward) learnVerbs(words []word) {
	for i := 1; i < len(words); i++ {
		if words[i].stop {
			continue
		}
		switch prev := words[i-1].lower; {
		case verbAfter[prev]:
			b.verbs[words[i].lower]++
		case nounAfter[prev]:
			b.verbs[words[i].lower]--
		}
	}
}

// frameOf cuts the part that is about the text out of an instruction: from the first word that is not generic to the last.
func frameOf(inst, text string, generic func(word) bool) (frame, bool) {
	inst = strings.TrimSpace(inst)
	words := wordsOf(inst)
	if len(words) > 25 {
		if s := sentencesOf(inst); len(s) > 1 {
			inst = s[0]
			words = wordsOf(inst)
		}
	}
	first, last := -1, -1
	for i, w := range words {
		if !generic(w) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first <= 0 || strings.Contains(inst, "\n") {
		return frame{}, false
	}
	for first > 1 && determiner[words[first-1].lower] { // the phrase brings its own
		first--
	}
	f := frame{before: inst[:words[first].at], after: inst[words[last].end:]}
	closes := false
	if rest := words[last+1:]; len(rest) == 1 && closers[rest[0].lower] {
		closes = true
	} else if len(rest) > 7 || last-first > 5 || len(rest) == 1 || len(rest) > 1 && !extends[rest[0].lower] {
		f.after = inst[len(strings.TrimRight(inst, ".?!")):]
	}
	if strings.HasSuffix(f.before, "between ") || strings.ContainsAny(f.before, "\"“`(") || len(f.before) > 80 {
		return frame{}, false
	}
	have := map[string]bool{}
	for _, w := range wordsOf(text) {
		have[stem(w.lower)] = true
	}
	copied := false
	for _, w := range words[first : last+1] {
		copied = copied || !w.stop && have[stem(w.lower)]
	}
	prev := words[first-1].lower
	switch {
	case strings.HasSuffix(words[first].lower, "ing"):
		f.kind = slotGerund
	case verbAfter[prev]:
		f.kind = slotVerb
	case words[first].lower == "a" || words[first].lower == "an":
		return frame{}, false // asks for a thing to be made, of which the text says nothing
	case !closes && !nounAfterFrame[prev]:
		return frame{}, false
	}
	return f, copied
}

// closers end a question whose subject stands before them; nounAfterFrame are words after which a bare noun can stand.
var (
	closers        = wordSet("work works mean means matter matters happen happens")
	nounAfterFrame = wordSet("is are explain describe compare summarise summarize about of on for with between from list in")
)

// extends are words with which an instruction goes on after its subject.
var extends = wordSet("and for with in to step so from without using")

var determiner = wordSet("a an the my your our their some this these its")

// phrase is something a text is about.
type phrase struct {
	text  string
	score float64
}

// phrases finds what fills slots of each kind, best first.
func (b *backward) phrases(text string, stats *corpusStats) (nouns, verbs []phrase) {
	words := wordsOf(text)
	tf := map[string]float64{}
	for _, w := range words {
		if !w.stop {
			tf[stem(w.lower)]++
		}
	}
	worth := func(w word, at int) float64 {
		if w.stop || len(w.lower) < 3 || isDigit(w.lower[0]) {
			return 0
		}
		st := stem(w.lower)
		return math.Log1p(tf[st]) * stats.idf(st) * (1 + 0.7*math.Exp(-float64(at)/25))
	}
	bestN, bestV := map[string]float64{}, map[string]float64{}
	for i := range words {
		verb := b.isVerb(words[i])
		opens := opensSentence(text, words[i].at)
		if verb && (opens || i > 0 && verbAfter[words[i-1].lower]) {
			if p, s := grow(text, words, i, worth); p != "" {
				if i > 1 && words[i-2].lower == "how" {
					s *= 1.5 // a heading that says it
				}
				bestV[p] = max(bestV[p], s)
			}
		}
		if words[i].stop || opens && verb {
			continue
		}
		sum, weight := 0.0, 0.0
		for k := i; k < len(words) && k < i+3; k++ {
			if words[k].stop || k > i && text[words[k-1].end:words[k].at] != " " {
				break
			}
			sum += worth(words[k], k)
			weight += 1
			if k == i && (b.isVerb(words[k]) || strings.HasSuffix(words[k].lower, "ed")) {
				weight += 0.7
			}
			p := phraseText(text, words[i].at, words[k].end)
			bestN[p] = max(bestN[p], sum/math.Pow(weight, 0.45))
		}
	}
	return ranked(bestN, 8), ranked(bestV, 6)
}

// isVerb is true of verbs that the base model knows and of those that the training texts showed three times.
func (b *backward) isVerb(w word) bool {
	return baseVerbs()[w.lower] || !w.stop && b.verbs[w.lower] >= 3
}

// grow extends a verb to its phrase: up to seven words to the end of the clause, ending in a content word.
func grow(text string, words []word, i int, worth func(word, int) float64) (string, float64) {
	end, sum := -1, worth(words[i], i)*0.3
	for k := i + 1; k < len(words) && k < i+7; k++ {
		if text[words[k-1].end:words[k].at] != " " || clauseBreak[words[k].lower] {
			break
		}
		if words[k].stop {
			continue
		}
		end = k
		sum += worth(words[k], k)
	}
	if end < 0 {
		return "", 0
	}
	return phraseText(text, words[i].at, words[end].end), sum / math.Pow(float64(end-i+1), 0.5)
}

var clauseBreak = wordSet("and or but so because which that when while until if unless then where who it they you we is are was were will can")

func opensSentence(text string, at int) bool {
	i := at - 1
	for i >= 0 && (text[i] == ' ' || text[i] == '*' || text[i] == '"') {
		i--
	}
	return i < 0 || strings.IndexByte(".!?:\n-)", text[i]) >= 0
}

// phraseText is the phrase as it would stand within a sentence.
func phraseText(text string, from, to int) string {
	p := text[from:to]
	if len(p) > 1 && p[0] >= 'A' && p[0] <= 'Z' && opensSentence(text, from) && (p[1] < 'A' || p[1] > 'Z') {
		p = lower(p[:1]) + p[1:]
	}
	return p
}

func ranked(scores map[string]float64, n int) []phrase {
	out := make([]phrase, 0, len(scores))
	for p, s := range scores {
		if s > 0 {
			out = append(out, phrase{p, s})
		}
	}
	sort.Slice(out, func(a, b int) bool {
		if out[a].score != out[b].score {
			return out[a].score > out[b].score
		}
		return out[a].text < out[b].text
	})
	return out[:min(n, len(out))]
}

// write is the distribution over instructions for a text.
func (b *backward) write(text string, near []neighbour, stats *corpusStats) []Choice {
	weight := map[frame]float64{}
	var order []frame
	add := func(f frame, w float64) {
		if f.before == "" {
			return
		}
		if weight[f] == 0 {
			order = append(order, f)
		}
		weight[f] += w
	}
	for _, n := range near {
		if n.doc < len(b.frames) {
			add(b.frames[n.doc], 0.2+n.sim)
		}
	}
	for i, f := range b.popular[:min(len(b.popular), 6)] {
		add(f, 0.15+0.2*math.Log1p(b.count[f])/float64(i+1))
	}
	nouns, verbs := b.phrases(text, stats)
	if h, verb := heading(text); h != "" {
		list := &nouns
		if verb || b.isVerb(wordsOf(h)[0]) {
			list = &verbs
		}
		best := 1.0
		if len(*list) > 0 {
			best = (*list)[0].score
		}
		*list = append([]phrase{{h, 1.3 * best}}, *list...)
	}
	type candidate struct {
		text  string
		score float64
	}
	var all []candidate
	seen := map[string]bool{}
	for _, f := range order {
		fill := nouns
		switch f.kind {
		case slotVerb:
			fill = verbs
		case slotGerund:
			fill = gerunds(verbs)
		}
		for i, p := range fill[:min(3, len(fill))] {
			if f.kind == slotNoun && !agrees(f.before, p.text) {
				continue
			}
			t := f.before + p.text + f.after
			if seen[t] {
				continue
			}
			seen[t] = true
			s := 2*math.Log(weight[f]) + 2.5*p.score/fill[0].score - 0.3*float64(i)
			if f.kind != slotNoun {
				s += 0.5 // says more
			}
			all = append(all, candidate{t, s})
		}
	}
	if len(all) == 0 {
		return nil
	}
	sort.SliceStable(all, func(a, c int) bool { return all[a].score > all[c].score })
	all = all[:min(len(all), 12)]
	out := make([]Choice, len(all))
	total := 0.0
	for i, c := range all {
		out[i] = Choice{Text: c.text, P: math.Exp(1.5 * (c.score - all[0].score))}
		total += out[i].P
	}
	for i := range out {
		out[i].P /= total
	}
	return out
}

// agrees is false of "is tomatoes" and "are a tomato".
func agrees(before, noun string) bool {
	plural := strings.HasSuffix(noun, "s") && !strings.HasSuffix(noun, "ss") && !strings.HasSuffix(noun, "us") && !strings.HasSuffix(noun, "is")
	return !(plural && strings.HasSuffix(before, "is ") || !plural && strings.HasSuffix(before, "are "))
}

// heading is the first line if it looks like one, as a phrase; verb if it says how to do something.
func heading(text string) (h string, verb bool) {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	line = strings.TrimSpace(strings.TrimLeft(line, "# "))
	words := wordsOf(line)
	if !more || len(words) == 0 || len(words) > 9 || strings.ContainsAny(line[len(line)-1:], ".!:;,") || strings.ContainsAny(line, "?|»\"") {
		return "", false
	}
	if len(words) > 2 && words[0].lower == "how" && words[1].lower == "to" {
		return phraseText(line, words[2].at, words[len(words)-1].end), true
	}
	content := 0
	for _, w := range words {
		if !w.stop {
			content++
		}
	}
	if content == 0 || words[0].lower == "what" || words[0].lower == "when" || words[0].lower == "why" || words[0].lower == "if" {
		return "", false
	}
	return phraseText(line, words[0].at, words[len(words)-1].end), false
}

// gerunds turns "hold a knife" into "holding a knife".
func gerunds(verbs []phrase) []phrase {
	out := make([]phrase, len(verbs))
	for i, v := range verbs {
		verb, rest, _ := strings.Cut(v.text, " ")
		if strings.HasSuffix(verb, "e") && !strings.HasSuffix(verb, "ee") {
			verb = verb[:len(verb)-1]
		} else if n := len(verb); n == 3 && strings.IndexByte("aeiou", verb[1]) >= 0 && strings.IndexByte("aeiouwxy", verb[2]) < 0 {
			verb += verb[2:]
		}
		out[i] = phrase{verb + "ing " + rest, v.score}
	}
	return out
}
