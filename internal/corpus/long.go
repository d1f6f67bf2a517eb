package corpus

import (
	"strings"
	"unicode/utf8"
)

// piece is a part of a body: whole paragraphs in their order.
type piece struct {
	text   string
	offset int64 // in the body, in characters
}

// block is a paragraph: text[from:to] of a body, at most so many characters from its beginning.
type block struct {
	from, to   int
	start, end int // the same in characters
}

func (b block) chars() int { return b.end - b.start }

// split cuts a body between paragraphs into as few parts of at most limit characters as it can, of about equal length. A
// paragraph that is longer alone is a part of its own. A block of code, a table, a list without blank lines, and a line that
// ends in a colon with what follows it count as one paragraph, unless they are too long together.
func split(body string, limit int) []piece {
	var pieces []piece
	var run []block
	flush := func() {
		pieces = append(pieces, pack(body, run, limit)...)
		run = run[:0]
	}
	for _, b := range paragraphs(body, limit) {
		if b.chars() <= limit {
			run = append(run, b)
			continue
		}
		flush()
		pieces = append(pieces, piece{body[b.from:b.to], int64(b.start)})
	}
	flush()
	return pieces
}

// pack joins neighbouring paragraphs, each of which fits.
func pack(body string, run []block, limit int) []piece {
	var pieces []piece
	for i := 0; i < len(run); {
		rest := run[len(run)-1].end - run[i].start
		target := rest / ((rest + limit - 1) / limit)
		j := i + 1
		for j < len(run) && run[j].end-run[i].start <= limit && run[j].end-run[i].start-target <= target-(run[j-1].end-run[i].start) {
			j++
		}
		pieces = append(pieces, piece{body[run[i].from:run[j-1].to], int64(run[i].start)})
		i = j
	}
	return pieces
}

// paragraphs finds the paragraphs of a body.
func paragraphs(body string, limit int) []block {
	var out []block
	open := -1 // where the paragraph in work begins
	var fenced string
	at, end, colon := 0, 0, false
	for line := range strings.Lines(body) {
		bare := strings.TrimSpace(line)
		switch {
		case fenced == "" && bare == "":
			if open >= 0 {
				out = append(out, block{from: open, to: end})
				colon = strings.HasSuffix(body[open:end], ":")
				open = -1
			}
		case open < 0 && len(out) > 0 && (colon || line[0] == ' ' || line[0] == '\t'):
			open = out[len(out)-1].from // goes on with a list, or with what a colon announced
			out = out[:len(out)-1]
			fallthrough
		default:
			if open < 0 {
				open = at
			}
			end = at + len(strings.TrimRight(line, " \t\r\n"))
			if m := fence.FindStringSubmatch(line); m != nil && (fenced == "" || strings.HasPrefix(m[1], fenced)) {
				if fenced == "" {
					fenced = m[1]
				} else {
					fenced = ""
				}
			}
		}
		at += len(line)
	}
	if open >= 0 {
		out = append(out, block{from: open, to: end})
	}
	return refine(body, out, limit)
}

// refine counts characters, and takes paragraphs apart that are too long: what was joined, else lines.
func refine(body string, blocks []block, limit int) []block {
	var out []block
	at, chars := 0, 0
	place := func(b block) block {
		chars += utf8.RuneCountInString(body[at:b.from])
		b.start = chars
		chars += utf8.RuneCountInString(body[b.from:b.to])
		b.end, at = chars, b.to
		return b
	}
	for _, b := range blocks {
		if len(body[b.from:b.to]) <= limit || utf8.RuneCountInString(body[b.from:b.to]) <= limit {
			out = append(out, place(b))
			continue
		}
		for _, l := range lineBlocks(body, b) {
			out = append(out, place(l))
		}
	}
	return out
}

// lineBlocks cuts a paragraph that is too long after lines that end a sentence or are far longer than wrapped ones, and
// before list items; never inside code.
func lineBlocks(body string, b block) []block {
	var out []block
	open, at, fenced := b.from, b.from, false
	last := "" // the line before
	for line := range strings.Lines(body[b.from:b.to]) {
		bare := strings.TrimSpace(line)
		if at > b.from && !fenced && bare != "" && (last == "" || endsParagraph(last) || itemStart(bare)) {
			out = append(out, block{from: open, to: open + len(strings.TrimRight(body[open:at], " \t\r\n"))})
			open = at
		}
		if strings.HasPrefix(bare, "```") || strings.HasPrefix(bare, "~~~") {
			fenced = !fenced
		}
		at += len(line)
		last = bare
	}
	return append(out, block{from: open, to: b.to})
}

const wrappedLine = 120 // bytes of a line that no editor wrapped

func endsParagraph(line string) bool {
	if strings.HasPrefix(line, "|") {
		return true // a row of a table
	}
	return len(line) > wrappedLine || strings.HasSuffix(strings.TrimRight(line, `"'”’)*_`), ".") || strings.HasSuffix(line, "!") || strings.HasSuffix(line, "?")
}

// itemStart reports whether a line begins a list item.
func itemStart(line string) bool {
	rest := strings.TrimLeft(line, "0123456789")
	if rest != line {
		return strings.HasPrefix(rest, ". ") || strings.HasPrefix(rest, ") ")
	}
	return strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "* ") || strings.HasPrefix(line, "+ ")
}
