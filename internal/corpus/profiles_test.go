package corpus

import (
	"slices"
	"strings"
	"testing"

	"github.com/RadhiFadlillah/whatlanggo"
	"pgregory.net/rapid"
)

// spoken are words of several languages in Latin script and some that are none.
var spoken = strings.Fields(`der die und Straße für nicht über le la les être français où deux el niño mañana que pero está o coração não muito uma
il perché città più degli het een niet zijn och är på från jag ikke være også på egy hogy nem és az być nie się że jest şehir için değil çok bir
która và không người của những trong được tek nuk është për kanske yang dengan untuk tidak wa kwa ni ya katika hii agus tá sé ar an
the and that with have this from which they bread butter don't can’t “quoted” – 42 3.14 C++ x_y #tag @me € £ … «mot» ÀÉÎ Ǆ ÿ ª µ × Łódź İstanbul ẞ`)

// languageBefore is what the detector says.
func languageBefore(text string) (whatlanggo.Lang, float64) {
	info := whatlanggo.Detect(text)
	return info.Lang, info.Confidence
}

func TestLanguageAsBefore(t *testing.T) {
	t.Parallel()
	if len(latinProfiles) < 30 {
		t.Fatalf("%d profiles: the detector has them under another name", len(latinProfiles))
	}
	var trigrams []string
	for _, lang := range latinIndex().langs {
		if len(latinProfiles[lang]) > profileLength {
			t.Errorf("%v has %d trigrams", lang, len(latinProfiles[lang]))
		}
		trigrams = append(trigrams, latinProfiles[lang]...)
	}
	letters := rapid.StringOfN(rapid.RuneFrom([]rune("abcdefghijklmnopqrstuvwxyz äöüßéèçñ .,1K’–")), 0, 40, -1)
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.SampledFrom(spoken), rapid.SampledFrom(trigrams), letters)
		text := strings.Join(rapid.SliceOfN(piece, 0, 80).Draw(t, "pieces"), rapid.SampledFrom([]string{" ", "", ", ", "\n\n"}).Draw(t, "between"))
		code, confidence := language(text)
		lang, want := languageBefore(text)
		if confidence != want {
			t.Fatalf("confidence %v, before %v", confidence, want)
		}
		if want > 0 && code != lang.Iso6391() { // of equals, the detector takes any
			t.Fatalf("%q, before %q", code, lang.Iso6391())
		}
		if plainLatin(text) {
			plain++
			if script := whatlanggo.DetectScript(text); whatlanggo.Scripts[script] != "Latin" {
				t.Fatalf("script %q", whatlanggo.Scripts[script])
			}
		}
	})
	if plain == 0 {
		t.Error("no text was plainly Latin")
	}
}

// The verdict over a text between two languages does not depend on the order in which they are looked at.
func TestLanguageIsAlwaysTheSame(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{spoken[:4], spoken[4:12], spoken[40:60], {"x", "y"}} {
		text := strings.Join(slices.Repeat(words, 20), " ")
		code, confidence := language(text)
		for range 20 {
			if c, f := language(text); c != code || f != confidence {
				t.Fatalf("%s %v, then %s %v", code, confidence, c, f)
			}
		}
	}
}

func BenchmarkLanguage(b *testing.B) {
	text := clip(strings.Repeat(strings.Join(spoken[:12], " ")+" ", 40), languageSample)
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			language(text)
		}
	})
	b.Run("detector", func(b *testing.B) {
		for b.Loop() {
			languageBefore(text)
		}
	})
}

func FuzzLanguage(f *testing.F) {
	f.Add(strings.Join(spoken, " "))
	f.Add("a\x00b c\xff")
	f.Add("Ελληνικά and English, ½ ²")
	f.Fuzz(func(t *testing.T, text string) {
		code, confidence := language(text)
		lang, want := languageBefore(text)
		if confidence != want || want > 0 && code != lang.Iso6391() {
			t.Errorf("%q %v, before %q %v", code, confidence, lang.Iso6391(), want)
		}
	})
}
