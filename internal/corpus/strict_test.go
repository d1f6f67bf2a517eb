package corpus

import (
	"fmt"
	"strings"
	"testing"
)

// TestStrict tries each rule of REInstruct at its bound and one below, through a whole document.
func TestStrict(t *testing.T) {
	t.Parallel()
	steps := "- Mix the flour.\n- Kneading takes ten minutes.\n- Let it rest.\n- *Bake* the loaf.\n"
	for _, tt := range []struct {
		name, text string
		rules      SegmentRules
		reason     string
	}{
		{"signs", "It costs nothing… or so they say", SegmentRules{Signs: []string{"™", "…"}}, ReasonSigns},
		{"no signs", "It costs nothing, or so they say", SegmentRules{Signs: []string{"™", "…"}}, ""},
		{"pronouns", "I went, we've seen it, and He came; it is in the US", SegmentRules{Pronouns: 3}, ReasonPronouns},
		{"fewer pronouns", "I went, we’ve seen it; it is in the US", SegmentRules{Pronouns: 3}, ""},
		{"pronouns in code", "```\ni = i + i + my\n```\nnone", SegmentRules{Pronouns: 1}, ""},
		{"questions", "Why? And how?", SegmentRules{Questions: 2}, ReasonQuestions},
		{"one question", "Why? Because.", SegmentRules{Questions: 2}, ""},
		{"capitals", "BUY it NOW or NEVER", SegmentRules{CapitalWords: 3}, ReasonCapitals},
		{"fewer capitals", "BUY it NOW, I say, in 2024, A or B", SegmentRules{CapitalWords: 3}, ""},
		{"steps", steps, SegmentRules{VerbParagraphs: 4}, ""},
		{"too few steps", steps, SegmentRules{VerbParagraphs: 5}, ReasonFewVerbs},
		{"the same verb", strings.Repeat("- Mix it.\n", 6), SegmentRules{VerbParagraphs: 2, RepeatJaccard: -1}, ReasonFewVerbs},
		{"paragraphs", "Preheat the oven.\n\nCutting the bread comes next.\n\nServe it warm.", SegmentRules{VerbParagraphs: 3}, ""},
		{"off", steps + "Why? I? WE? HE? SHE? …", SegmentRules{}, ""},
	} {
		tt.rules.MinChars = 3
		n := 0
		for item, err := range Documents(t.Context(), "a.txt", strings.NewReader("A title\n\n"+tt.text), DocumentOptions{Language: "any", Segments: tt.rules}) {
			check(t, item, err)
			reason := ""
			if item.Reject != nil {
				reason = item.Reject.Reason
			}
			if n++; reason != tt.reason {
				t.Errorf("%s: %q, want %q (%+v)", tt.name, reason, tt.reason, item.Reject)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d rows", tt.name, n)
		}
	}
}

// TestLanguages keeps several languages and asks for more or less confidence.
func TestLanguages(t *testing.T) {
	t.Parallel()
	german := "Das Schiff lief im Morgengrauen aus, und niemand an der Küste wusste, dass es länger als drei Jahre unterwegs sein würde, und warum. "
	for _, tt := range []struct {
		rules SegmentRules
		kept  bool
	}{
		{SegmentRules{}, false},
		{SegmentRules{Languages: []string{"en", "de"}}, true},
		{SegmentRules{Languages: []string{"fr"}}, false},
		{SegmentRules{Languages: []string{"any"}}, true},
		{SegmentRules{Languages: []string{"fr"}, LanguageConfidence: 1.1}, true},
	} {
		tt.rules.MinChars = 10
		for item, err := range Documents(t.Context(), "a.txt", strings.NewReader(german), DocumentOptions{Segments: tt.rules}) {
			check(t, item, err)
			if (item.Segment != nil) != tt.kept {
				t.Errorf("%+v: %+v", tt.rules, item.Reject)
			}
			if r := item.Reject; r != nil && !strings.HasPrefix(r.Detail, "de with confidence ") {
				t.Errorf("detail %q", r.Detail)
			}
		}
	}
}

// TestFunnel holds the marks on rows to what a count makes of them: each document has one first row, and what was turned away
// whole is told from pieces.
func TestFunnel(t *testing.T) {
	t.Parallel()
	lines := fmt.Sprintf("{\"text\":\"# a\\n\\n%s\\n\\n# b\\n\\nshort\"}\n{\"text\":\"\"}\nbroken\n{\"text\":\"# only\\n# headers\"}\n", para(700))
	first, whole, pieces := 0, 0, 0
	for item, err := range Documents(t.Context(), "a.jsonl", strings.NewReader(lines), DocumentOptions{Segments: SegmentRules{RepeatJaccard: -1}}) {
		check(t, item, err)
		if item.First {
			first++
		}
		if item.Whole {
			whole++
		} else {
			pieces++
		}
	}
	if first != 4 || whole != 3 || pieces != 2 {
		t.Errorf("%d documents, %d turned away whole, %d pieces; want 4, 3, 2", first, whole, pieces)
	}
}
