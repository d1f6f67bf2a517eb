package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Reader reads any part of one file of one commit by ranged requests. It is safe for concurrent use. Every answer is
// checked to be the range asked for of a file of the expected size.
type Reader struct {
	c      *Client
	ctx    context.Context //nolint:containedctx // io.ReaderAt has none
	repo   Repo
	commit string
	file   File

	mu     sync.Mutex
	signed *url.URL // where the content lies, once the Hub has said so; expires
}

// Open returns a reader of a file that Tree listed at a commit. It makes no request. The context bounds all reads.
func (c *Client) Open(ctx context.Context, repo Repo, commit string, file File) *Reader {
	return &Reader{c: c, ctx: ctx, repo: repo, commit: commit, file: file}
}

// Size returns the file's size in bytes.
func (r *Reader) Size() int64 { return r.file.Size }

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: offset %d", r.file.Path, off)
	}
	if off >= r.file.Size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), r.file.Size-off)]
	if len(want) == 0 {
		return 0, nil
	}
	n := 0
	for try := 1; ; try++ {
		got, err := r.fill(want[n:], off+int64(n))
		n += got
		if n == len(want) {
			break
		}
		failed := &Error{Op: r.op(), Kind: ErrPassing}
		if !errors.As(err, &failed) || !errors.Is(failed.Kind, ErrPassing) || try >= r.c.opt.Attempts {
			return n, err
		}
		if err := r.c.wait(r.ctx, try, failed); err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *Reader) op() string {
	return fmt.Sprintf("read %s of %s@%.12s", r.file.Path, r.repo, r.commit)
}

// fill reads one range. It may return some bytes and a passing error when the connection breaks in between.
func (r *Reader) fill(p []byte, off int64) (int, error) {
	res, err := r.get(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if err := r.check(res, off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(res.Body, p)
	if err != nil {
		if r.ctx.Err() != nil {
			return n, fmt.Errorf("%s: %w", r.op(), context.Cause(r.ctx))
		}
		return n, &Error{Op: r.op(), Kind: ErrPassing, Status: res.StatusCode, Message: "the content broke off: " + redact(err.Error(), r.c.opt.Token())}
	}
	return n, nil
}

// get asks for a range where the content lay last, or else asks the Hub where it lies.
func (r *Reader) get(off, n int64) (*http.Response, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+n-1)}, "Accept-Encoding": {"identity"}}
	r.mu.Lock()
	signed := r.signed
	r.mu.Unlock()
	if signed != nil {
		res, err := r.c.do(r.ctx, call{op: r.op(), repo: r.repo, method: http.MethodGet, url: signed, header: header})
		var failed *Error
		if err == nil || !errors.As(err, &failed) || failed.Status/100 != 4 || failed.Status == http.StatusRequestedRangeNotSatisfiable {
			return res, err
		}
		r.mu.Lock() // the signature has expired: ask again
		if r.signed == signed {
			r.signed = nil
		}
		r.mu.Unlock()
	}
	path := append([]string{"resolve", r.commit}, strings.Split(r.file.Path, "/")...)
	res, err := r.c.do(r.ctx, call{op: r.op(), repo: r.repo, method: http.MethodGet, url: r.c.repoURL(r.repo, path...), header: header})
	if err != nil {
		return nil, err
	}
	if last := res.Request.URL; !r.c.home(last) {
		r.mu.Lock()
		r.signed = last
		r.mu.Unlock()
	}
	return res, nil
}

var contentRangeRE = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+)$`)

// check compares what an answer says it is with what was asked for.
func (r *Reader) check(res *http.Response, off, n int64) error {
	bad := func(format string, args ...any) error {
		return &Error{Op: r.op(), Kind: ErrProtocol, Status: res.StatusCode, Message: fmt.Sprintf(format, args...)}
	}
	if v := res.Header.Get("Content-Encoding"); v != "" && v != "identity" {
		return bad("the content comes encoded as %.20q", v)
	}
	switch res.StatusCode {
	case http.StatusPartialContent:
		m := contentRangeRE.FindStringSubmatch(res.Header.Get("Content-Range"))
		if m == nil {
			return bad("Content-Range is %.80q", res.Header.Get("Content-Range"))
		}
		from, _ := strconv.ParseInt(m[1], 10, 64)
		to, _ := strconv.ParseInt(m[2], 10, 64)
		size, _ := strconv.ParseInt(m[3], 10, 64)
		if from != off || to != off+n-1 || size != r.file.Size {
			return bad("got bytes %d-%d of %d, asked for %d-%d of %d", from, to, size, off, off+n-1, r.file.Size)
		}
		return nil
	case http.StatusOK: // a server without ranges: fine for the small files that the Hub keeps in git
		if res.ContentLength >= 0 && res.ContentLength != r.file.Size {
			return bad("the file has %d bytes, %d were listed", res.ContentLength, r.file.Size)
		}
		if off > maxSkip {
			return bad("the server ignores ranges")
		}
		if _, err := io.CopyN(io.Discard, res.Body, off); err != nil {
			return &Error{Op: r.op(), Kind: ErrPassing, Status: res.StatusCode, Message: "the content broke off"}
		}
		return nil
	}
	return bad("expected a part of the file")
}

const maxSkip = 16 << 20 // bytes thrown away to reach an offset where ranges are ignored

// Small reads a whole file of at most limit bytes.
func (c *Client) Small(ctx context.Context, repo Repo, commit string, file File, limit int64) ([]byte, error) {
	r := c.Open(ctx, repo, commit, file)
	if file.Size > limit {
		return nil, &Error{Op: r.op(), Kind: ErrProtocol, Message: fmt.Sprintf("%d bytes, over the limit of %d", file.Size, limit)}
	}
	b := make([]byte, file.Size)
	if file.Size == 0 {
		return b, nil
	}
	_, err := r.ReadAt(b, 0)
	return b, err
}

// Head asks what stands at a path of a revision without reading it: for files that no Tree listed.
func (c *Client) Head(ctx context.Context, repo Repo, revision, path string) (File, string, error) {
	op := fmt.Sprintf("look up %s of %s@%s", path, repo, revision)
	if !validPath(path) {
		return File{}, "", fmt.Errorf("%s: no path", op)
	}
	parts := append([]string{"resolve", revision}, strings.Split(path, "/")...)
	res, err := c.do(ctx, call{
		op: op, repo: repo, method: http.MethodHead, url: c.repoURL(repo, parts...), stay: true,
		header: http.Header{"Accept-Encoding": {"identity"}},
		ok:     func(s int) bool { return s/100 == 2 || s/100 == 3 },
	})
	if err != nil {
		return File{}, "", err
	}
	res.Body.Close()
	f := File{Path: path, Size: res.ContentLength}
	tag := res.Header.Get("X-Linked-Etag")
	if v := res.Header.Get("X-Linked-Size"); v != "" {
		f.Size, err = strconv.ParseInt(v, 10, 64)
	}
	if tag == "" {
		tag = res.Header.Get("ETag")
	}
	tag = strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
	if validDigest(tag) {
		f.SHA256 = tag
	} else {
		f.OID = tag
	}
	commit := res.Header.Get("X-Repo-Commit")
	if err != nil || f.Size < 0 || !commitRE.MatchString(commit) {
		return File{}, "", &Error{Op: op, Kind: ErrProtocol, Status: res.StatusCode, Message: "the answer names no size or no commit"}
	}
	return f, commit, nil
}
