package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// DefaultTail is how many bytes of an object's end Reader fetches when it opens it.
const DefaultTail = 64 << 10

// Reader reads any part of one immutable object by ranged requests. It implements io.ReaderAt and is safe for
// concurrent use. Every request is pinned to the object that stood there when it was opened (ErrChanged).
type Reader struct {
	ctx   context.Context //nolint:containedctx // an io.ReaderAt has no other way to be cancelled
	store *Store
	info  Info
	tail  []byte // the object's last bytes
}

// Reader opens an object for reading at any offset with a single request, which brings the last DefaultTail
// bytes along: the footer of a Parquet file as a rule, the whole of a small object. Errors: ErrNotFound.
func (s *Store) Reader(ctx context.Context, key string) (*Reader, error) {
	return s.ReaderTail(ctx, key, DefaultTail)
}

// ReaderTail is Reader with another number of bytes fetched on opening, at least 1. An object of at most tail
// bytes costs no further request.
func (s *Store) ReaderTail(ctx context.Context, key string, tail int64) (*Reader, error) {
	r := &Reader{ctx: ctx, store: s}
	err := retryBody(ctx, func() error { return r.open(key, max(1, tail)) })
	if err != nil {
		return nil, s.wrap("open", key, err)
	}
	return r, nil
}

func (r *Reader) open(key string, tail int64) error {
	full, err := r.store.full(key)
	if err != nil {
		return err
	}
	out, err := r.store.client.GetObject(r.ctx, &s3.GetObjectInput{
		Bucket: &r.store.bucket, Key: full, Range: aws.String("bytes=-" + strconv.FormatInt(tail, 10)),
	})
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable { // an empty object has no last byte
		r.info, err = r.store.Stat(r.ctx, key)
		return err
	}
	if err != nil {
		return err
	}
	defer out.Body.Close()
	size, err := totalOf(out)
	if err != nil {
		return err
	}
	want := min(tail, size)
	if got := aws.ToInt64(out.ContentLength); got != want {
		return fmt.Errorf("asked for the last %d bytes of %d, got %d", want, size, got)
	}
	body := make([]byte, want)
	if _, err := io.ReadFull(out.Body, body); err != nil {
		return bodyError{err}
	}
	r.tail = body
	r.info = Info{Key: key, Size: size, ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified)}
	return nil
}

// totalOf returns the size of the whole object from a ranged answer.
func totalOf(out *s3.GetObjectOutput) (int64, error) {
	cr := aws.ToString(out.ContentRange)
	if cr == "" { // the store sent everything
		return aws.ToInt64(out.ContentLength), nil
	}
	_, total, _ := strings.Cut(cr, "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if err != nil || size < 0 {
		return 0, fmt.Errorf("unreadable Content-Range %q", cr)
	}
	return size, nil
}

// Size returns the object's size in bytes.
func (r *Reader) Size() int64 { return r.info.Size }

// Info returns what the store said of the object on opening.
func (r *Reader) Info() Info { return r.info }

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset %d", r.store.URI(r.info.Key), off)
	}
	if off >= r.info.Size {
		return 0, io.EOF
	}
	var short error
	if left := r.info.Size - off; int64(len(p)) > left {
		p, short = p[:left], io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	tailAt := r.info.Size - int64(len(r.tail))
	head := p
	if end := off + int64(len(p)); end > tailAt {
		split := max(0, tailAt-off)
		copy(p[split:], r.tail[max(0, off-tailAt):])
		head = p[:split]
	}
	if len(head) > 0 {
		err := retryBody(r.ctx, func() error { return r.fetch(head, off) })
		if err != nil {
			return 0, r.store.wrap("read", r.info.Key, err)
		}
	}
	return len(p), short
}

func (r *Reader) fetch(p []byte, off int64) error {
	body, err := r.store.ranged(r.ctx, r.info.Key, r.info.ETag, off, int64(len(p)))
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.ReadFull(body, p); err != nil {
		return bodyError{err}
	}
	return nil
}

// bodyError marks a body that broke off, which the client's retries do not cover.
type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

// retryBody repeats do while bodies break off.
func retryBody(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if _, broke := errors.AsType[bodyError](err); !broke || n > resumes || ctx.Err() != nil {
			return err
		}
		if perr := pause(ctx, n); perr != nil {
			return perr
		}
	}
}
