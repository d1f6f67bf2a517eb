package corpus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// lineReader reads records up to a bound and steps over longer ones without holding them: the lines of a file or, where
// that is one JSON array of objects, its elements; of CSV the records below its header, as objects.
type lineReader struct {
	r       *bufio.Reader
	max     int
	line    []byte // valid until the next call
	number  int64  // from 1
	tooLong bool
	done    bool
	array   bool
	table   *csvTable // of CSV
	bad     badRecord // why the record of CSV is none
}

func newLineReader(r io.Reader, limit int, format string) *lineReader {
	l := &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: limit}
	if format == FormatCSV || format == FormatTSV {
		l.table = newCSVTable(format)
	}
	return l
}

// fields are those of the record.
func (l *lineReader) fields() (map[string]json.RawMessage, badRecord) {
	if l.bad.reason != "" {
		return nil, l.bad
	}
	return decodeFields(l.line)
}

// next goes to the next line that is not blank. A line cut off by an error of the source is not returned.
func (l *lineReader) next() bool {
	if l.table != nil {
		return l.row()
	}
	if l.number == 0 {
		l.array = l.beginsArray()
	}
	for !l.done {
		l.number++
		l.tooLong = false
		if cap(l.line) > 1<<20 {
			l.line = nil // one giant does not stay
		}
		l.line = l.line[:0]
		if l.array {
			return l.element()
		}
		for {
			part, err := l.r.ReadSlice('\n')
			if !l.tooLong && len(l.line)+len(part) > l.max+1 {
				l.tooLong, l.line = true, nil
			}
			if !l.tooLong {
				l.line = append(l.line, part...)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			l.done = err != nil
			if l.done && !errors.Is(err, io.EOF) {
				return false // half a line says nothing; the source says why
			}
			break
		}
		l.line = bytes.TrimSpace(l.line)
		if l.number == 1 {
			l.line = bytes.TrimPrefix(l.line, []byte("\xef\xbb\xbf"))
		}
		if l.tooLong || len(l.line) > 0 {
			return true
		}
	}
	return false
}

// beginsArray steps over the bracket of an array of objects and reports whether there is one.
func (l *lineReader) beginsArray() bool {
	head, _ := l.r.Peek(1024)
	rest := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	inner := bytes.TrimLeft(bytes.TrimPrefix(rest, []byte("[")), " \t\r\n")
	if len(rest) == 0 || rest[0] != '[' || len(inner) == 0 || inner[0] != '{' {
		return false
	}
	_, _ = l.r.Discard(len(head) - len(inner))
	return true
}

// element reads the next element of an array. One that the file's end cuts off is returned for its reader to find out.
func (l *lineReader) element() bool {
	depth, quoted, escaped := 0, false, false
	for {
		c, err := l.r.ReadByte()
		if err != nil {
			l.done = true
			return errors.Is(err, io.EOF) && (l.tooLong || len(l.line) > 0)
		}
		switch {
		case quoted:
			quoted = escaped || c != '"'
			escaped = !escaped && c == '\\'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == ']'):
			l.done = c == ']'
			l.line = bytes.TrimSpace(l.line)
			if l.tooLong || len(l.line) > 0 {
				return true
			}
			if l.done {
				return false
			}
			continue
		case c == '}' || c == ']':
			depth--
		}
		if len(l.line) == 0 && !l.tooLong && (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			continue
		}
		if len(l.line) >= l.max {
			l.tooLong, l.line = true, l.line[:0]
		}
		if !l.tooLong {
			l.line = append(l.line, c)
		}
	}
}

// checkLine finds what makes a line unfit to be parsed as JSON.
func checkLine(line []byte) badRecord {
	switch {
	case line[0] == '[' && (len(line) == 1 || !json.Valid(line)):
		return badRecord{reason: ReasonBadRecord, detail: "a JSON array over several lines; one object a line is expected", text: printable(line), stop: true}
	case line[0] != '{':
		return badRecord{reason: ReasonBadRecord, detail: "not a JSON object", text: printable(line)}
	case !utf8.Valid(line):
		return badRecord{reason: ReasonInvalidUTF8, detail: fmt.Sprintf("at byte %d of the line", invalidAt(line)), text: printable(line)}
	}
	return badRecord{}
}

// invalidAt returns the offset of the first byte that is not UTF-8.
func invalidAt(b []byte) int {
	for i := 0; i < len(b); {
		r, size := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(b)
}

// printable returns the beginning of foreign bytes as clean text, for a reject.
func printable(b []byte) string {
	return cleanText(string(bytes.ToValidUTF8(b[:min(len(b), 4*RejectTextChars)], []byte("\uFFFD"))))
}
