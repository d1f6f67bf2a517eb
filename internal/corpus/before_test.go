package corpus

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	readability "codeberg.org/readeck/go-readability/v2"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

// What rules did before they were made faster, in the plainest way. Their results are part of datasets that stand.

// repetitionBefore compares every two sentences.
func repetitionBefore(said string, n int, limit float64) string {
	type heard struct {
		grams []uint64
		said  string
	}
	var seen []heard
	for sentence := range sentences(said) {
		words := wordsBefore(sentence)
		if len(words) < max(minSentenceWords, n) {
			continue
		}
		if len(seen) == maxSentences {
			break
		}
		grams := ngramsBefore(words, n)
		for _, other := range seen {
			if j := jaccard(grams, other.grams, limit); j > limit {
				return fmt.Sprintf("%.2f between %q and %q", j, clip(other.said, 80), clip(strings.TrimSpace(sentence), 80))
			}
		}
		seen = append(seen, heard{grams, strings.TrimSpace(sentence)})
	}
	return ""
}

func wordsBefore(sentence string) (list []uint64) {
	hash, inside := uint64(14695981039346656037), false
	for i := 0; i < len(sentence); {
		r, size := rune(sentence[i]), 1
		letter := 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '\''
		switch {
		case 'A' <= r && r <= 'Z':
			r, letter = r+'a'-'A', true
		case r >= utf8.RuneSelf:
			r, size = utf8.DecodeRuneInString(sentence[i:])
			r = unicode.ToLower(r)
			letter = unicode.IsLetter(r) || unicode.IsDigit(r)
		}
		i += size
		if letter {
			hash, inside = (hash^uint64(r))*1099511628211, true
		} else if inside {
			list = append(list, hash)
			hash, inside = 14695981039346656037, false
		}
	}
	if inside {
		list = append(list, hash)
	}
	return list
}

func ngramsBefore(words []uint64, n int) (list []uint64) {
	for i := 0; i+n <= len(words); i++ {
		hash := uint64(0)
		for _, w := range words[i : i+n] {
			hash = (bits.RotateLeft64(hash, 29) ^ w) * 0x9e3779b97f4a7c15
		}
		list = append(list, hash)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// navigationBefore looks for every phrase everywhere.
func navigationBefore(header string, phrases []string) string {
	words := " " + strings.Join(strings.FieldsFunc(strings.ToLower(header), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), " ")
	for _, phrase := range phrases {
		if phrase != "" && strings.Contains(words, " "+strings.ToLower(phrase)) {
			return phrase
		}
	}
	return ""
}

// englishBefore looks words up in a map.
func englishBefore(text string) (share float64, sure bool) {
	known := map[string]bool{}
	for word := range strings.FieldsSeq("the and to that with you this are from have it which they or not be by but when if your") {
		known[word] = true
	}
	words, hits := 0, 0
	kinds := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		words++
		bare := ""
		for _, c := range []byte(word) {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if 'a' <= c && c <= 'z' {
				bare += string(rune(c))
			} else if !strings.Contains(".,;:!?()\"'*_", string([]byte{c})) {
				bare = ""
				break
			}
		}
		if len(word) > 10 || !known[bare] {
			continue
		}
		hits++
		kinds[bare] = true
		if words >= 40 && kinds["the"] && len(kinds) >= 5 && hits*10 >= words {
			break
		}
	}
	share = float64(hits) / float64(max(words, 1))
	return share, share >= 0.1 && len(kinds) >= 5 && kinds["the"]
}

// mainBefore gives the extractor a copy of the page, and returns the text of the main content.
func mainBefore(markup string) string {
	doc, err := html.Parse(strings.NewReader(markup))
	if err != nil {
		return ""
	}
	m := prepare(doc)
	parser := readability.NewParser()
	parser.KeepClasses, parser.DisableJSONLD = true, true
	var body *html.Node
	var title string
	if article, err := parser.ParseDocument(doc, pageURL); err == nil && article.Node != nil {
		if float64(countWords(article.Node)) >= extractorMinShare*float64(m.words) {
			title, body = article.Title(), article.Node
		}
	}
	if body == nil {
		title, body = plainMain(doc)
	}
	simplify(body)
	md, err := toMarkdown().ConvertNode(body)
	if err != nil {
		return ""
	}
	text := tidyLines(unhideAngles.Replace(strings.TrimSpace(string(md))))
	if text == "" {
		return ""
	}
	return fmt.Sprint(parseMarked(pageTitle(cleanLine(title), m.h1), text))
}

func mainNow(markup string) string {
	p, reason, _ := extract(markup)
	if reason != "" {
		return ""
	}
	return fmt.Sprint(p)
}

// repeating draws texts of few words, whose sentences are often alike.
func repeating(t *rapid.T) string {
	word := rapid.SampledFrom([]string{"a", "The", "the", "cat", "über", "Über", "isn't", "dog", "42", "naïve", "k", "x"})
	sentence := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(word, 0, 14).Draw(t, "words"), " ") })
	some := rapid.SliceOfN(sentence, 1, 6).Draw(t, "some")
	return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(some), sentence), 0, 40).Draw(t, "sentences"), rapid.SampledFrom([]string{". ", "!\n", "\n\n", "\n- "}).Draw(t, "stop"))
}

func TestRepetitionAsBefore(t *testing.T) {
	t.Parallel()
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		text := repeating(t)
		n := rapid.IntRange(1, 6).Draw(t, "n")
		limit := rapid.SampledFrom([]float64{0.05, 0.3, 0.5, 0.6, 2.0 / 3, 0.75, 0.9, 1}).Draw(t, "limit")
		got, want := repetition(text, n, limit), repetitionBefore(text, n, limit)
		if got != want {
			t.Fatalf("%q, before %q", got, want)
		}
		if want != "" {
			found++
		}
	})
	if found == 0 {
		t.Error("no text was repetitive")
	}
	// Texts with more n-grams than the first table takes, and more sentences than are compared.
	for _, sentences := range []int{maxSentences - 1, maxSentences, maxSentences + 2} {
		var text strings.Builder
		for i := range sentences {
			fmt.Fprintf(&text, "Sentence %d says what only %d and %d say of %d things. ", i, i*7, i*13, i+1000)
		}
		fmt.Fprint(&text, "Sentence 0 says what only 0 and 0 say of 1000 things. ")
		if got, want := repetition(text.String(), 3, 0.6), repetitionBefore(text.String(), 3, 0.6); got != want {
			t.Errorf("%d sentences: %q, before %q", sentences, got, want)
		}
	}
}

func TestEnglishAsBefore(t *testing.T) {
	t.Parallel()
	word := rapid.SampledFrom(strings.Fields("the The THE, (and) to that with you. this are from have it which they or not be by but when if your *bread* butter don't über-fein the_ the1 theandto ' , and-or 'it' a"))
	surely := 0
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(word, 0, 90).Draw(t, "words"), " ")
		share, sure := englishShare(text)
		if wantShare, wantSure := englishBefore(text); share != wantShare || sure != wantSure {
			t.Fatalf("%v %v, before %v %v", share, sure, wantShare, wantSure)
		}
		if sure {
			surely++
		}
	})
	if surely == 0 {
		t.Error("no text was surely English")
	}
}

func TestNavigationAsBefore(t *testing.T) {
	t.Parallel()
	phrases := append(DefaultNavigation(), "", "Ähnliche", "log in", "log", " out", "e-mail", "2")
	c := newCutter(DocumentOptions{Segments: SegmentRules{Navigation: phrases}}.withDefaults(), nil)
	word := rapid.SampledFrom([]string{"Related", "articles", "related", "posts", "catalog", "in", "log", "Log", "Quick", "links", "ähnliche", "Seiten", "2", "25", "e-mail", "forums", "a", "–"})
	rapid.Check(t, func(t *rapid.T) {
		header := strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, "words"), rapid.SampledFrom([]string{" ", "-", ", ", "  "}).Draw(t, "between"))
		if got, want := c.navigation(header), navigationBefore(header, phrases); got != want {
			t.Fatalf("%q: %q, before %q", header, got, want)
		}
	})
}

func TestExtractAsBefore(t *testing.T) {
	t.Parallel()
	pages, _ := examplePages(t)
	for i, body := range pages {
		if mainNow(string(body)) != mainBefore(string(body)) {
			t.Errorf("page %d is another than before", i)
		}
	}
	piece := rapid.SampledFrom([]string{
		"<p>", "</p>", "<br>", "<br><br>", " <br/> ", "<div>", "</div>", "<font size=2>", "</font>", "<h2>Rest</h2>", "<h1>Bread</h1>", "<img>", "<img src=a.png>", "<ul><li>",
		"</ul>", "<table><tr><td>", "</table>", "<article>", "</article>", "<main>", "</main>", "<!-- c -->", "<pre>x<br>y</pre>", "<svg><title>t</title></svg>", "<nav>n</nav>", "<b>", "</b>",
		"Dough rests for an hour, then it is folded, shaped and left alone again. ", "Salt. ", "a < b ", "Bake it hot, with steam, until the crust is dark, and let it cool before it is cut. ",
	})
	long := 0
	rapid.Check(t, func(t *rapid.T) {
		markup := "<title>" + rapid.SampledFrom([]string{"", "Bread", "Bread - A site"}).Draw(t, "title") + "</title><body>" + strings.Join(rapid.SliceOfN(piece, 10, 120).Draw(t, "pieces"), "")
		got, want := mainNow(markup), mainBefore(markup)
		if got != want {
			t.Fatalf("%s\n%s\nbefore:\n%s", markup, got, want)
		}
		if len(got) > 150 {
			long++
		}
	})
	if long == 0 {
		t.Error("no page had a text")
	}
}

// The extractor changes nothing of a page without what met names, so that the page need not be read again.
func TestExtractorLeavesThePage(t *testing.T) {
	t.Parallel()
	pages, _ := examplePages(t)
	same := 0
	for i, body := range pages {
		doc, err := html.Parse(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if prepare(doc).changes {
			continue
		}
		before := textAndTags(doc)
		parser := newExtractor()
		if _, err := parser.ParseAndMutate(doc, pageURL); err != nil {
			t.Fatal(err)
		}
		if textAndTags(doc) != before {
			t.Errorf("page %d was changed", i)
		}
		same++
	}
	if same == 0 {
		t.Error("every page has what changes")
	}
}

// textAndTags writes a page without pictures.
func textAndTags(doc *html.Node) string {
	var b strings.Builder
	for n := range doc.Descendants() {
		if n.Data != "img" {
			fmt.Fprintf(&b, "%d %s\n", n.Type, n.Data)
		}
	}
	return b.String()
}
