package hub

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Bounds of what a file that others wrote may cost, in bytes unless said otherwise.
const (
	maxFooter  = 64 << 20
	maxCell    = 32 << 20
	maxColumns = 2000 // columns of a file
)

// Columns maps names of our choosing to columns of the files: {"instruction": "prompt"}. A column inside a struct is
// written with dots. Nil takes all columns under their own names.
type Columns map[string]string

// Row is one row as text. Numbers and truth values are written as JSON writes them, lists and structs as JSON; a null
// is absent.
type Row struct {
	File   string // path inside the repository
	Index  int64  // the row's number in its file, from 0
	Values map[string]string
}

// Rows streams the rows of all files of a table in order. It ends at the first error.
func (c *Client) Rows(ctx context.Context, t Table, cols Columns) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i := range t.Files {
			for row, err := range c.RowsOf(ctx, t, i, cols) {
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

// RowsOf streams the rows of one file of a table, the unit in which a reader can take up its work again.
func (c *Client) RowsOf(ctx context.Context, t Table, file int, cols Columns) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if file < 0 || file >= len(t.Files) {
			yield(Row{}, fmt.Errorf("read %s: no file %d", t.Repo, file))
			return
		}
		f := t.Files[file]
		for row, err := range Parquet(c.Open(ctx, t.Repo, t.Commit, f), f.Size, cols) {
			row.File = f.Path
			if err != nil {
				err = fmt.Errorf("read %s of %s: %w", f.Path, t.Repo, err)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// Parquet streams the rows of a Parquet file that anybody may have written. The columns are compared with the file's
// schema before the first row (ErrSchema); pages that would unpack to more than 256 MiB, cells over 32 MiB and
// broken files end the stream with an error, never with a panic or wrong values.
func Parquet(r io.ReaderAt, size int64, cols Columns) iter.Seq2[Row, error] {
	return ParquetPart(r, size, cols, 0, 1)
}

// ParquetPart is Parquet of the part-th (from 0) of so many runs of row groups, which together are the file. Rows are
// numbered as in the whole file.
func ParquetPart(r io.ReaderAt, size int64, cols Columns, part, parts int) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		stopped := false
		err := func() (err error) {
			inYield := false
			defer func() {
				if inYield {
					return // the caller's own panic goes on
				}
				recovered(recover(), &err)
			}()
			blocks := newBlocks(r, size)
			f, err := openParquet(blocks, size)
			if err != nil {
				return err
			}
			chosen, err := choose(f, cols)
			if err != nil {
				return err
			}
			blocks.keep(2*leavesOf(chosen) + 4)
			unpack, err := newUnpacker()
			if err != nil {
				return err
			}
			defer unpack.close()
			groups := len(f.RowGroups())
			from, to := groupsOf(groups, part, parts)
			var index int64
			for g := range to {
				if g < from {
					index += f.Metadata().RowGroups[g].NumRows
					continue
				}
				err := readGroup(f, g, blocks, unpack, chosen, func(values map[string]string) bool {
					inYield = true
					more := yield(Row{Index: index, Values: values}, nil)
					inYield = false
					index++
					stopped = !more
					return more
				})
				if err != nil || stopped {
					return err
				}
			}
			return nil
		}()
		if err != nil && !stopped {
			yield(Row{}, err)
		}
	}
}

// groupsOf returns which row groups a part has: from, and before to.
func groupsOf(groups, part, parts int) (from, to int) {
	return int(int64(groups) * int64(part) / int64(parts)), int(int64(groups) * int64(part+1) / int64(parts))
}

// recovered turns a panic of the Parquet library over foreign bytes into an error.
func recovered(r any, err *error) {
	switch r := r.(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("corrupt parquet: %w", r)
	default:
		*err = fmt.Errorf("corrupt parquet: %v", r)
	}
}

// openParquet reads a file's footer after its declared length was checked.
func openParquet(r io.ReaderAt, size int64) (*parquet.File, error) {
	if size < 12 {
		return nil, fmt.Errorf("open parquet: %d bytes are no file", size)
	}
	var end [8]byte
	if n, err := r.ReadAt(end[:], size-8); n != len(end) {
		return nil, fmt.Errorf("open parquet: %w", err)
	}
	if n := int64(binary.LittleEndian.Uint32(end[:4])); string(end[4:]) != "PAR1" || n > size-12 || n > maxFooter {
		return nil, fmt.Errorf("open parquet: no footer at the end of %d bytes", size)
	}
	f, err := parquet.OpenFile(r, size,
		parquet.SkipMagicBytes(true),
		parquet.SkipPageIndex(true),
		parquet.SkipBloomFilters(true),
		parquet.ReadBufferSize(64<<10), // blocks below it fetch more
	)
	if err != nil {
		return nil, fmt.Errorf("open parquet: %w", err)
	}
	meta := f.Metadata()
	if n := len(f.Schema().Columns()); n > maxColumns {
		return nil, fmt.Errorf("open parquet: %d columns", n)
	}
	for g, group := range meta.RowGroups {
		if group.NumRows < 0 || len(group.Columns) != len(f.Schema().Columns()) {
			return nil, fmt.Errorf("open parquet: row group %d has %d rows and %d columns", g, group.NumRows, len(group.Columns))
		}
	}
	return f, nil
}

// column is a chosen column: a leaf, or a group whose values become JSON.
type column struct {
	name   string // ours
	node   *parquet.Column
	def    int               // definition level at which the node's parents are there
	leaves []*parquet.Column // at or below it
}

func leavesOf(cols []column) int {
	n := 0
	for _, c := range cols {
		n += len(c.leaves)
	}
	return n
}

// choose finds the wanted columns in the file's schema.
func choose(f *parquet.File, cols Columns) ([]column, error) {
	root := f.Root()
	if cols == nil {
		cols = Columns{}
		for _, c := range root.Columns() {
			cols[c.Name()] = c.Name()
		}
	}
	var out []column
	for name, path := range cols {
		col, err := find(root, path)
		if err != nil {
			var have []string
			for _, c := range root.Columns() {
				have = append(have, c.Name())
			}
			return nil, fmt.Errorf("%w: %s (wanted as %q): %w; the file has %s", ErrSchema, path, name, err, some(have))
		}
		col.name = name
		if col.leaves, err = leaves(col.node, 0); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrSchema, path, err)
		}
		out = append(out, col)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no column was asked for", ErrSchema)
	}
	slices.SortFunc(out, func(a, b column) int { return cmp.Compare(a.leaves[0].Index(), b.leaves[0].Index()) })
	return out, nil
}

// find follows a path through structs. A column whose own name holds dots is found first.
func find(root *parquet.Column, path string) (column, error) {
	node, def := root, 0
	for path != "" {
		var next *parquet.Column
		rest := ""
		for _, c := range node.Columns() {
			if c.Name() == path {
				next, rest = c, ""
				break
			}
			if after, ok := strings.CutPrefix(path, c.Name()+"."); ok && !c.Leaf() {
				next, rest = c, after
			}
		}
		switch {
		case next == nil:
			return column{}, errors.New("no such column")
		case rest != "" && (next.Repeated() || isList(next) || isMap(next)):
			return column{}, fmt.Errorf("%s is a list", next.Name())
		case rest != "" && next.Optional():
			def++
		}
		node, path = next, rest
	}
	if node == root {
		return column{}, errors.New("no such column")
	}
	return column{node: node, def: def}, nil
}

const maxDepth = 32

func leaves(n *parquet.Column, depth int) ([]*parquet.Column, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested over %d levels", maxDepth)
	}
	if n.Leaf() {
		return []*parquet.Column{n}, nil
	}
	var out []*parquet.Column
	for _, c := range n.Columns() {
		l, err := leaves(c, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, l...)
	}
	if len(out) == 0 {
		return nil, errors.New("a struct without fields")
	}
	return out, nil
}

// readGroup streams the rows of one row group.
func readGroup(f *parquet.File, g int, blocks *blocks, unpack *unpacker, cols []column, yield func(map[string]string) bool) error {
	group := f.RowGroups()[g]
	chunks := group.ColumnChunks()
	cursors := make([][]*cursor, len(cols))
	defer func() {
		for _, cs := range cursors {
			for _, c := range cs {
				c.close()
			}
		}
	}()
	for i, col := range cols {
		for _, leaf := range col.leaves {
			meta := &f.Metadata().RowGroups[g].Columns[leaf.Index()].MetaData
			guard, err := newGuard(blocks, meta, group.NumRows(), leaf, unpack)
			if err != nil {
				return fmt.Errorf("row group %d: column %s: %w", g, col.name, err)
			}
			cursors[i] = append(cursors[i], &cursor{pages: chunks[leaf.Index()].Pages(), guard: guard, codec: meta.Codec})
		}
	}
	for row := range group.NumRows() {
		values := make(map[string]string, len(cols))
		for i, col := range cols {
			text, ok, err := col.read(cursors[i])
			if err != nil {
				return fmt.Errorf("row group %d: row %d: column %s: %w", g, row, col.name, err)
			}
			if ok {
				values[col.name] = text
			}
		}
		if !yield(values) {
			return nil
		}
	}
	return nil
}

// read returns the column's value in the next row; ok is false for a null.
func (c column) read(cursors []*cursor) (string, bool, error) {
	vals := make([][]parquet.Value, len(cursors))
	for i, cur := range cursors {
		var err error
		if vals[i], err = cur.row(); err != nil {
			return "", false, err
		}
	}
	if c.node.Leaf() && !c.node.Repeated() {
		if len(vals[0]) != 1 {
			return "", false, fmt.Errorf("corrupt parquet: %d values in a row", len(vals[0]))
		}
		v := vals[0][0]
		if v.IsNull() {
			return "", false, nil
		}
		return text(c.node, v), true, nil
	}
	if vals[0][0].DefinitionLevel() < c.def || (c.node.Optional() && vals[0][0].DefinitionLevel() <= c.def) {
		return "", false, nil
	}
	var w nested
	if err := w.node(c.node, vals, 0, c.def); err != nil {
		return "", false, err
	}
	return w.String(), true, nil
}
