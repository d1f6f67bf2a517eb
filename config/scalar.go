package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		switch n := n.(type) {
		case *ast.StringNode:
			v.SetString(n.Value)
		case *ast.LiteralNode:
			v.SetString(n.Value.Value)
		default:
			d.wrong(n, path, "must be text", "put it in quotes")
		}
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrong(n, path, "must be true or false", "")
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int64:
		f, ok := number(n)
		i, exact := integer(n)
		switch {
		case !ok:
			d.wrong(n, path, "must be a whole number", "")
		case !exact || v.OverflowInt(i):
			d.wrong(n, path, "must be a whole number", fmt.Sprintf("%.0f", math.Trunc(f)))
		default:
			v.SetInt(i)
		}
	case reflect.Float64:
		f, ok := number(n)
		if !ok {
			d.wrong(n, path, "must be a number", "")
			return
		}
		v.SetFloat(f)
	default:
		d.wrong(n, path, "cannot be set", "")
	}
}

// number returns the value of a numeric node. Infinities and NaN are no numbers here.
func number(n ast.Node) (float64, bool) {
	switch n := n.(type) {
	case *ast.FloatNode:
		return n.Value, !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value)
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return float64(i), true
		case uint64:
			return float64(i), true
		}
	case *ast.StringNode: // 1e-5, which is a number in YAML 1.2
		if n.GetToken().Type == token.StringType && exponent.MatchString(n.Value) {
			f, err := strconv.ParseFloat(n.Value, 64)
			return f, err == nil
		}
	}
	return 0, false
}

var exponent = regexp.MustCompile(`^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$`)

// integer returns the value of a node that stands for a whole number, such as 3, 1_000 or 1e6.
func integer(n ast.Node) (int64, bool) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return i, true
		case uint64:
			return int64(i), i <= math.MaxInt64 //nolint:gosec // the bound is tested beside it
		}
	default:
		if f, ok := number(n); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	}
	return 0, false
}
