package docs

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/selfalign/selfalign/"

// row is a line of the table of rooms: the room, its promise, what it may import.
var row = regexp.MustCompile("(?m)^\\| `([^`]+?)/?` \\| (.*) \\| ([^|]*) \\|$")

// The table of rooms names every room, and for each room all others that its code imports and none besides.
func TestRooms(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\n## The house\n")
	if !found {
		t.Fatal("architecture.md has no table of rooms")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	rooms := map[string]string{}
	for _, r := range row.FindAllStringSubmatch(table, -1) {
		rooms[r[1]] = r[3]
	}

	imports := map[string]map[string]bool{} // room → rooms
	walk(t, ".go", func(path, text string) {
		folder := filepath.ToSlash(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(folder, "test") {
			return
		}
		room := roomOf(rooms, folder)
		if room == "" && !strings.HasPrefix(folder, "tools") && folder != "." {
			t.Errorf("the table of rooms in architecture.md lacks %s", folder)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if name, ours := strings.CutPrefix(name, module); ours {
				if imports[room] == nil {
					imports[room] = map[string]bool{}
				}
				imports[room][roomOf(rooms, name)] = true
			}
		}
	})

	for room, says := range rooms {
		if _, err := os.Stat(filepath.Join(root, room)); err != nil {
			t.Errorf("architecture.md: %v", err)
		}
		if strings.HasPrefix(says, "all but ") {
			continue // depguard's to check
		}
		var named []string
		for _, q := range quoted.FindAllStringSubmatch(says, -1) {
			if other := roomOf(rooms, q[1]); other != "" {
				named = append(named, other)
			} else if other := roomOf(rooms, "internal/"+q[1]); other != "" {
				named = append(named, other)
			}
		}
		all := strings.Contains(says, "`internal/*`")
		for other := range imports[room] {
			if other != room && !slices.Contains(named, other) && (!all || !strings.HasPrefix(other, "internal/")) {
				t.Errorf("architecture.md: %s imports %s, its row says: %s", room, other, says)
			}
		}
		for _, other := range named {
			if !imports[room][other] && !all {
				t.Errorf("architecture.md: %s does not import %s, its row says: %s", room, other, says)
			}
		}
	}
}

// roomOf returns the room in which a folder lies, the innermost of them, or "".
func roomOf(rooms map[string]string, folder string) string {
	for folder != "." && folder != "/" {
		if _, ok := rooms[folder]; ok {
			return folder
		}
		folder = filepath.ToSlash(filepath.Dir(folder))
	}
	return ""
}
