package corpus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Decompression beyond this ratio is a bomb, once as much as Bounds.bombFloor has come out. Deflate reaches 1,032 at most,
// text and markup stay below 50.
const bombRatio = 200

var errBomb = errors.New("decompresses beyond any honest ratio")

// packing is how a file is compressed as a whole.
type packing int

const (
	plain packing = iota
	gzipped
	zstandard
)

// source reads a file's decompressed bytes and keeps apart what went wrong: the reader below (an error to the caller)
// or the bytes themselves (a reject).
type source struct {
	ctx     context.Context
	raw     *rawReader
	file    *bufio.Reader // the bytes as they are
	packing packing
	buf     *bufio.Reader // decompressed; nil until open
	unpack  io.Reader
	release func() // of unpack
	out     int64
	damaged error
	bounds  Bounds
	spend   func(n int64) // told of every byte that comes out of compression; nil: nobody asks
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

// fileReaders are used again: a folder has many small files.
var fileReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// close lets go of what reading took.
func (s *source) close() {
	if s.release != nil {
		s.release()
	}
	s.file.Reset(nil)
	fileReaders.Put(s.file)
}

func newSource(ctx context.Context, r io.Reader, bounds Bounds) *source {
	s := &source{ctx: ctx, bounds: bounds, raw: &rawReader{ctx: ctx, r: r}}
	s.file, _ = fileReaders.Get().(*bufio.Reader)
	s.file.Reset(s.raw)
	magic, _ := s.file.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		s.packing = gzipped
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		s.packing = zstandard
	}
	return s
}

// open begins to decompress. What reads the file as it is does not call it.
func (s *source) open() {
	if s.buf != nil || s.damaged != nil {
		return
	}
	switch s.packing {
	case plain:
		s.buf = s.file
		return
	case gzipped:
		gz, err := gzip.NewReader(s.file)
		if err != nil {
			s.damaged = err
			return
		}
		s.unpack = gz
	case zstandard:
		z, err := zstd.NewReader(s.file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(s.bounds.maxWindow))
		if err != nil {
			s.damaged = err
			return
		}
		s.unpack = z
		s.release = z.Close
	}
	s.buf = bufio.NewReaderSize(readerFunc(s.inflate), 64<<10)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// inflate reads decompressed bytes under the bomb rule.
func (s *source) inflate(p []byte) (int, error) {
	n, err := s.unpack.Read(p)
	s.out += int64(n)
	if s.spent(n); s.raw.err != nil {
		return 0, s.raw.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.damaged = err
		return n, err
	}
	if s.out > s.bounds.bombFloor && s.out/bombRatio > s.raw.n {
		s.damaged = errBomb
		return 0, errBomb
	}
	return n, err
}

// spent tells of bytes that came out of compression.
func (s *source) spent(n int) {
	if s.spend != nil {
		s.spend(int64(n))
	}
}

// Read returns decompressed bytes; those before a damage come first.
func (s *source) Read(p []byte) (int, error) {
	s.open()
	if s.buf == nil {
		return 0, s.damaged
	}
	return s.buf.Read(p)
}

// peek returns the first decompressed bytes without consuming them, nor a byte of a gzip file.
func (s *source) peek() []byte {
	if s.packing == gzipped && s.buf == nil {
		packed, _ := s.file.Peek(4096)
		return gunzipHead(packed)
	}
	if s.open(); s.buf == nil {
		return nil
	}
	head, _ := s.buf.Peek(1024)
	return head
}

// gunzipHead returns what the beginning of a gzip member decompresses to, at most 1,024 bytes.
func gunzipHead(packed []byte) []byte {
	gz, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil
	}
	head := make([]byte, 1024)
	n, _ := io.ReadFull(gz, head)
	return head[:n]
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
	case s.packing == zstandard:
		return ReasonBadZstd, fmt.Sprintf("%v after %d bytes", s.damaged, s.out)
	default:
		return ReasonBadGzip, fmt.Sprintf("%v after %d bytes", s.damaged, s.out)
	}
}

// formatsByName are what file names say, after the ending of the compression.
var formatsByName = map[string]string{
	".html": FormatHTML, ".htm": FormatHTML, ".xhtml": FormatHTML,
	".jsonl": FormatJSONL, ".ndjson": FormatJSONL, ".json": FormatJSONL,
	".txt": FormatText, ".md": FormatText, ".markdown": FormatText, ".text": FormatText,
	".warc": FormatWARC, ".wet": FormatWARC,
	".csv": FormatCSV, ".tsv": FormatTSV,
	".tar": FormatTar, ".tgz": FormatTar, ".zip": FormatZip, ".parquet": FormatParquet,
}

// bareName returns a name in lower case without the ending of its compression.
func bareName(name string) string {
	name = strings.ToLower(name)
	for _, packed := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		if bare, ok := strings.CutSuffix(name, packed); ok {
			return bare
		}
	}
	return name
}

// named returns the format that a name tells, or nothing.
func named(name string) string { return formatsByName[path.Ext(bareName(name))] }

// sniff names the format of a document by its name, then by its first bytes.
func sniff(name string, head []byte) string {
	if format := named(name); format != "" {
		return format
	}
	switch {
	case bytes.HasPrefix(head, []byte("WARC/")):
		return FormatWARC
	case len(head) > 262 && string(head[257:262]) == "ustar":
		return FormatTar
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return FormatZip
	case bytes.HasPrefix(head, []byte("PAR1")):
		return FormatParquet
	}
	head = bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
	switch {
	case bytes.HasPrefix(head, []byte("<!doctype html")), bytes.HasPrefix(head, []byte("<!--")), bytes.Contains(head, []byte("<html")),
		bytes.Contains(head, []byte("<body")), bytes.Contains(head, []byte("<head>")):
		return FormatHTML
	case bytes.HasPrefix(head, []byte(`{"`)), bytes.HasPrefix(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("[")), " \t\r\n"), []byte(`{"`)):
		return FormatJSONL
	}
	return FormatText
}
