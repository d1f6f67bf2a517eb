package diversity

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:embed testdata/labelled.tsv
var labelled string

func grammar(t testing.TB) *Grammar {
	t.Helper()
	g, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The labels were given by hand, reading; at least nine of ten must come out.
func TestAgreesWithLabels(t *testing.T) {
	t.Parallel()
	g := grammar(t)
	var n, right int
	for line := range strings.Lines(labelled) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		got, _ := g.RootVerb(f[0])
		n++
		if want := (Pair{f[1], f[2]}); got == want {
			right++
		} else {
			t.Logf("%s: %v, labelled %v", f[0], got, want)
		}
	}
	t.Logf("%d of %d as labelled", right, n)
	if n < 60 || right*10 < n*9 {
		t.Errorf("%d of %d as labelled, want nine of ten", right, n)
	}
}

func TestRootVerb(t *testing.T) {
	t.Parallel()
	g := grammar(t)
	for text, want := range map[string]Pair{
		"":                           {},
		"?!":                         {},
		"\xff\xfe":                   {},
		strings.Repeat("(", 100_000): {},
		"Write.\nSummarize the article in 3.5 lines.": {"summarize", "article"},
		"Explain it to me.":                           {},
	} {
		if got, ok := g.RootVerb(text); got != want || ok != (want != Pair{}) {
			t.Errorf("%.40q: %v %v, want %v", text, got, ok, want)
		}
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	var tally Tally
	for _, p := range []Pair{{"write", "poem"}, {"give", "list"}, {"write", "code"}, {"write", "poem"}, {"give", "hint"}, {"ask", "god"}} {
		tally.Add(p, true)
	}
	tally.Add(Pair{}, false)
	want := []VerbCount{
		{"write", 3, []NounCount{{"poem", 2}}},
		{"give", 2, []NounCount{{"hint", 1}}},
	}
	if d := cmp.Diff(want, tally.Top(2, 1)); d != "" {
		t.Error(d)
	}
	if tally.Instructions != 7 || tally.Found != 6 || tally.Distinct() != 5 {
		t.Errorf("counted %+v", tally)
	}
}

func FuzzRootVerb(f *testing.F) {
	g := grammar(f)
	for _, s := range []string{"Write a poem.", "1. 2. 3.", "\"'s\" of the", "Wie geht es?", "a.b:c!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := g.RootVerb(s)
		if ok == (p.Verb == "" || p.Noun == "") {
			t.Errorf("%q: %v %v", s, p, ok)
		}
	})
}

func BenchmarkRootVerb(b *testing.B) {
	g := grammar(b)
	for b.Loop() {
		g.RootVerb("Can you help me write a cover letter for a teaching job at the school in our village?")
	}
}
