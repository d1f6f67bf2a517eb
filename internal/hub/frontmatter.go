package hub

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

const (
	maxReadme  = 4 << 20   // bytes of a README.md that are read
	maxMeta    = 256 << 10 // bytes of what is read of its front matter
	maxConfigs = 10_000
)

// Meta is what the front matter of a README.md says of how a dataset is laid out. Everything else in it is ignored.
type Meta struct {
	License string
	Configs []ConfigMeta
}

// ConfigMeta lays out one config (also called subset).
type ConfigMeta struct {
	Name    string
	Default bool
	Dir     string      // data_dir: globs are below it
	Splits  []SplitMeta // empty: by the conventions, below Dir
}

// SplitMeta names the files of one split by globs relative to the repository's root (or the config's Dir).
type SplitMeta struct {
	Name  string
	Paths []string
}

// frontMatter cuts the YAML between the two lines of --- off the top of a README. ok is false when there is none.
func frontMatter(readme []byte) (meta, body []byte, ok bool) {
	text := bytes.TrimPrefix(readme, []byte("\xef\xbb\xbf"))
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(bytes.TrimRight(first, " \t\r")) != "---" {
		return nil, readme, false
	}
	for at := 0; at < len(rest); {
		line, _, more := bytes.Cut(rest[at:], []byte("\n"))
		if string(bytes.TrimRight(line, " \t\r")) == "---" {
			end := min(len(rest), at+len(line)+1)
			return rest[:at], rest[end:], true
		}
		if !more {
			break
		}
		at += len(line) + 1
	}
	return nil, readme, false
}

// wanted cuts the front matter down to the keys that are read. The others may be long (dataset_info has been seen with
// hundreds of kilobytes) or wrong.
func wanted(front []byte) []byte {
	var out []byte
	keep := false
	for line := range bytes.Lines(front) {
		if c := line[0]; c != ' ' && c != '\t' && c != '-' && c != '#' && c != ']' && c != '}' && c != '\r' && c != '\n' {
			key, _, _ := bytes.Cut(line, []byte(":"))
			key = bytes.Trim(key, "\"' \t")
			keep = string(key) == "license" || string(key) == "configs"
		}
		if keep {
			out = append(out, line...)
		}
	}
	return out
}

// shallow refuses what makes a short text expensive: aliases, a few of which can stand for gigabytes, and nesting far
// beyond what a dataset's configs need.
func shallow(tokens token.Tokens) error {
	const most = 16
	flow, entries, line := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.AliasType:
			return errors.New("aliases are not read")
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
			if t.Position.Line != line {
				entries, line = 0, t.Position.Line
			}
			if flow == 0 {
				entries++
			}
		}
		if flow > most || entries > most || (t.Position.Column > 1000 && flow == 0 && t.Type == token.MappingValueType) {
			return errors.New("nested too deeply")
		}
	}
	return nil
}

// ParseMeta reads the front matter of a README.md. A README without one is no error: it says nothing.
func ParseMeta(readme []byte) (m Meta, err error) {
	front, _, ok := frontMatter(readme)
	if front = wanted(front); !ok || len(bytes.TrimSpace(front)) == 0 {
		return Meta{}, nil
	}
	if len(front) > maxMeta {
		return Meta{}, fmt.Errorf("read README.md: front matter of %d bytes, over the limit of %d", len(front), maxMeta)
	}
	defer func() {
		if r := recover(); r != nil {
			m, err = Meta{}, fmt.Errorf("read README.md: front matter that cannot be parsed: %v", r)
		}
	}()
	if err := shallow(lexer.Tokenize(string(front))); err != nil {
		return Meta{}, fmt.Errorf("read README.md: front matter: %w", err)
	}
	var raw struct {
		License any `yaml:"license"`
		Configs []struct {
			Name    any  `yaml:"config_name"`
			Default bool `yaml:"default"`
			Dir     any  `yaml:"data_dir"`
			Files   any  `yaml:"data_files"`
		} `yaml:"configs"`
	}
	if err := yaml.Unmarshal(front, &raw); err != nil {
		return Meta{}, fmt.Errorf("read README.md: front matter: %s", redact(err.Error(), ""))
	}
	m.License, _ = raw.License.(string)
	if len(raw.Configs) > maxConfigs {
		return Meta{}, fmt.Errorf("read README.md: %d configs", len(raw.Configs))
	}
	seen := map[string]bool{}
	for i, c := range raw.Configs {
		out := ConfigMeta{Name: scalar(c.Name), Default: c.Default, Dir: scalar(c.Dir)}
		if out.Name == "" || seen[out.Name] {
			return Meta{}, fmt.Errorf("read README.md: configs[%d].config_name: %.80q is missing or taken", i, out.Name)
		}
		seen[out.Name] = true
		if out.Splits, err = splitsOf(c.Files); err != nil {
			return Meta{}, fmt.Errorf("read README.md: configs[%d].data_files: %w", i, err)
		}
		m.Configs = append(m.Configs, out)
	}
	return m, nil
}

// scalar reads a name that YAML may have taken for a number or a truth value.
func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v)
	}
	return ""
}

// splitsOf reads data_files in its forms: a glob, a list of globs (both the train split), a list of {split, path}, or
// a map from split to globs.
func splitsOf(v any) ([]SplitMeta, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []SplitMeta{{Name: "train", Paths: []string{v}}}, nil
	case map[string]any:
		var out []SplitMeta
		for name, paths := range v {
			p, err := pathsOf(paths)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out = append(out, SplitMeta{Name: name, Paths: p})
		}
		return out, nil
	case []any:
		var out []SplitMeta
		for i, item := range v {
			entry, ok := item.(map[string]any)
			if !ok {
				paths, err := pathsOf(v)
				return []SplitMeta{{Name: "train", Paths: paths}}, err
			}
			p, err := pathsOf(entry["path"])
			name := scalar(entry["split"])
			if err != nil || name == "" {
				return nil, fmt.Errorf("entry %d: expected split and path", i)
			}
			out = append(out, SplitMeta{Name: name, Paths: p})
		}
		return out, nil
	}
	return nil, fmt.Errorf("%T", v)
}

func pathsOf(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		var out []string
		for _, p := range v {
			s, ok := p.(string)
			if !ok {
				return nil, fmt.Errorf("a path that is %T", p)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("a path that is %T", v)
}
