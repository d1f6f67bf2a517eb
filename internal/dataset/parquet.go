package dataset

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"

	kzstd "github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	rowsPerGroup   = 1024    // so that a reader holds a fraction of a partition
	pageBytes      = 1 << 20 // page and read buffers
	rowsPerRead    = 64
	maxIndexedSize = 64       // bytes of a column's bounds: a whole id
	maxFooter      = 64 << 20 // bytes of a footer that are read
)

// pageCodec is zstd with one encoder for all writers. The library's own makes encoders that keep 16 MB of history each, for
// windows eight times as large as a page.
type pageCodec struct {
	zstd.Codec
	encoder func() *kzstd.Encoder
}

var codec = &pageCodec{Codec: zstd.Codec{Concurrency: 1}, encoder: sync.OnceValue(func() *kzstd.Encoder {
	e, err := kzstd.NewWriter(nil,
		kzstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), kzstd.WithWindowSize(pageBytes),
		kzstd.WithZeroFrames(true), kzstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})}

// Encode compresses a page. It may be called by several goroutines.
func (c *pageCodec) Encode(dst, src []byte) ([]byte, error) {
	return c.encoder().EncodeAll(src, dst[:0]), nil
}

// newParquetWriter writes rows of T as zstd-compressed Parquet. Equal rows give equal bytes.
func newParquetWriter[T any](w io.Writer) *parquet.GenericWriter[T] {
	return parquet.NewGenericWriter[T](w,
		parquet.SchemaOf(*new(T)),
		parquet.Compression(codec),
		parquet.PageBufferSize(pageBytes),
		parquet.MaxRowsPerRowGroup(rowsPerGroup),
		parquet.ColumnIndexSizeLimit(func([]string) int { return maxIndexedSize }),
		parquet.CreatedBy("selfalign", "1", ""),
	)
}

// openFile opens a Parquet file without reading more than its footer. It may panic on foreign bytes: callers
// defer recovered.
func openFile(r io.ReaderAt, size int64, more ...parquet.FileOption) (*parquet.File, error) {
	if err := checkFooter(r, size); err != nil {
		return nil, fmt.Errorf("open parquet: %w", err)
	}
	options := append([]parquet.FileOption{
		parquet.SkipMagicBytes(true), // the footer has the same mark; saves a request
		parquet.SkipPageIndex(true),
		parquet.SkipBloomFilters(true),
		parquet.OptimisticRead(true),
		parquet.ReadBufferSize(pageBytes),
	}, more...)
	f, err := parquet.OpenFile(r, size, options...)
	if err != nil {
		return nil, fmt.Errorf("open parquet: %w", err)
	}
	return f, nil
}

// checkFooter compares the footer's declared length with the file before the library allocates as much.
func checkFooter(r io.ReaderAt, size int64) error {
	if size < 12 {
		return fmt.Errorf("%d bytes are no file", size)
	}
	var end [8]byte
	if n, err := r.ReadAt(end[:], size-8); n != len(end) {
		return fmt.Errorf("read the last bytes: %w", err)
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); n > size-12 || n > maxFooter {
		return fmt.Errorf("footer of %d bytes in a file of %d", n, size)
	}
	return nil
}

// sameColumns compares a file's schema with that of T before a row is read: parquet-go reads a missing column as
// zero values and a list of another shape as empty, both without an error.
func sameColumns[T any](f *parquet.File) error {
	want := parquet.SchemaOf(*new(T))
	return sameNode("", f.Schema(), want)
}

func sameNode(path string, have, want parquet.Node) error {
	if want.Leaf() {
		switch {
		case !have.Leaf():
			return fmt.Errorf("column %s is a group, expected %s", path, want.Type())
		case have.Type().String() != want.Type().String():
			return fmt.Errorf("column %s is %s, expected %s", path, have.Type(), want.Type())
		}
		return sameRepetition(path, have, want)
	}
	if have.Leaf() {
		return fmt.Errorf("column %s is %s, expected a group", path, have.Type())
	}
	if path != "" {
		if err := sameRepetition(path, have, want); err != nil {
			return err
		}
	}
	fields := make(map[string]parquet.Field)
	for _, f := range have.Fields() {
		fields[f.Name()] = f
	}
	for _, w := range want.Fields() {
		sub := join(path, w.Name())
		h, ok := fields[w.Name()]
		if !ok {
			return fmt.Errorf("column %s is missing", sub)
		}
		if err := sameNode(sub, h, w); err != nil {
			return err
		}
		delete(fields, w.Name())
	}
	for _, f := range have.Fields() {
		if _, left := fields[f.Name()]; left {
			return fmt.Errorf("column %s is unknown", join(path, f.Name()))
		}
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func sameRepetition(path string, have, want parquet.Node) error {
	if have.Optional() != want.Optional() || have.Repeated() != want.Repeated() {
		return fmt.Errorf("column %s is %s, expected %s", path, repetition(have), repetition(want))
	}
	return nil
}

func repetition(n parquet.Node) string {
	switch {
	case n.Optional():
		return "optional"
	case n.Repeated():
		return "repeated"
	}
	return "required"
}

// recovered turns a panic of the Parquet library over foreign bytes into an error.
func recovered(err *error) {
	switch r := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("corrupt parquet: %w", r)
	default:
		*err = fmt.Errorf("corrupt parquet: %v", r)
	}
}
