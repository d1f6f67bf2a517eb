package report

import (
	"iter"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/diversity"
	"github.com/selfalign/selfalign/internal/neardup"
)

// Variety is how varied the instructions of one set are.
type Variety struct {
	Set  string `json:"set"`
	Rows int64  `json:"rows"` // instructions in the set
	// Looked is how many instructions were looked at: the first by id, which are a fair sample because ids are digests.
	Looked   int64                 `json:"looked"`
	Found    int64                 `json:"found"`    // of them with a root verb and a direct object
	Distinct int                   `json:"distinct"` // different pairs of both
	Top      []diversity.VerbCount `json:"top"`      // 20 verbs × 4 nouns
	// NearDuplicates is how many of those looked at say almost the same as one before them.
	NearDuplicates int64 `json:"near_duplicates"`
	// Instructions and Outputs are the lengths of the pairs looked at.
	Instructions Lengths `json:"instruction_lengths"`
	Outputs      Lengths `json:"output_lengths"`
}

// Lengths counts texts by length in characters: bin i those of 2^(i-1) to 2^i - 1, the last one all longer ones too.
type Lengths [15]int64

func (l *Lengths) add(text string) {
	l[min(bits.Len(uint(utf8.RuneCountInString(text))), len(l)-1)]++
}

const (
	topVerbs, topNouns = 20, 4 // as in the paper
	// maxInstruction is how many characters of an instruction are compared: instructions are short, and texts are foreign.
	maxInstruction = 2000
)

// instructionRules are the near-duplicates among instructions: word pairs with a Jaccard similarity of 0.7.
var instructionRules = neardup.Rules{Threshold: 0.7, Shingle: 2, Permutations: 64}

// Memo keeps what was found of sets that cannot change, for whoever makes the report of a run again and again.
type Memo struct {
	mu      sync.Mutex
	variety map[string]Variety
}

// grammar is loaded when it is first needed.
var grammar = sync.OnceValues(diversity.Load)

// variety looks at the instructions of the seeds and of the newest curated set, or of all of A where nothing was curated yet.
func (b *builder) variety() error {
	if b.opt.Instructions < 0 {
		return nil
	}
	if s, ok := b.set(b.d.Seeds); ok && s.m.Rows > 0 {
		rows := dataset.Rows[dataset.Seed](b.ctx, b.st, s.ref)
		if err := b.addVariety("Seed pairs D", s, s.m.Rows, pairs(rows, func(r dataset.Seed) pair { return pair{r.Instruction, r.Output} })); err != nil {
			return err
		}
	}
	for _, r := range slices.Backward(b.d.Rounds) {
		if s, ok := b.set(r.Training); ok && r.Iteration > 0 && r.Selected > 0 {
			rows := dataset.Rows[dataset.Example](b.ctx, b.st, s.ref)
			return b.addVariety("Curated set, iteration "+num(int64(r.Iteration)), s, r.Selected, pairs(rows, func(r dataset.Example) pair {
				if r.Origin == dataset.OriginSeed {
					return pair{}
				}
				return pair{r.Instruction, r.Output}
			}))
		}
	}
	if s, ok := b.set(b.d.Candidates); ok && s.m.Rows > 0 {
		rows := dataset.Rows[dataset.Candidate](b.ctx, b.st, s.ref)
		return b.addVariety("All of A", s, s.m.Rows, pairs(rows, func(r dataset.Candidate) pair { return pair{r.Instruction, r.Output} }))
	}
	return nil
}

func (b *builder) set(ref dataset.Ref) (madeSet, bool) {
	for _, s := range b.made {
		if !ref.IsZero() && s.ref.Dir == ref.Dir {
			return s, true
		}
	}
	return madeSet{}, false
}

// pair is what is looked at of a row.
type pair struct{ instruction, output string }

func pairs[T dataset.Row](rows iter.Seq2[T, error], of func(T) pair) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		for r, err := range rows {
			if !yield(of(r), err) || err != nil {
				return
			}
		}
	}
}

// addVariety looks at the first pairs of a set. Those without an instruction are not of it.
func (b *builder) addVariety(name string, s madeSet, rows int64, all iter.Seq2[pair, error]) error {
	key := name + " " + s.m.Digest + " " + num(int64(b.opt.Instructions))
	if known, ok := b.opt.Memo.get(key); ok {
		b.d.Variety = append(b.d.Variety, known)
		return nil
	}
	g, err := grammar()
	if err != nil {
		return err
	}
	var tally diversity.Tally
	var looked []string
	v := Variety{Set: name, Rows: rows}
	for p, err := range all {
		if err != nil {
			return err
		}
		text := p.instruction
		if text == "" {
			continue
		}
		v.Instructions.add(text)
		v.Outputs.add(p.output)
		tally.Add(g.RootVerb(text))
		if looked = append(looked, strings.ToValidUTF8(text[:min(len(text), maxInstruction)], "")); len(looked) == b.opt.Instructions {
			break
		}
	}
	v.Looked, v.Found, v.Distinct, v.Top = tally.Instructions, tally.Found, tally.Distinct(), tally.Top(topVerbs, topNouns)
	matches, err := neardup.Find(instructionRules, slices.Values(looked))
	if err != nil {
		return err
	}
	for _, m := range matches {
		if m.Of >= 0 {
			v.NearDuplicates++
		}
	}
	if v.Looked > 0 {
		b.d.Variety = append(b.d.Variety, v)
	}
	b.opt.Memo.put(key, v)
	return nil
}

func (m *Memo) get(key string) (Variety, bool) {
	if m == nil {
		return Variety{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.variety[key]
	return v, ok && v.Looked > 0
}

func (m *Memo) put(key string, v Variety) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.variety == nil {
		m.variety = map[string]Variety{}
	}
	m.variety[key] = v
}
