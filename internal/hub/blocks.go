package hub

import (
	"container/list"
	"errors"
	"io"
)

const blockSize = 1 << 20

// blocks reads a file in aligned blocks and keeps the last few, so that the small sequential reads of a Parquet reader
// become few requests. It is not safe for concurrent use.
type blocks struct {
	r    io.ReaderAt
	size int64
	most int
	byNo map[int64]*list.Element
	used *list.List // of *block, the last used in front
}

type block struct {
	no   int64
	data []byte
}

func newBlocks(r io.ReaderAt, size int64) *blocks {
	return &blocks{r: r, size: size, most: 4, byNo: map[int64]*list.Element{}, used: list.New()}
}

// keep says how many blocks may stay in memory.
func (b *blocks) keep(n int) { b.most = min(max(n, 4), 64) }

// ReadAt implements io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= b.size {
			return n, io.EOF
		}
		if rest := min(int64(len(p)-n), b.size-at); rest >= 2*blockSize { // a large read gains nothing from blocks
			m, err := b.r.ReadAt(p[n:n+int(rest)], at)
			n += m
			if int64(m) < rest {
				return n, cause(err)
			}
			continue
		}
		data, err := b.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%blockSize:])
	}
	return n, nil
}

func (b *blocks) block(no int64) ([]byte, error) {
	if e, ok := b.byNo[no]; ok {
		b.used.MoveToFront(e)
		return e.Value.(*block).data, nil
	}
	var data []byte
	for b.used.Len() >= b.most {
		old := b.used.Remove(b.used.Back()).(*block)
		delete(b.byNo, old.no)
		data = old.data
	}
	want := int(min(blockSize, b.size-no*blockSize))
	if cap(data) < want {
		data = make([]byte, want, blockSize)
	}
	data = data[:want]
	if n, err := b.r.ReadAt(data, no*blockSize); n < want {
		return nil, cause(err)
	}
	b.byNo[no] = b.used.PushFront(&block{no: no, data: data})
	return data, nil
}

// cause is why a read was short.
func cause(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
