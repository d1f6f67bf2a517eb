package endtoend

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
)

// TestTableIsTrue holds "What if it dies here" in docs/architecture.md to the tests that there are: it names none that is not
// there, and every point at which a run is killed here.
func TestTableIsTrue(t *testing.T) {
	t.Parallel()
	root, err := gobuild.Root()
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "## What if it dies here")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")

	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		body, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(body, -1) {
			there[string(m[1])] = true
		}
		return err
	}))
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(table, -1)
	require.Greater(t, len(named), 20)
	for _, m := range named {
		require.True(t, there[m[1]], "there is no %s", m[1])
	}
	for _, group := range points() {
		for _, p := range group {
			require.Contains(t, table, p.name)
		}
	}
}
