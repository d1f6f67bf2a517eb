package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// unpacker unpacks pages of at most maxPage bytes. What it returns is good until its next call.
type unpacker struct {
	held int64 // bytes of all pages that the library has in memory
	raw  []byte
	out  []byte
	zstd *zstd.Decoder
	gzip *gzip.Reader
}

func newUnpacker() (*unpacker, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPage))
	if err != nil {
		return nil, err
	}
	return &unpacker{zstd: z}, nil
}

func (u *unpacker) close() { u.zstd.Close() }

func (u *unpacker) knows(c format.CompressionCodec) bool {
	switch c {
	case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd, format.Lz4Raw:
		return true
	}
	return false
}

// read brings the packed bytes of a page into memory.
func (u *unpacker) read(r io.ReaderAt, off, n int64) ([]byte, error) {
	u.raw = grow(u.raw, int(n))
	if m, err := r.ReadAt(u.raw, off); m < len(u.raw) {
		return nil, cause(err)
	}
	return u.raw, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// all unpacks a page that claims to have size bytes then.
func (u *unpacker) all(c format.CompressionCodec, packed []byte, size int32) ([]byte, error) {
	var err error
	switch c {
	case format.Snappy:
		n, bad := snappy.DecodedLen(packed)
		if bad != nil {
			return nil, fmt.Errorf("corrupt parquet: %w", bad)
		}
		if n > maxPage {
			return nil, errTooLarge
		}
		u.out = grow(u.out, n)
		u.out, err = snappy.Decode(u.out, packed)
	case format.Gzip:
		u.out, err = u.ungzip(packed, size)
	case format.Zstd:
		u.out, err = u.zstd.DecodeAll(packed, grow(u.out, int(size))[:0])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return nil, errTooLarge
		}
	case format.Lz4Raw: // the library would try ever larger buffers
		if len(packed) == 0 {
			return nil, errors.New("corrupt parquet: an empty page")
		}
		u.out = grow(u.out, int(size))
		var n int
		n, err = lz4.UncompressBlock(packed, u.out)
		if err == nil {
			u.out = u.out[:n]
		}
	default:
		return packed, nil
	}
	if err != nil {
		u.out = nil
		if errors.Is(err, errTooLarge) {
			return nil, err
		}
		return nil, fmt.Errorf("corrupt parquet: %w", err)
	}
	if len(u.out) > maxPage {
		return nil, errTooLarge
	}
	return u.out, nil
}

func (u *unpacker) ungzip(packed []byte, size int32) ([]byte, error) {
	var err error
	if u.gzip == nil {
		u.gzip, err = gzip.NewReader(bytes.NewReader(packed))
	} else {
		err = u.gzip.Reset(bytes.NewReader(packed))
	}
	if err != nil {
		u.gzip = nil
		return nil, err
	}
	b := bytes.NewBuffer(grow(u.out, int(size))[:0])
	n, err := io.Copy(b, io.LimitReader(u.gzip, maxPage+1))
	if n > maxPage {
		return nil, errTooLarge
	}
	return b.Bytes(), err
}
