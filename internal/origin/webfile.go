package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/selfalign/selfalign/internal/intake"
)

// maxSpool is how much of a file is kept on disk that must be read at random from a server without ranges, in bytes.
const maxSpool = 16 << 30

// WebInfo is what a server says of a file.
type WebInfo struct {
	Size   int64  // -1: not told
	Tag    string // its ETag, else the date on which it was changed; "" where the server tells neither
	Ranges bool
}

// Stat asks for a file's size and tag by reading its first byte.
func (w *Web) Stat(ctx context.Context, address string) (WebInfo, error) {
	got, err := w.get(ctx, address, 0, 1)
	if err != nil {
		return WebInfo{}, err
	}
	got.body.Close()
	return WebInfo{Size: got.size, Tag: got.tag, Ranges: got.ranges}, nil
}

func (p *Places) listWeb(ctx context.Context, w Want) ([]File, error) {
	if p.Web == nil {
		return nil, notAllowed(w.Path)
	}
	info, err := p.Web.Stat(ctx, w.Path)
	if err != nil {
		return nil, err
	}
	return []File{{Name: public(w.Path), URL: w.Path, Size: max(info.Size, 0), Guess: info.Size < 0, ETag: info.Tag}}, nil
}

func (p *Places) openWeb(f File, out *intake.File) {
	stream := func(ctx context.Context) (*webStream, error) {
		if p.Web == nil {
			return nil, notAllowed(f.URL)
		}
		s := &webStream{ctx: ctx, web: p.Web, file: f}
		return s, s.open()
	}
	out.Stream = func(ctx context.Context) (io.ReadCloser, error) { return stream(ctx) }
	out.At = func(ctx context.Context) (intake.ReaderAt, error) {
		s, err := stream(ctx)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		if s.ranges = s.got.size >= 0 && p.Web.hasRanges(ctx, f.URL, s.got); s.ranges {
			return &webAt{ctx: ctx, web: p.Web, file: f, size: s.got.size, tag: s.got.tag}, nil
		}
		return spool(s, f.Name)
	}
	out.Explain = func(_ context.Context, err error) error { return explainWeb(f.Name, err) }
}

// hasRanges tries whether the server answers with a part of the same file.
func (w *Web) hasRanges(ctx context.Context, address string, like part) bool {
	got, err := w.get(ctx, address, 0, 1)
	if err != nil {
		return false
	}
	got.body.Close()
	return got.ranges && got.size == like.size && got.tag == like.tag
}

// webStream reads a file from front to back and goes on behind the last byte when the connection breaks.
type webStream struct {
	ctx    context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	web    *Web
	file   File
	got    part
	off    int64
	fails  int
	ranges bool
}

func (s *webStream) open() (err error) {
	s.got, err = s.web.get(s.ctx, s.file.URL, 0, -1)
	if err != nil {
		return err
	}
	if !s.same(s.file.ETag, s.file.Size, s.file.Guess) {
		s.got.body.Close()
		return changed(s.file.Name)
	}
	return nil
}

// same compares an answer with what was found before.
func (s *webStream) same(tag string, size int64, guess bool) bool {
	return (tag == "" || s.got.tag == tag) && (guess || s.got.size < 0 || s.got.size == size)
}

// Read implements io.Reader.
func (s *webStream) Read(p []byte) (int, error) {
	for {
		n, err := s.got.body.Read(p)
		s.off += int64(n)
		ended := errors.Is(err, io.EOF) && (s.got.size < 0 || s.off >= s.got.size)
		switch {
		case n > 0:
			s.fails = 0
			if err != nil && !ended {
				err = nil // the next call finds the break again
			}
			return n, err
		case err == nil:
			continue
		case ended:
			return 0, io.EOF
		case s.ctx.Err() != nil:
			return 0, context.Cause(s.ctx)
		}
		if err := s.resume(err); err != nil {
			return 0, err
		}
	}
}

func (s *webStream) resume(cause error) error {
	if s.fails++; s.fails >= webAttempts {
		return fmt.Errorf("read %s: it broke off at byte %d: %w", s.file.Name, s.off, plainly(cause))
	}
	if err := s.web.wait(s.ctx, s.fails, cause); err != nil {
		return err
	}
	before := s.got
	before.body.Close()
	got, err := s.web.get(s.ctx, s.file.URL, s.off, -1)
	if err != nil {
		s.got.body = io.NopCloser(failing{err})
		return err
	}
	s.got = got
	if !s.same(before.tag, before.size, before.size < 0) {
		return changed(s.file.Name)
	}
	if before.tag == "" && s.off > 0 && before.size < 0 {
		return fmt.Errorf("read %s: it broke off at byte %d, and the server does not say whether the file is still the same", s.file.Name, s.off)
	}
	if skip := s.off - got.from; skip > 0 { // a server without ranges begins anew
		if _, err := io.CopyN(io.Discard, got.body, skip); err != nil {
			return s.resume(err)
		}
	}
	return nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Close implements io.Closer.
func (s *webStream) Close() error { return s.got.body.Close() }

// webAt reads any part of a file, every one of the same version.
type webAt struct {
	ctx  context.Context //nolint:containedctx // io.ReaderAt has none
	web  *Web
	file File
	size int64
	tag  string
}

// Size returns the file's size in bytes.
func (r *webAt) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *webAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), r.size-off)]
	n := 0
	var last error
	for try := 0; n < len(want); try++ {
		if try >= webAttempts {
			return n, fmt.Errorf("read %s: it broke off at byte %d: %w", r.file.Name, off+int64(n), plainly(last))
		}
		if try > 0 {
			if err := r.web.wait(r.ctx, try, last); err != nil {
				return n, err
			}
		}
		got, err := r.web.get(r.ctx, r.file.URL, off+int64(n), int64(len(want)-n))
		if err != nil {
			return n, err
		}
		if got.tag != r.tag || got.size != r.size || !got.ranges {
			got.body.Close()
			return n, changed(r.file.Name)
		}
		m, err := io.ReadFull(got.body, want[n:])
		got.body.Close()
		n, last = n+m, err
		if r.ctx.Err() != nil {
			return n, context.Cause(r.ctx)
		}
		if m > 0 {
			try = 0
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// spooled is a file's copy on disk, which goes with its closing.
type spooled struct {
	*os.File
	size int64
}

// Size returns the file's size in bytes.
func (s spooled) Size() int64 { return s.size }

// Close removes the copy.
func (s spooled) Close() error {
	return errors.Join(s.File.Close(), os.Remove(s.Name()))
}

func spool(body io.Reader, name string) (intake.ReaderAt, error) {
	f, err := os.CreateTemp("", "selfalign-*.part")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	out := spooled{File: f}
	out.size, err = io.Copy(f, io.LimitReader(body, maxSpool+1))
	if err == nil && out.size > maxSpool {
		err = &Error{Source: name, Problem: fmt.Sprintf("has more than %d bytes and its server knows no ranges", int64(maxSpool)), Try: "put it into S3"}
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}
