package hub

import (
	"io"

	"github.com/parquet-go/parquet-go"
)

// ParquetColumns lists the columns of a Parquet file in the order of its schema, as Parquet takes their names: a struct,
// then its fields as a.b; a list or map by its own name alone.
func ParquetColumns(r io.ReaderAt, size int64) (names []string, err error) {
	defer func() { recovered(recover(), &err) }()
	f, err := openParquet(r, size)
	if err != nil {
		return nil, err
	}
	var walk func(prefix string, n *parquet.Column, depth int)
	walk = func(prefix string, n *parquet.Column, depth int) {
		for _, c := range n.Columns() {
			names = append(names, prefix+c.Name())
			if !c.Leaf() && !c.Repeated() && !isList(c) && !isMap(c) && depth < maxDepth {
				walk(prefix+c.Name()+".", c, depth+1)
			}
		}
	}
	walk("", f.Root(), 0)
	return names, nil
}
