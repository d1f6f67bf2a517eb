package corpus

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestEveryPieceOnce draws documents whose words are all different and checks the balance: each word of each body is
// in exactly one row, segments are within their bounds, and reading twice gives the same rows.
func TestEveryPieceOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var doc strings.Builder
		word := 0
		headers := []string{"Plain", "ALL CAPITALS", "Advertisement", "", "Quick links here", "Ordinary one"}
		for range rapid.IntRange(1, 12).Draw(t, "sections") {
			level := rapid.IntRange(0, 4).Draw(t, "level")
			if level > 0 {
				fmt.Fprintf(&doc, "%s %s\n\n", strings.Repeat("#", level), rapid.SampledFrom(headers).Draw(t, "header"))
			}
			for range rapid.IntRange(0, 60).Draw(t, "words") {
				fmt.Fprintf(&doc, "w%dw ", word)
				word++
			}
			doc.WriteString("\n\n")
		}
		opts := DocumentOptions{Language: "any", Segments: SegmentRules{MinChars: 60, MaxChars: 300, RepeatJaccard: -1}}
		read := func() []Item {
			var items []Item
			for item, err := range Documents(t.Context(), "a.md", strings.NewReader(doc.String()), opts) {
				if err != nil {
					t.Fatal(err)
				}
				items = append(items, item)
			}
			return items
		}
		items := read()
		if diff := cmp.Diff(items, read()); diff != "" {
			t.Fatalf("second reading differs:\n%s", diff)
		}
		var all strings.Builder
		for _, item := range items {
			if s := item.Segment; s != nil {
				if n := utf8.RuneCountInString(s.Text); n < 60 || n > 300 {
					t.Fatalf("segment of %d characters", n)
				}
				first := strings.Fields(s.Text)[0]
				if !strings.HasPrefix(first, "#") && !strings.HasPrefix(string([]rune(doc.String())[s.Offset:]), first) {
					t.Fatalf("offset %d does not point at %q", s.Offset, first)
				}
				all.WriteString(s.Text + " ")
			} else {
				all.WriteString(item.Reject.Text + " ")
			}
		}
		for i := range word {
			if n := strings.Count(all.String(), fmt.Sprintf("w%dw", i)); n != 1 {
				t.Fatalf("word %d is in %d rows of %q", i, n, doc.String())
			}
		}
	})
}

// TestRepetition checks the rule on single texts.
func TestRepetition(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		limit      float64
		repeats    bool
	}{
		{"different", "The cat sat on the red mat. A dog lay under the old table.", .6, false},
		{"same", "The cat sat on the red mat. The cat sat on the red mat!", .6, true},
		{"same but for case and signs", "The cat sat, on the red mat. the CAT sat on the red mat", .6, true},
		{"one word differs, strict", "The small cat sat on the red mat today. The small cat sat on the red mat yesterday.", .6, true},
		{"one word differs, lax", "The small cat sat on the red mat today. The small cat sat on the red mat yesterday.", .9, false},
		{"short sentences", "Yes. Yes. Yes, of course. Yes, of course.", .6, false},
		{"code", "```\nx = compute(a, b, c, d)\nx = compute(a, b, c, d)\n```\n", .6, false},
		{"table", "| a b c d e f | 1 |\n| a b c d e f | 1 |\n", .6, false},
		{"list items", "- open the lid of the box\n- open the lid of the box\n", .6, true},
	} {
		if got := repetition(prose(tt.text), 3, tt.limit); (got != "") != tt.repeats {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// TestWrongLanguage checks that other languages are named and that English, code and scraps pass.
func TestWrongLanguage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want, got string }{
		{"english", "The ship left the harbour at dawn, and nobody on the shore knew that it would be gone for more than three years of wind and rain.", "en", ""},
		{"dutch", "Het schip is in de ochtend uit de haven vertrokken, en niemand aan de kust wist dat het meer dan drie jaar weg zou blijven, of waarom. De kapitein had zijn vrouw alleen gezegd dat hij een brief zou schrijven, maar die brief is nooit aangekomen.", "en", "nl"},
		{"german", "Das Schiff lief im Morgengrauen aus, und niemand an der Küste wusste, dass es länger als drei Jahre unterwegs sein würde, und warum.", "en", "de"},
		{"german wanted", "Das Schiff lief im Morgengrauen aus, und niemand an der Küste wusste, dass es länger als drei Jahre unterwegs sein würde, und warum.", "de", ""},
		{"english where german is wanted", "The ship left the harbour at dawn, and nobody on the shore knew that it would be gone for more than three years of wind and rain.", "de", "en"},
		{"all languages", "Корабль вышел из гавани на рассвете, и никто на берегу не знал, что он вернётся только через три года.", "any", ""},
		{"greek", "Το πλοίο έφυγε από το λιμάνι την αυγή, και κανείς στην ακτή δεν ήξερε ότι θα γύριζε μόνο μετά από τρία χρόνια.", "en", "el"},
		{"japanese", "船は夜明けに港を出たが、それが三年以上も戻らないことを岸にいる誰も知らなかった。風と雨の年月であった。", "en", "ja"},
		{"code", "```\nif (x == 1) { return foo(bar); } else { while (true) { x++; } } for (;;) { y--; } return baz(qux, quux);\n```", "en", ""},
		{"scrap", "Größe", "en", ""},
	} {
		want := []string{tt.want}
		if tt.want == "any" {
			want = nil
		}
		got := wrongLanguage(prose(tt.text), want, 0.8)
		if (got == "") != (tt.got == "") || !strings.HasPrefix(got, tt.got) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.got)
		}
	}
}

// TestSentences holds the splitter to the expression that says what it does.
func TestSentences(t *testing.T) {
	t.Parallel()
	end := regexp.MustCompile(`[.!?]+["”')\]]*\s+|\n\s*\n|\n\s*(?:[-*+]|\d+[.)])\s+`)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", "B c", ".", "!", "?", "\"", "”", ")", "]", "'", " ", "\n", "\t", "-", "*", "12", "3", "é"})).Draw(t, "pieces"), "")
		got := slices.Collect(sentences(text))
		if want := end.Split(text, -1); !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
	})
}
