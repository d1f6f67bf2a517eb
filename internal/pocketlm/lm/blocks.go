package lm

import "strings"

// block is a delimited part of a message: a fenced or tagged text with what stands at its opening as label.
type block struct {
	label string // lower case: tag name, text of the marker, or the line before a fence
	text  string
}

// findBlocks finds the delimited parts of a message, whatever marks them: code fences, <tag>…</tag>, BEGIN x … END x, and
// lines of the same rule above and below. outside is the message without the parts, which is where its own requests stand.
func findBlocks(msg string) (blocks []block, outside string) {
	lines := strings.Split(msg, "\n")
	var out strings.Builder
	before := ""
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		label, end, ok := "", -1, false
		if c, n := fence(line); n > 0 {
			label, end, ok = before+" "+strings.TrimLeft(line, string(c)), closeFence(lines, i+1, c, n), true
		} else if name := openTag(line); name != "" {
			if inner, found := inlineTag(line, name); found {
				blocks = append(blocks, block{label: strings.ToLower(name), text: inner})
				before = ""
				continue
			}
			label, end, ok = name, lastLine(lines, i+1, "</"+name+">"), true
		} else if name := beginMark(line); name != "" {
			label, end, ok = name, endMark(lines, i+1, name), true
		} else if isRule(line) {
			label, end, ok = before, nextLine(lines, i+1, line), true
		}
		if !ok || end < 0 {
			out.WriteString(lines[i])
			out.WriteByte('\n')
			if line != "" {
				before = line
			}
			continue
		}
		blocks = append(blocks, block{label: strings.ToLower(label), text: strings.Trim(strings.Join(lines[i+1:end], "\n"), "\n")})
		before, i = "", end
	}
	return blocks, out.String()
}

// fence reports the rune and length of an opening fence: three or more backticks, tildes or quotes.
func fence(line string) (byte, int) {
	if line == "" || line[0] != '`' && line[0] != '~' && line[0] != '"' {
		return 0, 0
	}
	n := 0
	for n < len(line) && line[n] == line[0] {
		n++
	}
	if n < 3 || strings.IndexByte(line[n:], line[0]) >= 0 {
		return 0, 0
	}
	return line[0], n
}

func closeFence(lines []string, from int, c byte, n int) int {
	for i := from; i < len(lines); i++ {
		l := strings.TrimSpace(lines[i])
		if d, m := fence(l); d == c && m >= n && m == len(l) {
			return i
		}
	}
	return -1
}

// openTag reads <name>, <name attr="…"> or <name>inline</name> at the start of a line.
func openTag(line string) string {
	if len(line) < 3 || line[0] != '<' || !isLetter(line[1]) {
		return ""
	}
	i := 1
	for i < len(line) && (isLetter(line[i]) || isDigit(line[i]) || line[i] == '-' || line[i] == '_') {
		i++
	}
	if i == len(line) || line[i] != '>' && line[i] != ' ' || strings.IndexByte(line, '>') < 0 {
		return ""
	}
	return line[1:i]
}

func inlineTag(line, name string) (string, bool) {
	start := strings.IndexByte(line, '>') + 1
	if end := strings.LastIndex(line, "</"+name+">"); end >= start {
		return line[start:end], true
	}
	return "", false
}

// lastLine takes the last closing mark, so that a mark inside a text does not close the block early.
func lastLine(lines []string, from int, mark string) int {
	for i := len(lines) - 1; i >= from; i-- {
		if strings.TrimSpace(lines[i]) == mark {
			return i
		}
	}
	return -1
}

func nextLine(lines []string, from int, mark string) int {
	for i := from; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == mark {
			return i
		}
	}
	return -1
}

const decoration = " -=#*<>[]{}|:_"

func beginMark(line string) string {
	core := strings.Trim(line, decoration)
	up := strings.ToUpper(core)
	for _, w := range []string{"BEGIN ", "START OF ", "START "} {
		if strings.HasPrefix(up, w) && len(core) < len(line) && len(core) > len(w) {
			return core[len(w):]
		}
	}
	return ""
}

func endMark(lines []string, from int, name string) int {
	for i := len(lines) - 1; i >= from; i-- {
		core := strings.Trim(strings.TrimSpace(lines[i]), decoration)
		if strings.EqualFold(core, "END "+name) || strings.EqualFold(core, "END OF "+name) {
			return i
		}
	}
	return -1
}

// isRule is true of a line made of one repeated mark, or of marks around one word: a home-made delimiter.
func isRule(line string) bool {
	if len(line) < 4 || strings.ContainsAny(line, " \t") {
		return false
	}
	c := line[0]
	if strings.IndexByte("=#*-<|~_", c) < 0 {
		return false
	}
	return line[1] == c && line[2] == c
}

var (
	questionWords = []string{"instruction", "question", "prompt", "task", "query", "request", "user"}
	answerWords   = []string{"answer", "response", "output", "candidate", "completion", "reply", "text", "document", "assistant"}
)

// pairOf finds which blocks hold the question and the answer to it: by what their labels say, else the last two in order.
func pairOf(blocks []block) (question, answer string, ok bool) {
	q, a := -1, -1
	for i, b := range blocks {
		isQ, isA := containsAny(b.label, questionWords), containsAny(b.label, answerWords)
		switch {
		case isQ && !isA && q < 0:
			q = i
		case isA && !isQ && i != q:
			a = i
		}
	}
	if (q < 0 || a < 0) && len(blocks) >= 2 {
		q, a = len(blocks)-2, len(blocks)-1
	}
	if q < 0 || a < 0 {
		return "", "", false
	}
	return blocks[q].text, blocks[a].text, true
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}
