package corpus

import (
	"archive/tar"
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
)

// Bounds on archives.
const (
	maxDirectory = 16 << 20 // bytes of a zip file's directory: some 150,000 files
	maxNameChars = 1000
	zipWindow    = 1 << 20 // bytes read at a time
)

// ErrRandomAccess says that a file can only be read at random: Parquet and zip.
var ErrRandomAccess = errors.New("this format is read at random, not as a stream")

// RandomAccess reports whether a file is of such a format, by the format that was named or else by the file's name.
func RandomAccess(name, format string) bool {
	switch {
	case format == FormatParquet || format == FormatZip:
		return true
	case strings.EqualFold(path.Ext(name), ".parquet"), strings.EqualFold(path.Ext(name), ".zip"):
		return true // whatever is in it
	}
	return false
}

// inside reports whether a format is one that files in an archive may have.
func inside(format string) bool {
	return slices.Contains([]string{FormatHTML, FormatText, FormatJSONL, FormatCSV, FormatTSV, FormatWARC, FormatWET}, format)
}

// reading says what is made of the files in an archive: documents, seeds or prompts.
type reading struct {
	bounds Bounds
	yield  func(Item) bool
	format string                                               // of every file; "": by its name, else by its first bytes
	holds  func(format string) bool                             // files of this format are read
	reason string                                               // of a file that is not
	detail string                                               // likewise
	read   func(s *source, at place, format string) (more bool) // one file
}

// records is what seeds and prompts make of an archive: its files are JSONL or CSV, whatever the shape of their records.
func records(bounds Bounds, yield func(Item) bool, read func(s *source, at place, format string) bool) reading {
	return reading{
		bounds: bounds, yield: yield, holds: func(format string) bool { return slices.Contains([]string{FormatJSONL, FormatCSV, FormatTSV}, format) },
		reason: ReasonNotRecords, detail: "neither JSONL nor CSV by its name", read: read,
	}
}

func (c *cutter) reading() reading {
	out := reading{
		bounds: c.opts.Bounds, yield: c.yield, holds: inside,
		reason: ReasonNotText, detail: "neither a page, a text, JSONL, CSV nor a crawl by its name",
		read: func(s *source, at place, format string) bool { return readDocuments(s, at, format, c) },
	}
	if inside(c.opts.Format) {
		out.format = c.opts.Format
	}
	return out
}

// entries reads the files of an archive one after another as streams, and holds what comes out to what there is.
type entries struct {
	reading

	ctx    context.Context
	source string
	failed func() error // of the reader below
	in     func() int64 // bytes of the archive, as far as they are known
	out    int64        // bytes read of entries, and those that came out of compression inside them
}

// ZipDocuments yields the segments and rejects of the files in a zip archive, as Documents does: pages, texts, JSONL and crawls,
// compressed once more or not. A document is an entry's name, which is used for nothing else; or, of an entry that holds many,
// the entry's name, # and the document's. The error is that of r or of ctx.
func ZipDocuments(ctx context.Context, name string, r io.ReaderAt, size int64, opts DocumentOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return readZip(ctx, name, r, size, func(yield func(Item, error) bool) reading { return newCutter(opts, yield).reading() })
}

// readZip yields what is made of the files of an archive.
func readZip(ctx context.Context, name string, r io.ReaderAt, size int64, begin func(yield func(Item, error) bool) reading) iter.Seq2[Item, error] {
	return func(yieldPlain func(Item, error) bool) {
		ended := false
		yield := func(it Item, err error) bool {
			ended = ended || !yieldPlain(it, err)
			return !ended
		}
		w := &window{ctx: ctx, r: r, size: size, budget: maxDirectory}
		failed := func() error {
			if w.failed != nil {
				return w.failed
			}
			return ctx.Err()
		}
		e := &entries{reading: begin(yield), ctx: ctx, source: name, failed: failed, in: func() int64 { return size }}
		err := e.zip(w, size)
		switch {
		case ended:
		case failed() != nil:
			yield(Item{}, fmt.Errorf("read %s: %w", name, failed()))
		case errors.Is(err, errDirectory):
			yield(RejectFile(name, ReasonTooMany, err.Error()), nil)
		case err != nil:
			yield(RejectFile(name, ReasonBadArchive, err.Error()), nil)
		}
	}
}

var errDirectory = fmt.Errorf("a directory of more than %d bytes", maxDirectory)

// zip reads every file. The error is what is wrong with the archive.
func (e *entries) zip(w *window, size int64) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	archive, err := zip.NewReader(w, size)
	if err != nil {
		if w.budget <= 0 {
			err = errDirectory
		}
		return err
	}
	w.budget = -1
	for _, f := range archive.File {
		if e.failed() != nil || e.bomb() {
			break
		}
		if f.FileInfo().IsDir() {
			continue
		}
		body, err := f.Open()
		if err != nil {
			if e.failed() == nil && !e.reject(f.Name, ReasonBadArchive, err.Error()) {
				return nil
			}
			continue
		}
		more := e.entry(f.Name, body)
		body.Close()
		if !more {
			return nil
		}
	}
	if e.bomb() {
		e.burst()
	}
	return nil
}

func (e *entries) bomb() bool { return e.out > e.bounds.bombFloor && e.out/bombRatio > e.in() }

func (e *entries) burst() bool {
	return e.reject("", ReasonBomb, fmt.Sprintf("%d bytes out of %d; the rest of the archive is not read", e.out, e.in()))
}

// readTar reads the files in a tar archive. It reports whether more may be yielded.
func readTar(s *source, name string, c reading) bool {
	e := &entries{reading: c, ctx: s.ctx, source: name, failed: s.failure, in: func() int64 { return s.raw.n }}
	archive := tar.NewReader(s)
	for {
		header, err := archive.Next()
		switch {
		case s.failure() != nil || s.damaged != nil || errors.Is(err, io.EOF):
			return true
		case err != nil:
			return c.yield(RejectFile(name, ReasonBadArchive, err.Error()))
		case header.Typeflag != tar.TypeReg || sparse(header):
			if header.Typeflag == tar.TypeReg || header.Typeflag == tar.TypeGNUSparse {
				if !e.reject(header.Name, ReasonBadArchive, "a sparse file") {
					return false
				}
			}
			continue
		}
		if !e.entry(header.Name, archive) {
			return false
		}
		if e.bomb() && s.failure() == nil && s.damaged == nil {
			return e.burst()
		}
	}
}

// sparse reports whether a header describes more bytes than there are.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// entry cuts one file of an archive.
func (e *entries) entry(name string, r io.Reader) bool {
	base := path.Base(strings.ReplaceAll(name, `\`, "/"))
	if strings.HasPrefix(base, ".") || strings.HasPrefix(name, "__MACOSX/") {
		return true // what tools leave behind
	}
	ext := path.Ext(bareName(base))
	format := formatsByName[ext]
	if !e.holds(format) && (format != "" || ext != "" && !strings.ContainsAny(ext, "0123456789-_ ")) {
		return e.reject(name, e.reason, e.detail)
	}
	s := newSource(e.ctx, readerFunc(func(p []byte) (int, error) { return e.packed(r, p) }), e.bounds)
	defer s.close()
	s.spend = func(n int64) {
		if e.out += n; e.bomb() && s.raw.err == nil {
			s.raw.err = errBomb
		}
	}
	if e.format != "" {
		format = e.format
	} else if format == "" {
		if format = sniff("", s.peek()); !e.holds(format) {
			return e.reject(name, e.reason, "a "+format+" file, which is not read inside an archive")
		}
	}
	if !e.read(s, place{e.source, e.at(name).document}, format) {
		return false
	}
	reason, detail := s.damage()
	switch {
	case e.failed() != nil || e.bomb():
		return true // said by who began
	case s.raw.err != nil:
		return e.reject(name, ReasonBadArchive, s.raw.err.Error())
	case reason != "":
		return e.reject(name, reason, detail)
	}
	return true
}

// packed reads bytes of an entry as they lie in the archive.
func (e *entries) packed(r io.Reader, p []byte) (int, error) {
	n, err := r.Read(p)
	if e.out += int64(n); e.bomb() {
		return 0, errBomb
	}
	return n, err
}

func (e *entries) at(name string) origin {
	return origin{source: e.source, document: clip(cleanLine(printable([]byte(name))), maxNameChars)}
}

func (e *entries) reject(name, reason, detail string) bool {
	return e.yield(e.at(name).reject(reason, clip(cleanLine(printable([]byte(detail))), 300), ""))
}

// window reads a file at random, a large piece at a time, and remembers the first error that is not the end.
type window struct {
	ctx    context.Context
	r      io.ReaderAt
	size   int64
	buf    []byte
	from   int64
	budget int64 // bytes that may be handed out; negative: any
	failed error
}

func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= w.size {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && off+int64(n) < w.size {
		if err := w.load(off + int64(n)); err != nil {
			return n, err
		}
		n += copy(p[n:], w.buf[off+int64(n)-w.from:])
	}
	if w.budget >= 0 {
		if w.budget -= int64(n); w.budget <= 0 {
			w.budget = 0
			return 0, errDirectory
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load makes the window hold the byte at off.
func (w *window) load(off int64) error {
	if off >= w.from && off < w.from+int64(len(w.buf)) {
		return nil
	}
	if w.failed == nil {
		w.failed = w.ctx.Err()
	}
	if w.failed != nil {
		return w.failed
	}
	if w.buf == nil {
		w.buf = make([]byte, min(zipWindow, w.size))
	}
	buf := w.buf[:min(int64(cap(w.buf)), w.size-off)]
	n, err := w.r.ReadAt(buf, off)
	w.buf, w.from = buf[:n], off
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	w.failed = err
	return err
}
