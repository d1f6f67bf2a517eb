package corpus

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestSplitKeepsAll draws bodies of all kinds of blocks: no character but the space between parts is lost, none comes twice,
// parts fit unless they are one block, and neighbours that would fit together are never left apart from another by chance.
func TestSplitKeepsAll(t *testing.T) {
	t.Parallel()
	blocks := []string{
		"A paragraph of a few words that ends here.", "Short.", "The steps are:", "- one\n- two\n- three", "1. first\n2. second",
		"```\ncode one\n\ncode two\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "  indented, of a list", "wrapped at some\nwidth and going\non. And\nmore.",
		strings.Repeat("a very long line without any end ", 12), strings.Repeat("A line that ends.\n", 20), "```\n" + strings.Repeat("never ended\n", 9),
		"日本語の段落です。",
	}
	rapid.Check(t, func(t *rapid.T) {
		body := strings.TrimSpace(strings.Join(rapid.SliceOfN(rapid.SampledFrom(blocks), 1, 14).Draw(t, "blocks"), "\n\n"))
		limit := rapid.IntRange(40, 400).Draw(t, "limit")
		at := 0
		pieces := split(body, limit)
		for i, p := range pieces {
			from := strings.Index(body[at:], p.text)
			if from < 0 || strings.TrimSpace(body[at:at+from]) != "" {
				t.Fatalf("part %d %q does not follow %q in %q", i, p.text, body[:at], body)
			}
			if got := utf8.RuneCountInString(body[:at+from]); int64(got) != p.offset {
				t.Fatalf("part %d is at %d, said to be at %d", i, got, p.offset)
			}
			at += from + len(p.text)
			if n := utf8.RuneCountInString(p.text); n > limit && len(split(p.text, limit)) > 1 {
				t.Fatalf("part %d of %d characters could be cut: %q", i, n, p.text)
			}
		}
		if strings.TrimSpace(body[at:]) != "" {
			t.Fatalf("%q is lost", body[at:])
		}
	})
}

func TestSplit(t *testing.T) {
	t.Parallel()
	p := func(n int) string { return strings.Repeat("x", n-1) + "." }
	for _, tt := range []struct {
		name, body string
		want       string // lengths
	}{
		{"even", strings.Join([]string{p(300), p(300), p(300), p(300)}, "\n\n"), "602 602"},
		{"no tail", strings.Join([]string{p(400), p(400), p(250)}, "\n\n"), "400 652"},
		{"a long paragraph between", strings.Join([]string{p(100), p(1500), p(100)}, "\n\n"), "100 1500 100"},
		{"paragraphs as lines", strings.Join([]string{p(300), p(300), p(300), p(300)}, "\n"), "601 601"},
		{"a colon keeps its list", p(500) + "\n\nNow do this:\n\n- " + p(500), "500 516"},
		{"code stays whole", p(600) + "\n\n```\n" + p(300) + "\n\n" + p(300) + "\n```", "600 610"},
	} {
		var got []string
		for _, piece := range split(tt.body, 1000) {
			got = append(got, fmt.Sprint(utf8.RuneCountInString(piece.text)))
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
	}
}

// TestLongCut cuts a text without headers, which is turned away by default.
func TestLongCut(t *testing.T) {
	t.Parallel()
	var paragraphs []string
	for i := range 12 {
		paragraphs = append(paragraphs, fmt.Sprintf("%d. %s", i, para(500)))
	}
	text := strings.Join(paragraphs, "\n\n")
	count := func(rules SegmentRules) (segments, rejects int) {
		rules.RepeatJaccard = -1
		for item, err := range Documents(t.Context(), "a.txt", strings.NewReader(text), DocumentOptions{Segments: rules}) {
			check(t, item, err)
			if item.Segment != nil {
				segments++
			} else {
				rejects++
			}
		}
		return segments, rejects
	}
	if s, r := count(SegmentRules{}); s != 0 || r != 1 {
		t.Errorf("by default: %d segments, %d rejects; want one reject", s, r)
	}
	if s, r := count(SegmentRules{Long: LongCut}); s != 3 || r != 0 {
		t.Errorf("cut: %d segments, %d rejects; want 3 and 0", s, r)
	}
}
