package corpus

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Decompression beyond this ratio is a bomb, once this much has come out. Deflate reaches 1,032 at most, text and
// markup stay below 50.
const (
	bombRatio = 200
	bombFloor = 64 << 20
)

var errBomb = errors.New("decompresses beyond any honest ratio")

// source reads a file's decompressed bytes and keeps apart what went wrong: the reader below (an error to the caller)
// or the bytes themselves (a reject).
type source struct {
	ctx     context.Context
	raw     *rawReader
	buf     *bufio.Reader
	gz      *gzip.Reader
	out     int64
	damaged error
}

// rawReader counts bytes and remembers the first error that is not the end.
type rawReader struct {
	ctx context.Context
	r   io.Reader
	n   int64
	err error
}

func (r *rawReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := r.ctx.Err(); err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

func newSource(ctx context.Context, r io.Reader) *source {
	s := &source{ctx: ctx, raw: &rawReader{ctx: ctx, r: r}}
	s.buf = bufio.NewReaderSize(s.raw, 64<<10)
	if magic, _ := s.buf.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return s
	}
	gz, err := gzip.NewReader(s.buf)
	if err != nil {
		s.damaged = err
		return s
	}
	s.gz = gz
	s.buf = bufio.NewReaderSize(readerFunc(s.inflate), 64<<10)
	return s
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// inflate reads decompressed bytes under the bomb rule.
func (s *source) inflate(p []byte) (int, error) {
	n, err := s.gz.Read(p)
	s.out += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.damaged = err
		return n, err
	}
	if s.out > bombFloor && s.out/bombRatio > s.raw.n {
		s.damaged = errBomb
		return 0, errBomb
	}
	return n, err
}

// Read returns decompressed bytes; those before a damage come first.
func (s *source) Read(p []byte) (int, error) {
	if s.damaged != nil && s.gz == nil {
		return 0, s.damaged
	}
	return s.buf.Read(p)
}

// peek returns the first bytes without consuming them.
func (s *source) peek() []byte {
	if s.damaged != nil && s.gz == nil {
		return nil
	}
	head, _ := s.buf.Peek(1024)
	return head
}

func (s *source) close() {
	if s.gz != nil {
		_ = s.gz.Close() // reads nothing, holds nothing
	}
}

// failure returns the error of the reader below or of the context.
func (s *source) failure() error {
	if s.raw.err != nil {
		return s.raw.err
	}
	return s.ctx.Err()
}

// damage says what is wrong with the compressed bytes.
func (s *source) damage() (reason, detail string) {
	switch {
	case s.damaged == nil:
		return "", ""
	case errors.Is(s.damaged, errBomb):
		return ReasonBomb, fmt.Sprintf("%d bytes out of %d", s.out, s.raw.n)
	default:
		return ReasonBadGzip, fmt.Sprintf("%v after %d bytes", s.damaged, s.out)
	}
}

// sniff names the format of a document by its name, then by its first bytes.
func sniff(name string, head []byte) string {
	name = strings.ToLower(name)
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".gzip")
	switch path.Ext(name) {
	case ".html", ".htm", ".xhtml":
		return FormatHTML
	case ".jsonl", ".ndjson":
		return FormatJSONL
	case ".txt", ".md", ".markdown", ".text":
		return FormatText
	}
	head = bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
	switch {
	case bytes.HasPrefix(head, []byte("<!doctype html")), bytes.HasPrefix(head, []byte("<!--")), bytes.Contains(head, []byte("<html")),
		bytes.Contains(head, []byte("<body")), bytes.Contains(head, []byte("<head>")):
		return FormatHTML
	case bytes.HasPrefix(head, []byte(`{"`)):
		return FormatJSONL
	}
	return FormatText
}
