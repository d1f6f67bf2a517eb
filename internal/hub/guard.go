package hub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	maxPage       = 256 << 20 // bytes of one page, unpacked
	maxPageValues = 16 << 20  // values of one page
	maxPageHeader = 1 << 20   // bytes
)

var errBomb = fmt.Errorf("a page that unpacks to over %d bytes", maxPage)

// guard walks the page headers of one column chunk ahead of the library, which believes them: it would allocate
// whatever a header claims, and unpack whatever a page holds.
type guard struct {
	r        io.ReaderAt
	off, end int64
	codec    format.CompressionCodec
}

func newGuard(r *blocks, chunk *format.ColumnMetaData, rows int64) (*guard, error) {
	start := chunk.DataPageOffset
	if chunk.DictionaryPageOffset != 0 {
		start = chunk.DictionaryPageOffset
	}
	if start < 0 || chunk.TotalCompressedSize < 0 || chunk.TotalCompressedSize > r.size || start > r.size-chunk.TotalCompressedSize {
		return nil, errors.New("corrupt parquet: the chunk lies outside the file")
	}
	if rows > 0 && chunk.TotalCompressedSize == 0 {
		return nil, errors.New("corrupt parquet: an empty chunk")
	}
	switch chunk.Codec {
	case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd, format.Lz4Raw:
	default:
		return nil, fmt.Errorf("compression %s is not read; write the file anew with zstd or snappy", chunk.Codec)
	}
	return &guard{r: r, off: start, end: start + chunk.TotalCompressedSize, codec: chunk.Codec}, nil
}

// next checks what the library will read for its next page of data.
func (g *guard) next() error {
	for g.off < g.end {
		header := new(format.PageHeader)
		n, err := g.header(header)
		if err != nil {
			return fmt.Errorf("corrupt parquet: page header: %w", err)
		}
		body := g.off + n
		size := int64(header.CompressedPageSize)
		if size < 0 || size > g.end-body || size > maxPage || header.UncompressedPageSize < 0 || header.UncompressedPageSize > maxPage {
			return fmt.Errorf("a page of %d bytes, %d unpacked: over the limit of %d or the chunk's end", size, header.UncompressedPageSize, maxPage)
		}
		plain, packed, err := shape(header)
		if err != nil {
			return err
		}
		if packed && g.codec != format.Uncompressed {
			if plain > size {
				return errors.New("corrupt parquet: levels longer than their page")
			}
			if err := g.unpacks(body+plain, size-plain); err != nil {
				return err
			}
		}
		g.off = body + size
		if header.Type == format.DataPage || header.Type == format.DataPageV2 {
			return nil
		}
	}
	return nil
}

// shape checks counts and encodings, and says how many bytes come before the packed part, if there is one.
func shape(h *format.PageHeader) (plain int64, packed bool, err error) {
	count := func(n int32, e format.Encoding) error {
		if n < 0 || n > maxPageValues {
			return fmt.Errorf("a page of %d values", n)
		}
		switch e {
		case format.Plain, format.PlainDictionary, format.RLE, format.RLEDictionary, format.BitPacked, format.ByteStreamSplit:
			return nil
		}
		return fmt.Errorf("encoding %s is not read, for its pages may unpack to any size; write the file anew without it", e)
	}
	switch {
	case h.Type == format.DataPage && h.DataPageHeader.Valid:
		return 0, true, count(h.DataPageHeader.V.NumValues, h.DataPageHeader.V.Encoding)
	case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid:
		return 0, true, count(h.DictionaryPageHeader.V.NumValues, h.DictionaryPageHeader.V.Encoding)
	case h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid:
		v := h.DataPageHeaderV2.V
		if v.RepetitionLevelsByteLength < 0 || v.DefinitionLevelsByteLength < 0 || v.NumNulls < 0 || v.NumNulls > v.NumValues {
			return 0, false, errors.New("corrupt parquet: negative lengths")
		}
		packed := !v.IsCompressed.Valid || v.IsCompressed.V
		return int64(v.RepetitionLevelsByteLength) + int64(v.DefinitionLevelsByteLength), packed, count(v.NumValues, v.Encoding)
	}
	return 0, false, fmt.Errorf("corrupt parquet: a page of type %s", h.Type)
}

// counted is a bufio.Reader that knows how far it was read.
type counted struct {
	r *io.SectionReader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (g *guard) header(h *format.PageHeader) (int64, error) {
	section := &counted{r: io.NewSectionReader(g.r, g.off, min(g.end-g.off, maxPageHeader))}
	buf := bufio.NewReaderSize(section, 512)
	if err := thrift.NewDecoder(new(thrift.CompactProtocol).NewReader(buf)).Decode(h); err != nil {
		return 0, err
	}
	return section.n - int64(buf.Buffered()), nil
}

// unpacks finds out how large the packed bytes are without keeping them, where they could be too large at all.
func (g *guard) unpacks(off, n int64) error {
	section := io.NewSectionReader(g.r, off, n)
	switch g.codec {
	case format.Snappy: // the size stands in front
		var b [binary.MaxVarintLen64]byte
		m, _ := io.ReadFull(section, b[:])
		size, k := binary.Uvarint(b[:m])
		if k <= 0 || size > maxPage {
			return errBomb
		}
		return nil
	case format.Gzip:
		if n < maxPage/1100 { // deflate packs 1032 to 1 at best
			return nil
		}
		z, err := gzip.NewReader(bufio.NewReaderSize(section, 256<<10))
		if err != nil {
			return fmt.Errorf("corrupt parquet: %w", err)
		}
		return drain(z)
	case format.Zstd:
		if n < maxPage/(128<<10)*3 { // a block of 4 bytes may stand for 128 KiB
			return nil
		}
		z, err := zstd.NewReader(bufio.NewReaderSize(section, 256<<10), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPage), zstd.WithDecoderLowmem(true))
		if err != nil {
			return fmt.Errorf("corrupt parquet: %w", err)
		}
		defer z.Close()
		return drain(z)
	case format.Lz4Raw:
		if n < maxPage/256 { // 255 to 1 at best
			return nil
		}
		return lz4Size(bufio.NewReaderSize(section, 256<<10))
	}
	return nil
}

func drain(r io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPage+1))
	if n > maxPage {
		return errBomb
	}
	if err != nil {
		return fmt.Errorf("corrupt parquet: %w", err)
	}
	return nil
}

// lz4Size adds up the lengths in an LZ4 block: sequences of literals and matches.
func lz4Size(r *bufio.Reader) error {
	total := 0
	length := func(nibble byte) (int, error) {
		n := int(nibble)
		if n < 15 {
			return n, nil
		}
		for {
			b, err := r.ReadByte()
			if err != nil {
				return n, err
			}
			if n += int(b); n > maxPage {
				return n, errBomb
			}
			if b < 255 {
				return n, nil
			}
		}
	}
	for {
		token, err := r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := length(token >> 4)
		if err != nil {
			return fmt.Errorf("corrupt parquet: %w", err)
		}
		if _, err := r.Discard(n); err != nil {
			return fmt.Errorf("corrupt parquet: %w", err)
		}
		total += n
		var offset [2]byte
		if _, err := io.ReadFull(r, offset[:]); errors.Is(err, io.EOF) {
			return nil // the last sequence has literals only
		} else if err != nil || bytes.Equal(offset[:], []byte{0, 0}) {
			return errors.New("corrupt parquet: lz4")
		}
		if n, err = length(token & 15); err != nil {
			return fmt.Errorf("corrupt parquet: %w", err)
		}
		if total += n + 4; total > maxPage {
			return errBomb
		}
	}
}
