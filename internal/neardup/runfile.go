package neardup

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/selfalign/selfalign/internal/blob"
)

// A run is an object of records sorted by key and reference, cut into sections of which each is read by itself:
//
//	section: records; record: uvarint key less the key before · uvarint reference · uvarint length · data
//	index:   one entry a section: its end (8 bytes) · CRC-32C (4 bytes)
//	trailer: number of sections (4 bytes) · magic
//
// Fixed-size numbers are big-endian. Nothing is compressed: keys are differences, and hashes do not shrink.
const (
	runMagic   = "SARUN001"
	indexEntry = 8 + 4
	runTrailer = 4 + len(runMagic)
	heldRecord = 32 // bytes that a held record costs beside its data, about
	maxData    = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what the steps exchange. Key decides where it goes, Ref orders records of one key.
type record struct {
	Key, Ref uint64
	Data     []byte
}

// RunRef points at one run.
type RunRef struct {
	Key     string `json:"key"`
	Digest  string `json:"digest"` // of its index: a run that was overwritten by another is noticed
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
}

// held is a record in memory, its data in the arena.
type held struct {
	key, ref uint64
	off      uint32
	size     uint32
}

// sorter is the writing side of a shuffle: it takes records in any order and writes them as runs, each as large as its
// budget allows. Of records with equal key and reference one is kept in each run.
type sorter struct {
	st       *blob.Store
	name     string // runs lie at name-00000.run and so on
	sections int
	section  func(key uint64) int // never falls as keys grow
	budget   int
	entries  []held
	arena    []byte
	refs     []RunRef
}

func (s *sorter) add(ctx context.Context, r record) error {
	if len(r.Data) > maxData {
		return fmt.Errorf("record of %d bytes is too large", len(r.Data))
	}
	if len(s.arena)+len(r.Data)+heldRecord*(len(s.entries)+1) > s.budget && len(s.entries) > 0 {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	s.entries = append(s.entries, held{key: r.Key, ref: r.Ref, off: uint32(len(s.arena)), size: uint32(len(r.Data))})
	s.arena = append(s.arena, r.Data...)
	return nil
}

func (s *sorter) close(ctx context.Context) ([]RunRef, error) {
	err := s.flush(ctx)
	return s.refs, err
}

func (s *sorter) flush(ctx context.Context) (err error) {
	if len(s.entries) == 0 {
		return nil
	}
	ref := RunRef{Key: fmt.Sprintf("%s-%05d.run", s.name, len(s.refs))}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write run %s: %w", ref.Key, err)
		}
	}()
	slices.SortFunc(s.entries, func(a, b held) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.ref, b.ref)) })
	f, err := os.CreateTemp("", "selfalign-run-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := s.write(bufio.NewWriterSize(f, 1<<20), &ref); err != nil {
		return err
	}
	if err := s.st.PutFile(ctx, ref.Key, f.Name()); err != nil {
		return err
	}
	s.refs = append(s.refs, ref)
	s.entries, s.arena = s.entries[:0], s.arena[:0]
	return nil
}

func (s *sorter) write(w *bufio.Writer, ref *RunRef) error {
	var buf, index []byte
	end, sum, next := int64(0), uint32(0), 0
	closeUntil := func(section int) {
		for ; next < section; next++ {
			index = binary.BigEndian.AppendUint64(index, uint64(end))
			index = binary.BigEndian.AppendUint32(index, sum)
			sum = 0
		}
	}
	last := uint64(0)
	for i, e := range s.entries {
		if i > 0 && e.key == s.entries[i-1].key && e.ref == s.entries[i-1].ref {
			continue
		}
		section := s.section(e.key)
		if section < next || section >= s.sections {
			return fmt.Errorf("key %x has no section", e.key)
		}
		if section > next {
			closeUntil(section)
			last = 0
		}
		buf = binary.AppendUvarint(buf[:0], e.key-last)
		buf = binary.AppendUvarint(buf, e.ref)
		buf = binary.AppendUvarint(buf, uint64(e.size))
		buf = append(buf, s.arena[e.off:e.off+e.size]...)
		last = e.key
		end += int64(len(buf))
		sum = crc32.Update(sum, castagnoli, buf)
		ref.Records++
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	closeUntil(s.sections)
	ref.Digest = indexDigest(index)
	ref.Bytes = end + int64(len(index)+runTrailer)
	index = binary.BigEndian.AppendUint32(index, uint32(s.sections))
	index = append(index, runMagic...)
	if _, err := w.Write(index); err != nil {
		return err
	}
	return w.Flush()
}

func indexDigest(index []byte) string {
	sum := sha256.Sum256(index)
	return hex.EncodeToString(sum[:16])
}

// cursor walks the records of one section of a run.
type cursor struct {
	r     io.ReaderAt
	uri   string
	next  int64 // byte of the object that follows buf
	end   int64 // of the section
	chunk int
	sum   uint32 // of what was fetched
	want  uint32
	buf   []byte
	left  []byte // of buf
	rec   record
}

// openSection places a cursor before the first record of a section. An empty section needs no further request.
func openSection(ctx context.Context, st *blob.Store, ref RunRef, section, sections, chunk int) (*cursor, error) {
	fail := func(err error) (*cursor, error) { return nil, fmt.Errorf("read %s: %w", st.URI(ref.Key), err) }
	tail := sections*indexEntry + runTrailer
	r, err := st.ReaderTail(ctx, ref.Key, int64(tail))
	if err != nil {
		return nil, err
	}
	if r.Size() < int64(tail) {
		return fail(errDamaged)
	}
	index := make([]byte, tail)
	if _, err := r.ReadAt(index, r.Size()-int64(tail)); err != nil && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	trailer := index[sections*indexEntry:]
	index = index[:sections*indexEntry]
	if string(trailer[4:]) != runMagic || binary.BigEndian.Uint32(trailer) != uint32(sections) || indexDigest(index) != ref.Digest {
		return fail(errDamaged)
	}
	c := &cursor{r: r, uri: st.URI(ref.Key), chunk: chunk}
	if section > 0 {
		c.next = int64(binary.BigEndian.Uint64(index[(section-1)*indexEntry:]))
	}
	c.end = int64(binary.BigEndian.Uint64(index[section*indexEntry:]))
	c.want = binary.BigEndian.Uint32(index[section*indexEntry+8:])
	if c.next < 0 || c.next > c.end || c.end > r.Size()-int64(tail) {
		return fail(errDamaged)
	}
	return c, nil
}

// advance moves to the next record; its data are overwritten by the next call.
func (c *cursor) advance() (bool, error) {
	for {
		if key, ref, data, left, ok := cutRecord(c.left); ok {
			c.rec = record{Key: c.rec.Key + key, Ref: ref, Data: data}
			c.left = left
			return true, nil
		}
		if c.next == c.end {
			if len(c.left) > 0 || c.sum != c.want {
				return false, fmt.Errorf("read %s: %w", c.uri, errDamaged)
			}
			c.buf = nil
			return false, nil
		}
		if err := c.fetch(); err != nil {
			return false, fmt.Errorf("read %s: %w", c.uri, err)
		}
	}
}

// fetch brings the next chunk behind what is left of the last one.
func (c *cursor) fetch() error {
	rest := len(c.left)
	if rest > maxData+3*binary.MaxVarintLen64 {
		return errDamaged
	}
	n := int(min(c.end-c.next, int64(max(c.chunk, rest)))) // a record larger than a chunk is fetched in doubling steps
	if cap(c.buf) < rest+n {
		buf := make([]byte, rest+n)
		copy(buf, c.left)
		c.buf = buf
	} else {
		c.buf = c.buf[:rest+n]
		copy(c.buf, c.left)
	}
	if _, err := c.r.ReadAt(c.buf[rest:], c.next); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	c.sum = crc32.Update(c.sum, castagnoli, c.buf[rest:])
	c.next += int64(n)
	c.left = c.buf
	return nil
}

// cutRecord cuts the first record off b, unless b ends before it does.
func cutRecord(b []byte) (key, ref uint64, data, left []byte, ok bool) {
	key, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, nil, nil, false
	}
	b = b[n:]
	ref, n = binary.Uvarint(b)
	if n <= 0 {
		return 0, 0, nil, nil, false
	}
	b = b[n:]
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return 0, 0, nil, nil, false
	}
	return key, ref, b[n : n+int(size)], b[n+int(size):], true
}
