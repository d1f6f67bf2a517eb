package chattemplate

import (
	"slices"
	"strings"
)

// Names that rewritten templates call. See conditionals.
const (
	chosen = "__chosen" // chosen(true): what choose was told last
	choose = "__choose" // choose(x): remembers x, and is true
	same   = "__same"   // same(x): x
)

// conditionals rewrites inline ifs where gonja takes none: in brackets, in arguments, and after an else. There
//
//	a if c else b    becomes    __chosen((c) and __choose(a) or __choose(b))
//
// which, as in Jinja, evaluates c and then one of the two. A bracket whose method is called, (a ~ b).strip(), which gonja does not
// take either, becomes __same(a ~ b).strip(). Lines stay where they are.
func conditionals(source string) string {
	var out strings.Builder
	for source != "" {
		at := strings.IndexByte(source, '{')
		if at < 0 || at == len(source)-1 {
			break
		}
		out.WriteString(source[:at])
		source = source[at:]
		var end int
		switch source[1] {
		case '{', '%':
			end = tagEnd(source)
		case '#':
			if end = strings.Index(source, "#}"); end >= 0 {
				end += 2
			}
		default:
			out.WriteByte('{')
			source = source[1:]
			continue
		}
		if end < 0 {
			break // not closed: gonja says where
		}
		tag := source[:end]
		source = source[end:]
		out.WriteString(rewriteTag(tag))
		if word, _ := tagWord(tag); word == "raw" {
			stop := endRaw(source)
			out.WriteString(source[:stop])
			source = source[stop:]
		}
	}
	out.WriteString(source)
	return out.String()
}

// endRaw is where the endraw tag begins.
func endRaw(s string) int {
	for from := 0; ; {
		at := strings.Index(s[from:], "{%")
		if at < 0 {
			return len(s)
		}
		from += at
		if word, _ := tagWord(s[from:]); word == "endraw" {
			return from
		}
		from += 2
	}
}

// tagWord is the first word of a block tag, and what comes after it; "" for other tags.
func tagWord(tag string) (word, rest string) {
	if !strings.HasPrefix(tag, "{%") {
		return "", tag
	}
	s := strings.TrimLeft(tag[2:], "-+ \t\r\n")
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	return s[:n], s[n:]
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// tagEnd is where an output or block ends that s begins with; -1: it does not.
func tagEnd(s string) int {
	closing := "}}"
	if s[1] == '%' {
		closing = "%}"
	}
	open := 0
	for i := 2; i < len(s); {
		switch c := s[i]; {
		case c == '\'' || c == '"':
			i = afterString(s, i)
			continue
		case open == 0 && strings.HasPrefix(s[i:], closing):
			return i + 2
		case c == '{':
			open++
		case c == '}' && open > 0:
			open--
		}
		i++
	}
	return -1
}

// afterString is behind the string literal that begins at i.
func afterString(s string, i int) int {
	for j := i + 1; j < len(s); j++ {
		switch s[j] {
		case '\\':
			j++
		case s[i]:
			return j + 1
		}
	}
	return len(s)
}

// rewriteTag rewrites the expressions of one tag.
func rewriteTag(tag string) string {
	word, rest := tagWord(tag)
	switch {
	case strings.HasPrefix(tag, "{#") || strings.Count(tag, "else") > maxNesting:
		return tag
	case word == "if" || word == "elif": // the condition may be a choice itself, which gonja does not take here
		return withBody(tag, rest, whole)
	case word == "for": // an if at its end filters
		return withBody(tag, rest, inner)
	}
	if strings.HasPrefix(tag, "{{") {
		rest = tag[2:]
	}
	return withBody(tag, rest, top)
}

// withBody rewrites what stands between the head of a tag and its closing.
func withBody(tag, rest string, how func(string) string) string {
	head := tag[:len(tag)-len(rest)]
	body, tail := rest[:len(rest)-2], rest[len(rest)-2:]
	if strings.HasSuffix(body, "-") || strings.HasSuffix(body, "+") {
		tail = body[len(body)-1:] + tail
		body = body[:len(body)-1]
	}
	return head + how(body) + tail
}

// inner rewrites what stands in brackets, and leaves s itself.
func inner(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		switch s[i] {
		case '\'', '"':
			j := afterString(s, i)
			out.WriteString(s[i:j])
			i = j
		case '(', '[', '{':
			j := closing(s, i)
			if j < 0 {
				return out.String() + s[i:] // gonja says where
			}
			if s[i] == '(' && strings.HasPrefix(s[j+1:], ".") && groups(s[:i]) {
				out.WriteString(same)
			}
			out.WriteByte(s[i])
			out.WriteString(list(s[i+1 : j]))
			out.WriteByte(s[j])
			i = j + 1
		default:
			out.WriteByte(s[i])
			i++
		}
	}
	return out.String()
}

// groups reports whether a bracket behind s holds an expression, and no arguments of a call.
func groups(s string) bool {
	s = strings.TrimRight(s, " \t\r\n")
	if s == "" {
		return true
	}
	if last := s[len(s)-1]; !isWord(last) {
		return last != ')' && last != ']'
	}
	word := s[strings.LastIndexFunc(s, func(r rune) bool { return r < 0x80 && !isWord(byte(r)) })+1:]
	return slices.Contains([]string{"not", "and", "or", "in", "if", "else", "is"}, word)
}

// closing is where the bracket at i is closed; -1: it is not.
func closing(s string, i int) int {
	for open := 0; i < len(s); {
		switch s[i] {
		case '\'', '"':
			i = afterString(s, i)
			continue
		case '(', '[', '{':
			open++
		case ')', ']', '}':
			if open--; open == 0 {
				return i
			}
		}
		i++
	}
	return -1
}

// list rewrites expressions between commas, colons and the signs of keyword arguments.
func list(s string) string {
	var out strings.Builder
	from := 0
	walk(s, func(i int, word string) bool {
		if word != "" {
			return false
		}
		separates := s[i] == ',' || s[i] == ':' || s[i] == '=' && !partOfComparison(s, i)
		if separates {
			out.WriteString(whole(s[from:i]))
			out.WriteByte(s[i])
			from = i + 1
		}
		return false
	})
	out.WriteString(whole(s[from:]))
	return out.String()
}

func partOfComparison(s string, i int) bool {
	return i+1 < len(s) && s[i+1] == '=' || i > 0 && strings.IndexByte("=!<>", s[i-1]) >= 0
}

// walk visits the words and signs of s that stand in no brackets and no string, until visit is true.
func walk(s string, visit func(i int, word string) bool) {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\'' || c == '"':
			i = afterString(s, i)
		case c == '(' || c == '[' || c == '{':
			j := closing(s, i)
			if j < 0 {
				return
			}
			i = j + 1
		case isWord(c):
			j := i
			for j < len(s) && isWord(s[j]) {
				j++
			}
			if visit(i, s[i:j]) {
				return
			}
			i = j
		default:
			if visit(i, "") {
				return
			}
			i++
		}
	}
}

// split cuts an expression at its first if, and at the else of that; there: whether it has them.
func split(s string) (value, condition, other string, has, otherwise bool) {
	at, cut := -1, -1
	walk(s, func(i int, word string) bool {
		switch {
		case word == "if" && at < 0:
			at = i
		case word == "else" && at >= 0:
			cut = i
		}
		return cut >= 0
	})
	switch {
	case at < 0:
		return s, "", "", false, false
	case cut < 0:
		return s[:at], s[at+2:], "", true, false
	}
	return s[:at], s[at+2 : cut], s[cut+4:], true, true
}

// whole rewrites an expression in a place where gonja takes no inline if.
func whole(s string) string {
	value, condition, other, has, otherwise := split(s)
	if !has {
		return inner(s)
	}
	rest := "__nothing"
	if otherwise {
		rest = whole(other)
	}
	lead := value[:len(value)-len(strings.TrimLeft(value, " \t\r\n"))]
	return lead + chosen + "((" + whole(condition) + ") and " + choose + "(" + whole(value[len(lead):]) + ") or " + choose + "(" + rest + "))"
}

// top rewrites an expression in a place where gonja takes one inline if, such as an output. What is before the sign of a set is a name.
func top(s string) string {
	value, condition, other, has, otherwise := split(s)
	if !has {
		return inner(s)
	}
	out := inner(value) + "if" + whole(condition)
	if otherwise {
		out += "else" + whole(other)
	}
	return out
}
