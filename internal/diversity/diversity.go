// Package diversity says how varied instructions are, as instruction-tuning papers show it: the root verb of each
// instruction and its direct object, the commonest verbs with their commonest nouns.
//
// Self-Instruct (arXiv 2212.10560, figure 2) introduced the measure, the instruction backtranslation paper uses it
// (arXiv 2308.06259, figures 5 and 6). Both take a constituency parser of English; here a part-of-speech tagger is enough, since what
// people ask of an assistant begins with its verb or is a short question. How often both agree is not known; how
// often this one agrees with a person's labels stands in the test.
package diversity

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jdkato/prose/v2"
)

// Pair is a root verb and the head noun of its direct object, both in lower case and in their base form.
type Pair struct {
	Verb string `json:"verb"`
	Noun string `json:"noun"`
}

// Grammar finds root verbs of English sentences. Its methods may be called from several goroutines.
type Grammar struct {
	model *prose.Model
}

// Load reads the tagger's model, which is part of the program: about 0.2 s and 30 MB.
func Load() (*Grammar, error) {
	d, err := prose.NewDocument("Load the model.", prose.WithExtraction(false), prose.WithSegmentation(false))
	if err != nil {
		return nil, fmt.Errorf("load the part-of-speech tagger: %w", err)
	}
	return &Grammar{model: d.Model}, nil
}

// maxText is how much of an instruction is looked at, in bytes: the verb stands early, and texts are foreign.
const maxText = 800

// RootVerb gives the first verb of an instruction that has a noun as its direct object. It is false for questions without
// one ("Why is the sky blue?"), for pronouns as objects ("Explain it to me."), and for what is no English sentence.
func (g *Grammar) RootVerb(instruction string) (p Pair, ok bool) {
	defer func() {
		if recover() != nil { // the tagger's, on an odd text
			p, ok = Pair{}, false
		}
	}()
	for _, sentence := range sentences(instruction) {
		words, err := g.tag(sentence)
		if err != nil {
			return Pair{}, false
		}
		if p, ok := rootVerb(words); ok {
			return p, true
		}
	}
	return Pair{}, false
}

// sentences cuts the beginning of a text into sentences, three at most: lines and what ends with a full stop, a question mark
// or an exclamation mark before a space.
func sentences(text string) []string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	text = strings.ToValidUTF8(text, "")
	var out []string
	for line := range strings.Lines(text) {
		for len(out) < 3 {
			end := strings.IndexAny(line, ".?!:")
			for end >= 0 && end+1 < len(line) && line[end+1] > ' ' { // 3.5, example.org
				next := strings.IndexAny(line[end+1:], ".?!:")
				if next < 0 {
					end = -1
					break
				}
				end += 1 + next
			}
			s := line
			if end >= 0 {
				s, line = line[:end+1], line[end+1:]
			} else {
				line = ""
			}
			if s = strings.TrimSpace(s); len(s) > 1 {
				out = append(out, s)
			}
			if line == "" {
				break
			}
		}
	}
	return out
}

type word struct {
	text string // in lower case
	tag  string // of the Penn Treebank
}

func (g *Grammar) tag(sentence string) ([]word, error) {
	// A capital makes the tagger take an imperative for a name ("Compare" is NNP); as the infinitive after "to" it is known.
	first, rest, _ := strings.Cut(sentence, " ")
	bare := strings.ToLower(strings.Trim(first, `"'*#-([`))
	if imperatives[bare] {
		words, err := g.tagged("to " + bare + " " + rest)
		if err != nil || len(words) < 2 {
			return nil, err
		}
		words[1].tag = "VB"
		return words[1:], nil
	}
	return g.tagged(sentence)
}

func (g *Grammar) tagged(s string) ([]word, error) {
	d, err := prose.NewDocument(s, prose.WithExtraction(false), prose.WithSegmentation(false), prose.UsingModel(g.model))
	if err != nil {
		return nil, err
	}
	tokens := d.Tokens()
	words := make([]word, len(tokens))
	for i, t := range tokens {
		words[i] = word{strings.ToLower(t.Text), t.Tag}
		if i > 0 && t.Tag != "VB" && imperatives[words[i].text] && opensClause(words[i-1].text) {
			words[i].tag = "VB" // "and explain", "please list"
		}
	}
	return words, nil
}

// VerbCount is a verb with how many instructions have it as their root, and its commonest objects, most first.
type VerbCount struct {
	Verb  string      `json:"verb"`
	Count int64       `json:"count"`
	Nouns []NounCount `json:"nouns"`
}

// NounCount is a noun with how many instructions have it as the object of the verb above it.
type NounCount struct {
	Noun  string `json:"noun"`
	Count int64  `json:"count"`
}

// Tally counts pairs. Its zero value is ready.
type Tally struct {
	Instructions int64 // counted in all
	Found        int64 // of them with a root verb and an object
	pairs        map[Pair]int64
}

// Add counts one instruction: what RootVerb gave.
func (t *Tally) Add(p Pair, ok bool) {
	t.Instructions++
	if !ok {
		return
	}
	if t.pairs == nil {
		t.pairs = map[Pair]int64{}
	}
	t.Found++
	t.pairs[p]++
}

// Distinct is how many different pairs were counted.
func (t *Tally) Distinct() int { return len(t.pairs) }

// Top gives the commonest verbs, each with its commonest nouns: 20 and 4 in the papers. What is equally common stands in the order of
// the alphabet.
func (t *Tally) Top(verbs, nouns int) []VerbCount {
	byVerb := map[string]*VerbCount{}
	for p, n := range t.pairs {
		v := byVerb[p.Verb]
		if v == nil {
			v = &VerbCount{Verb: p.Verb}
			byVerb[p.Verb] = v
		}
		v.Count += n
		v.Nouns = append(v.Nouns, NounCount{p.Noun, n})
	}
	top := make([]VerbCount, 0, len(byVerb))
	for _, v := range byVerb {
		slices.SortFunc(v.Nouns, func(a, b NounCount) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Noun, b.Noun))
		})
		v.Nouns = slices.Clone(v.Nouns[:min(nouns, len(v.Nouns))])
		top = append(top, *v)
	}
	slices.SortFunc(top, func(a, b VerbCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Verb, b.Verb))
	})
	return top[:min(verbs, len(top))]
}
