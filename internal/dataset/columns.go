package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"
)

// columns is what reflection found out about a row type, once.
type columns struct {
	fields []column
	byName map[string]int
}

type column struct {
	name string
	kind colKind
}

type colKind byte

// The kinds of columns that rows may have. Their numbers enter digests: never change them.
const (
	kindString colKind = 1
	kindInt64  colKind = 2
	kindInt32  colKind = 3
	kindFloat  colKind = 4
	kindFloats colKind = 5
	kindBool   colKind = 6
)

var columnsByType sync.Map // reflect.Type → *columns

// columnsOf returns the columns of T, a struct of strings, bools, int32s, int64s, float64s and lists of float64.
// Panics if T has another field: row types are part of the program.
func columnsOf[T any]() *columns {
	t := reflect.TypeFor[T]()
	if c, ok := columnsByType.Load(t); ok {
		return c.(*columns)
	}
	c := &columns{byName: make(map[string]int)}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("parquet"), ",")
		kind := kindOf(f.Type)
		if name == "" || kind == 0 {
			panic(fmt.Sprintf("dataset: field %s of %s cannot be a column", f.Name, t))
		}
		c.byName[name] = i
		c.fields = append(c.fields, column{name: name, kind: kind})
	}
	columnsByType.Store(t, c)
	return c
}

func kindOf(t reflect.Type) colKind {
	switch t.Kind() {
	case reflect.String:
		return kindString
	case reflect.Int64:
		return kindInt64
	case reflect.Int32:
		return kindInt32
	case reflect.Float64:
		return kindFloat
	case reflect.Bool:
		return kindBool
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Float64 {
			return kindFloats
		}
	}
	return 0
}

// names returns the column names in order.
func (c *columns) names() []string {
	out := make([]string, len(c.fields))
	for i, f := range c.fields {
		out[i] = f.name
	}
	return out
}

// text returns the value of a string column, "" where the row type has none of that name.
func (c *columns) text(v reflect.Value, name string) string {
	i, ok := c.byName[name]
	if !ok || c.fields[i].kind != kindString {
		return ""
	}
	return v.Field(i).String()
}

// number returns the value of an int64 column, 0 where the row type has none of that name.
func (c *columns) number(v reflect.Value, name string) int64 {
	i, ok := c.byName[name]
	if !ok || c.fields[i].kind != kindInt64 {
		return 0
	}
	return v.Field(i).Int()
}

// append adds the canonical form of a row to b: its columns in order, strings and lists with their length before
// them, numbers big-endian. It depends on nothing but the row's values.
func (c *columns) append(b []byte, v reflect.Value) []byte {
	for i, col := range c.fields {
		f := v.Field(i)
		switch col.kind {
		case kindString:
			s := f.String()
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		case kindInt64, kindInt32:
			b = binary.BigEndian.AppendUint64(b, uint64(f.Int()))
		case kindFloat:
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(f.Float()))
		case kindBool:
			n := byte(0)
			if f.Bool() {
				n = 1
			}
			b = append(b, n)
		case kindFloats:
			b = binary.AppendUvarint(b, uint64(f.Len()))
			for j := range f.Len() {
				b = binary.BigEndian.AppendUint64(b, math.Float64bits(f.Index(j).Float()))
			}
		}
	}
	return b
}

var errShortRow = errors.New("row ends early")

// parse reads a row's canonical form into v and returns what follows it.
func (c *columns) parse(b []byte, v reflect.Value) ([]byte, error) {
	for i, col := range c.fields {
		f := v.Field(i)
		switch col.kind {
		case kindString:
			n, used := binary.Uvarint(b)
			if used <= 0 || n > uint64(len(b)-used) {
				return nil, errShortRow
			}
			f.SetString(string(b[used : used+int(n)]))
			b = b[used+int(n):]
		case kindInt64, kindInt32, kindFloat:
			if len(b) < 8 {
				return nil, errShortRow
			}
			n := binary.BigEndian.Uint64(b)
			if col.kind == kindFloat {
				f.SetFloat(math.Float64frombits(n))
			} else {
				f.SetInt(int64(n))
			}
			b = b[8:]
		case kindBool:
			if len(b) < 1 {
				return nil, errShortRow
			}
			f.SetBool(b[0] != 0)
			b = b[1:]
		case kindFloats:
			n, used := binary.Uvarint(b)
			if used <= 0 || n > uint64(len(b)-used)/8 {
				return nil, errShortRow
			}
			b = b[used:]
			if n == 0 {
				continue
			}
			list := make([]float64, n)
			for j := range list {
				list[j] = math.Float64frombits(binary.BigEndian.Uint64(b[8*j:]))
			}
			f.Set(reflect.ValueOf(list))
			b = b[8*n:]
		}
	}
	return b, nil
}

// invalid returns the name of a string column whose value is not UTF-8, or "".
func (c *columns) invalid(v reflect.Value) string {
	for i, col := range c.fields {
		if col.kind == kindString && !utf8.ValidString(v.Field(i).String()) {
			return col.name
		}
	}
	return ""
}

// digester folds rows in order of id into a digest that does not depend on how Parquet encodes them.
type digester struct {
	cols *columns
	hash hash.Hash
	buf  []byte
}

func newDigester[T any]() *digester {
	d := &digester{cols: columnsOf[T](), hash: sha256.New()}
	hashString(d.hash, "selfalign/rows/1")
	for _, c := range d.cols.fields {
		hashString(d.hash, c.name)
		d.hash.Write([]byte{byte(c.kind)})
	}
	return d
}

func (d *digester) add(v reflect.Value) {
	d.buf = d.cols.append(d.buf[:0], v)
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(d.buf)))
	d.hash.Write(n[:])
	d.hash.Write(d.buf)
}

func (d *digester) sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }
