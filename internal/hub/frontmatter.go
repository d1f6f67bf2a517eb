package hub

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"
)

const (
	maxReadme  = 4 << 20   // bytes of a README.md that are read
	maxMeta    = 512 << 10 // bytes of its front matter
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

// ParseMeta reads the front matter of a README.md. A README without one is no error: it says nothing.
func ParseMeta(readme []byte) (m Meta, err error) {
	front, _, ok := frontMatter(readme)
	if !ok || len(bytes.TrimSpace(front)) == 0 {
		return Meta{}, nil
	}
	if len(front) > maxMeta {
		return Meta{}, fmt.Errorf("read README.md: front matter of %d bytes, over the limit of %d", len(front), maxMeta)
	}
	if bytes.Count(front, []byte("*")) > 0 && bytes.Count(front, []byte("&")) > 0 && aliases(front) {
		return Meta{}, fmt.Errorf("read README.md: front matter with anchors is not read")
	}
	defer func() {
		if r := recover(); r != nil {
			m, err = Meta{}, fmt.Errorf("read README.md: front matter that cannot be parsed: %v", r)
		}
	}()
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

// aliases reports whether YAML defines anchors: a few lines of them can stand for gigabytes.
func aliases(front []byte) bool {
	for i := range front {
		if front[i] != '&' || (i > 0 && !bytes.ContainsAny(front[i-1:i], " \t\n[{,:")) {
			continue
		}
		if i+1 < len(front) && !bytes.ContainsAny(front[i+1:i+2], " \t\r\n") {
			return true
		}
	}
	return false
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
