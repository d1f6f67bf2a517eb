package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"

	"github.com/parquet-go/parquet-go"

	"github.com/selfalign/selfalign/internal/blob"
)

const (
	wholeObject      = 8 << 20 // bytes: partitions up to this size come with one request
	maxPartitionRows = 1 << 22 // ReadPartition refuses more
)

// ReadPartition returns the rows of one committed partition in order of id, after comparing the file's schema
// with T and the rows with the receipt's digest. Errors: blob.ErrNotFound.
func ReadPartition[T Row](ctx context.Context, st *blob.Store, dir string, part int) ([]T, error) {
	var rows []T
	for row, err := range partRows[T](ctx, st, dir, part, "", "") {
		if err != nil {
			return nil, err
		}
		if len(rows) == maxPartitionRows {
			return nil, fmt.Errorf("read partition %05d of %s: more than %d rows", part, dir, maxPartitionRows)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// Rows streams all rows of a dataset in order of id. It holds one partition's compressed bytes (8 MiB at most)
// and a few rows at a time. The sequence ends at the first error.
func Rows[T Row](ctx context.Context, st *blob.Store, ref Ref) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for part := range ref.Partitions() {
			for row, err := range partRows[T](ctx, st, ref.Dir, part, "", "") {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

// RowsOf streams the rows of ref whose id lies in partition part of 2^bits, in order of id, whatever the number
// of ref's own partitions: parts of one, one, or several of them are read.
func RowsOf[T Row](ctx context.Context, st *blob.Store, ref Ref, bits, part int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if err := checkPart(bits, part); err != nil {
			yield(zero, fmt.Errorf("read rows of %s: %w", ref.Dir, err))
			return
		}
		var first, last int
		var from, to string
		if bits >= ref.Bits {
			first = part >> (bits - ref.Bits)
			last = first + 1
			if bits > ref.Bits {
				from, to = idRange(bits, part)
			}
		} else {
			first, last = part<<(ref.Bits-bits), (part+1)<<(ref.Bits-bits)
		}
		for own := first; own < last; own++ {
			for row, err := range partRows[T](ctx, st, ref.Dir, own, from, to) {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

// RejectsOf streams the rows that were turned away on the way to ref, partition by partition in order of id.
func RejectsOf(ctx context.Context, st *blob.Store, ref Ref) iter.Seq2[Reject, error] {
	return func(yield func(Reject, error) bool) {
		for receipt, err := range Receipts(ctx, st, ref) {
			if err != nil {
				yield(Reject{}, err)
				return
			}
			for r, err := range rejectsIn(ctx, st, ref.Dir, receipt) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// PartitionRejects returns the rows that one committed partition turned away.
func PartitionRejects(ctx context.Context, st *blob.Store, dir string, part int) iter.Seq2[Reject, error] {
	return func(yield func(Reject, error) bool) {
		receipt, err := ReadReceipt(ctx, st, dir, part)
		if err != nil {
			yield(Reject{}, err)
			return
		}
		rejectsIn(ctx, st, dir, receipt)(yield)
	}
}

func rejectsIn(ctx context.Context, st *blob.Store, dir string, receipt Receipt) iter.Seq2[Reject, error] {
	return func(yield func(Reject, error) bool) {
		if receipt.Rejected == 0 {
			return
		}
		key := RejectedKey(dir, receipt.Partition, receipt.RejectedDigest)
		r, err := st.ReaderTail(ctx, key, wholeObject)
		if err != nil {
			yield(Reject{}, fmt.Errorf("read rejected rows: %w", err))
			return
		}
		src := source{r: r, size: r.Size(), uri: st.URI(key)}
		stream(src, "", "", func(*parquet.File) (promise, error) {
			return promise{rows: receipt.Rejected, digest: receipt.RejectedDigest}, nil
		}, yield)
	}
}

// partRows streams the rows of one partition with from ≤ id < to, where "" is no bound.
func partRows[T Row](ctx context.Context, st *blob.Store, dir string, part int, from, to string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		key := PartKey(dir, part)
		r, err := st.ReaderTail(ctx, key, wholeObject)
		if err != nil {
			yield(zero, fmt.Errorf("read rows: %w", err))
			return
		}
		src := source{r: r, size: r.Size(), uri: st.URI(key)}
		stream(src, from, to, func(f *parquet.File) (promise, error) {
			receipt, err := receiptIn(f, r.Size())
			return promise{rows: receipt.Rows, digest: receipt.Digest}, err
		}, yield)
	}
}

// source is a Parquet file and what to call it in errors.
type source struct {
	r    io.ReaderAt
	size int64
	uri  string
}

// promise is what a file is said to hold.
type promise struct {
	rows   int64
	digest string
}

var errCorrupt = errors.New("the rows are not those that were written: the object is damaged")

// stream yields the rows of a file. Rows read whole are compared with what promised says of the file.
func stream[T any](src source, from, to string, promised func(*parquet.File) (promise, error), yield func(T, error) bool) {
	stopped := false
	err := scan(src, from, to, promised, func(row T) bool {
		stopped = !yield(row, nil)
		return !stopped
	})
	if err != nil && !stopped {
		var zero T
		yield(zero, fmt.Errorf("read %s: %w", src.uri, err))
	}
}

func scan[T any](src source, from, to string, promised func(*parquet.File) (promise, error), yield func(T) bool) error {
	f, want, err := openRows[T](src, promised)
	if err != nil {
		return err
	}
	whole := from == "" && to == ""
	digest, n := newDigester[T](), int64(0)
	idColumn, hasID := digest.cols.byName["id"]
	if !hasID && !whole {
		return errors.New("rows without an id have no range")
	}
	buf := make([]T, rowsPerRead)
	for _, group := range f.RowGroups() {
		if !whole && outside(group, from, to) {
			continue
		}
		rows := parquet.NewGenericRowGroupReader[T](group)
		for {
			clear(buf)
			got, err := readSome(rows, buf)
			for i := range got {
				v := reflect.ValueOf(&buf[i]).Elem()
				if whole {
					digest.add(v)
				} else if id := v.Field(idColumn).String(); id < from || (to != "" && id >= to) {
					continue
				}
				n++
				if !yield(buf[i]) {
					return errors.Join(closeRows(rows))
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(err, closeRows(rows))
			}
			if got == 0 {
				return errors.Join(errCorrupt, closeRows(rows))
			}
		}
		if err := closeRows(rows); err != nil {
			return err
		}
	}
	if whole && (n != want.rows || digest.sum() != want.digest) {
		return errCorrupt
	}
	return nil
}

func openRows[T any](src source, promised func(*parquet.File) (promise, error)) (_ *parquet.File, _ promise, err error) {
	defer recovered(&err)
	f, err := openFile(src.r, src.size)
	if err != nil {
		return nil, promise{}, err
	}
	if err := sameColumns[T](f); err != nil {
		return nil, promise{}, err
	}
	want, err := promised(f)
	return f, want, err
}

func readSome[T any](r *parquet.GenericReader[T], buf []T) (n int, err error) {
	defer func() {
		if err != nil && !errors.Is(err, io.EOF) {
			n = 0
		}
	}()
	defer recovered(&err)
	return r.Read(buf)
}

func closeRows[T any](r *parquet.GenericReader[T]) (err error) {
	defer recovered(&err)
	return r.Close()
}

// outside reports whether a row group is known to hold no id in [from, to).
func outside(group parquet.RowGroup, from, to string) (out bool) {
	defer func() {
		if recover() != nil { // no usable bounds: read the group
			out = false
		}
	}()
	for i, col := range group.Schema().Columns() {
		if len(col) != 1 || col[0] != "id" {
			continue
		}
		chunk, ok := group.ColumnChunks()[i].(*parquet.FileColumnChunk)
		if !ok {
			return false
		}
		lo, hi, ok := chunk.Bounds()
		if !ok {
			return false
		}
		return bytes.Compare(hi.ByteArray(), []byte(from)) < 0 || (to != "" && bytes.Compare(lo.ByteArray(), []byte(to)) >= 0)
	}
	return false
}
