package batch

import (
	"io"
	"iter"
	"sync"
)

// AppendLine appends the line of an input file that asks body under an id of [A-Za-z0-9_-].
func AppendLine(b []byte, id, path string, body []byte) []byte {
	b = append(b, `{"custom_id":"`...)
	b = append(b, id...)
	b = append(b, `","method":"POST","url":"`...)
	b = append(b, path...)
	b = append(b, `","body":`...)
	b = append(b, body...)
	return append(b, "}\n"...)
}

// LineLength returns the length of what AppendLine appends.
func LineLength(id, path string, body []byte) int {
	const frame = len(`{"custom_id":"` + `","method":"POST","url":"` + `","body":` + "}\n")
	return frame + len(id) + len(path) + len(body)
}

// lineReader reads the lines of a sequence one after another. It is read by one goroutine and may be closed by another.
type lineReader struct {
	mu   sync.Mutex
	next func() ([]byte, error, bool)
	stop func()
	rest []byte
	err  error // of the sequence
	done bool
}

func newLineReader(lines iter.Seq2[[]byte, error]) *lineReader {
	r := &lineReader{}
	r.next, r.stop = iter.Pull2(lines)
	return r
}

// Read reads the next bytes.
func (r *lineReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.rest) == 0 {
		if r.done {
			return 0, io.EOF
		}
		line, err, ok := r.next()
		switch {
		case err != nil:
			r.err, r.done = err, true
			return 0, &stopped{err}
		case !ok:
			r.done = true
			return 0, io.EOF
		}
		r.rest = line
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends the sequence.
func (r *lineReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.rest = true, nil
	r.stop()
	return nil
}

func (r *lineReader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
