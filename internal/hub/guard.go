package hub

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	maxPage       = 256 << 20 // bytes of one page, unpacked
	maxPages      = 1 << 30   // bytes of all pages that are in memory at once, unpacked
	maxPageValues = 16 << 20  // values of one page
	maxPageHeader = 1 << 20   // bytes
)

// plainDictionary is how older files call a dictionary and the indexes into it.
const plainDictionary format.Encoding = 2

var errTooLarge = fmt.Errorf("a page over the limit of %d bytes", maxPage)

// guard looks at every page of a column chunk before the library does, which believes what it reads: it would allocate
// whatever a header claims, unpack whatever a page holds and repeat a value as often as a run says. The price is
// that a page is unpacked twice.
type guard struct {
	r        io.ReaderAt
	off, end int64
	leaf     *parquet.Column
	unpack   *unpacker
	dict     int64 // bytes of the dictionary, which stays
	page     int64 // bytes of the last page
}

func newGuard(r *blocks, chunk *format.ColumnMetaData, rows int64, leaf *parquet.Column, unpack *unpacker) (*guard, error) {
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
	if !unpack.knows(chunk.Codec) {
		return nil, fmt.Errorf("compression %s is not read; write the file anew with zstd or snappy", chunk.Codec)
	}
	return &guard{r: r, off: start, end: start + chunk.TotalCompressedSize, leaf: leaf, unpack: unpack}, nil
}

// next checks what the library will read for its next page of data. codec is that of the chunk.
func (g *guard) next(codec format.CompressionCodec) error {
	for g.off < g.end {
		header := new(format.PageHeader)
		n, err := g.header(header)
		if err != nil {
			return fmt.Errorf("corrupt parquet: page header: %w", err)
		}
		body := g.off + n
		size := int64(header.CompressedPageSize)
		switch {
		case size < 0 || size > g.end-body:
			return errors.New("corrupt parquet: a page over its chunk's end")
		case size > maxPage || header.UncompressedPageSize < 0 || header.UncompressedPageSize > maxPage:
			return errTooLarge
		}
		g.off = body + size
		data := header.Type == format.DataPage || header.Type == format.DataPageV2
		if data || header.Type == format.DictionaryPage {
			g.unpack.held -= g.page
			if g.page, err = g.look(header, codec, body); err != nil {
				return err
			}
			if g.unpack.held += g.page; g.unpack.held > maxPages {
				return fmt.Errorf("pages of over %d bytes at once", maxPages)
			}
			if !data {
				g.dict, g.page = g.dict+g.page, 0
			}
		}
		if data {
			return nil
		}
		if header.Type != format.DictionaryPage {
			return fmt.Errorf("corrupt parquet: a page of type %s", header.Type)
		}
	}
	return nil
}

// leave gives back what the chunk's pages took.
func (g *guard) leave() { g.unpack.held -= g.dict + g.page }

// counted knows how far it was read.
type counted struct {
	r io.Reader
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

var errLevels = errors.New("corrupt parquet: levels over their page's end")

// look unpacks a page and checks that it holds no more values than its header says. It returns the unpacked size.
func (g *guard) look(h *format.PageHeader, codec format.CompressionCodec, off int64) (int64, error) {
	raw, err := g.unpack.read(g.r, off, int64(h.CompressedPageSize))
	if err != nil {
		return 0, err
	}
	maxRep, maxDef := g.leaf.MaxRepetitionLevel(), g.leaf.MaxDefinitionLevel()
	switch {
	case h.Type == format.DictionaryPage && h.DictionaryPageHeader.Valid:
		v := h.DictionaryPageHeader.V
		if v.NumValues < 0 || v.NumValues > maxPageValues || (v.Encoding != format.Plain && v.Encoding != plainDictionary) {
			return 0, fmt.Errorf("a dictionary of %d values in encoding %s", v.NumValues, v.Encoding)
		}
		data, err := g.unpack.all(codec, raw, h.UncompressedPageSize)
		return int64(len(data)), err
	case h.Type == format.DataPage && h.DataPageHeader.Valid:
		v := h.DataPageHeader.V
		if v.NumValues < 0 || v.NumValues > maxPageValues {
			return 0, fmt.Errorf("a page of %d values", v.NumValues)
		}
		data, err := g.unpack.all(codec, raw, h.UncompressedPageSize)
		if err != nil {
			return 0, err
		}
		size := int64(len(data))
		for _, level := range []struct {
			most     int
			encoding format.Encoding
		}{{maxRep, v.RepetitionLevelEncoding}, {maxDef, v.DefinitionLevelEncoding}} {
			if level.most == 0 {
				continue
			}
			if level.encoding != format.RLE {
				return 0, fmt.Errorf("levels in encoding %s are not read", level.encoding)
			}
			if data, err = prefixed(data, bits.Len(uint(level.most)), int64(v.NumValues)); err != nil {
				return 0, err
			}
		}
		return size, values(data, v.Encoding, int64(v.NumValues))
	case h.Type == format.DataPageV2 && h.DataPageHeaderV2.Valid:
		v := h.DataPageHeaderV2.V
		rep, def := int64(v.RepetitionLevelsByteLength), int64(v.DefinitionLevelsByteLength)
		if v.NumValues < 0 || v.NumValues > maxPageValues || v.NumNulls < 0 || v.NumNulls > v.NumValues {
			return 0, fmt.Errorf("a page of %d values, %d of them nulls", v.NumValues, v.NumNulls)
		}
		if rep < 0 || def < 0 || rep+def > int64(len(raw)) {
			return 0, errLevels
		}
		if err := runs(raw[:rep], bits.Len(uint(maxRep)), int64(v.NumValues)); err != nil && maxRep > 0 {
			return 0, err
		}
		if err := runs(raw[rep:rep+def], bits.Len(uint(maxDef)), int64(v.NumValues)); err != nil && maxDef > 0 {
			return 0, err
		}
		data := raw[rep+def:]
		if !v.IsCompressed.Valid || v.IsCompressed.V {
			// the library gives the whole page's size to the codec, and so does this
			if data, err = g.unpack.all(codec, data, h.UncompressedPageSize); err != nil {
				return 0, err
			}
		}
		return rep + def + int64(len(data)), values(data, v.Encoding, int64(v.NumValues))
	}
	return 0, fmt.Errorf("corrupt parquet: a page of type %s without its header", h.Type)
}

// prefixed checks runs that have their length in front of them, and returns what follows.
func prefixed(data []byte, width int, most int64) ([]byte, error) {
	if len(data) < 4 {
		return nil, errLevels
	}
	n := int64(binary.LittleEndian.Uint32(data))
	if n > int64(len(data)-4) {
		return nil, errLevels
	}
	return data[4+n:], runs(data[4:4+n], width, most)
}

// runs adds up the run lengths of the hybrid of run-length encoding and bit packing.
func runs(data []byte, width int, most int64) error {
	most += 2048 // packed runs come in eights, and some writers fill their last run up further
	total := int64(0)
	for len(data) > 0 {
		u, n := binary.Uvarint(data)
		if n <= 0 {
			return errors.New("corrupt parquet: runs")
		}
		data = data[n:]
		count, skip := int64(min(u>>1, 1<<40)), int64(width+7)/8
		if u&1 != 0 {
			skip = count * int64(width)
			count *= 8
		}
		if total += count; total > most {
			return fmt.Errorf("corrupt parquet: runs of over %d values in a page", total)
		}
		if skip > int64(len(data)) {
			return errors.New("corrupt parquet: a run over its page's end")
		}
		data = data[skip:]
	}
	return nil
}

// values checks that the values of a page do not unfold to more than they should.
func values(data []byte, e format.Encoding, most int64) error {
	switch e {
	case format.Plain, format.ByteStreamSplit:
		return nil
	case plainDictionary, format.RLEDictionary:
		if len(data) == 0 {
			return nil
		}
		if data[0] > 32 {
			return errors.New("corrupt parquet: indexes of over 32 bits")
		}
		return runs(data[1:], int(data[0]), most)
	case format.RLE:
		_, err := prefixed(data, 1, most)
		return err
	case format.DeltaBinaryPacked, format.DeltaLengthByteArray:
		if len(data) == 0 {
			return nil
		}
		r := bytes.NewReader(data)
		block, err1 := binary.ReadUvarint(r)
		minis, err2 := binary.ReadUvarint(r)
		count, err3 := binary.ReadUvarint(r)
		if err := errors.Join(err1, err2, err3); err != nil || block > 1<<16 || minis == 0 || minis > block || count > uint64(most) {
			return fmt.Errorf("corrupt parquet: %d deltas in a page of %d values", count, most)
		}
		return nil
	}
	return fmt.Errorf("encoding %s is not read, for a page of it may unpack to any size; write the file anew without it", e)
}
