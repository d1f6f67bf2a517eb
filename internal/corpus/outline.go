package corpus

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxHeaderChars = 200     // a longer line is no header
	maxHeadings    = 50_000  // headers of a document; later ones are text
	maxLines       = 1 << 19 // lines of a text document
)

// tooManyLines describes a text with more lines than are worth holding.
func tooManyLines(text string) string {
	if strings.Count(text, "\n") < maxLines {
		return ""
	}
	return fmt.Sprintf("more than %d lines", maxLines)
}

// page is a document cut at its headers, in order. The first part has level 0 and stands before every header.
type page struct {
	title string
	parts []part
}

// part is a header and the text up to the next one.
type part struct {
	level  int
	header string
	body   string
	offset int64 // of the body in the document's text, in characters
}

// builder collects parts line by line.
type builder struct {
	p     page
	body  []byte // of the part that is open
	chars int64  // read so far
}

func newBuilder(title string) *builder {
	return &builder{p: page{title: title, parts: []part{{}}}}
}

// line adds a line with its ending to the part that is open.
func (b *builder) line(s string) {
	n := int64(utf8.RuneCountInString(s))
	if strings.TrimSpace(s) == "" {
		if len(b.body) > 0 {
			b.body = append(b.body, '\n')
		}
		b.chars += n
		return
	}
	if len(b.body) == 0 {
		b.p.parts[len(b.p.parts)-1].offset = b.chars
	}
	b.body = append(b.body, s...)
	b.chars += n
}

// heading opens a part; chars is what its line or lines took of the text.
func (b *builder) heading(level int, text string, chars int) {
	if len(b.p.parts) > maxHeadings {
		b.line(text + "\n")
		return
	}
	b.close()
	b.chars += int64(chars)
	b.p.parts = append(b.p.parts, part{level: level, header: text, offset: b.chars})
}

func (b *builder) close() {
	b.p.parts[len(b.p.parts)-1].body = string(bytes.TrimRight(b.body, " \t\n"))
	b.body = b.body[:0]
}

func (b *builder) page() page {
	b.close()
	return b.p
}

var (
	atxHeading = regexp.MustCompile(`^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$`)
	underline  = regexp.MustCompile(`^ {0,3}(=+|-+)[ \t]*$`)
	fence      = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})")
	numbered   = regexp.MustCompile(`^(\d{1,2}(?:\.\d{1,2}){0,3})[.)]?[ \t]+(\pL.*)$`)
)

// parseText cuts plain text or markdown. Headers are lines with #, lines underlined with = or -, and, in a text that
// has neither, short lines of their own: numbered ones, and titles that end like no sentence.
func parseText(title, text string) page {
	lines := splitLines(text)
	lines, skipped, front := frontMatter(lines)
	if title == "" {
		title = front
	}
	if p, ok := parseMarkdown(title, lines, skipped); ok {
		return p
	}
	return parsePlain(title, lines, skipped)
}

func splitLines(text string) []string {
	lines := make([]string, 0, strings.Count(text, "\n")+1)
	for line := range strings.Lines(text) {
		lines = append(lines, line)
	}
	return lines
}

// frontMatter steps over a block of settings between --- lines at the top of a file, and takes its title.
func frontMatter(lines []string) (rest []string, skipped int64, title string) {
	if len(lines) < 3 || strings.TrimSpace(lines[0]) != "---" {
		return lines, 0, ""
	}
	for i, line := range lines[1:min(len(lines), 60)] {
		if strings.TrimSpace(line) == "---" {
			for _, l := range lines[:i+2] {
				skipped += int64(utf8.RuneCountInString(l))
			}
			return lines[i+2:], skipped, title
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok && strings.TrimSpace(line) != "" && !strings.HasPrefix(strings.TrimSpace(line), "-") {
			break // prose between two rules
		}
		if strings.TrimSpace(key) == "title" {
			title = clip(strings.Trim(cleanLine(value), `"'`), maxHeaderChars)
		}
	}
	return lines, 0, ""
}

// parseMarkdown reports whether it found a header.
func parseMarkdown(title string, lines []string, skipped int64) (page, bool) {
	b := newBuilder(title)
	b.chars = skipped
	found, fenced := false, ""
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		bare := strings.TrimRight(line, "\n")
		if m := fence.FindStringSubmatch(bare); m != nil {
			switch {
			case fenced == "":
				fenced = m[1]
			case strings.HasPrefix(m[1], fenced) && strings.Trim(bare, " \t`~") == "":
				fenced = ""
			}
			b.line(line)
			continue
		}
		if fenced != "" {
			b.line(line)
			continue
		}
		if m := atxHeading.FindStringSubmatch(bare); m != nil && utf8.RuneCountInString(m[2]) <= maxHeaderChars {
			found = true
			b.heading(len(m[1]), cleanLine(m[2]), utf8.RuneCountInString(line))
			continue
		}
		if i+1 < len(lines) && alone(lines, i-1) && strings.TrimSpace(bare) != "" && utf8.RuneCountInString(bare) <= maxHeaderChars {
			if m := underline.FindStringSubmatch(strings.TrimRight(lines[i+1], "\n")); m != nil && len(m[1]) >= 3 {
				found = true
				level := 1
				if m[1][0] == '-' {
					level = 2
				}
				b.heading(level, cleanLine(bare), utf8.RuneCountInString(line)+utf8.RuneCountInString(lines[i+1]))
				i++
				continue
			}
		}
		b.line(line)
	}
	return b.page(), found
}

// alone reports whether line i is blank or outside the text.
func alone(lines []string, i int) bool {
	return i < 0 || i >= len(lines) || strings.TrimSpace(lines[i]) == ""
}

// parsePlain looks for headers in a text without markup.
func parsePlain(title string, lines []string, skipped int64) page {
	b := newBuilder(title)
	b.chars = skipped
	first := true
	for i, line := range lines {
		bare := strings.TrimSpace(line)
		if bare != "" && alone(lines, i-1) && alone(lines, i+1) && !alone(lines, i+2) || bare != "" && first && alone(lines, i+1) {
			if level, text := plainHeader(bare); level > 0 {
				if first && b.p.title == "" {
					b.p.title = text
					b.chars += int64(utf8.RuneCountInString(line))
				} else {
					b.heading(level+1, text, utf8.RuneCountInString(line))
				}
				first = false
				continue
			}
		}
		first = first && bare == ""
		b.line(line)
	}
	return b.page()
}

// plainHeader returns the level of a line that stands alone, 0 where it is no header.
func plainHeader(line string) (level int, text string) {
	if utf8.RuneCountInString(line) > 80 || len(strings.Fields(line)) > 12 {
		return 0, ""
	}
	last, _ := utf8.DecodeLastRuneInString(line)
	if strings.ContainsRune(".,;:)]}\"”'’", last) && !numbered.MatchString(line) || strings.ContainsRune(".,;", last) {
		return 0, ""
	}
	if m := numbered.FindStringSubmatch(line); m != nil {
		return 1 + strings.Count(m[1], "."), m[2]
	}
	first, _ := utf8.DecodeRuneInString(line)
	if !unicode.IsUpper(first) {
		return 0, ""
	}
	return 1, line
}
