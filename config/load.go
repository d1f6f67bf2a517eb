package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// LoadRun reads a run spec, over DefaultRun, and checks it. Each override is path=value, as on a command line:
// augment.temperature=0.2, seeds[0].path=s3://b/seeds.jsonl. All mistakes come at once, as an *Error.
func LoadRun(path string, overrides ...string) (Run, error) {
	body, err := readFile(path)
	if err != nil {
		return Run{}, err
	}
	return ParseRun(path, body, overrides...)
}

// ParseRun is LoadRun of a body; name stands for the file in messages.
func ParseRun(name string, body []byte, overrides ...string) (Run, error) {
	run := DefaultRun()
	err := load(name, body, &run, overrides, func() problems { return run.check() })
	return run, err
}

// LoadWorker reads the settings of a worker, over DefaultWorker, and checks them. All mistakes come at once, as an *Error.
func LoadWorker(path string) (Worker, error) {
	body, err := readFile(path)
	if err != nil {
		return Worker{}, err
	}
	return ParseWorker(path, body)
}

// ParseWorker is LoadWorker of a body; name stands for the file in messages.
func ParseWorker(name string, body []byte) (Worker, error) {
	worker := DefaultWorker()
	err := load(name, body, &worker, nil, func() problems { return worker.check() })
	return worker, err
}

// readFile returns the content of a file, no more than one byte above the limit of parse.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return body, nil
}

func load(name string, body []byte, into any, overrides []string, check func() problems) error {
	d := &decoder{}
	d.decode(body, into)
	for _, o := range overrides {
		d.override(o, reflect.ValueOf(into).Elem())
	}
	found := d.problems
	wrong := map[string]bool{}
	for _, p := range found {
		wrong[p.Path] = true
		if p.Path == "" {
			return found.err(name) // nothing was read: what is missing says nothing
		}
	}
	for _, p := range check() {
		if !within(p.Path, wrong) { // what has the wrong type need not be checked for its value
			p.Line = d.line(p.Path)
			found = append(found, p)
		}
	}
	if extra := len(found) - maxProblems; extra > 0 {
		found = append(found[:maxProblems:maxProblems], Problem{Line: 1 << 30, What: fmt.Sprintf("and %d more", extra)})
	}
	return found.err(name)
}

// within reports whether path or something around it is among the paths.
func within(path string, paths map[string]bool) bool {
	for path != "" {
		if paths[path] {
			return true
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return false
}

// line returns the line of a path, or of what stands around it.
func (d *decoder) line(path string) int {
	for path != "" {
		if l := d.lines[path]; l > 0 {
			return l
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1
}

// override sets the value at one path.
func (d *decoder) override(text string, root reflect.Value) {
	path, value, ok := strings.Cut(text, "=")
	fail := func(what, try string) {
		d.problems = append(d.problems, Problem{Path: "--set " + path, What: what, Got: quote(value), Try: try})
	}
	if !ok {
		d.problems = append(d.problems, Problem{Path: "--set", What: "must be path=value", Got: quote(text), Try: "--set augment.temperature=0.2"})
		return
	}
	node, _, err := parse([]byte(value))
	if err != nil {
		fail(err.Error(), "put the value in quotes")
		return
	}
	v, err := descend(root, path)
	if err != nil {
		fail(err.Error(), "")
		return
	}
	if node == nil {
		v.SetZero()
		return
	}
	// A word that YAML would take for a number is text where text is wanted.
	if v.Kind() == reflect.String {
		if _, scalar := node.(ast.ScalarNode); scalar {
			v.SetString(value)
			return
		}
	}
	o := &decoder{lines: map[string]int{}}
	o.value(node, v, "--set "+path)
	for _, p := range o.problems {
		p.Line = 0
		d.problems = append(d.problems, p)
	}
}

// descend returns the value at a path such as seeds[0].path.
func descend(v reflect.Value, path string) (reflect.Value, error) {
	walked := ""
	for _, step := range strings.Split(path, ".") {
		key, index, indexed := strings.Cut(step, "[")
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				fresh := reflect.New(v.Type().Elem())
				setDefaults(fresh)
				v.Set(fresh)
			}
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return v, fmt.Errorf("%s has no fields", walked)
		}
		fields := fieldsOf(v)
		field, ok := fields[key]
		if !ok {
			return v, fmt.Errorf("unknown field %q. Try: %s", join(walked, key), suggest(key, fields))
		}
		v, walked = field, join(walked, key)
		if indexed {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || v.Kind() != reflect.Slice || i < 0 || i >= v.Len() {
				return v, fmt.Errorf("%s has no entry [%s", walked, index)
			}
			v, walked = v.Index(i), walked+"["+index
		}
	}
	return v, nil
}
