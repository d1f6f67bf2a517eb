package corpus

import (
	"strings"

	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// The converter writes < and > as entities, which is right for browsers and wrong for models. They pass it as control
// characters, which cannot come from a page.
var (
	hideAngles   = strings.NewReplacer("<", "\x1c", ">", "\x1d")
	unhideAngles = strings.NewReplacer("\x1c", "<", "\x1d", ">")
)

func hide(_ converter.Context, text string) string {
	if strings.IndexByte(text, '<') < 0 && strings.IndexByte(text, '>') < 0 {
		return text
	}
	return hideAngles.Replace(text)
}

func showAngles(text string) string {
	if strings.IndexByte(text, '\x1c') < 0 && strings.IndexByte(text, '\x1d') < 0 {
		return text
	}
	return unhideAngles.Replace(text)
}

// longestEmphasis is how many bytes in bold or italics are an emphasis. More is an end tag that was forgotten.
const longestEmphasis = 200

// emphasised reports whether n emphasises no more than that.
func emphasised(n *html.Node) bool {
	size := 0
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			if size += len(d.Data); size > longestEmphasis {
				return false
			}
		}
	}
	return true
}

// contents reports whether a list is a table of contents: at least three links within the page and no word beside them.
func contents(list *html.Node) bool {
	links := 0
	for d := range list.Descendants() {
		switch {
		case d.Type == html.TextNode && strings.TrimSpace(d.Data) != "":
			a := d.Parent
			for a != list && a.DataAtom != atom.A {
				a = a.Parent
			}
			if a == list {
				return false
			}
		case d.DataAtom == atom.A:
			if href := strings.TrimPrefix(attribute(d, "href"), pageAddress); !strings.HasPrefix(href, "#") {
				return false
			}
			links++
		}
	}
	return links >= 3
}

// menuCell reports whether a cell of a layout table holds a menu: at least three short links and hardly a word beside them.
func menuCell(cell *html.Node) bool {
	links, all, linked := 0, 0, 0
	for d := range cell.Descendants() {
		switch {
		case d.Type == html.TextNode:
			all += fieldCount(d.Data)
		case wasLink(d):
			links++
			linked += countWords(d)
		}
	}
	return links >= 3 && linked <= 4*links && all-linked <= 6
}

// numberCell reports whether a cell holds nothing but the numbers of lines of code.
func numberCell(cell *html.Node) bool {
	code, digits := false, false
	for d := range cell.Descendants() {
		switch {
		case d.DataAtom == atom.Pre:
			code = true
		case d.Type == html.TextNode:
			if strings.Trim(d.Data, "0123456789 \t\n") != "" {
				return false
			}
			digits = digits || d.Data != ""
		}
	}
	return code && digits
}

// A link that became plain text still says that it was one.
var linkMark = []html.Attribute{{Key: "link"}}

func wasLink(n *html.Node) bool {
	return n.DataAtom == atom.Span && len(n.Attr) == 1 && n.Attr[0].Key == linkMark[0].Key
}

// inlineCell puts what a cell of a table holds on one line, without which the table would fall apart.
func inlineCell(cell *html.Node) {
	for n := range cell.Descendants() {
		if n.Type == html.TextNode {
			n.Data = strings.ReplaceAll(n.Data, "|", `\|`)
			continue
		}
		if !breaks[n.DataAtom] && n.DataAtom != atom.Dt && n.DataAtom != atom.Dd && n.DataAtom != atom.Hr && headingLevel(n) == 0 {
			continue
		}
		between := " "
		if n.DataAtom == atom.Li && n.PrevSibling != nil && hasItem(n.PrevSibling) {
			between = "; "
		}
		n.Parent.InsertBefore(&html.Node{Type: html.TextNode, Data: between}, n)
		rename(n, "span")
		n.Attr = nil
	}
}

// hasItem reports whether an item of the list, a span by now, stands at n or before it.
func hasItem(n *html.Node) bool {
	for ; n != nil; n = n.PrevSibling {
		if n.Type == html.ElementNode {
			return true
		}
	}
	return false
}

// define makes paragraphs of a list of definitions, with its terms in bold.
func define(n *html.Node) {
	switch n.DataAtom {
	case atom.Dl, atom.Dd:
		rename(n, "div")
	case atom.Dt:
		rename(n, "p")
		for d := range n.Descendants() {
			if breaks[d.DataAtom] || d.DataAtom == atom.B || d.DataAtom == atom.Strong || headingLevel(d) > 0 {
				return
			}
		}
		bold := &html.Node{Type: html.ElementNode, Data: "strong", DataAtom: atom.Strong}
		for c := n.FirstChild; c != nil; c = n.FirstChild {
			n.RemoveChild(c)
			bold.AppendChild(c)
		}
		n.AppendChild(bold)
	}
	n.Attr = nil
}

// languagePrefixes begin the classes that name the language of code: those of the HTML standard, GitHub and Sphinx.
var languagePrefixes = []string{"language-", "lang-", "highlight-source-", "highlight-"}

// notLanguages are what stands there for no language.
var notLanguages = map[string]bool{"": true, "default": true, "text": true, "none": true, "plaintext": true, "plain": true, "source": true, "notranslate": true}

// codeLanguage writes the language that the boxes around a block of code name onto the block.
func codeLanguage(pre *html.Node) {
	for n, up := pre, 0; n != nil && up < 4; n, up = n.Parent, up+1 {
		for class := range strings.FieldsSeq(attribute(n, "class")) {
			for _, prefix := range languagePrefixes {
				name, ok := strings.CutPrefix(class, prefix)
				if ok && !notLanguages[name] && len(name) <= 20 {
					pre.Attr = append(pre.Attr[:0:0], html.Attribute{Key: "class", Val: "language-" + name})
					return
				}
				if ok {
					break
				}
			}
		}
	}
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// tidyLines removes space at the end of lines, and the blank lines that the converter puts before an inner list.
func tidyLines(text string) string {
	if !strings.Contains(text, " \n") && !strings.Contains(text, "\n\n ") {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	fence, last, blank := "", "", 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n")
		if line == "" {
			blank++
			continue
		}
		bare := strings.TrimLeft(line, " >")
		inner := fence == "" && blank > 0 && indented(line) > indented(last) && itemStart(bare) && itemStart(strings.TrimLeft(last, " >"))
		for ; blank > 0 && !inner; blank-- {
			b.WriteByte('\n')
		}
		blank = 0
		b.WriteString(line)
		b.WriteByte('\n')
		last = line
		ticks := bare[:len(bare)-len(strings.TrimLeft(bare, "`"))]
		switch {
		case len(ticks) < 3:
		case fence == "":
			fence = ticks
		case len(ticks) >= len(fence) && ticks == bare:
			fence = ""
		}
	}
	return b.String()
}

func indented(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
