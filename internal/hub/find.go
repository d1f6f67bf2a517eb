package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// convertBranch is where the Hub keeps a Parquet copy of datasets in other formats.
const convertBranch = "refs/convert/parquet"

// Table is a split's Parquet files at a commit: all that a manifest needs in order to read the same rows again.
type Table struct {
	Repo      Repo   `json:"repo"`
	Revision  string `json:"revision"`  // as asked for
	Commit    string `json:"commit"`    // of the files; when Converted, of the Hub's Parquet copy
	Source    string `json:"source"`    // commit that Revision stood for
	Config    string `json:"config"`    // "" for files named by path
	Split     string `json:"split"`     // likewise
	Converted bool   `json:"converted"` // the files are the Hub's copy, which follows the main branch only
	Partial   bool   `json:"partial"`   // the Hub has copied only the first gigabytes
	License   string `json:"license"`   // as the dataset's card says
	Files     []File `json:"files"`     // in the order in which rows are read
}

// Find pins a source to a commit and finds its files: for a path those that match it, of several formats the Parquet ones
// alone; else the Parquet files of its config and split, by the configs of its README,
// else by the folder conventions, else in the Hub's Parquet copy.
func (c *Client) Find(ctx context.Context, src Source) (Table, error) {
	info, err := c.Info(ctx, src.Repo, src.Revision)
	if err != nil {
		return Table{}, err
	}
	t := Table{Repo: src.Repo, Revision: cmp.Or(src.Revision, mainBranch), Commit: info.Commit, Source: info.Commit}
	files, err := c.Tree(ctx, src.Repo, info.Commit)
	if err != nil {
		return Table{}, err
	}
	meta, err := c.meta(ctx, src.Repo, info.Commit, files)
	if err != nil {
		return Table{}, err
	}
	t.License = meta.License
	if src.Path != "" {
		t.Files, err = matching(files, "", []string{src.Path}, isParquet)
		if err == nil && len(t.Files) == 0 {
			t.Files, err = matching(files, "", []string{src.Path}, anyFile)
		}
		if err == nil && len(t.Files) == 0 {
			err = &Error{Op: "find " + src.String(), Kind: ErrNotFound, Message: "no file has that path", Try: "look at " + c.Page(src.Repo) + "/tree/main"}
		}
		return t, err
	}
	layout, err := layoutOf(files, meta)
	if err != nil {
		return Table{}, fmt.Errorf("find %s: %w", src, err)
	}
	if choice := layout.config(src.Config); src.Config != "" && choice == nil {
		// a config without Parquet files of its own may be in the copy
	} else if choice != nil && len(choice.splits) > 0 {
		return t, t.choose(src, layout)
	}
	switch err := c.converted(ctx, src, &t); {
	case err == nil:
		return t, nil
	case !errors.Is(err, ErrNotFound) || len(layout) == 0:
		return Table{}, err
	}
	return t, t.choose(src, layout) // names what there is
}

// converted looks for the split in the Hub's Parquet copy.
func (c *Client) converted(ctx context.Context, src Source, t *Table) error {
	info, err := c.Info(ctx, src.Repo, convertBranch)
	if errors.Is(err, ErrNotFound) {
		return &Error{
			Op: "find " + src.String(), Kind: ErrNotFound, Message: "the dataset has no Parquet files and the Hub has no Parquet copy of it",
			Try: "convert the dataset to Parquet, or download it and name the files as a local source",
		}
	}
	if err != nil {
		return err
	}
	if main := t.Revision == mainBranch; !main {
		now, err := c.Info(ctx, src.Repo, "")
		if err != nil {
			return err
		}
		if now.Commit != t.Source {
			return &Error{
				Op: "find " + src.String(), Kind: ErrNotFound, Message: "the revision has no Parquet files, and the Hub's Parquet copy is of another one",
				Try: "leave the revision out, or name one whose files are Parquet",
			}
		}
	}
	files, err := c.Tree(ctx, src.Repo, info.Commit)
	if err != nil {
		return err
	}
	t.Commit, t.Converted = info.Commit, true
	return t.choose(src, copyLayout(files))
}

// meta reads the front matter of a commit's README.md, if it has one.
func (c *Client) meta(ctx context.Context, repo Repo, commit string, files []File) (Meta, error) {
	i := slices.IndexFunc(files, func(f File) bool { return f.Path == "README.md" })
	if i < 0 {
		return Meta{}, nil
	}
	text, err := c.Small(ctx, repo, commit, files[i], maxReadme)
	if err != nil {
		return Meta{}, err
	}
	return ParseMeta(text)
}

// layout is what configs and splits a tree of files holds, in Parquet.
type layout []layoutConfig

type layoutConfig struct {
	name     string
	standard bool // the default config
	splits   []layoutSplit
}

type layoutSplit struct {
	name    string
	partial bool
	files   []File
}

// config returns the config of a name, or for "" the default one; nil when there is none.
func (l layout) config(name string) *layoutConfig {
	for i := range l {
		if l[i].name == name || (name == "" && (len(l) == 1 || l[i].standard)) {
			return &l[i]
		}
	}
	return nil
}

// choose fills in the files of the config and split that the source asks for.
func (t *Table) choose(src Source, l layout) error {
	bad := func(format string, args ...any) error {
		return &Error{Op: "find " + src.String(), Kind: ErrNotFound, Message: fmt.Sprintf(format, args...)}
	}
	conf := l.config(src.Config)
	if conf == nil {
		var names []string
		for _, c := range l {
			names = append(names, c.name)
		}
		if src.Config == "" {
			return bad("a config has to be chosen of %s", some(names))
		}
		return bad("no config %q; there are %s", src.Config, some(names))
	}
	var names []string
	var found *layoutSplit
	for i := range conf.splits {
		s := &conf.splits[i]
		names = append(names, s.name)
		if s.name == src.Split || (src.Split == "" && (len(conf.splits) == 1 || s.name == "train")) {
			found = s
		}
	}
	switch {
	case found == nil && src.Split == "":
		return bad("a split of config %q has to be chosen of %s", conf.name, some(names))
	case found == nil:
		return bad("config %q has no split %q in Parquet; there are %s", conf.name, src.Split, some(names))
	}
	t.Config, t.Split, t.Files, t.Partial = conf.name, found.name, found.files, found.partial
	return nil
}

// some lists names for an error, not too many.
func some(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// layoutOf finds configs and splits: those of the README, else those of the Hub's copy (a commit of that branch was
// pinned), else by the conventions.
func layoutOf(files []File, meta Meta) (layout, error) {
	if len(meta.Configs) == 0 {
		if l := copyLayout(files); l != nil && !slices.ContainsFunc(files, func(f File) bool { return f.Path == "README.md" }) {
			return l, nil
		}
		splits, err := conventional(files, "")
		if err != nil || len(splits) == 0 {
			return nil, err
		}
		return layout{{name: "default", standard: true, splits: splits}}, nil
	}
	var l layout
	for _, m := range meta.Configs {
		conf := layoutConfig{name: m.Name, standard: m.Default || m.Name == "default"}
		var err error
		if len(m.Splits) == 0 {
			if conf.splits, err = conventional(files, m.Dir); err != nil {
				return nil, err
			}
		}
		for _, s := range m.Splits {
			found, err := matching(files, m.Dir, s.Paths, isParquet)
			if err != nil {
				return nil, fmt.Errorf("config %s: %w", m.Name, err)
			}
			if len(found) > 0 {
				conf.splits = append(conf.splits, layoutSplit{name: s.Name, files: found})
			}
		}
		l = append(l, conf)
	}
	return l, nil
}

// matching returns the files of a kind under dir that match one of the patterns, in the order of patterns and paths.
func matching(files []File, dir string, patterns []string, kind func(path string) bool) ([]File, error) {
	if len(patterns) > 10_000 {
		return nil, fmt.Errorf("%d patterns", len(patterns))
	}
	byPath := slices.Clone(files)
	slices.SortFunc(byPath, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var out []File
	taken := map[string]bool{}
	for _, p := range patterns {
		if strings.Contains(p, "://") {
			return nil, fmt.Errorf("%q lies outside the repository", p)
		}
		full := path.Join(dir, p)
		if strings.HasSuffix(p, "/") {
			full += "/**"
		}
		re, err := compileGlob(full)
		if err != nil {
			return nil, err
		}
		for _, f := range byPath {
			if kind(f.Path) && !taken[f.Path] && re.MatchString(f.Path) && !hidden(f.Path, full) {
				taken[f.Path] = true
				out = append(out, f)
			}
		}
	}
	return out, nil
}

func anyFile(string) bool { return true }

func isParquet(p string) bool { return strings.HasSuffix(strings.ToLower(p), ".parquet") }

var (
	shardRE = regexp.MustCompile(`^data/([^/]+)-[0-9]{5}-of-[0-9]{5}[^/]*\.parquet$`)
	copyRE  = regexp.MustCompile(`^([^/]+)/(partial-)?([^/]+)/[0-9]{4,6}\.parquet$`)
	wordsRE = map[string]*regexp.Regexp{}
)

var splitWords = []struct{ split, words string }{
	{"train", "train|training"},
	{"validation", "validation|valid|dev|val"},
	{"test", "test|testing|eval|evaluation"},
}

func init() {
	for _, s := range splitWords {
		wordsRE[s.split] = regexp.MustCompile(`(?:^|[-._ 0-9])(?:` + s.words + `)(?:[-._ 0-9]|$)`)
	}
}

// conventional finds splits by names: data/SPLIT-00000-of-00001.parquet, then folders and then files that are called
// after a split, then everything as the train split.
func conventional(files []File, dir string) ([]layoutSplit, error) {
	all, err := matching(files, dir, []string{"**"}, isParquet)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	rel := func(f File) string { return strings.TrimPrefix(f.Path, strings.Trim(dir, "/")+"/") }
	by := func(name func(File) string) []layoutSplit {
		var out []layoutSplit
		for _, f := range all {
			n := name(f)
			if n == "" {
				continue
			}
			i := slices.IndexFunc(out, func(s layoutSplit) bool { return s.name == n })
			if i < 0 {
				out = append(out, layoutSplit{name: n})
				i = len(out) - 1
			}
			out[i].files = append(out[i].files, f)
		}
		return out
	}
	word := func(s string) string {
		for _, w := range splitWords {
			if wordsRE[w.split].MatchString(s) {
				return w.split
			}
		}
		return ""
	}
	ways := []func(File) string{
		func(f File) string {
			if m := shardRE.FindStringSubmatch(rel(f)); m != nil {
				return m[1]
			}
			return ""
		},
		func(f File) string {
			for folder := range strings.SplitSeq(path.Dir(rel(f)), "/") {
				if w := word(folder); w != "" {
					return w
				}
			}
			return ""
		},
		func(f File) string { return word(path.Base(rel(f))) },
		func(File) string { return "train" },
	}
	for _, way := range ways {
		if out := by(way); len(out) > 0 {
			return out, nil
		}
	}
	return nil, nil
}

// copyLayout reads the paths of the Hub's Parquet copy: CONFIG/SPLIT/0000.parquet, or CONFIG/partial-SPLIT/… when only
// the first gigabytes were copied. It returns nil when the Parquet files lie otherwise.
func copyLayout(files []File) layout {
	var l layout
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		if !isParquet(f.Path) {
			continue
		}
		m := copyRE.FindStringSubmatch(f.Path)
		if m == nil {
			return nil
		}
		i := slices.IndexFunc(l, func(c layoutConfig) bool { return c.name == m[1] })
		if i < 0 {
			l = append(l, layoutConfig{name: m[1], standard: m[1] == "default"})
			i = len(l) - 1
		}
		c := &l[i]
		j := slices.IndexFunc(c.splits, func(s layoutSplit) bool { return s.name == m[3] })
		if j < 0 {
			c.splits = append(c.splits, layoutSplit{name: m[3], partial: m[2] != ""})
			j = len(c.splits) - 1
		}
		c.splits[j].files = append(c.splits[j].files, f)
	}
	return l
}
