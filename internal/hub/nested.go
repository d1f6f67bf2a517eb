package hub

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// isList reports whether a group stands for a list.
func isList(n *parquet.Column) bool {
	if n.Leaf() || len(n.Columns()) != 1 || !n.Columns()[0].Repeated() {
		return false
	}
	t := n.Type().LogicalType()
	if t == nil {
		return false
	}
	_, ok := t.Value.(*format.ListType)
	return ok
}

// isMap reports whether a group stands for a map.
func isMap(n *parquet.Column) bool {
	if n.Leaf() || len(n.Columns()) != 1 || !n.Columns()[0].Repeated() || len(n.Columns()[0].Columns()) != 2 {
		return false
	}
	t := n.Type().LogicalType()
	if t == nil {
		return false
	}
	_, ok := t.Value.(*format.MapType)
	return ok
}

// element returns what one entry of a list holds. Most files have a group of one field in between (list.element,
// list.item, bag.array_element); old ones repeat the element itself.
func element(list *parquet.Column) (node *parquet.Column, inner bool) {
	repeated := list.Columns()[0]
	if !repeated.Leaf() && len(repeated.Columns()) == 1 && repeated.Name() != "array" && repeated.Name() != list.Name()+"_tuple" {
		return repeated.Columns()[0], true
	}
	return repeated, false
}

// nested writes the values of one row of a group as JSON, after the rules of the Dremel paper: a repetition level says
// at which list a value starts a new entry, a definition level how deep the value is there at all.
type nested struct {
	bytes.Buffer
}

var errNested = errors.New("corrupt parquet: levels that fit no row")

// node writes a node with its own repetition. vals holds the values of each leaf below it.
func (w *nested) node(n *parquet.Column, vals [][]parquet.Value, rep, def int) error {
	switch {
	case n.Optional():
		def++
		if first(vals) < def {
			w.WriteString("null")
			return nil
		}
	case n.Repeated():
		return w.entries(vals, rep+1, def+1, func(entry [][]parquet.Value) error { return w.content(n, entry, rep+1, def+1) })
	}
	return w.content(n, vals, rep, def)
}

// first returns the definition level of the first value, -1 when there is none.
func first(vals [][]parquet.Value) int {
	if len(vals) == 0 || len(vals[0]) == 0 {
		return -1
	}
	return vals[0][0].DefinitionLevel()
}

func (w *nested) content(n *parquet.Column, vals [][]parquet.Value, rep, def int) error {
	switch {
	case n.Leaf():
		if len(vals) != 1 || len(vals[0]) != 1 {
			return errNested
		}
		return w.scalar(n, vals[0][0])
	case isMap(n):
		pair := n.Columns()[0].Columns()
		k, err := leaves(pair[0], 0)
		if err != nil {
			return err
		}
		w.WriteByte('[')
		comma := ""
		err = w.each(vals, rep+1, def+1, func(entry [][]parquet.Value) error {
			w.WriteString(comma + "[")
			comma = ","
			if err := w.node(pair[0], entry[:len(k)], rep+1, def+1); err != nil {
				return err
			}
			w.WriteByte(',')
			if err := w.node(pair[1], entry[len(k):], rep+1, def+1); err != nil {
				return err
			}
			w.WriteByte(']')
			return nil
		})
		w.WriteByte(']')
		return err
	case isList(n):
		elem, inner := element(n)
		return w.entries(vals, rep+1, def+1, func(entry [][]parquet.Value) error {
			if inner {
				return w.node(elem, entry, rep+1, def+1)
			}
			return w.content(elem, entry, rep+1, def+1)
		})
	}
	w.WriteByte('{')
	for i, f := range n.Columns() {
		l, err := leaves(f, 0)
		if err != nil {
			return err
		}
		if len(vals) < len(l) {
			return errNested
		}
		if i > 0 {
			w.WriteByte(',')
		}
		w.string(f.Name())
		w.WriteByte(':')
		if err := w.node(f, vals[:len(l)], rep, def); err != nil {
			return err
		}
		vals = vals[len(l):]
	}
	w.WriteByte('}')
	return nil
}

// entries writes a list.
func (w *nested) entries(vals [][]parquet.Value, rep, def int, fn func([][]parquet.Value) error) error {
	w.WriteByte('[')
	comma := false
	err := w.each(vals, rep, def, func(entry [][]parquet.Value) error {
		if comma {
			w.WriteByte(',')
		}
		comma = true
		return fn(entry)
	})
	w.WriteByte(']')
	return err
}

// each cuts the values of a list into those of its entries.
func (w *nested) each(vals [][]parquet.Value, rep, def int, fn func([][]parquet.Value) error) error {
	if first(vals) < def {
		return nil // empty
	}
	at := make([]int, len(vals))
	for at[0] < len(vals[0]) {
		entry := make([][]parquet.Value, len(vals))
		for i, v := range vals {
			end := at[i] + 1
			for end < len(v) && v[end].RepetitionLevel() > rep {
				end++
			}
			if end > len(v) {
				return errNested
			}
			entry[i], at[i] = v[at[i]:end], end
		}
		if err := fn(entry); err != nil {
			return err
		}
		if w.Len() > maxCell {
			return fmt.Errorf("a cell of over %d bytes", maxCell)
		}
	}
	for i := range vals {
		if at[i] != len(vals[i]) {
			return errNested
		}
	}
	return nil
}

func (w *nested) string(s string) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // into memory
	w.Truncate(w.Len() - 1)
}

func (w *nested) scalar(n *parquet.Column, v parquet.Value) error {
	switch v.Kind() {
	case parquet.Boolean, parquet.Int32, parquet.Int64:
		w.WriteString(text(n, v))
	case parquet.Float, parquet.Double:
		f := v.Double()
		if v.Kind() == parquet.Float {
			f = float64(v.Float())
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			w.WriteString("null")
		} else {
			w.WriteString(text(n, v))
		}
	default:
		if v.IsNull() {
			w.WriteString("null")
			return nil
		}
		w.string(text(n, v))
	}
	return nil
}

// text writes a value that is not null. Bytes that are no UTF-8 are replaced.
func text(n *parquet.Column, v parquet.Value) string {
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.FormatBool(v.Boolean())
	case parquet.Int32, parquet.Int64:
		if t := n.Type().LogicalType(); t != nil {
			if i, ok := t.Value.(*format.IntType); ok && !i.IsSigned {
				if v.Kind() == parquet.Int32 {
					return strconv.FormatUint(uint64(v.Uint32()), 10)
				}
				return strconv.FormatUint(v.Uint64(), 10)
			}
		}
		if v.Kind() == parquet.Int32 {
			return strconv.FormatInt(int64(v.Int32()), 10)
		}
		return strconv.FormatInt(v.Int64(), 10)
	case parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'g', -1, 32)
	case parquet.Double:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64)
	case parquet.FixedLenByteArray:
		return hex.EncodeToString(v.ByteArray())
	case parquet.ByteArray:
		return strings.ToValidUTF8(string(v.ByteArray()), "\uFFFD")
	}
	return v.String()
}
