package gobuild

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const listing = `{"ImportPath":"errors","Dir":"/go/errors","Standard":true,"GoFiles":["errors.go"]}
{"ImportPath":"a/small","Dir":"/a","Stale":true,"GoFiles":["a.go"]}
{"ImportPath":"a/large","Dir":"/b","Stale":true,"GoFiles":["b.go","c.go"],"CFiles":["d.c"]}
{"ImportPath":"unsafe","Stale":true}
{"ImportPath":"a/main","Dir":"/c","Stale":true,"GoFiles":["main.go"]}
`

func testPlan(t *testing.T) (*plan, *time.Duration) {
	t.Helper()
	p, err := readPlan(strings.NewReader(listing), func(l listed) int64 {
		return int64(len(l.GoFiles)) * 80_000
	})
	require.NoError(t, err)
	begin, elapsed := time.Unix(0, 0), new(time.Duration)
	p.started = begin
	p.now = func() time.Time { return begin.Add(*elapsed) }
	return p, elapsed
}

func TestPlanHoldsWhatIsStale(t *testing.T) {
	t.Parallel()
	p, _ := testPlan(t)
	require.Equal(t, map[string]int64{"a/small": 100_000, "a/large": 180_000, "a/main": 100_000}, p.weight)
	require.Equal(t, int64(380_000), p.total)

	_, err := readPlan(strings.NewReader(`{"ImportPath":`), sourceSize)
	require.Error(t, err)
	p, err = readPlan(strings.NewReader(""), sourceSize)
	require.NoError(t, err)
	require.Equal(t, Linking, p.at(0, 0, "").Phase)
}

func TestFollowCountsPackages(t *testing.T) {
	t.Parallel()
	p, elapsed := testPlan(t)
	said := "go: some remark\na/small\nerrors\n# a/large\nx.go:1:2: warning\na/large\na/large\na/main\n"
	var got []Progress
	p.follow(strings.NewReader(said), func(x Progress) {
		*elapsed += 10 * time.Second
		got = append(got, x)
	})
	want := []Progress{
		{Phase: Compiling, Done: 1, Total: 3, Item: "a/small"},
		{Phase: Compiling, Done: 2, Total: 3, Item: "a/large", Elapsed: 10 * time.Second},
		{Phase: Linking, Done: 3, Total: 3, Item: "a/main", Elapsed: 20 * time.Second},
	}
	for i := range got { // the estimate has a test of its own
		got[i].Left = 0
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// The estimate is never negative, never less than nothing once it is given, and falls to the share of linking at the end.
func TestTimeLeft(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &plan{weight: map[string]int64{"a": 1, "b": 1, "c": 1}, total: rapid.Int64Range(1, 1e9).Draw(t, "total")}
		elapsed := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "elapsed"))
		p.now = func() time.Time { return time.Time{}.Add(elapsed) }
		got := p.at(1, rapid.Int64Range(0, p.total).Draw(t, "weight"), "")
		if got.Left != 0 && got.Left < time.Second {
			t.Fatalf("left %s", got.Left)
		}
	})
	p := &plan{weight: map[string]int64{"a": 1, "b": 1}, total: 1000, now: func() time.Time { return time.Time{}.Add(100 * time.Second) }}
	require.Zero(t, p.at(1, 10, "").Left, "too early to say")
	require.Equal(t, 106*time.Second, p.at(1, 500, "").Left.Round(time.Second))
	require.Equal(t, 3*time.Second, p.at(2, 1000, "").Left.Round(time.Second))
}

func TestProgressInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		p    Progress
		want string
	}{
		{Progress{Phase: Looking}, "looking what is built already"},
		{Progress{Phase: Downloading, Done: 3, Item: "x.org/y v1.2.3"}, "downloading modules: 3 so far (x.org/y v1.2.3)"},
		{Progress{Phase: Compiling, Done: 3, Total: 1780}, "compiling: 3 of 1780 packages"},
		{Progress{Phase: Compiling, Done: 900, Total: 1780, Left: 250 * time.Second}, "compiling: 900 of 1780 packages, about 4 min left"},
		{Progress{Phase: Compiling, Done: 1700, Total: 1780, Left: 42 * time.Second}, "compiling: 1700 of 1780 packages, about 42 s left"},
		{Progress{Phase: Linking, Done: 1780, Total: 1780}, "linking"},
	} {
		require.Equal(t, c.want, c.p.String())
	}
}

func TestDownloadsAreCounted(t *testing.T) {
	t.Parallel()
	var got []string
	followDownloads(strings.NewReader("go: downloading a.org/b v1.0.0\nnoise\ngo: downloading c.org/d v2.0.0\n"), time.Now(),
		func(p Progress) { got = append(got, p.Item) })
	require.Equal(t, []string{"a.org/b v1.0.0", "c.org/d v2.0.0"}, got)
}

// module makes a module with one program and returns its folder.
func module(t *testing.T, body string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "tool"), 0o755))
	for name, text := range map[string]string{
		"go.mod": "module " + Module + "\n\ngo 1.26\n", "go.sum": "", "tool/main.go": body, "tool/main_test.go": "package main\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

var tool = Program{Name: "tool", Package: "tool", Sources: []string{"tool"}}

func TestCachedBuildsOnceForEachState(t *testing.T) {
	t.Parallel()
	root, cache := module(t, "package main\n\nfunc main() { println(1) }\n"), t.TempDir()
	said := 0
	build := func() string {
		binary, err := Cached(t.Context(), root, cache, tool, func(Progress) { said++ })
		require.NoError(t, err)
		return binary
	}
	first := build()
	require.Positive(t, said)
	said = 0
	require.Equal(t, first, build())
	require.Zero(t, said, "nothing to build")

	require.NoError(t, os.WriteFile(filepath.Join(root, "tool", "main_test.go"), []byte("package main // changed\n"), 0o644))
	require.Equal(t, first, build(), "tests do not count")

	require.NoError(t, os.WriteFile(filepath.Join(root, "tool", "main.go"), []byte("package main\n\nfunc main() { println(2) }\n"), 0o644))
	second := build()
	require.NotEqual(t, first, second)
	out, err := exec.Command(second).CombinedOutput()
	require.NoError(t, err)
	require.Equal(t, "2\n", string(out))

	require.NoError(t, os.WriteFile(filepath.Join(root, "go.sum"), []byte("\n"), 0o644))
	require.NotEqual(t, second, build())
}

func TestBuildsAtOnceBuildOnce(t *testing.T) {
	t.Parallel()
	root, cache := module(t, "package main\n\nfunc main() {}\n"), t.TempDir()
	errs := make(chan error, 4)
	for range 4 {
		go func() {
			binary, err := Cached(t.Context(), root, cache, tool, nil)
			if err == nil {
				err = exec.Command(binary).Run()
			}
			errs <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-errs)
	}
}

func TestBuildErrorsAreTheCompilers(t *testing.T) {
	t.Parallel()
	root := module(t, "package main\n\nfunc main() { nowhere() }\n")
	_, err := Cached(t.Context(), root, t.TempDir(), tool, nil)
	require.ErrorContains(t, err, "undefined: nowhere")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = Build(ctx, root, []string{"tool"}, filepath.Join(t.TempDir(), "x"), nil)
	require.True(t, errors.Is(err, context.Canceled), err)
}

func TestTogetherPutsEachInItsPlace(t *testing.T) {
	t.Parallel()
	root, cache, out := module(t, "package main\n\nfunc main() {}\n"), t.TempDir(), filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "other"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "other", "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644))
	for range 2 {
		require.NoError(t, Together(t.Context(), root, cache, out, []string{"other"}, []Program{tool}, nil))
		require.NoError(t, exec.Command(filepath.Join(out, "other")).Run())
		require.NoFileExists(t, filepath.Join(out, "tool"))
		binary, ok, err := find(t.Context(), root, cache, tool)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, exec.Command(binary).Run())
	}
}

func TestSweepRemovesWhatNobodyUsed(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	for name, age := range map[string]time.Duration{"tool-old": 2 * keepBuilds, "tool-new": time.Hour, "tool-current": 2 * keepBuilds} {
		dir := filepath.Join(cache, name)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		binary := filepath.Join(dir, "tool")
		require.NoError(t, os.WriteFile(binary, nil, 0o755))
		require.NoError(t, os.Chtimes(binary, time.Now().Add(-age), time.Now().Add(-age)))
	}
	sweep(cache, "tool", filepath.Join(cache, "tool-current"))
	require.NoDirExists(t, filepath.Join(cache, "tool-old"))
	require.DirExists(t, filepath.Join(cache, "tool-new"))
	require.DirExists(t, filepath.Join(cache, "tool-current"))
}

func TestRootIsThisModule(t *testing.T) {
	t.Parallel()
	root, err := Root()
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "internal", "devstack", "gobuild", "gobuild.go"))
	require.False(t, isRoot(t.TempDir()))
}
