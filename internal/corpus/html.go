package corpus

import (
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	readability "codeberg.org/readeck/go-readability/v2"
	"github.com/JohannesKaufmann/html-to-markdown/v2/converter"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/base"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/commonmark"
	"github.com/JohannesKaufmann/html-to-markdown/v2/plugin/table"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Above these a page is not worth the extractor's time, which grows faster than the page: it is read by a plain walk.
const (
	extractorMaxElements = 30_000
	extractorMaxBytes    = 4 << 20
)

// An article shorter than this share of a page's words is taken for a miss of the extractor.
const extractorMinShare = 0.15

// pageAddress is where pages are thought to stand.
const pageAddress = "http://localhost/"

var pageURL = &url.URL{Scheme: "http", Host: "localhost", Path: "/"}

// headingMark stands before the level digit of a heading in converted markdown. It cannot come from a page, whose
// control characters are removed first.
const headingMark = '\x1e'

// toMarkdown converts an article. It keeps code, lists and tables, and drops links' targets and pictures.
var toMarkdown = sync.OnceValue(func() *converter.Converter {
	conv := converter.NewConverter(
		converter.WithEscapeMode(converter.EscapeModeDisabled),
		converter.WithPlugins(
			base.NewBasePlugin(),
			commonmark.NewCommonmarkPlugin(commonmark.WithListEndComment(false), commonmark.WithHorizontalRule("---")),
			table.NewTablePlugin(table.WithCellPaddingBehavior(table.CellPaddingBehaviorMinimal), table.WithHeaderPromotion(true), table.WithSkipEmptyRows(true)),
		),
	)
	conv.Register.TextTransformer(hide, converter.PriorityEarly)
	for level := 1; level <= 6; level++ {
		conv.Register.RendererFor("h"+strconv.Itoa(level), converter.TagTypeBlock,
			func(_ converter.Context, w converter.Writer, n *html.Node) converter.RenderStatus {
				_, _ = fmt.Fprintf(w, "\n\n%c%d %s\n\n", headingMark, level, headingText(n)) // a bytes.Buffer
				return converter.RenderSuccess
			}, converter.PriorityEarly)
	}
	return conv
})

// extract finds the main content of a page and cuts it at its headings. A reason says why there is none.
func extract(markup string) (p page, reason, detail string) {
	defer func() {
		if r := recover(); r != nil { // libraries on hostile input
			p, reason, detail = page{}, ReasonExtraction, clip(fmt.Sprint(r), 200)
		}
	}()
	if detail := explosive(markup); detail != "" {
		return page{}, ReasonTooLarge, detail
	}
	doc, err := html.Parse(strings.NewReader(markup))
	if err != nil {
		if strings.Contains(err.Error(), "exceeds") {
			return page{}, ReasonTooDeep, err.Error()
		}
		return page{}, ReasonBadRecord, err.Error()
	}
	met := prepare(doc)
	title, body := "", (*html.Node)(nil)
	if met.elements <= extractorMaxElements && len(markup) <= extractorMaxBytes {
		parser := newExtractor()
		article, err := parser.ParseAndMutate(doc, pageURL)
		switch {
		case err == nil && article.Node != nil && hasWordShare(article.Node, extractorMinShare*float64(met.words)):
			title, body = article.Title(), article.Node
		case met.changes:
			if doc, err = html.Parse(strings.NewReader(markup)); err != nil {
				return page{}, ReasonBadRecord, err.Error()
			}
			prepare(doc)
		}
	}
	if body == nil {
		title, body = plainMain(doc)
	}
	simplify(body)
	md, err := toMarkdown().ConvertNode(body)
	if err != nil {
		return page{}, ReasonExtraction, clip(err.Error(), 200)
	}
	text := tidyLines(strings.TrimSpace(showAngles(string(md))))
	if text == "" {
		return page{}, ReasonNoContent, "no main content on the page"
	}
	return parseMarked(pageTitle(cleanLine(title), met.h1), text), "", ""
}

// newExtractor returns the extractor for one page.
func newExtractor() readability.Parser {
	parser := readability.NewParser()
	parser.KeepClasses = true // language-go on a code block says its language
	parser.DisableJSONLD = true
	parser.Logger = slog.New(slog.DiscardHandler) // its own writes lines that nobody reads
	return parser
}

// pageTitle prefers the only h1 to a title that begins with it and goes on with the site's name, and to none.
func pageTitle(title string, h1 []string) string {
	if len(h1) == 1 && h1[0] != "" && (title == "" || strings.HasPrefix(strings.ToLower(title), strings.ToLower(h1[0]))) {
		return h1[0]
	}
	return clip(title, maxHeaderChars)
}

// unseen are elements that are no text of a page, and menus. They go first: an inline script of a thousand words must not make
// the article look short, and what is gone costs the extractor nothing.
var unseen = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true, atom.Svg: true, atom.Canvas: true,
	atom.Iframe: true, atom.Object: true, atom.Embed: true, atom.Nav: true,
}

// removeUnseen removes them and comments.
func removeUnseen(doc *html.Node) {
	n := doc
	for n != nil {
		next := n.FirstChild
		drop := n.Type == html.CommentNode || n.Type == html.ElementNode && unseen[n.DataAtom]
		if drop {
			next = nil
		}
		for up := n; next == nil && up != nil && up != doc; up = up.Parent {
			next = up.NextSibling
		}
		if drop {
			n.Parent.RemoveChild(n)
		}
		n = next
	}
}

// met is what a page holds.
type met struct {
	elements, words int
	h1              []string // texts of the first few
	changes         bool     // the extractor changes more of the page than pictures, which are never content
}

// prepare cleans the text of a parsed page, moves h2..h5 one level down (the extractor turns h1 into h2), and says what it met.
func prepare(doc *html.Node) (m met) {
	removeUnseen(doc)
	for n := range doc.Descendants() {
		switch n.Type {
		case html.TextNode:
			n.Data = cleanText(n.Data)
			m.words += fieldCount(n.Data)
		case html.ElementNode:
			m.elements++
			m.changes = m.changes || n.DataAtom == atom.Br || n.DataAtom == atom.Font // it makes paragraphs of the one, spans of the other
			switch level := headingLevel(n); {
			case level == 1 && len(m.h1) < 2:
				m.h1 = append(m.h1, headingText(n))
			case level >= 2 && level <= 5:
				rename(n, "h"+strconv.Itoa(level+1))
			}
			n.Attr = dropAttributes(n.Attr)
			if n.DataAtom == atom.Pre {
				codeLanguage(n)
			}
		}
	}
	return m
}

// dropAttributes removes what is costly to believe: spans of a million columns, megabytes of inline data.
func dropAttributes(attrs []html.Attribute) []html.Attribute {
	kept := attrs[:0]
	for _, a := range attrs {
		if a.Key == "colspan" || a.Key == "rowspan" || a.Key == "start" && len(a.Val) > 4 || len(a.Val) > 2048 {
			continue
		}
		kept = append(kept, a)
	}
	return kept
}

// fieldCount counts what ASCII space separates.
func fieldCount(s string) int {
	n, before := 0, uint8(1)
	for i := range len(s) {
		space := fieldSpace[s[i]]
		n += int(before &^ space)
		before = space
	}
	return n
}

var fieldSpace = [256]uint8{' ': 1, '\n': 1, '\t': 1}

func countWords(n *html.Node) int {
	words := 0
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			words += fieldCount(d.Data)
		}
	}
	return words
}

// hasWordShare reports whether there are at least so many words under a node.
func hasWordShare(n *html.Node, least float64) bool {
	words := 0
	for d := range n.Descendants() {
		if float64(words) >= least {
			return true
		}
		if d.Type == html.TextNode {
			words += fieldCount(d.Data)
		}
	}
	return float64(words) >= least
}

// furniture are elements that are never content.
var furniture = map[atom.Atom]bool{
	atom.Nav: true, atom.Footer: true, atom.Aside: true, atom.Form: true, atom.Button: true, atom.Select: true,
	atom.Script: true, atom.Style: true, atom.Noscript: true, atom.Template: true, atom.Iframe: true, atom.Object: true,
	atom.Embed: true, atom.Svg: true, atom.Canvas: true, atom.Img: true, atom.Picture: true, atom.Video: true,
	atom.Audio: true, atom.Input: true, atom.Textarea: true, atom.Dialog: true, atom.Head: true, atom.Map: true,
}

// plainMain is the walk for pages that the extractor is not made for: main, else the only article, else the body.
func plainMain(doc *html.Node) (title string, body *html.Node) {
	var mainNode, bodyNode *html.Node
	var articles []*html.Node
	for n := range doc.Descendants() {
		switch n.DataAtom {
		case atom.Title:
			if title == "" {
				title = nodeText(n)
			}
		case atom.Main:
			if mainNode == nil {
				mainNode = n
			}
		case atom.Article:
			articles = append(articles, n)
		case atom.Body:
			bodyNode = n
		}
	}
	switch {
	case mainNode != nil:
		return title, mainNode
	case len(articles) == 1:
		return title, articles[0]
	case bodyNode != nil:
		return title, bodyNode
	}
	return title, doc
}

// simplify removes furniture, takes links for their text, and opens whatever holds a heading: a list or table that
// does is layout, and a heading must be able to end the section before it. A heading too long to be one is text.
func simplify(root *html.Node) {
	var gone, headings []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.CommentNode || n.Type == html.ElementNode && furniture[n.DataAtom] {
			gone = append(gone, n)
			continue
		}
		if n.Type != html.ElementNode {
			continue
		}
		switch n.DataAtom {
		case atom.A:
			rename(n, "span")
			n.Attr = linkMark
		case atom.B, atom.Strong, atom.I, atom.Em:
			if !emphasised(n) {
				rename(n, "span")
			}
		case atom.Dl, atom.Dt, atom.Dd:
			define(n)
		case atom.Ul, atom.Ol:
			if contents(n) {
				gone = append(gone, n)
			}
		}
		if headingLevel(n) > 0 {
			if utf8.RuneCountInString(nodeText(n)) > maxHeaderChars {
				rename(n, "div") // an end tag is missing: this is text
				continue
			}
			headings = append(headings, n)
		}
	}
	gone = append(gone, flatten(root, 0)...)
	for _, n := range gone {
		if n.Parent != nil {
			n.Parent.RemoveChild(n)
		}
	}
	for _, n := range headings {
		openAncestors(n, root)
	}
}

// maxNesting is how deep lists, quotes and tables may stand inside each other. The converter writes each level again
// for every one around it.
const maxNesting = 8

// flatten makes plain boxes of what is nested deeper, and of layout tables: those that hold a heading, a table or a block of
// code. It returns the cells of these that hold a menu or the numbers of lines. The parser's limit on depth bounds the recursion.
func flatten(n *html.Node, depth int) (gone []*html.Node) {
	b := boxes{layout: map[*html.Node]bool{}}
	markLayout(n, b.layout)
	b.open(n, depth, false)
	return b.gone
}

// markLayout notes the tables that hold a heading, a table or a block of code, and reports whether n does or is one.
func markLayout(n *html.Node, layout map[*html.Node]bool) bool {
	holds := false
	for c := range n.ChildNodes() {
		holds = markLayout(c, layout) || holds
	}
	if n.DataAtom == atom.Table {
		layout[n] = holds
		return true
	}
	return holds || headingLevel(n) > 0 || n.DataAtom == atom.Pre
}

type boxes struct {
	layout map[*html.Node]bool
	gone   []*html.Node
}

// open renames; inLayout says that the nearest table around n is layout.
func (b *boxes) open(n *html.Node, depth int, inLayout bool) {
	switch n.DataAtom {
	case atom.Table:
		depth++
		inLayout = b.layout[n] || depth > maxNesting
		if inLayout {
			rename(n, "div")
		}
	case atom.Td, atom.Th:
		switch {
		case !inLayout:
			inlineCell(n)
			return
		case menuCell(n) || numberCell(n):
			b.gone = append(b.gone, n)
			return
		}
		rename(n, "div")
	case atom.Tr, atom.Tbody, atom.Thead, atom.Tfoot, atom.Caption:
		if inLayout {
			rename(n, "div")
		}
	case atom.Ul, atom.Ol, atom.Dl, atom.Blockquote:
		if depth++; depth > maxNesting {
			rename(n, "div")
		}
	}
	for c := range n.ChildNodes() {
		b.open(c, depth, inLayout)
	}
}

// openAncestors makes plain boxes of everything around a heading. The parser's limit on depth bounds its work.
func openAncestors(n, root *html.Node) {
	for p := n.Parent; p != nil && p != root; p = p.Parent {
		switch p.DataAtom {
		case atom.Div, atom.Section, atom.Article, atom.Main, atom.Body:
		default:
			rename(p, "div")
			p.Attr = nil
		}
	}
}

func rename(n *html.Node, name string) {
	n.Data, n.DataAtom = name, atom.Lookup([]byte(name))
}

// headingLevel returns 1 to 6 for h1 to h6, else 0.
func headingLevel(n *html.Node) int {
	if n.Type == html.ElementNode && len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
		return int(n.Data[1] - '0')
	}
	return 0
}

// headingText returns a heading's words on one line, without the permalink signs that documentation tools add.
func headingText(n *html.Node) string {
	return strings.TrimRight(clip(nodeText(n), maxHeaderChars), " ¶#§🔗")
}

// breaks are elements that begin a new line, so that the words around them are apart.
var breaks = map[atom.Atom]bool{
	atom.Br: true, atom.P: true, atom.Div: true, atom.Li: true, atom.Ul: true, atom.Ol: true, atom.Table: true,
	atom.Tr: true, atom.Td: true, atom.Th: true, atom.Section: true, atom.Blockquote: true, atom.Pre: true,
}

// nodeText returns the words under a node on one line.
func nodeText(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		} else if breaks[d.DataAtom] {
			b.WriteByte(' ')
		}
	}
	return cleanLine(b.String())
}

// parseMarked cuts converted markdown at its marked headings. Levels come back to what the page had.
func parseMarked(title, text string) page {
	b := newBuilder(title)
	for line := range strings.Lines(text) {
		before, after, found := strings.Cut(line, string(headingMark))
		if !found || len(after) < 2 || !onlyMarkers(before) {
			b.line(strings.ReplaceAll(line, string(headingMark), ""))
			continue
		}
		level := max(1, int(after[0]-'0')-1)
		b.heading(level, strings.TrimSpace(after[1:]), utf8.RuneCountInString(line))
	}
	return b.page()
}

// onlyMarkers reports whether s holds nothing but list and quote signs.
func onlyMarkers(s string) bool { return strings.Trim(s, " \t>-*+.0123456789") == "" }
