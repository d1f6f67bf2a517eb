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

// lineReader reads lines up to a bound and steps over longer ones without holding them.
type lineReader struct {
	r       *bufio.Reader
	max     int
	line    []byte // valid until the next call
	number  int64  // from 1
	tooLong bool
	done    bool
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: limit}
}

// next goes to the next line that is not blank. A line cut off by an error of the source is not returned.
func (l *lineReader) next() bool {
	for !l.done {
		l.number++
		l.tooLong = false
		if cap(l.line) > 1<<20 {
			l.line = nil // one giant does not stay
		}
		l.line = l.line[:0]
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
	return cleanText(string(bytes.ToValidUTF8(b[:min(len(b), 4*rejectTextChars)], []byte("\uFFFD"))))
}
