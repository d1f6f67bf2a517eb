package dataset

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"reflect"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	spillsAtOnce = 16        // opened at the same time
	mergeBytes   = 16 << 20  // shared by all spills of a merge for what they fetch ahead
	runBytes     = 512 << 10 // most compressed bytes of neighbouring blocks that are fetched with one request
	minTail      = 8 << 10   // least bytes of a spill's end that are fetched on opening
	// ReasonDuplicate is the reject reason of a row whose text stands in the dataset already.
	ReasonDuplicate = "duplicate"
)

// MergePartition is the reduce side of the shuffle: it reads the range of one partition out of every spill, keeps
// the first of equal rows (by source, document and offset), turns the others away as duplicates of stage
// "ingest", adds the rejects of the map steps, and commits the partition like WritePartition. The result does
// not depend on the number or the order of spills. Memory follows the partition's distinct rows and one block a
// spill, however many duplicates there are.
func MergePartition[T Row](ctx context.Context, st *blob.Store, spills []SpillRef, dir string, bits, part int) (Receipt, error) {
	return commitPartition(ctx, st, dir, bits, part, Receipt{}, func(w *rejectWriter, receipt *Receipt) ([]T, error) {
		m := &merger[T]{rows: columnsOf[T](), rejects: columnsOf[Reject]()}
		defer m.close()
		if err := m.open(ctx, st, spills, bits, part); err != nil {
			return nil, err
		}
		kept, err := m.drain(w)
		receipt.Input = m.input
		return kept, err
	})
}

type merger[T Row] struct {
	rows, rejects *columns
	dec           *zstd.Decoder
	cursors       []*cursor // a heap by their current record
	input         int64     // records read
}

func (m *merger[T]) close() {
	if m.dec != nil {
		m.dec.Close()
	}
}

// open places a cursor on every spill's range.
func (m *merger[T]) open(ctx context.Context, st *blob.Store, spills []SpillRef, bits, part int) error {
	dec := newDecoder()
	m.dec = dec
	from, to := idRange(bits, part)
	lo, _ := hex.DecodeString(from) //nolint:errcheck // made just above
	hi, _ := hex.DecodeString(to)   //nolint:errcheck // made just above
	share := int64(mergeBytes / max(1, len(spills)))
	tail, run := min(max(share, minTail), blob.DefaultTail), min(max(share, blockBytes), runBytes)
	found := make([]*cursor, len(spills))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(spillsAtOnce)
	for i, ref := range spills {
		g.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			r, err := st.ReaderTail(ctx, ref.Key, tail) // ctx, not gctx: it is read after the group is done
			if err != nil {
				return err
			}
			blocks, err := readIndex(r, r.Size(), ref.Digest)
			if err != nil {
				return fmt.Errorf("read %s: %w", st.URI(ref.Key), err)
			}
			found[i] = &cursor{r: r, uri: st.URI(ref.Key), blocks: blocksFor(blocks, lo, hi), from: lo, to: hi, runMax: run}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, c := range found {
		ok, err := c.next(dec)
		if err != nil {
			return err
		}
		if ok {
			m.cursors = append(m.cursors, c)
		}
	}
	heap.Init(m)
	return nil
}

func newDecoder() *zstd.Decoder {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		panic(fmt.Sprintf("dataset: zstd options: %v", err)) // fixed options
	}
	return dec
}

// drain merges all cursors: the kept rows are returned, rejects go to w in order of id.
func (m *merger[T]) drain(w *rejectWriter) ([]T, error) {
	var kept []T
	for len(m.cursors) > 0 {
		c := m.cursors[0]
		m.input++
		if c.rec.reject {
			var r Reject
			if err := decodeRow(m.rejects, c.rec.row, reflect.ValueOf(&r).Elem()); err != nil {
				return nil, fmt.Errorf("%s: %w", c.uri, err)
			}
			if err := w.add(r); err != nil {
				return nil, err
			}
		} else {
			var row T
			v := reflect.ValueOf(&row).Elem()
			if err := decodeRow(m.rows, c.rec.row, v); err != nil {
				return nil, fmt.Errorf("%s: %w", c.uri, err)
			}
			if n := len(kept); n > 0 && kept[n-1].RowID() == row.RowID() {
				if err := w.add(m.duplicate(v, reflect.ValueOf(&kept[n-1]).Elem())); err != nil {
					return nil, err
				}
			} else {
				kept = append(kept, row)
			}
		}
		if err := m.step(); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// step moves the first cursor on.
func (m *merger[T]) step() error {
	ok, err := m.cursors[0].next(m.dec)
	if err != nil {
		return err
	}
	if ok {
		heap.Fix(m, 0)
	} else {
		heap.Pop(m)
	}
	return nil
}

// duplicate says of a row which one it repeats. The text is left out: it is the other row's.
func (m *merger[T]) duplicate(row, kept reflect.Value) Reject {
	where := func(v reflect.Value) string {
		return fmt.Sprintf("%s %s %d", m.rows.text(v, "source"), m.rows.text(v, "document"), m.rows.number(v, "offset"))
	}
	return trimmed(Reject{
		ID: m.rows.text(row, "id"), Stage: "ingest", Reason: ReasonDuplicate,
		Detail: "same text as " + strings.TrimSpace(where(kept)),
		Source: m.rows.text(row, "source"), Document: m.rows.text(row, "document"), Offset: m.rows.number(row, "offset"),
	})
}

func decodeRow(cols *columns, b []byte, v reflect.Value) error {
	rest, err := cols.parse(b, v)
	if err != nil {
		return fmt.Errorf("%w: %w", errDamagedSpill, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes behind a row", errDamagedSpill, len(rest))
	}
	return nil
}

// Len, Less, Swap, Push and Pop implement heap.Interface over the cursors.
func (m *merger[T]) Len() int { return len(m.cursors) }

// Less orders like Spiller.compare; equal records are the same bytes, so their order does not show.
func (m *merger[T]) Less(i, j int) bool {
	a, b := m.cursors[i].rec, m.cursors[j].rec
	if c := cmp.Or(bytes.Compare(a.id[:], b.id[:]), boolCompare(a.reject, b.reject)); c != 0 {
		return c < 0
	}
	if a.reject {
		return compareOrigins(m.rejects, a.row, b.row) < 0
	}
	return compareOrigins(m.rows, a.row, b.row) < 0
}

// Swap is part of heap.Interface.
func (m *merger[T]) Swap(i, j int) { m.cursors[i], m.cursors[j] = m.cursors[j], m.cursors[i] }

// Push is part of heap.Interface; the heap only shrinks.
func (m *merger[T]) Push(any) { panic("dataset: cursors are not pushed") }

// Pop is part of heap.Interface.
func (m *merger[T]) Pop() any {
	last := m.cursors[len(m.cursors)-1]
	m.cursors = m.cursors[:len(m.cursors)-1]
	return last
}

// cursor walks the records of one spill within [from, to).
type cursor struct {
	r        io.ReaderAt
	uri      string
	blocks   []spillBlock
	from, to []byte
	run      []byte // compressed blocks fetched ahead, the first of them at runOff
	runOff   int64
	runMax   int64
	raw      []byte
	left     []byte // of raw
	rec      spillRecord
}

// next moves to the next record of the range.
func (c *cursor) next(dec *zstd.Decoder) (bool, error) {
	for {
		for len(c.left) == 0 {
			if len(c.blocks) == 0 {
				c.raw, c.run = nil, nil
				return false, nil
			}
			if err := c.load(dec); err != nil {
				return false, fmt.Errorf("read %s: %w", c.uri, err)
			}
		}
		rec, left, err := nextRecord(c.left)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", c.uri, err)
		}
		c.left = left
		if bytes.Compare(rec.id[:], c.from) < 0 {
			continue
		}
		if len(c.to) > 0 && bytes.Compare(rec.id[:], c.to) >= 0 {
			c.left, c.blocks = nil, nil
			continue
		}
		c.rec = rec
		return true, nil
	}
}

// load decodes the next block, fetching it together with its neighbours when it is not there yet.
func (c *cursor) load(dec *zstd.Decoder) error {
	b := c.blocks[0]
	if at := b.off - c.runOff; at < 0 || at+int64(b.size) > int64(len(c.run)) {
		end := b.off + int64(b.size)
		for _, n := range c.blocks[1:] {
			if n.off != end || end+int64(n.size)-b.off > c.runMax {
				break
			}
			end += int64(n.size)
		}
		c.run, c.runOff = make([]byte, end-b.off), b.off
		if _, err := c.r.ReadAt(c.run, b.off); err != nil && err != io.EOF {
			return err
		}
	}
	packed := c.run[b.off-c.runOff:][:b.size]
	if crc32.Checksum(packed, castagnoli) != b.checksum {
		return errDamagedSpill
	}
	raw, err := dec.DecodeAll(packed, make([]byte, 0, b.raw))
	if err != nil || len(raw) != b.raw {
		return errDamagedSpill
	}
	c.raw, c.left, c.blocks = raw, raw, c.blocks[1:]
	return nil
}
