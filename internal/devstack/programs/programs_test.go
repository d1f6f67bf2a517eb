package programs

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
)

// A folder that is missing here would let an old binary pass for a new one.
func TestSourcesAreComplete(t *testing.T) {
	t.Parallel()
	root, err := gobuild.Root()
	require.NoError(t, err)
	for _, p := range []gobuild.Program{Temporald, Localstack} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+p.Package)
			cmd.Dir = root
			out, err := cmd.Output()
			require.NoError(t, err)
			var want []string
			for path := range strings.Lines(string(out)) {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(path), gobuild.Module+"/"); ok {
					want = append(want, rest)
				}
			}
			require.NotEmpty(t, want)
			have := append([]string(nil), p.Sources...)
			slices.Sort(want)
			slices.Sort(have)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Fatalf("sources of %s (-go list +here):\n%s", p.Name, diff)
			}
		})
	}
}
