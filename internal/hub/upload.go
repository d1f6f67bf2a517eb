package hub

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // git's object ids
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/selfalign/selfalign/internal/blob"
)

// Upload is a file to push. Its size and digest are known before it is sent, so that what the Hub has already is not
// sent again, and what arrives is what was meant.
type Upload struct {
	Path   string // inside the repository
	Size   int64
	SHA256 string // lower-case hexadecimal digits
	// Open returns the content. It may be called several times, also at once; what it returns is closed if it is an
	// io.Closer.
	Open func(ctx context.Context) (io.ReaderAt, error)
}

// FromBytes makes an upload of text or other small content.
func FromBytes(path string, content []byte) Upload {
	sum := sha256.Sum256(content)
	return Upload{
		Path: path, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]),
		Open: func(context.Context) (io.ReaderAt, error) { return bytesAt(content), nil },
	}
}

// Known makes an upload of a stored object whose size and digest are known already.
func Known(st *blob.Store, key, path string, size int64, digest string) Upload {
	return Upload{
		Path: path, Size: size, SHA256: digest,
		Open: func(ctx context.Context) (io.ReaderAt, error) {
			r, err := st.Reader(ctx, key)
			if err != nil {
				return nil, err
			}
			if r.Size() != size {
				return nil, fmt.Errorf("%s has %d bytes, %d were announced", st.URI(key), r.Size(), size)
			}
			return r, nil
		},
	}
}

type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (u Upload) validate() error {
	switch {
	case !validPath(u.Path):
		return fmt.Errorf("push: %q is no path in a repository", u.Path)
	case u.Size < 0:
		return fmt.Errorf("push %s: size %d", u.Path, u.Size)
	case !validDigest(u.SHA256):
		return fmt.Errorf("push %s: %q is no SHA-256 digest", u.Path, u.SHA256)
	case u.Open == nil:
		return fmt.Errorf("push %s: no content", u.Path)
	}
	return nil
}

// section opens a part of the content for reading from front to back in large reads.
func (u Upload) section(ctx context.Context, off, n int64) (io.Reader, func(), error) {
	r, err := u.Open(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", u.Path, err)
	}
	done := func() {
		if c, ok := r.(io.Closer); ok {
			_ = c.Close() // only read
		}
	}
	const most = 1 << 20
	return bufio.NewReaderSize(io.NewSectionReader(r, off, n), int(min(max(n, 16), most))), done, nil
}

// content reads the whole file and checks it against its digest.
func (u Upload) content(ctx context.Context) ([]byte, error) {
	r, done, err := u.section(ctx, 0, u.Size)
	if err != nil {
		return nil, err
	}
	defer done()
	b := make([]byte, u.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", u.Path, err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != u.SHA256 {
		return nil, fmt.Errorf("push %s: %w", u.Path, errChanged)
	}
	return b, nil
}

var errChanged = errors.New("the content is not what was announced")

// sample returns the first 512 bytes, by which the Hub tells text from data.
func (u Upload) sample(ctx context.Context) ([]byte, error) {
	n := min(u.Size, 512)
	r, done, err := u.section(ctx, 0, n)
	if err != nil {
		return nil, err
	}
	defer done()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", u.Path, err)
	}
	return b, nil
}

// gitOID is the id that git gives to a file's content.
func gitOID(content []byte) string {
	h := sha1.New() //nolint:gosec // git's object ids
	fmt.Fprintf(h, "blob %d\x00", len(content))
	h.Write(content)
	return hex.EncodeToString(h.Sum(nil))
}
