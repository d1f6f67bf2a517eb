package corpus

import (
	"bytes"
	"io"
)

// Sizes of a tape, in bytes.
const (
	tapeBytes = 2 << 20
	tapeKeep  = 1 << 20 // how far behind a mark is remembered
	tapeRead  = 64 << 10
)

// tape is a byte stream that can go back to a mark not far behind. It implements io.ByteReader, so that decompression
// takes from it no byte too many.
type tape struct {
	r    io.Reader
	buf  []byte
	at   int   // the next byte is buf[at]
	end  int   // of what was read
	kept int   // the oldest byte to keep
	base int64 // offset of buf[0] in the stream
	err  error
}

func newTape(r io.Reader) *tape { return &tape{r: r, buf: make([]byte, tapeBytes)} }

// offset returns the offset of the next byte.
func (t *tape) offset() int64 { return t.base + int64(t.at) }

// mark remembers where the tape is.
func (t *tape) mark() { t.kept = t.at }

// rewind goes back to the mark, or as near to it as is remembered, and one byte on.
func (t *tape) rewind() (back int64) {
	to := min(t.kept+1, t.end)
	back = int64(t.at - to)
	t.at = to
	return back
}

// fill reads on. It reports whether there is a byte that was not there before.
func (t *tape) fill() bool {
	if t.err != nil {
		return false
	}
	if t.end == len(t.buf) {
		from := min(t.at, max(t.kept, t.end-tapeKeep))
		copy(t.buf, t.buf[from:t.end])
		t.base += int64(from)
		t.at, t.end, t.kept = t.at-from, t.end-from, max(0, t.kept-from)
	}
	for range 100 {
		n, err := t.r.Read(t.buf[t.end:min(len(t.buf), t.end+tapeRead)])
		t.end += n
		t.err = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	t.err = io.ErrNoProgress
	return false
}

func (t *tape) Read(p []byte) (int, error) {
	if t.at == t.end && !t.fill() {
		return 0, t.err
	}
	n := copy(p, t.buf[t.at:t.end])
	t.at += n
	return n, nil
}

func (t *tape) ReadByte() (byte, error) {
	if t.at == t.end && !t.fill() {
		return 0, t.err
	}
	c := t.buf[t.at]
	t.at++
	return c, nil
}

// peek returns up to n ≤ tapeRead bytes without consuming them; fewer at the end.
func (t *tape) peek(n int) []byte {
	for t.end-t.at < n && t.fill() {
	}
	return t.buf[t.at:min(t.end, t.at+n)]
}

// find goes to the next occurrence of a few bytes, at or after where the tape is, and reports whether there is one.
func (t *tape) find(what []byte) bool {
	for {
		t.kept = t.at
		if i := bytes.Index(t.buf[t.at:t.end], what); i >= 0 {
			t.at += i
			t.kept = t.at
			return true
		}
		t.at = max(t.at, t.end-len(what)+1)
		if !t.fill() {
			t.at = t.end
			return false
		}
	}
}
