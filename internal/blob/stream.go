package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// resumes is how often a body that broke off is continued without a byte of progress in between.
const resumes = 6

// stream reads an object from front to back and goes on behind the last byte when the connection breaks.
type stream struct {
	ctx   context.Context //nolint:containedctx // an io.Reader has no other way to be cancelled
	store *Store
	key   string
	body  io.ReadCloser
	size  int64
	etag  string
	off   int64
	fails int
}

// Stream opens an object for reading from front to back. A connection that breaks is taken up again where it
// broke, pinned to the object's ETag (ErrChanged). The caller closes it. Errors: ErrNotFound.
func (s *Store) Stream(ctx context.Context, key string) (io.ReadCloser, error) {
	return s.StreamOf(ctx, key, "")
}

// StreamOf is Stream of the very object that an ETag names (ErrChanged); "" is any.
func (s *Store) StreamOf(ctx context.Context, key, etag string) (io.ReadCloser, error) {
	st, err := s.open(ctx, key, etag)
	if err != nil {
		return nil, s.wrap("stream", key, err)
	}
	return st, nil
}

func (s *Store) open(ctx context.Context, key, etag string) (*stream, error) {
	full, err := s.full(key)
	if err != nil {
		return nil, err
	}
	in := &s3.GetObjectInput{Bucket: &s.bucket, Key: full}
	if etag != "" {
		in.IfMatch = &etag
	}
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	return &stream{
		ctx: ctx, store: s, key: key, body: out.Body, size: aws.ToInt64(out.ContentLength), etag: aws.ToString(out.ETag),
	}, nil
}

// Read implements io.Reader.
func (st *stream) Read(p []byte) (int, error) {
	for {
		n, err := st.body.Read(p)
		st.off += int64(n)
		if n > 0 {
			st.fails = 0
			if err != nil && st.off < st.size {
				err = nil // the next call finds the break again
			}
			return n, err
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && st.off == st.size {
			return 0, io.EOF
		}
		if st.off >= st.size || st.ctx.Err() != nil {
			return 0, err // at the end only a wrong checksum is left
		}
		if err := st.resume(err); err != nil {
			return 0, err
		}
	}
}

func (st *stream) resume(cause error) error {
	if st.fails++; st.fails > resumes {
		return fmt.Errorf("body broke off at byte %d of %d: %w", st.off, st.size, cause)
	}
	if err := pause(st.ctx, st.fails); err != nil {
		return err
	}
	_ = st.body.Close() // broken already
	body, err := st.store.ranged(st.ctx, st.key, st.etag, st.off, st.size-st.off)
	if err != nil {
		return fmt.Errorf("go on at byte %d: %w", st.off, err)
	}
	st.body = body
	return nil
}

// Close implements io.Closer.
func (st *stream) Close() error { return st.body.Close() }

// ranged asks for n bytes from off of the very object that etag names.
func (s *Store) ranged(ctx context.Context, key, etag string, off, n int64) (io.ReadCloser, error) {
	full, err := s.full(key)
	if err != nil {
		return nil, err
	}
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &s.bucket, Key: full, IfMatch: &etag,
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1)),
	})
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

// pause waits before the n-th continuation: 50 ms, doubling, with jitter.
func pause(ctx context.Context, n int) error {
	wait := 50 * time.Millisecond << (n - 1)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(wait/2 + rand.N(wait)):
		return nil
	}
}
