// Package docs holds the documentation to the tree it speaks of.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = ".."

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```")
	quoted  = regexp.MustCompile("`([^`\n]+)`")
	oneTest = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+`)
	command = regexp.MustCompile(`go run \./(\w+)`)
)

// markdown returns the texts of all Markdown files, by path from the root.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	walk(t, ".md", func(path, text string) { found[path] = text })
	if len(found) < 5 {
		t.Fatalf("only %d files", len(found))
	}
	return found
}

func walk(t *testing.T, suffix string, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 2 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		text, err := os.ReadFile(path)
		if err == nil {
			path, err = filepath.Rel(root, path)
			visit(filepath.ToSlash(path), string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// anchor is what a heading is called in a link.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			return r
		}
		return -1
	}, strings.ToLower(strings.TrimSpace(heading)))
}

// Every link leads to a file, and to a heading in it.
func TestLinks(t *testing.T) {
	t.Parallel()
	texts := markdown(t)
	anchors := map[string]bool{}
	for path, text := range texts {
		for _, h := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			anchors[path+"#"+anchor(h[1])] = true
		}
	}
	for path, text := range texts {
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			to, at := l[1], l[2]
			if strings.Contains(to, "://") {
				continue
			}
			file := path
			if to != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(path), to))
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s: %v", path, err)
			} else if at != "" && !anchors[file+"#"+at] {
				t.Errorf("%s: %s has no heading #%s", path, file, at)
			}
		}
	}
}

// Every test, command and file of ours that the documentation names is there.
func TestNames(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	def := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	walk(t, "_test.go", func(_, text string) {
		for _, f := range def.FindAllStringSubmatch(text, -1) {
			tests[f[1]] = true
		}
	})
	folders, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, f := range folders {
		ours[f.Name()] = f.IsDir()
	}
	named := 0
	for path, text := range markdown(t) {
		for _, name := range oneTest.FindAllString(text, -1) {
			if named++; !tests[name] {
				t.Errorf("%s: there is no %s", path, name)
			}
		}
		for _, c := range command.FindAllStringSubmatch(text, -1) {
			if named++; !ours[c[1]] {
				t.Errorf("%s: there is no program %s", path, c[1])
			}
		}
		for _, q := range quoted.FindAllStringSubmatch(text, -1) {
			first, _, ok := strings.Cut(q[1], "/")
			if !ok || !ours[first] || strings.ContainsAny(q[1], " *<>{}…") {
				continue
			}
			named++
			if _, err := os.Stat(filepath.Join(root, q[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d names found", named)
	}
}
