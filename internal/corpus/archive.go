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
	case strings.EqualFold(path.Ext(name), ".parquet"):
		return true // whatever its columns hold
	}
	return strings.EqualFold(path.Ext(name), ".zip") && (format == "" || format == FormatAuto || format == FormatHTML || format == FormatText)
}

// entries hands the files of an archive to the cutter, and holds what comes out to what there is.
type entries struct {
	c      *cutter
	source string
	failed func() error // of the reader below
	out    int64        // bytes read of entries
}

// ZipDocuments yields the segments and rejects of the pages and texts in a zip archive, as Documents does. A document
// is an entry's name, which is used for nothing else. The error is that of r or of ctx.
func ZipDocuments(ctx context.Context, name string, r io.ReaderAt, size int64, opts DocumentOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		w := &window{ctx: ctx, r: r, size: size, budget: maxDirectory}
		e := &entries{c: newCutter(opts, yield), source: name, failed: func() error { return w.failed }}
		more, err := e.zip(w, size)
		switch {
		case !more:
		case w.failed != nil:
			yield(Item{}, fmt.Errorf("read %s: %w", name, w.failed))
		case errors.Is(err, errDirectory):
			yield(RejectFile(name, ReasonTooMany, err.Error()), nil)
		case err != nil:
			yield(RejectFile(name, ReasonBadArchive, err.Error()), nil)
		}
	}
}

var errDirectory = fmt.Errorf("a directory of more than %d bytes", maxDirectory)

// zip reports whether more may be yielded.
func (e *entries) zip(w *window, size int64) (more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			more, err = !e.c.ended, fmt.Errorf("%v", r)
		}
	}()
	archive, err := zip.NewReader(w, size)
	if err != nil {
		if w.budget <= 0 {
			err = errDirectory
		}
		return true, err
	}
	w.budget = -1
	for _, f := range archive.File {
		if w.failed != nil || e.bomb(size) {
			break
		}
		if f.FileInfo().IsDir() {
			continue
		}
		body, err := f.Open()
		if err != nil {
			if w.failed == nil && !e.reject(f.Name, ReasonBadArchive, err.Error()) {
				return false, nil
			}
			continue
		}
		more := e.entry(f.Name, body)
		body.Close()
		if !more {
			return false, nil
		}
	}
	if e.bomb(size) {
		return e.reject("", ReasonBomb, fmt.Sprintf("%d bytes out of %d; the rest of the archive is not read", e.out, size)), nil
	}
	return true, nil
}

func (e *entries) bomb(in int64) bool { return e.out > bombFloor && e.out/bombRatio > in }

// readTar cuts the pages and texts in a tar archive. It reports whether more may be yielded.
func readTar(s *source, name string, c *cutter) bool {
	e := &entries{c: c, source: name, failed: s.failure}
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
	ext := strings.ToLower(path.Ext(base))
	format, known := formatsByName[ext]
	switch {
	case format == FormatHTML || format == FormatText:
	case known || ext != "" && !strings.ContainsAny(ext, "0123456789-_ "):
		return e.reject(name, ReasonNotText, "neither a page nor a text by its name")
	}
	limit := e.c.opts.Bounds.MaxDocumentBytes
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	e.out += int64(len(body))
	switch {
	case e.failed() != nil:
		return true // said by who began
	case int64(len(body)) > limit:
		return e.reject(name, ReasonTooLarge, fmt.Sprintf("more than %d bytes", limit))
	case err != nil:
		return e.reject(name, ReasonBadArchive, err.Error())
	}
	if e.c.opts.Format == FormatHTML || e.c.opts.Format == FormatText {
		format = e.c.opts.Format
	}
	if format == "" {
		if format = sniff("", body[:min(len(body), 1024)]); format != FormatHTML {
			format = FormatText
		}
	}
	return e.c.document(e.at(name), format, body, "")
}

func (e *entries) at(name string) origin {
	return origin{source: e.source, document: clip(cleanLine(printable([]byte(name))), maxNameChars)}
}

func (e *entries) reject(name, reason, detail string) bool {
	return e.c.yield(e.at(name).reject(reason, clip(cleanLine(printable([]byte(detail))), 300), ""))
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
