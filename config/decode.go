package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on the files, which may come from anyone.
const (
	maxBytes    = 1 << 20 // size of a file
	maxDepth    = 24      // nesting
	maxKeys     = 10_000  // values in a file
	maxTokens   = 40_000  // words and marks in a file; the parser takes more than linear time
	maxProblems = 64      // problems that are told; the rest is counted
)

// defaulter is a type whose values have defaults of their own when a list or a map comes to hold one.
type defaulter interface{ setDefaults() }

// decoder puts YAML into Go values and remembers on which line each path stands.
type decoder struct {
	problems problems
	lines    map[string]int
	values   int
}

// parse returns the root of the only document in body, or nil where it is empty.
func parse(body []byte) (root ast.Node, line int, err error) {
	// The parser recurses, and no input may end the process.
	defer func() {
		if r := recover(); r != nil {
			root, line, err = nil, 1, errors.New("not readable as YAML")
		}
	}()
	if len(body) > maxBytes {
		return nil, 0, fmt.Errorf("longer than %d bytes, the most that is read", maxBytes)
	}
	tokens := lexer.Tokenize(string(body))
	if line, err := checkTokens(tokens); err != nil {
		return nil, line, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) {
			if tk := located.GetToken(); tk != nil && tk.Position != nil {
				line = tk.Position.Line
			}
			return nil, line, errors.New("not readable as YAML: " + strings.ReplaceAll(located.GetMessage(), "\n", " "))
		}
		return nil, 0, errors.New("not readable as YAML")
	}
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			return nil, lineOf(doc.Body), errors.New("more than one document in the file")
		}
		root = doc.Body
	}
	return root, 1, nil
}

// checkTokens refuses what makes parsers recurse or documents grow: deep nesting, anchors, aliases, merges and tags.
func checkTokens(tokens token.Tokens) (int, error) {
	if len(tokens) > maxTokens {
		return 0, errors.New("too many words in the file")
	}
	depth, inLine, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, inLine = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType:
			return line, fmt.Errorf("anchors, aliases, merges, tags and directives are not read (got %s). Try: write the value out, or put text in quotes", quote(tk.Value))
		case token.InvalidType:
			if strings.Contains(tk.Value, "\t") {
				return line, errors.New("a tab indents, which YAML does not allow. Try: spaces")
			}
			return line, errors.New("not readable as YAML. Try: check colons, dashes and indentation here and in the line before")
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			inLine++
		default:
			// Position.Column bounds how deep blocks are indented.
		}
		if depth > maxDepth || inLine > maxDepth || tk.Position.IndentNum > 8*maxDepth {
			return line, fmt.Errorf("nested more than %d levels deep", maxDepth)
		}
	}
	return 0, nil
}

// decode puts body into the value that into points at, over the defaults it holds.
func (d *decoder) decode(body []byte, into any) {
	d.lines = map[string]int{}
	root, line, err := parse(body)
	if err != nil {
		d.problems = append(d.problems, Problem{Line: line, What: err.Error()})
		return
	}
	if root != nil {
		d.value(root, reflect.ValueOf(into).Elem(), "")
	}
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 0
}

func (d *decoder) wrong(n ast.Node, path, what, try string) {
	got := ""
	if !secret(path) {
		got = show(n)
	}
	d.problems = append(d.problems, Problem{Line: lineOf(n), Path: path, What: what, Got: got, Try: try})
}

// show prints a node for a message.
func show(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return quote(n.Value)
	case *ast.LiteralNode:
		return quote(n.Value.Value)
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	}
	if tk := n.GetToken(); tk != nil {
		return shorten(tk.Value)
	}
	return ""
}

func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	if d.values++; d.values > maxKeys {
		if d.values == maxKeys+1 {
			d.problems = append(d.problems, Problem{Line: lineOf(n), What: fmt.Sprintf("more than %d values in the file", maxKeys)})
		}
		return
	}
	if path != "" && d.lines[path] == 0 {
		d.lines[path] = lineOf(n)
	}
	if n.Type() == ast.NullType { // as if it were not written
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(n, u, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if _, ok := n.(ast.MapNode); !ok {
			d.entries(n, path)
			return
		}
		fresh := reflect.New(v.Type().Elem())
		setDefaults(fresh)
		d.value(n, fresh.Elem(), path)
		v.Set(fresh)
	case reflect.Struct:
		d.object(n, v, path)
	case reflect.Map:
		d.dictionary(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func setDefaults(pointer reflect.Value) {
	if t, ok := pointer.Interface().(defaulter); ok {
		t.setDefaults()
	}
}

func (d *decoder) text(n ast.Node, u encoding.TextUnmarshaler, path string) {
	s, ok := n.(*ast.StringNode)
	if !ok || u.UnmarshalText([]byte(s.Value)) != nil {
		d.wrong(n, path, "must be a duration with its unit", "30s or 5m")
	}
}

// entries returns the pairs of a mapping, reporting what is no mapping and keys that come twice.
func (d *decoder) entries(n ast.Node, path string) []*ast.MappingValueNode {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.wrong(n, path, "must be a mapping", "key: value lines, indented under it")
		return nil
	}
	var all, unique []*ast.MappingValueNode
	switch m := m.(type) {
	case *ast.MappingNode:
		all = m.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{m}
	}
	seen := map[string]int{}
	for _, entry := range all {
		key := keyOf(entry)
		if first := seen[key]; first > 0 {
			d.problems = append(d.problems, Problem{Line: lineOf(entry.Key), Path: join(path, key), What: fmt.Sprintf("written twice, first in line %d", first), Try: "remove one"})
			continue
		}
		seen[key] = max(1, lineOf(entry.Key))
		unique = append(unique, entry)
	}
	return unique
}

func keyOf(entry *ast.MappingValueNode) string {
	if s, ok := entry.Key.(*ast.StringNode); ok {
		return s.Value
	}
	if tk := entry.Key.GetToken(); tk != nil {
		return tk.Value
	}
	return ""
}

func join(path, key string) string {
	key = shorten(key)
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) object(n ast.Node, v reflect.Value, path string) {
	fields := fieldsOf(v)
	for _, entry := range d.entries(n, path) {
		key := keyOf(entry)
		at := join(path, key)
		field, ok := fields[key]
		if !ok {
			d.problems = append(d.problems, Problem{
				Line: lineOf(entry.Key), Path: at, What: "unknown field", Got: quote(key), Try: suggest(key, fields),
			})
			continue
		}
		d.lines[at] = lineOf(entry.Key)
		d.value(entry.Value, field, at)
	}
}

// fieldsOf returns the fields of a struct by the names they have in YAML, those of inlined structs included.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		if options == "inline" {
			for k, f := range fieldsOf(v.Field(i)) {
				fields[k] = f
			}
			continue
		}
		fields[name] = v.Field(i)
	}
	return fields
}

func suggest(key string, fields map[string]reflect.Value) string {
	known := make([]string, 0, len(fields))
	for k := range fields {
		known = append(known, k)
	}
	slices.Sort(known)
	if slices.Contains(known, "key_env") && strings.Contains(strings.ToLower(key), "key") {
		return "key_env, with the name of the environment variable that holds the key"
	}
	if best := nearest(key, known); best != "" {
		return best
	}
	return "one of " + strings.Join(known, ", ")
}

func (d *decoder) dictionary(n ast.Node, v reflect.Value, path string) {
	out := reflect.MakeMap(v.Type())
	for _, entry := range d.entries(n, path) {
		key := keyOf(entry)
		at := join(path, key)
		d.lines[at] = lineOf(entry.Key)
		fresh := reflect.New(v.Type().Elem())
		setDefaults(fresh)
		d.value(entry.Value, fresh.Elem(), at)
		out.SetMapIndex(reflect.ValueOf(key), fresh.Elem())
	}
	v.Set(out)
}

// asSource returns how to write a text where a source is wanted; "" where the node is no text or the type no source.
func asSource(n ast.Node, t reflect.Type, form string) string {
	text, ok := n.(*ast.StringNode)
	if !ok || t.Kind() != reflect.Struct {
		return ""
	}
	if field, ok := t.FieldByName("Path"); !ok || field.Tag.Get("yaml") != "path" {
		return ""
	}
	return fmt.Sprintf(form, quote(text.Value))
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(n, path, "must be a list", cmp.Or(asSource(n, v.Type().Elem(), "[{path: %s}]"), "lines that begin with a dash, or [a, b]"))
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, 0)
	for i, item := range seq.Values {
		if try := asSource(item, v.Type().Elem(), "{path: %s}"); try != "" {
			d.wrong(item, path+"["+strconv.Itoa(i)+"]", "must be a mapping", try)
			continue
		}
		fresh := reflect.New(v.Type().Elem())
		setDefaults(fresh)
		if at := path + "[" + strconv.Itoa(i) + "]"; item != nil {
			d.value(item, fresh.Elem(), at)
		}
		out = reflect.Append(out, fresh.Elem())
		if d.values > maxKeys {
			break
		}
	}
	v.Set(out)
}
