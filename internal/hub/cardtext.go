package hub

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	yamlPlainRE = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)
	yamlWordRE  = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf)$`) // words that some reader of YAML takes for something else
)

// yamlText writes text as a YAML scalar that every reader takes for that text.
func yamlText(s string) string {
	if yamlPlainRE.MatchString(s) && !yamlWordRE.MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == ' ' || (unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != '\uFEFF'):
			b.WriteRune(r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func yamlList(b *strings.Builder, key string, items []string) {
	if len(items) == 0 {
		return
	}
	b.WriteString(key + ":\n")
	for _, item := range items {
		b.WriteString("- " + yamlText(item) + "\n")
	}
}

// inlineText writes text that others may have chosen into a line of Markdown, as itself: no markup, no HTML, no link.
func inlineText(s string) string {
	var b strings.Builder
	line := strings.Join(strings.Fields(visible(s)), " ")
	for i, r := range line {
		switch {
		case strings.ContainsRune("<>&@", r), strings.HasPrefix(line[i:], "://"), strings.HasSuffix(strings.ToLower(line[:i]), "www") && r == '.':
			fmt.Fprintf(&b, "&#%d;", r) // a backslash would not stop a link being made of http://…, www.… or a@b
		case strings.ContainsRune("\\`*_{}[]()#+!|~$^=", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	out := b.String()
	if strings.HasPrefix(out, "-") || numberedRE.MatchString(out) {
		out = "\u200B" + out // no list inside a list
	}
	return out
}

var numberedRE = regexp.MustCompile(`^\d+[.)] `)

// visible drops what does not show or turns text around: control characters, direction marks, tags.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == utf8.RuneError:
			return '\uFFFD'
		case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r) && r != '\u200D', unicode.Is(unicode.Co, r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, strings.ReplaceAll(s, "\r\n", "\n"))
}

// fenced shows text as it is, in a fence that it cannot close.
func fenced(lang, s string) string {
	s = visible(s)
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	fence := strings.Repeat("`", max(3, longest+1))
	if !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	return fence + lang + "\n" + s + fence + "\n"
}

// shorten cuts text after so many characters.
func shorten(s string, most int) string {
	n := 0
	for i := range s {
		if n == most {
			return s[:i] + " …"
		}
		n++
	}
	return s
}

// table writes a Markdown table.
func table(b *strings.Builder, head []string, fill func(row func(...string))) {
	b.WriteString("\n| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat(" --- |", len(head)) + "\n")
	fill(func(cells ...string) {
		for i := range cells {
			cells[i] = inlineText(shorten(cells[i], 300))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	})
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	neg := ""
	if n < 0 {
		neg, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return neg + s
}
