package hub

import (
	"fmt"
	"regexp"
	"strings"
)

// compileGlob compiles a data_files pattern as the datasets library reads them: * stays within a folder, ** does not, [0-9]
// and [!0-9] are sets of characters, ? is one character. A pattern without any of them is a path.
func compileGlob(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > 1024 {
		return nil, fmt.Errorf("pattern of %d characters", len(pattern))
	}
	pattern = strings.TrimPrefix(pattern, "./")
	var b strings.Builder
	b.WriteString(`\A`)
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; {
		case strings.HasPrefix(pattern[i:], "**/") && (i == 0 || pattern[i-1] == '/'):
			b.WriteString(`(?:[^/]+/)*`)
			i += 2
		case strings.HasPrefix(pattern[i:], "**"):
			b.WriteString(`.*`)
			i++
		case ch == '*':
			b.WriteString(`[^/]*`)
		case ch == '?':
			b.WriteString(`[^/]`)
		case ch == '[':
			end := strings.IndexByte(pattern[i+1:], ']')
			if end <= 0 {
				b.WriteString(`\[`)
				continue
			}
			set := pattern[i+1 : i+1+end]
			not := ""
			if set[0] == '!' || set[0] == '^' {
				not, set = "^", set[1:]
			}
			set = strings.NewReplacer(`\`, `\\`, `[`, `\[`, `^`, `\^`).Replace(set)
			b.WriteString("[" + not + set + "]")
			i += end + 1
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile("(?s)" + b.String())
	if err != nil {
		return nil, fmt.Errorf("pattern %q cannot be read", pattern)
	}
	return re, nil
}

// hidden reports whether a file is left out unless its pattern says so: it or one of its folders begins with a dot,
// or a folder begins with two underscores.
func hidden(path, pattern string) bool {
	count := func(s string) (dots, unders int) {
		parts := strings.Split(s, "/")
		for i, p := range parts {
			if strings.HasPrefix(p, ".") {
				dots++
			}
			if i < len(parts)-1 && strings.HasPrefix(p, "__") {
				unders++
			}
		}
		return dots, unders
	}
	d, u := count(path)
	pd, pu := count(pattern)
	return d != pd || u != pu
}
