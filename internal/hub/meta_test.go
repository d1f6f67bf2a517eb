package hub

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseMeta(t *testing.T) {
	t.Parallel()
	one := func(split string, paths ...string) []SplitMeta { return []SplitMeta{{split, paths}} }
	cases := []struct {
		name, in string
		want     Meta
		says     string
	}{
		{"no front matter", "# Hello\n---\nlicense: mit\n---\n", Meta{}, ""},
		{"empty", "", Meta{}, ""},
		{"not closed", "---\nlicense: mit\n", Meta{}, ""},
		{"licence", "---\nlicense: mit\n---\nbody", Meta{License: "mit"}, ""},
		{"licences", "---\nlicense: [mit, x]\n---", Meta{}, ""},
		{"windows", "\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n", Meta{License: "mit"}, ""},
		{"a glob", "---\nconfigs:\n- config_name: default\n  data_files: 'data/*.parquet'\n---\n", Meta{Configs: []ConfigMeta{{Name: "default", Splits: one("train", "data/*.parquet")}}}, ""},
		{"globs", "---\nconfigs:\n- config_name: en\n  default: true\n  data_dir: en\n  data_files: [a, b]\n---\n", Meta{Configs: []ConfigMeta{{Name: "en", Default: true, Dir: "en", Splits: one("train", "a", "b")}}}, ""},
		{"splits", "---\nconfigs:\n- config_name: 2024\n  data_files:\n  - split: train\n    path: x/train-*\n  - split: test\n    path:\n    - y\n    - z\n---\n", Meta{Configs: []ConfigMeta{{Name: "2024", Splits: []SplitMeta{{"train", []string{"x/train-*"}}, {"test", []string{"y", "z"}}}}}}, ""},
		{"map", "---\nconfigs:\n- config_name: a\n  data_files: {train: x, test: [y]}\n---\n", Meta{Configs: []ConfigMeta{{Name: "a", Splits: []SplitMeta{{"train", []string{"x"}}, {"test", []string{"y"}}}}}}, ""},
		{"only a folder", "---\nconfigs:\n- config_name: a\n  data_dir: a\n---\n", Meta{Configs: []ConfigMeta{{Name: "a", Dir: "a"}}}, ""},
		{"no name", "---\nconfigs:\n- data_files: x\n---\n", Meta{}, "configs[0].config_name"},
		{"same name", "---\nconfigs:\n- config_name: a\n- config_name: a\n---\n", Meta{}, "configs[1].config_name"},
		{"no path", "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n---\n", Meta{}, "configs[0].data_files"},
		{"no YAML", "---\nconfigs: {[\n---\n", Meta{}, "front matter"},
		{"laughs", "---\nconfigs:\n- &a {config_name: x}\n- *a\n---\n", Meta{}, "aliases"},
		{"a title with a star and an ampersand", "---\npretty_name: \"a & b * c\"\nlicense: mit\n---\n", Meta{License: "mit"}, ""},
		{"nonsense elsewhere", "---\ndataset_info: {[ *x\n  - y\nlicense: mit\ntags: &a [*a]\n---\n", Meta{License: "mit"}, ""},
		{"large", "---\nconfigs:\n" + strings.Repeat("# x\n", 200000) + "---\n", Meta{}, "over the limit"},
	}
	for _, tc := range cases {
		got, err := ParseMeta([]byte(tc.in))
		if tc.says != "" {
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got, cmpopts.SortSlices(func(a, b SplitMeta) bool { return a.Name > b.Name })); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte("---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n# Card\n"))
	f.Add([]byte("---\na: &a [*a]\n---\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = ParseMeta(b)
	})
}

func TestGlob(t *testing.T) {
	t.Parallel()
	cases := []struct {
		pattern, path string
		want          bool
	}{
		{"data/train-*", "data/train-00000-of-00001.parquet", true},
		{"data/train-*", "data/train-x/y.parquet", false},
		{"**", "a/b/c.parquet", true},
		{"**/*.parquet", "c.parquet", true},
		{"**/*.parquet", "a/b/c.parquet", true},
		{"a/**", "a/b/c.parquet", true},
		{"a/**", "b/c.parquet", false},
		{"a/**/c.parquet", "a/c.parquet", true},
		{"./a.parquet", "a.parquet", true},
		{"x-[0-9][0-9].parquet", "x-01.parquet", true},
		{"x-[0-9].parquet", "x-a.parquet", false},
		{"x-[!0-9].parquet", "x-a.parquet", true},
		{"x-[a].parquet", "x-[a].parquet", false},
		{"x[.parquet", "x[.parquet", true},
		{"a?.parquet", "ab.parquet", true},
		{"a.parquet", "aXparquet", false},
		{"é*.parquet", "éa.parquet", true},
		{"(a|b)+.parquet", "(a|b)+.parquet", true},
	}
	for _, tc := range cases {
		re, err := compileGlob(tc.pattern)
		if err != nil {
			t.Errorf("%s: %v", tc.pattern, err)
			continue
		}
		if re.MatchString(tc.path) != tc.want {
			t.Errorf("%s on %s: %t", tc.pattern, tc.path, !tc.want)
		}
	}
	for _, tc := range []struct {
		path, pattern string
		want          bool
	}{{".x/a", "**", true}, {"a/.b", "a/*", true}, {"a/.b", "a/.*", false}, {"__x__/a", "**", true}, {"a/__b", "**", false}, {"a/b", "**", false}} {
		if hidden(tc.path, tc.pattern) != tc.want {
			t.Errorf("%s by %s: %t", tc.path, tc.pattern, !tc.want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("data/[a-", "data/x")
	f.Add("**/[]]*?", "x")
	f.Fuzz(func(_ *testing.T, pattern, path string) {
		if re, err := compileGlob(pattern); err == nil {
			re.MatchString(path)
		}
	})
}

func TestCardText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain-1.0": `plain-1.0`, "no": `"no"`, "NaN": `"NaN"`, "": `""`, "1": `"1"`, "1e3": `"1e3"`, "a: b": `"a: b"`,
		"a\"\\\n": `"a\"\\\n"`, "é😀": `"é😀"`, "\x00\x7f\u2028": `"\u0000\u007F\u2028"`, "\xff": `"` + "\uFFFD" + `"`, "a b": `"a b"`, "-": `"-"`,
	} {
		if got := yamlText(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	for in, want := range map[string]string{
		"a|b\nc": `a\|b c`, "<script>": "&#60;script&#62;", "[x](y)": `\[x\]\(y\)`, "http://a": "http&#58;//a", "www.a.b": "www&#46;a.b", "a@b.c": "a&#64;b.c",
		"# x": `\# x`, "- x": "\u200B- x", "1. x": "\u200B1. x", "\u202Eevil": "evil", "4.5": "4.5", "a: b": "a: b",
	} {
		if got := inlineText(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	if got := fenced("text", "a\n````\nb"); got != "`````text\na\n````\nb\n`````\n" {
		t.Error(got)
	}
	if shorten("äöü", 2) != "äö …" || shorten("äöü", 3) != "äöü" {
		t.Error(shorten("äöü", 2))
	}
	if thousands(-1234567) != "-1,234,567" || thousands(999) != "999" {
		t.Error(thousands(-1234567))
	}
}

// FuzzCard checks that no text can leave its place in the front matter, and that samples stay in their fences.
func FuzzCard(f *testing.F) {
	f.Add("---\nlicense: evil\n---", "```\n---\n</script>")
	f.Add("a: &x [*x]", "\u2028\x85---")
	f.Fuzz(func(t *testing.T, title, text string) {
		card := Card{
			Title: title, License: "mit", Tags: []string{title}, Languages: []string{title}, Spec: text, Method: []string{text},
			Configs: []CardConfig{{Name: "default", Splits: []CardSplit{{Name: "train", Path: title + "/*.parquet"}}}},
			Samples: []CardSample{{Fields: [][2]string{{title, text}}}},
		}
		readme, err := card.README()
		if err != nil {
			t.Fatal(err)
		}
		meta, err := ParseMeta(readme)
		if err != nil {
			t.Fatalf("%v\n%s", err, readme)
		}
		if meta.License != "mit" || len(meta.Configs) != 1 || len(meta.Configs[0].Splits) != 1 {
			t.Fatalf("%+v\n%s", meta, readme)
		}
		if got, want := meta.Configs[0].Splits[0].Paths[0], strings.ToValidUTF8(title, "\uFFFD")+"/*.parquet"; got != want {
			t.Fatalf("%q, expected %q\n%s", got, want, readme)
		}
		_, body, _ := frontMatter(readme)
		fence := ""
		for line := range strings.Lines(string(body)) {
			line = strings.TrimRight(line, "\n")
			switch m := fenceRE.FindString(line); {
			case fence == "" && m != "":
				fence = m
			case fence != "" && line == fence:
				fence = ""
			}
		}
		if fence != "" {
			t.Fatalf("a fence stays open\n%s", body)
		}
	})
}

var fenceRE = regexp.MustCompile("^```+")

// TestCard compares the card with the one that was read through and shown to the official library.
func TestCard(t *testing.T) {
	t.Parallel()
	card := Card{
		Title: "Self-aligned pairs", Description: "Instructions written for human texts.", License: "cc-by-4.0", Languages: []string{"en", "no"}, Tags: []string{"rlaif", "synthetic"},
		Distilled: true,
		Configs: []CardConfig{
			{Name: "default", Default: true, Splits: []CardSplit{{Name: "train", Rows: 41234}, {Name: "test", Rows: 4321}}},
			{Name: "rated", Splits: []CardSplit{{Name: "train", Rows: 502133}}},
		},
		Method:  []string{"A backward model writes an instruction for each text.", "A judge rates each pair from 1 to 5."},
		Models:  []CardModel{{"instructions", "m-yx", "3fa2b1c4"}, {"ratings", "gpt-4|x", "gpt-4"}},
		Prompts: map[string]string{"rate": "rate@1-3fa2b1c4", "backtranslate": "backtranslate@1-0a1b2c3d"},
		Counts:  []CardCount{{"segments", 600000, 502133, 97867, "duplicate 60,000, too_short 37,867"}, {"curated", 502133, 45555, 456578, "score below 5"}},
		Scores:  map[string]int64{"1": 100, "2": 2000, "3": 30000, "4": 60000, "5": 45555},
		Sources: []string{"hf://datasets/a/b@0123 (apache-2.0)"},
		Lineage: []CardLink{{"segments", "s3://bucket/run/segments", "abc"}},
		Samples: []CardSample{{Fields: [][2]string{{"instruction", "Show ```code```\n---\nlicense: evil"}, {"output", strings.Repeat("long ", 300)}}}},
		Run:     "run-1", Version: "v1", SpecName: "run.yaml", Spec: "version: 1\n",
	}
	got, err := card.README()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/card.md"
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != string(got) {
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Errorf("%v: %s", err, cmp.Diff(string(want), string(got)))
	}
	for name, bad := range map[string]Card{
		"slash in config": {Configs: []CardConfig{{Name: "a/b", Splits: []CardSplit{{Name: "train"}}}}},
		"hidden config":   {Configs: []CardConfig{{Name: ".a", Splits: []CardSplit{{Name: "train"}}}}},
		"dash in split":   {Configs: []CardConfig{{Name: "a", Splits: []CardSplit{{Name: "train-1"}}}}},
		"no split":        {Configs: []CardConfig{{Name: "a"}}},
		"two defaults":    {Configs: []CardConfig{{Name: "default", Splits: []CardSplit{{Name: "train"}}}, {Name: "b", Default: true, Splits: []CardSplit{{Name: "train"}}}}},
	} {
		if _, err := bad.README(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzAnswers feeds foreign answers of the API to what reads them.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`[{"type":"file","path":"a.parquet","oid":"x","size":3,"lfs":{"oid":"00","size":3}}]`), `<https://huggingface.co/api/x?cursor=1>; rel="next"`)
	f.Add([]byte(`{"objects":[{"oid":"x","actions":{"upload":{"href":"http://x","header":{"chunk_size":5,"00001":"u"}}}}]}`), `<a>; rel=next, <b`)
	c, err := New(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, link string) {
		var entries []treeEntry
		if json.Unmarshal(body, &entries) == nil {
			for _, e := range entries {
				if file, ok, err := e.file(); ok && err == nil && (file.Size < 0 || !validPath(file.Path) || (file.SHA256 != "" && !validDigest(file.SHA256))) {
					t.Errorf("took %+v", file)
				}
			}
		}
		var batch struct {
			Objects []lfsObject `json:"objects"`
		}
		_ = json.Unmarshal(body, &batch)
		messageOf(map[string][]string{}, body)
		pushKey(string(body))
		if u, err := c.nextPage(map[string][]string{"Link": {link}}); err == nil && u != nil && !c.home(u) {
			t.Errorf("%q leads to %s", link, u)
		}
	})
}

// TestDeepMeta reads front matter made to be slow.
func TestDeepMeta(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"[", "{", "- ", "? ", "a: [", "{a: ", "!!str ", "&a ", "\"", "| \n "} {
		start := time.Now()
		_, err := ParseMeta([]byte("---\nconfigs:\n " + strings.Repeat(part, (16<<10)/len(part)) + "\n---\n"))
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%q: %s, %v", part, took, err)
		}
	}
}
