package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A spill is a sequence of compressed blocks of sorted records, then their index, then a trailer of fixed size:
//
//	block:   zstd of records; record: id (16 bytes) · 0 row or 1 reject · uvarint length · row in canonical form
//	index:   a block: first id (16 bytes) · offset · compressed length · raw length · CRC-32C of the compressed bytes
//	trailer: offset of the index · its length · magic
//
// All numbers are big-endian. A range of ids is read with the index and one run of blocks.
const (
	spillMagic   = "SASPILL1"
	blockBytes   = 64 << 10 // raw bytes after which a block is closed
	maxBlock     = 64 << 20 // raw bytes of a block that a reader accepts: one huge row makes a huge block
	indexEntry   = idBytes + 8 + 4 + 4 + 4
	trailerBytes = 8 + 8 + len(spillMagic)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func beUint64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

type spillWriter struct {
	w     io.Writer
	enc   *zstd.Encoder
	off   int64
	first [idBytes]byte
	raw   []byte
	out   []byte
	index []byte

	rows, rejected int64
}

func newSpillWriter(w io.Writer) *spillWriter {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(2*blockBytes))
	if err != nil {
		panic(fmt.Sprintf("dataset: zstd options: %v", err)) // fixed options
	}
	return &spillWriter{w: w, enc: enc}
}

// add appends a record; records must come in order.
func (w *spillWriter) add(id [idBytes]byte, reject bool, row []byte) error {
	if len(row) > maxBlock/2 {
		return fmt.Errorf("row %x of %d bytes is too large", id, len(row))
	}
	if len(w.raw) == 0 {
		w.first = id
	}
	kind := byte(0)
	if reject {
		kind = 1
		w.rejected++
	} else {
		w.rows++
	}
	w.raw = append(w.raw, id[:]...)
	w.raw = append(w.raw, kind)
	w.raw = binary.AppendUvarint(w.raw, uint64(len(row)))
	w.raw = append(w.raw, row...)
	if len(w.raw) < blockBytes {
		return nil
	}
	return w.block()
}

func (w *spillWriter) block() error {
	if len(w.raw) == 0 {
		return nil
	}
	w.out = w.enc.EncodeAll(w.raw, w.out[:0])
	w.index = append(w.index, w.first[:]...)
	w.index = binary.BigEndian.AppendUint64(w.index, uint64(w.off))
	w.index = binary.BigEndian.AppendUint32(w.index, uint32(len(w.out)))
	w.index = binary.BigEndian.AppendUint32(w.index, uint32(len(w.raw)))
	w.index = binary.BigEndian.AppendUint32(w.index, crc32.Checksum(w.out, castagnoli))
	w.raw = w.raw[:0]
	w.off += int64(len(w.out))
	_, err := w.w.Write(w.out)
	return err
}

// close writes the index and returns its digest and the spill's size.
func (w *spillWriter) close() (digest string, size int64, err error) {
	if err := w.block(); err != nil {
		return "", 0, err
	}
	tail := binary.BigEndian.AppendUint64(slices.Clone(w.index), uint64(w.off))
	tail = binary.BigEndian.AppendUint64(tail, uint64(len(w.index)))
	tail = append(tail, spillMagic...)
	if _, err := w.w.Write(tail); err != nil {
		return "", 0, err
	}
	return indexDigest(w.index), w.off + int64(len(tail)), nil
}

func indexDigest(index []byte) string {
	sum := sha256.Sum256(index)
	return hex.EncodeToString(sum[:idBytes])
}

// spillBlock is an index entry.
type spillBlock struct {
	first    []byte
	off      int64
	size     int
	raw      int
	checksum uint32
}

// readIndex reads the blocks' places and compares the index with the digest that its writer reported.
func readIndex(r io.ReaderAt, size int64, digest string) ([]spillBlock, error) {
	if size < int64(trailerBytes) {
		return nil, errDamagedSpill
	}
	trailer := make([]byte, trailerBytes)
	if _, err := r.ReadAt(trailer, size-int64(trailerBytes)); err != nil && err != io.EOF {
		return nil, err
	}
	off, n := int64(beUint64(trailer)), int64(beUint64(trailer[8:]))
	if string(trailer[16:]) != spillMagic || off < 0 || n < 0 || n%indexEntry != 0 || off > size || n != size-int64(trailerBytes)-off {
		return nil, errDamagedSpill
	}
	index := make([]byte, n)
	if _, err := r.ReadAt(index, off); err != nil && err != io.EOF {
		return nil, err
	}
	if indexDigest(index) != digest {
		return nil, fmt.Errorf("%w or was overwritten by an attempt that read other input. Try: run the map step again", errDamagedSpill)
	}
	blocks := make([]spillBlock, 0, n/indexEntry)
	for e := range slices.Chunk(index, indexEntry) {
		b := spillBlock{
			first: e[:idBytes], off: int64(beUint64(e[idBytes:])),
			size: int(binary.BigEndian.Uint32(e[idBytes+8:])), raw: int(binary.BigEndian.Uint32(e[idBytes+12:])),
			checksum: binary.BigEndian.Uint32(e[idBytes+16:]),
		}
		if b.raw > maxBlock || b.off < 0 || b.off+int64(b.size) > off {
			return nil, errDamagedSpill
		}
		blocks = append(blocks, b)
	}
	return blocks, nil
}

// blocksFor returns the blocks that may hold ids with from ≤ id < to, where an empty to is no bound.
func blocksFor(blocks []spillBlock, from, to []byte) []spillBlock {
	lo, _ := slices.BinarySearchFunc(blocks, from, func(b spillBlock, id []byte) int { return bytes.Compare(b.first, id) })
	lo = max(0, lo-1) // the block before may reach into the range
	hi := len(blocks)
	if len(to) > 0 {
		hi, _ = slices.BinarySearchFunc(blocks, to, func(b spillBlock, id []byte) int { return bytes.Compare(b.first, id) })
	}
	return blocks[min(lo, hi):hi]
}

// spillRecord is one row or reject, in canonical form.
type spillRecord struct {
	id     [idBytes]byte
	reject bool
	row    []byte
}

// nextRecord cuts the first record off a raw block.
func nextRecord(b []byte) (spillRecord, []byte, error) {
	var rec spillRecord
	if len(b) < idBytes+2 || b[idBytes] > 1 {
		return rec, nil, errDamagedSpill
	}
	copy(rec.id[:], b)
	rec.reject = b[idBytes] == 1
	b = b[idBytes+1:]
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return rec, nil, errDamagedSpill
	}
	rec.row = b[used : used+int(n)]
	return rec, b[used+int(n):], nil
}

// cut returns the bytes of a column's value at the start of b, without its length, and what follows.
func cut(kind colKind, b []byte) (value, rest []byte, err error) {
	size := 8
	switch kind {
	case kindBool:
		size = 1
	case kindString, kindFloats:
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)) {
			return nil, nil, errShortRow
		}
		b, size = b[used:], int(n)
		if kind == kindFloats {
			size *= 8
		}
	}
	if size > len(b) {
		return nil, nil, errShortRow
	}
	return b[:size], b[size:], nil
}
