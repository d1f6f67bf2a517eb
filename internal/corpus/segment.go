package corpus

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// cutter makes rows of pages.
type cutter struct {
	opts DocumentOptions
	mask *masker // nil: nothing is masked
	out  func(Item) bool

	phrases      []string  // of navigation, in lower case
	phraseStarts [256]bool // their first bytes

	inside bool   // a page
	at     origin // of the page in work
	title  string
	pieces int
	ended  bool // the caller wants no more
}

func newCutter(opts DocumentOptions, yield func(Item, error) bool) *cutter {
	c := &cutter{opts: opts, mask: newMasker(opts.Segments.Mask), out: func(it Item) bool { return yield(it, nil) }}
	c.lowerPhrases()
	return c
}

// yield hands a row on. What is turned away as a whole was not masked yet.
func (c *cutter) yield(it Item) bool {
	it.Whole = !c.inside
	it.First = !c.inside || c.pieces <= 1
	if r := it.Reject; it.Whole && r != nil && c.mask != nil {
		r.Text, _ = c.mask.mask(r.Text)
		r.Detail, _ = c.mask.mask(r.Detail)
	}
	return c.out(it)
}

// masked counts the placeholders that masking left in a text.
func (c *cutter) masked(text string) map[string]int64 {
	if c.mask == nil {
		return nil
	}
	return c.mask.count(text)
}

// section is a header with its own text and the sections of lower headers.
type section struct {
	part
	lower []*section
}

// cut yields the rows of one page and reports whether more may follow. The title is the header of the whole page, and
// when it is a bad one only the text right under it falls; a text without any header is one section.
func (c *cutter) cut(at origin, p page, markup bool) bool {
	if !slices.ContainsFunc(p.parts, func(q part) bool { return q.body != "" }) {
		return c.yield(at.reject(ReasonNoContent, "no text under any header", ""))
	}
	c.mask.page(&p)
	c.at, c.title, c.pieces, c.inside = at, p.title, 0, true
	defer func() { c.inside = false }()
	root := tree(p)
	if root.body == "" && len(root.lower) == 1 && !c.bad(root.lower[0].header) {
		root = root.lower[0] // the one header over everything says more than the title
	}
	reason, detail := "", ""
	switch phrase := c.navigation(root.header); {
	case phrase != "":
		reason, detail = ReasonNavigation, fmt.Sprintf("title %q contains %q", root.header, phrase)
	case c.uppercase(root.header):
		reason, detail = ReasonUppercase, fmt.Sprintf("header %q", root.header)
	case root.header == "" && (markup || len(root.lower) > 0):
		reason, detail = ReasonEmptyHeader, "text before the first header"
	}
	if reason != "" && root.body != "" && !c.drop(&root.part, reason, detail) {
		return false
	}
	kept, more := c.pruneAll(root.lower)
	if !more {
		return false
	}
	if reason != "" {
		return c.sections(kept)
	}
	root.lower = kept
	return c.section(root)
}

// bad reports whether a header would be pruned.
func (c *cutter) bad(header string) bool {
	return header == "" || c.uppercase(header) || c.navigation(header) != ""
}

// tree hangs every part under the nearest one before it of a lesser level.
func tree(p page) *section {
	root := &section{part: p.parts[0]}
	root.header = p.title
	open := []*section{root}
	for _, q := range p.parts[1:] {
		for len(open) > 1 && open[len(open)-1].level >= q.level {
			open = open[:len(open)-1]
		}
		s := &section{part: q}
		up := open[len(open)-1]
		up.lower = append(up.lower, s)
		open = append(open, s)
	}
	return root
}

// prune takes bad headers out of a section, yields what falls, and returns what takes the section's place.
func (c *cutter) prune(s *section) ([]*section, bool) {
	if phrase := c.navigation(s.header); phrase != "" {
		text := render(s)
		return nil, text == "" || c.dropText(s.offset, ReasonNavigation, fmt.Sprintf("header %q contains %q", s.header, phrase), text)
	}
	reason := ""
	switch {
	case s.header == "":
		reason = ReasonEmptyHeader
	case c.uppercase(s.header):
		reason = ReasonUppercase
	}
	if reason != "" && s.body != "" && !c.drop(&s.part, reason, fmt.Sprintf("header %q", s.header)) {
		return nil, false
	}
	lower, more := c.pruneAll(s.lower)
	if reason != "" || !more {
		return lower, more
	}
	s.lower = lower
	return []*section{s}, true
}

func (c *cutter) pruneAll(sections []*section) ([]*section, bool) {
	var kept []*section
	for _, s := range sections {
		k, more := c.prune(s)
		if !more {
			return nil, false
		}
		kept = append(kept, k...)
	}
	return kept, true
}

func (c *cutter) sections(list []*section) bool {
	for _, s := range list {
		if !c.section(s) {
			return false
		}
	}
	return true
}

// section tries a section as one segment, and opens it when it is too long.
func (c *cutter) section(s *section) bool {
	if c.pieces > c.opts.Bounds.MaxPieces {
		return true
	}
	chars := measure(s).chars()
	rules := c.opts.Segments
	switch {
	case chars == 0:
		return true // a header over nothing: no text is lost
	case chars <= rules.MaxChars:
		return c.judge(s.header, s.offset, render(s))
	case len(s.lower) == 0:
		return c.long(s, fmt.Sprintf("%d characters, at most %d", chars, rules.MaxChars))
	}
	if s.body != "" {
		lead := utf8.RuneCountInString(s.body)
		if lead > rules.MaxChars {
			if !c.long(s, fmt.Sprintf("%d characters before the first lower header, at most %d", lead, rules.MaxChars)) {
				return false
			}
		} else if !c.judge(s.header, s.offset, s.body) {
			return false
		}
	}
	return c.sections(s.lower)
}

// long turns a body above MaxChars away, or cuts it.
func (c *cutter) long(s *section, detail string) bool {
	if c.opts.Segments.Long != LongCut {
		return c.drop(&s.part, ReasonTooLong, detail)
	}
	limit := c.opts.Segments.MaxChars
	for _, p := range split(s.body, limit) {
		if chars := utf8.RuneCountInString(p.text); chars > limit {
			if !c.dropText(s.offset+p.offset, ReasonTooLong, fmt.Sprintf("a paragraph of %d characters, at most %d", chars, limit), p.text) {
				return false
			}
		} else if !c.judge(s.header, s.offset+p.offset, p.text) {
			return false
		}
	}
	return true
}

// judge keeps a text of fitting length or says why not.
func (c *cutter) judge(header string, offset int64, text string) bool {
	rules := c.opts.Segments
	if chars := utf8.RuneCountInString(text); chars < rules.MinChars {
		return c.dropText(offset, ReasonTooShort, fmt.Sprintf("%d characters, at least %d", chars, rules.MinChars), text)
	}
	reason, detail, sets := c.unfit(text)
	at, more := c.piece(offset)
	if !more {
		return !c.ended
	}
	if reason != "" {
		item := at.reject(reason, clip(detail, 1000), text)
		item.Sets, item.Masked = sets, c.masked(text)
		return c.yield(item)
	}
	return c.yield(Item{Masked: c.masked(text), Segment: &dataset.Segment{
		ID: dataset.SegmentID(text), Text: text, Title: clip(c.title, maxHeaderChars), Header: header,
		Source: at.source, Document: at.document, Offset: at.offset,
	}})
}

func (c *cutter) drop(p *part, reason, detail string) bool {
	return c.dropText(p.offset, reason, detail, p.body)
}

func (c *cutter) dropText(offset int64, reason, detail, text string) bool {
	at, more := c.piece(offset)
	if !more {
		return !c.ended
	}
	item := at.reject(reason, clip(detail, 300), text)
	item.Masked = c.masked(text)
	return c.yield(item)
}

// piece counts one row of the page. The row after the last one allowed says that there were more.
func (c *cutter) piece(offset int64) (origin, bool) {
	at := c.at
	at.offset = offset
	c.pieces++
	if c.pieces == c.opts.Bounds.MaxPieces+1 {
		c.ended = !c.yield(at.reject(ReasonTooMany, fmt.Sprintf("more than %d sections", c.opts.Bounds.MaxPieces), ""))
	}
	return at, c.pieces <= c.opts.Bounds.MaxPieces
}

// navigation returns the phrase that marks a header as furniture. A phrase begins where a word begins and may end
// inside one, so that "quick link" finds "Quick links" and "log in" does not find "catalog in".
func (c *cutter) navigation(header string) string {
	found := len(c.phrases)
	words := headerWords(header)
	for rest := words; rest != ""; {
		if c.phraseStarts[rest[0]] {
			for i, phrase := range c.phrases[:found] {
				if phrase != "" && strings.HasPrefix(rest, phrase) {
					found = i
					break
				}
			}
		}
		_, rest, _ = strings.Cut(rest, " ")
	}
	if found == len(c.phrases) {
		return ""
	}
	return c.opts.Segments.Navigation[found]
}

// headerWords returns the words of a header in lower case with one space between them.
func headerWords(header string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(header), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), " ")
}

// lowerPhrases prepares for navigation.
func (c *cutter) lowerPhrases() {
	c.phrases = make([]string, len(c.opts.Segments.Navigation))
	for i, phrase := range c.opts.Segments.Navigation {
		if c.phrases[i] = strings.ToLower(phrase); phrase != "" {
			c.phraseStarts[c.phrases[i][0]] = true
		}
	}
}

// uppercase reports whether a header's letters are nearly all capitals.
func (c *cutter) uppercase(header string) bool {
	if c.opts.Segments.UppercaseRatio < 0 {
		return false
	}
	upper, letters := 0, 0
	for _, r := range header {
		if unicode.IsUpper(r) {
			upper++
		}
		if unicode.IsLetter(r) {
			letters++
		}
	}
	return letters > 1 && float64(upper) > c.opts.Segments.UppercaseRatio*float64(letters)
}

// size adds up the pieces that render joins.
type size struct{ sum, pieces int }

func (s *size) add(text string) {
	if text != "" {
		s.sum += utf8.RuneCountInString(text)
		s.pieces++
	}
}

// chars is the length of the joined text: pieces stand a blank line apart.
func (s size) chars() int { return s.sum + 2*max(0, s.pieces-1) }

// measure returns the size of what render writes.
func measure(s *section) size {
	var total size
	total.add(s.body)
	for _, l := range s.lower {
		inner := measure(l)
		if inner.pieces == 0 {
			continue
		}
		total.add(headerLine(l))
		total.sum += inner.sum
		total.pieces += inner.pieces
	}
	return total
}

// render writes the text under a header with the sections of lower headers. Headers over nothing are left out.
func render(s *section) string {
	var pieces []string
	var walk func(*section)
	walk = func(s *section) {
		if s.body != "" {
			pieces = append(pieces, s.body)
		}
		for _, l := range s.lower {
			if hasText(l) {
				pieces = append(pieces, headerLine(l))
				walk(l)
			}
		}
	}
	walk(s)
	return strings.Join(pieces, "\n\n")
}

// hasText reports whether a section or one below it has text.
func hasText(s *section) bool { return s.body != "" || slices.ContainsFunc(s.lower, hasText) }

func headerLine(s *section) string {
	return strings.Repeat("#", min(max(s.level, 1), 6)) + " " + s.header
}
