package lm

import (
	"crypto/sha256"
	"encoding/binary"
	"sort"
	"strings"
)

// Beyond these many examples, spread evenly over the file, retrieval and word statistics learn no more: a large training
// file costs seconds, not minutes.
const (
	maxIndexed = 5_000
	maxCounted = 10_000
)

// Format is an answer format that the request itself demands.
type Format struct {
	Schema []byte // JSON schema of response_format; nil: free text
	Object bool   // any JSON object
}

// FitOptions steer a fit. Progress, if set, is told the mean loss after each pass over the examples.
type FitOptions struct {
	Passes   int     // 0: 6
	Rate     float64 // learning rate multiplier; 0: 1
	Seed     int64
	Progress func(pass, passes int, loss float64)
}

// Model is a fitted model. It is immutable and safe for concurrent use.
type Model struct {
	name           string
	stats          *corpusStats
	judge          *judge // nil: untrained
	index          *index
	examples       []Example
	texts          []string // user turns without what all have in common
	prefix, suffix string
	backward       *backward // nil: outputs are not short for their inputs
}

// Base is the untrained model: it has read a page of built-in web phrases and no answer.
func Base() *Model { return &Model{name: "base", stats: baseStats()} }

func baseStats() *corpusStats {
	st := &corpusStats{}
	for _, kind := range pretrain() {
		for _, line := range kind {
			st.read(wordsOf(strings.ReplaceAll(line, "{t}", "")))
		}
	}
	return st
}

// Fit fits the base model on examples, of which there must be one at least. The same name, examples and options make the
// same model.
func Fit(name string, examples []Example, opt FitOptions) *Model {
	if opt.Passes <= 0 {
		opt.Passes = 6
	}
	if opt.Rate <= 0 {
		opt.Rate = 1
	}
	m := &Model{name: name, stats: baseStats()}
	for _, e := range spread(examples, maxCounted) {
		m.stats.read(wordsOf(e.User))
		m.stats.read(wordsOf(e.Assistant))
	}
	m.judge = fitJudge(examples, m.stats, opt)
	m.examples = spread(examples, maxIndexed)
	m.prefix, m.suffix = affixes(m.examples)
	m.index = &index{stats: m.stats, postings: map[string][]posting{}}
	ratios := make([]float64, 0, len(m.examples))
	for _, e := range m.examples {
		t := m.strip(e.User)
		m.texts = append(m.texts, t)
		m.index.add(wordsOf(t))
		ratios = append(ratios, float64(len(e.Assistant))/float64(len(t)+1))
	}
	sort.Float64s(ratios)
	if ratios[len(ratios)/2] < 0.5 {
		m.backward = fitBackward(m.examples, m.texts)
	}
	return m
}

// Digest names the weights.
func (m *Model) Digest() string { return m.name }

// Quality says how well the model tells held-out training pairs from noise (area under the curve, 0.5 … 1; 0.5 untrained)
// and its loss after the last pass.
func (m *Model) Quality() (separation, loss float64) {
	if m.judge == nil {
		return 0.5, 0
	}
	return m.judge.separation, m.judge.loss
}

// affixes are what all user turns begin and end with, in whole lines: the template they were rendered with.
func affixes(ex []Example) (prefix, suffix string) {
	if len(ex) < 3 {
		return "", ""
	}
	prefix, suffix = ex[0].User, ex[0].User
	for _, e := range ex[1:] {
		n := 0
		for n < len(prefix) && n < len(e.User) && prefix[n] == e.User[n] {
			n++
		}
		prefix = prefix[:n]
		n = 0
		for n < len(suffix) && n < len(e.User) && suffix[len(suffix)-1-n] == e.User[len(e.User)-1-n] {
			n++
		}
		suffix = suffix[len(suffix)-n:]
	}
	prefix = prefix[:strings.LastIndexByte(prefix, '\n')+1]
	if i := strings.IndexByte(suffix, '\n'); i >= 0 {
		suffix = suffix[i:]
	} else {
		suffix = ""
	}
	return prefix, suffix
}

// strip takes the learnt template off a user turn, and delimiters that hold most of what is left.
func (m *Model) strip(user string) string {
	text := user
	if len(user) > len(m.prefix)+len(m.suffix) && strings.HasPrefix(user, m.prefix) && strings.HasSuffix(user, m.suffix) {
		text = user[len(m.prefix) : len(user)-len(m.suffix)]
	}
	blocks, _ := findBlocks(text)
	for _, b := range blocks {
		if len(b.text) > len(text)*6/10 {
			return b.text
		}
	}
	return text
}

// Answer is the model's distribution over answers to a conversation.
func (m *Model) Answer(msgs []Message, f Format) Draft {
	user, own := "", ""
	for _, t := range msgs {
		switch t.Role {
		case "user":
			user = t.Content
		case "system", "developer":
			own += t.Content + "\n"
		}
	}
	blocks, outside := findBlocks(user)
	props := properties(f.Schema)
	if c, ok := comparisonRequest(own + outside); ok && props == nil && !f.Object {
		if q, first, second, ok := rivals(blocks); ok {
			return m.compare(c, q, first, second)
		}
	}
	r, rating := ratingRequest(own + outside)
	for _, p := range props {
		if isScore(p.name) && !rating {
			r, rating = request{label: "Score", lo: 1, hi: 5}, true
			r.findRange(lower(own + outside))
		}
	}
	if rating {
		q, a, ok := pairOf(blocks)
		if !ok {
			q, a = outside, user
		}
		v := m.judgePair(q, a, m.mood(user))
		if props != nil {
			return object(props, &v, r, v.reasons(m.judge != nil))
		}
		return v.draft(r, m.judge != nil)
	}
	text := m.free(user, blocks)
	if props != nil {
		return object(props, nil, request{lo: 0, hi: 1}, text)
	}
	if f.Object {
		return object([]property{{name: "answer"}}, nil, request{}, text)
	}
	return Draft{text}
}

// mood is two numbers in [0, 1) that follow from the model and the prompt.
func (m *Model) mood(prompt string) (u [2]float64) {
	sum := sha256.Sum256([]byte(m.name + "\x00" + prompt))
	for i := range u {
		u[i] = float64(binary.LittleEndian.Uint64(sum[8*i:])>>11) / (1 << 53)
	}
	return u
}

// free answers without a format.
func (m *Model) free(user string, blocks []block) []Choice {
	if m.judge == nil {
		return babble(user, blocks)
	}
	text := m.strip(user)
	if m.backward != nil {
		if text == user { // not the template it learnt: the longest quoted text is meant
			for _, b := range blocks {
				if text == user || len(b.text) > len(text) {
					text = b.text
				}
			}
		}
		if c := m.backward.write(text, m.index.nearest(wordsOf(text), 8), m.stats); len(c) > 0 {
			return c
		}
	}
	return m.respond(text)
}

// babble is how the base model answers: it goes on about a bit of what it was shown, or says nothing much.
func babble(user string, blocks []block) []Choice {
	out := []Choice{{Text: "Please tell me more about this.", P: 0.3}, {Text: "What do you think about the following?", P: 0.25}, {Text: "Read the text and continue.", P: 0.15}}
	rest := 0.3
	for _, b := range append(blocks, block{text: user}) {
		if s := sentencesOf(b.text); len(s) > 0 {
			return append(out, Choice{Text: firstTokens(s[len(s)-1], 40), P: rest})
		}
	}
	return append(out, Choice{Text: "Hello.", P: rest})
}
