package hub_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/hub"
)

var someColumns = hub.Columns{"instruction": "prompt", "output": "completion"}

type numbered struct {
	index       int64
	instruction string
}

func partOf(t testing.TB, file []byte, part, parts int) []numbered {
	t.Helper()
	var out []numbered
	for row, err := range hub.ParquetPart(bytes.NewReader(file), int64(len(file)), someColumns, part, parts) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, numbered{row.Index, row.Values["instruction"]})
	}
	return out
}

// TestParquetParts reads files in any number of parts: one after another they are the file, each row once, under its number.
func TestParquetParts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		rows, parts := rapid.IntRange(0, 950).Draw(r, "rows"), rapid.IntRange(1, 15).Draw(r, "parts")
		file, err := pairsFile(rows, 7) // 100 rows a group
		if err != nil {
			r.Fatal(err)
		}
		whole := partOf(t, file, 0, 1)
		if len(whole) != rows {
			r.Fatalf("%d of %d rows", len(whole), rows)
		}
		var all []numbered
		most := 0
		for part := range parts {
			got := partOf(t, file, part, parts)
			most = max(most, len(got))
			all = append(all, got...)
		}
		if !slices.Equal(all, whole) {
			r.Errorf("%d rows in %d parts are %d others", rows, parts, len(all))
		}
		groups := (rows + 99) / 100
		if fair := 100 * ((groups + parts - 1) / parts); most > fair {
			r.Errorf("a part of %d rows, where %d is fair", most, fair)
		}
		for i, row := range all {
			if row.index != int64(i) {
				r.Fatalf("row %d has the number %d", i, row.index)
			}
		}
	})
}

// counted tells how many bytes were read.
type counted struct {
	*bytes.Reader
	n int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(p, off)
	c.n += n
	return n, err
}

// TestParquetPartReadsItsOwn reads neither the other parts nor, after damage in one, less of the others.
func TestParquetPartReadsItsOwn(t *testing.T) {
	t.Parallel()
	noise := rand.New(rand.NewPCG(1, 2))
	long := make([]pair, 2000) // 20 groups of some 400 KB
	for i := range long {
		body := make([]byte, 2000)
		for j := range body {
			body[j] = byte(noise.Uint32())
		}
		long[i].Prompt = hex.EncodeToString(body)
	}
	var packed bytes.Buffer
	w := parquet.NewGenericWriter[pair](&packed, parquet.MaxRowsPerRowGroup(100))
	if _, err := w.Write(long); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := packed.Bytes()
	c := &counted{Reader: bytes.NewReader(file)}
	rows := 0
	for _, err := range hub.ParquetPart(c, int64(len(file)), someColumns, 9, 20) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
	}
	if rows != 100 || c.n > len(file)/2 {
		t.Errorf("%d rows out of %d bytes of %d", rows, c.n, len(file))
	}
	broken := bytes.Clone(file)
	for i := range 2000 {
		broken[len(broken)/2+i] ^= 0x55
	}
	good, bad := 0, 0
	for part := range 20 {
		var failed error
		for _, err := range hub.ParquetPart(bytes.NewReader(broken), int64(len(broken)), someColumns, part, 20) {
			failed = err
		}
		if failed != nil {
			bad++
		} else {
			good++
		}
	}
	if bad == 0 || bad > 4 || good < 16 {
		t.Errorf("%d parts were read, %d are broken", good, bad)
	}
	for part := range 2 {
		var failed error
		for _, err := range hub.ParquetPart(bytes.NewReader(file), int64(len(file)), hub.Columns{"text": "text"}, part, 2) {
			failed = err
		}
		if !errors.Is(failed, hub.ErrSchema) {
			t.Errorf("part %d without the column: %v", part, failed)
		}
	}
}
