package neardup

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestNormalisedText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                        "",
		"Hello,  World!\n":        "hello world ",
		"don't stop":              "don t stop ",
		"Straße ÉTÉ":              "straße été ",
		"e\u0301te\u0301 10":      "e\u0301te\u0301 10 ",
		"日本語 text":                "日 本 語 text ",
		"ไทย":                     "ไ ท ย ",
		"a\xffb\xc3":              "a b ",
		"<b>—</b>":                "b b ",
		strings.Repeat("- ", 100): "",
	} {
		s := newShingler(5)
		s.normalise(in)
		if got := string(s.text); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestShinglesOfShortTexts(t *testing.T) {
	t.Parallel()
	s := newShingler(5)
	count := func(text string) int { return len(s.set(text)) }
	for text, want := range map[string]int{"": 0, "…": 0, "one": 1, "one two three four five": 1, "one two three four five six": 2, "a a a a a a a a": 1} {
		if got := count(text); got != want {
			t.Errorf("%q: %d shingles, want %d", text, got, want)
		}
	}
	if a, b := slices.Clone(s.set("one two")), s.set("One, two!"); !slices.Equal(a, b) {
		t.Error("punctuation and capitals tell texts apart")
	}
}

// Similarity is what comparing shingles as strings gives.
func TestJaccardIsTrue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom(strings.Fields("a b c d e f g")), 1, 40)
		a, b := strings.Join(text.Draw(rt, "a"), " "), strings.Join(text.Draw(rt, "b"), " ")
		n := rapid.IntRange(1, 6).Draw(rt, "n")
		x, y := slices.Clone(newShingler(n).set(a)), newShingler(n).set(b)
		got, want := jaccard(x, y), bruteJaccard(brute(a, n), brute(b, n))
		if got != want || !mayReach(len(x), len(y), got) {
			rt.Fatalf("%q, %q: %v, want %v", a, b, got, want)
		}
		back, err := readSet(nil, appendSet(nil, x))
		if err != nil || !slices.Equal(back, x) {
			rt.Fatalf("%v came back as %v (%v)", x, back, err)
		}
	})
}

func FuzzShingles(f *testing.F) {
	for _, s := range []string{"", "Hello, world", "日本語 e\u0301", "\xff\xfe", strings.Repeat("x ", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := newShingler(3)
		set := slices.Clone(s.set(text))
		if !slices.IsSorted(set) || !utf8.Valid(s.text) {
			t.Fatalf("%q: %v of %q", text, set, s.text)
		}
		if again := newShingler(3).set(string(s.text)); !slices.Equal(again, set) && utf8.ValidString(text) && !strings.ContainsRune(text, 'İ') {
			t.Fatalf("%q: a normalised text has other shingles", text)
		}
	})
}

func FuzzSets(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if set, err := readSet(nil, b); err == nil && !slices.IsSorted(set) {
			t.Fatalf("%v", set)
		}
	})
}
