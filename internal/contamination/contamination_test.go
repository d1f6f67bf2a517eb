package contamination

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func numbered(from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "word%d ", from+i)
	}
	return strings.TrimSpace(b.String())
}

func TestFind(t *testing.T) {
	t.Parallel()
	x := New(0)
	for _, add := range []struct {
		set   string
		row   int64
		texts []string
	}{
		{"long", 1, []string{numbered(0, 30), "too short to be looked for"}},
		{"long", 2, []string{numbered(100, 13)}},
		{"short", 1, []string{"What are the names of some famous actors"}},
		{"twice", 7, []string{numbered(100, 20), ""}},
	} {
		if err := x.Add(add.set, add.row, add.texts); err != nil {
			t.Fatal(err)
		}
	}
	x.Seal()
	if s := x.Sets()[0]; s != (Set{Name: "long", Rows: 2, Texts: 3, Short: 1, Grams: 19}) {
		t.Errorf("set %+v", s)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", numbered(500, 400), ""},
		{"twelve words", "and " + numbered(3, 12) + " and", ""},
		{"thirteen words", "and " + numbered(3, 13) + " and", "long/1"},
		{"other case and signs", "and " + strings.ToUpper(strings.ReplaceAll(numbered(3, 13), " ", ",\n**")) + ".", "long/1"},
		{"two sets", numbered(100, 13), "long/2 twice/7"},
		{"a short text whole", "He asked: \"What are the names, of some famous actors?\" And left.", "short/1"},
		{"a part of a short text", "are the names of some famous actors", ""},
		{"across a gap", numbered(0, 7) + " x " + numbered(7, 7), ""},
	} {
		var got []string
		for _, h := range x.Find(tt.text) {
			got = append(got, fmt.Sprintf("%s/%d", h.Set, h.Row))
			if !strings.Contains(" "+strings.ToLower(strings.NewReplacer(",", "", "*", "", "\n", " ", "\"", "", "?", "").Replace(tt.text))+" ", " "+h.Words) {
				t.Errorf("%s: words %q are not in the text", tt.name, h.Words)
			}
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
	}
	if hits := New(0).Find("x"); hits != nil {
		t.Errorf("an index that nobody filled finds %v", hits)
	}
}

// TestAgainstPlain compares the index with a plain search over few words, where runs repeat and sets overlap.
func TestAgainstPlain(t *testing.T) {
	t.Parallel()
	vocabulary := rapid.SampledFrom([]string{"a", "b", "don't", "É", "7"})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(8, 10).Draw(t, "n")
		texts := rapid.SliceOfN(rapid.SliceOfN(vocabulary, 0, 16), 1, 4).Draw(t, "texts")
		text := strings.Join(rapid.SliceOfN(vocabulary, 0, 40).Draw(t, "text"), " ")
		x := New(n)
		var want []string
		for i, words := range texts {
			set := fmt.Sprint("set", i)
			if err := x.Add(set, 1, []string{strings.Join(words, " ")}); err != nil {
				t.Fatal(err)
			}
			length := min(n, len(words))
			found := false
			for j := 0; length >= MinWords && j+length <= len(words); j++ {
				found = found || strings.Contains(" "+text+" ", " "+strings.Join(words[j:j+length], " ")+" ")
			}
			if found {
				want = append(want, set)
			}
		}
		x.Seal()
		var got []string
		for _, h := range x.Find(text) {
			got = append(got, h.Set)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %v, want %v", text, texts, got, want)
		}
	})
}

// TestBound fills an index beyond its bound, with the same n-grams and with new ones.
func TestBound(t *testing.T) {
	t.Parallel()
	x := New(13)
	x.most = 1000
	for i := range 100 { // the same over and over is held once
		if err := x.Add("same", int64(i), []string{numbered(0, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = x.Add("new", int64(i), []string{numbered(1000*i, 100)})
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestTogether asks one index from many goroutines.
func TestTogether(t *testing.T) {
	t.Parallel()
	x := New(13)
	if err := x.Add("a", 1, []string{numbered(0, 100)}); err != nil {
		t.Fatal(err)
	}
	x.Seal()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				if hits := x.Find(numbered(j*i, 20)); (len(hits) > 0) != (j*i <= 87) {
					t.Errorf("%d: %v", j*i, hits)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzFind(f *testing.F) {
	f.Add([]byte(numbered(0, 20)), []byte("x "+numbered(2, 15)))
	f.Add([]byte("\xff\x00'’É ß"), []byte("’’’"))
	f.Fuzz(func(t *testing.T, set, text []byte) {
		x := New(8)
		if err := x.Add("s", 1, []string{string(set)}); err != nil {
			t.Fatal(err)
		}
		x.Seal()
		x.Find(string(text))
		if w := (&words{}); true {
			w.read(string(set))
			if hits := x.Find(string(set)); (len(hits) == 1) != (len(w.ends) >= MinWords) {
				t.Fatalf("%q of %d words does not find itself: %v", set, len(w.ends), hits)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	x := New(13)
	for i := range 2000 {
		if err := x.Add("a", int64(i), []string{numbered(i*37, 100)}); err != nil {
			b.Fatal(err)
		}
	}
	x.Seal()
	text := strings.Repeat("The bridge was built of stone and it still stands where the river turns. ", 25)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		x.Find(text)
	}
}
