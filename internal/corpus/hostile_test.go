package corpus

import (
	"strings"
	"testing"
	"time"
)

// TestHostilePages times pages made to be slow: shapes for which a parser, the extractor or the converter does work
// that grows faster than the page.
func TestHostilePages(t *testing.T) {
	t.Parallel()
	for name, page := range map[string]string{
		"flat":         strings.Repeat("<div><p>word, word, word and more of it here <a href=x>l</a></p></div>", 9000),
		"deep":         strings.Repeat(strings.Repeat("<div>", 400)+"<p>word, some more words and <a href=x>l</a></p>"+strings.Repeat("</div>", 400), 70),
		"lists":        strings.Repeat("<ul>", 200) + strings.Repeat("<li><p>text, text, text text text", 14_000),
		"nested lists": strings.Repeat("<ul><li>a", 240) + strings.Repeat("x\n<br>", 10_000),
		"headings":     strings.Repeat("<ul>", 400) + strings.Repeat("<h2>a</h2>x", 14_000),
		"quotes":       strings.Repeat("<blockquote>", 300) + strings.Repeat("line<br>", 10_000),
		"tables":       strings.Repeat("<table><tr><td>a", 100) + strings.Repeat("<tr><td>b<td>c", 10_000),
		"code":         strings.Repeat("<pre>a\n", 14_000),
		"emphasis":     strings.Repeat("<b><i>", 200) + strings.Repeat("word ", 50_000),
		"addresses":    "<p>" + strings.Repeat("a.b-c_d@", 60_000) + "</p><p>" + strings.Repeat("+1 212 ", 60_000) + strings.Repeat("-----BEGIN PRIVATE KEY-----", 20_000),
		"one line":     "<p>" + strings.Repeat("word ", 200_000),
		"lines":        "<pre>" + strings.Repeat("- item\n\n", 60_000),
		"attributes":   "<p " + strings.Repeat("a=b ", 200_000) + ">" + strings.Repeat("word ", 500),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := worked(t, func() {
				for item, err := range Documents(t.Context(), "a.html", strings.NewReader(page), DocumentOptions{Segments: SegmentRules{Long: LongCut, Mask: MaskKinds()}}) {
					check(t, item, err)
				}
			})
			if d > time.Minute {
				t.Errorf("%d bytes took %v of the processor", len(page), d)
			}
		})
	}
}
