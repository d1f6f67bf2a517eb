package hub

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

const valuesAtOnce = 64

// cursor reads one leaf column row by row.
type cursor struct {
	pages  parquet.Pages
	guard  *guard
	codec  format.CompressionCodec
	page   parquet.Page
	values parquet.ValueReader
	buf    [valuesAtOnce]parquet.Value
	have   []parquet.Value
	ended  bool
	out    []parquet.Value
}

// row returns the values of the next row, valid until the next call: one for a plain column, several for lists.
func (c *cursor) row() ([]parquet.Value, error) {
	c.out = c.out[:0]
	total := 0
	for {
		if len(c.have) == 0 {
			if err := c.fill(); err != nil {
				return nil, err
			}
			if c.ended && len(c.out) == 0 {
				return nil, errors.New("corrupt parquet: the column ends before the others")
			}
			if c.ended {
				return c.out, nil
			}
		}
		v := c.have[0]
		if len(c.out) > 0 && v.RepetitionLevel() == 0 {
			return c.out, nil
		}
		if k := v.Kind(); k == parquet.ByteArray || k == parquet.FixedLenByteArray {
			total += len(v.ByteArray())
		}
		if total += 16; total > maxCell {
			return nil, fmt.Errorf("a cell of over %d bytes", maxCell)
		}
		c.out = append(c.out, v.Clone()) // the page may go before the row ends
		c.have = c.have[1:]
	}
}

// fill makes have non-empty, or sets ended.
func (c *cursor) fill() error {
	for !c.ended {
		if c.values == nil {
			if err := c.guard.next(c.codec); err != nil {
				return err
			}
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				c.ended = true
				return nil
			}
			if err != nil {
				return err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		c.have = c.buf[:n]
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		parquet.Release(c.page)
		c.page, c.values = nil, nil
	}
	return nil
}

func (c *cursor) close() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	c.guard.leave()
	_ = c.pages.Close() // only read
}
