package corpus

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Formats of records that a header names the fields of (RFC 4180). Everything is a text, but for what JSON a conversation may be in.
const (
	FormatCSV = "csv" // fields between commas, or between semicolons or tabs where the header has more of those
	FormatTSV = "tsv" // fields between tabs
)

// csvTable is what a lineReader of CSV knows of its file.
type csvTable struct {
	comma  byte // 0: not known before the header was read
	names  [][]byte
	raw    []bool // the cell may be JSON, or is null when it is empty
	feed   bytes.Reader
	parser *csv.Reader
}

func newCSVTable(format string) *csvTable {
	t := &csvTable{}
	if format == FormatTSV {
		t.comma = '\t'
	}
	return t
}

// row goes to the next record and makes its line, as JSON.
func (l *lineReader) row() bool {
	if l.table.names == nil {
		if !l.record() {
			return false
		}
		if l.bad = l.header(); l.bad.reason != "" {
			l.number, l.done = 1, true
			return true
		}
	}
	if !l.record() {
		return false
	}
	l.number++
	if l.tooLong || l.bad.reason != "" {
		return true
	}
	cells, bad := l.cells()
	if l.bad = bad; bad.reason != "" {
		return true
	}
	if len(cells) != len(l.table.names) {
		l.bad = badRecord{reason: ReasonBadRecord, detail: fmt.Sprintf("fields: %d, where the header has %d", len(cells), len(l.table.names)), text: printable(l.line)}
		return true
	}
	l.line = l.table.object(l.line[:0], cells)
	return true
}

// record reads one record of at most max bytes as it is written, and steps over a longer one. Blank lines are none.
func (l *lineReader) record() bool {
	for !l.done {
		l.tooLong, l.bad = false, badRecord{}
		if cap(l.line) > 1<<20 {
			l.line = nil // one giant does not stay
		}
		l.line = l.line[:0]
		quoted, err := l.span()
		if err != nil {
			l.done = true
			if !errors.Is(err, io.EOF) {
				return false // half a record says nothing; the source says why
			}
		}
		if len(bytes.TrimRight(l.line, "\r\n")) == 0 && !l.tooLong {
			continue
		}
		if quoted {
			l.bad = badRecord{reason: ReasonBadRecord, detail: "a quotation mark that is never closed", text: printable(l.line)}
		}
		return true
	}
	return false
}

// span reads up to the line break that ends a record and reports whether the file ended within quotation marks.
func (l *lineReader) span() (quoted bool, err error) {
	begins, closed := true, false // of a field; after a quotation mark that may have ended it
	for {
		c, err := l.r.ReadByte()
		if err != nil {
			return quoted && !closed, err
		}
		if len(l.line) >= l.max {
			l.tooLong, l.line = true, l.line[:0]
		}
		if !l.tooLong {
			l.line = append(l.line, c)
		}
		switch {
		case quoted && !closed:
			closed = c == '"'
			continue
		case quoted && c == '"': // a doubled one
			closed = false
			continue
		}
		quoted, closed = false, false
		switch {
		case c == '\n':
			return false, nil
		case c == '"' && begins:
			quoted, begins = true, false
		default:
			begins = c == l.table.comma || l.table.comma == 0 && (c == ',' || c == ';' || c == '\t')
		}
	}
}

// header reads the names of the fields.
func (l *lineReader) header() badRecord {
	t := l.table
	l.line = bytes.TrimPrefix(l.line, []byte("\xef\xbb\xbf"))
	switch {
	case l.tooLong:
		l.tooLong = false // of a record a reader says less
		return badRecord{reason: ReasonLineTooLong, detail: fmt.Sprintf("a header of more than %d bytes", l.max), stop: true}
	case !utf8.Valid(l.line):
		return badRecord{reason: ReasonInvalidUTF8, detail: "the header is not UTF-8; save the table as CSV UTF-8", text: printable(l.line), stop: true}
	}
	if t.comma == 0 {
		t.comma = separator(l.line)
	}
	t.parser = csv.NewReader(&t.feed)
	t.parser.Comma, t.parser.LazyQuotes, t.parser.FieldsPerRecord = rune(t.comma), true, -1
	cells, bad := l.cells()
	if bad.reason != "" {
		bad.stop = true
		return bad
	}
	t.names, t.raw = make([][]byte, len(cells)), make([]bool, len(cells))
	named := false
	for i, name := range cells {
		if name == "" || slices.Contains(cells[:i], name) {
			continue // without a name, or of one that stands before: it cannot be asked for
		}
		named = true
		t.names[i] = quote(nil, name)
		t.raw[i] = slices.Contains(rawColumns, name)
	}
	if !named {
		return badRecord{reason: ReasonBadRecord, detail: "a header without names", text: printable(l.line), stop: true}
	}
	return badRecord{}
}

// separator is what a header has most of outside of quotation marks; a comma where it has none.
func separator(header []byte) byte {
	counts, quoted := map[byte]int{}, false
	for _, c := range header {
		if c == '"' {
			quoted = !quoted
		} else if !quoted {
			counts[c]++
		}
	}
	best := byte(',')
	for _, c := range []byte{';', '\t'} {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return best
}

// cells reads the fields of a record.
func (l *lineReader) cells() ([]string, badRecord) {
	if l.bad.reason != "" {
		return nil, l.bad
	}
	if !utf8.Valid(l.line) {
		return nil, badRecord{reason: ReasonInvalidUTF8, detail: fmt.Sprintf("at byte %d of the record", invalidAt(l.line)), text: printable(l.line)}
	}
	t := l.table
	t.feed.Reset(l.line)
	cells, err := t.parser.Read()
	for { // where quotation marks stand amiss it may find a record's end sooner than span does
		if _, more := t.parser.Read(); errors.Is(more, io.EOF) {
			break
		}
		err = errors.New("quotation marks that do not match")
	}
	if err != nil {
		return nil, badRecord{reason: ReasonBadRecord, detail: clip(err.Error(), 200), text: printable(l.line)}
	}
	return cells, badRecord{}
}

// object appends a record as a JSON object.
func (t *csvTable) object(to []byte, cells []string) []byte {
	to = append(to, '{')
	for i, name := range t.names {
		if name == nil {
			continue
		}
		if len(to) > 1 {
			to = append(to, ',')
		}
		to = append(append(to, name...), ':')
		switch {
		case t.raw[i] && cells[i] == "":
			to = append(to, "null"...)
		case t.raw[i] && json.Valid([]byte(cells[i])):
			to = append(to, cells[i]...)
		default:
			to = quote(to, cells[i])
		}
	}
	return append(to, '}')
}

// quote appends a text as JSON.
func quote(to []byte, text string) []byte {
	out := bytes.NewBuffer(to)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a text can be written, and a buffer takes it
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
