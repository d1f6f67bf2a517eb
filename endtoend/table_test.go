package endtoend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
)

// TestTableIsTrue holds "What if it dies here" in docs/architecture.md to the points at which a run is killed here: it names
// every one. That the tests it names are there is seen in package docs.
func TestTableIsTrue(t *testing.T) {
	t.Parallel()
	root, err := gobuild.Root()
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	_, table, found := strings.Cut(string(page), "## What if it dies here")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n## ")

	for _, group := range points() {
		for _, p := range group {
			require.Contains(t, table, p.name)
		}
	}
}
