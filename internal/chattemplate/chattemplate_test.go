package chattemplate

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// goldenJSON is what jinja2 makes of these templates: testdata/golden.py.
//
//go:embed testdata/golden.json
var goldenJSON []byte

type golden struct {
	Name    string
	Config  json.RawMessage
	Renders []struct {
		Messages []Message
		Ask      bool
		Want     string
		Error    string
	}
}

func goldens(t testing.TB) []golden {
	t.Helper()
	var all []golden
	require.NoError(t, json.Unmarshal(goldenJSON, &all))
	require.NotEmpty(t, all)
	return all
}

func TestRendersAsJinjaDoes(t *testing.T) {
	t.Parallel()
	raised := 0
	for _, g := range goldens(t) {
		template, err := Parse(g.Config)
		require.NoError(t, err, g.Name)
		for i, r := range g.Renders {
			got, err := template.Render(r.Messages, r.Ask)
			if r.Error != "" {
				var e *RaisedError
				require.ErrorAs(t, err, &e, "%s %d", g.Name, i)
				require.Equal(t, r.Error, e.Message)
				raised++
				continue
			}
			require.NoError(t, err, "%s %d", g.Name, i)
			require.Equal(t, r.Want, got, "%s %d", g.Name, i)
		}
	}
	require.Positive(t, raised)
}

// TestExamplesBeginWithTheirPrompt holds training and inference to one rendering.
func TestExamplesBeginWithTheirPrompt(t *testing.T) {
	t.Parallel()
	for _, g := range goldens(t) {
		template, err := Parse(g.Config)
		require.NoError(t, err)
		ask := []Message{{"system", "s"}, {"user", "u"}}
		prompt, err := template.Render(ask, true)
		require.NoError(t, err)
		whole, err := template.Render(append(ask, Message{"assistant", "answer"}), false)
		require.NoError(t, err)
		if !slices.Contains([]string{"zephyr", "namespace", "first-prefix", "choices", "macros"}, g.Name) && !strings.HasPrefix(whole, prompt) { // these do not in Python either
			t.Errorf("%s: %q does not begin with %q", g.Name, whole, prompt)
		}
		sent, err := template.Prompt(ask)
		require.NoError(t, err)
		require.Equal(t, strings.TrimPrefix(prompt, template.BOS), sent)
	}
}

func fromSource(t *testing.T, source string) (*Template, error) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"chat_template": source})
	require.NoError(t, err)
	return Parse(body)
}

func TestForeignTemplates(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"a file":                    `{% include '/etc/passwd' %}`,
		"a file's code":             `{% import '/etc/passwd' as x %}`,
		"a parent":                  `{% extends '/etc/passwd' %}`,
		"a long range":              `{% for i in range(1000000000000) %}{% endfor %}`,
		"much text":                 `{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}`,
		"broken":                    `{% for %}`,
		"deep":                      strings.Repeat("{{ (", 5000),
		"nothing there":             `{{ messages | no_such_filter }}`,
		"a macro that calls itself": `{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"two that call each other":  `{% macro f() %}{{ (g() if 1 else '') }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}`,
		"many choices":              `{{ (` + strings.Repeat("1 if 0 else ", 20000) + `2) }}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := fromSource(t, source)
			require.Error(t, err)
			require.Less(t, time.Since(began), time.Minute)
			require.NotContains(t, err.Error(), "root:x")
		})
	}
}

// TestRunaway has a template that writes nothing and does not end: one render is lost, and none is begun after it.
func TestRunaway(t *testing.T) {
	t.Parallel()
	template, err := fromSource(t, `{% if messages|length > 1 %}{% for i in range(3000) %}{% for j in range(3000) %}{% endfor %}{% endfor %}{% endif %}ok`)
	require.NoError(t, err)
	two := []Message{{"user", "a"}, {"user", "b"}}
	_, err = template.Render(two, true)
	if err == nil {
		return // a fast machine
	}
	if !errors.Is(err, ErrTime) {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = template.Render(two[:1], true)
	require.ErrorIs(t, err, ErrTime)
	require.Less(t, time.Since(began), maxTime)
}

// TestTroublesNameTheirPlace holds errors to what a person can look up.
func TestTroublesNameTheirPlace(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"ok\n{% if (1 if 2 else 3) %}\n{{ x y }}":                             "Line: 3",
		"{{ strftime_now('%Y') }}":                                            "today's date",
		"{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}": "",
	} {
		_, err := fromSource(t, source)
		if want == "" {
			require.NoError(t, err, source)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "tokenizer_config.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"bos_token": "<s>", "eos_token": null, "chat_template": "old"}`), 0o600))
	for _, c := range []struct{ path, want string }{{file, "old"}, {dir, "old"}} {
		template, err := Open(c.path)
		require.NoError(t, err)
		got, err := template.Render([]Message{{"user", "x"}}, true)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(`{{ bos_token }}{{ messages[-1].content }}`), 0o600))
	template, err := Open(dir)
	require.NoError(t, err)
	got, err := template.Render([]Message{{"user", "x"}}, true)
	require.NoError(t, err)
	require.Equal(t, "<s>x", got)
	_, err = Open(filepath.Join(dir, "nothing"))
	require.Error(t, err)
}

func FuzzTemplate(f *testing.F) {
	for _, g := range goldens(f) {
		var c struct {
			Template string `json:"chat_template"`
		}
		require.NoError(f, json.Unmarshal(g.Config, &c))
		f.Add(c.Template, "x")
	}
	f.Add(`{{ ('a' if x else 'b' if y) ~ [1 if 2 else 3][0] }}{% raw %}{{ (`, "y")
	f.Add(`{% set x = messages * 3 %}{{ x[5:] }}`, "y")
	f.Fuzz(func(t *testing.T, source, content string) {
		if len(source) > 4000 || strings.Count(source, "range") > 1 || strings.Contains(source, "*") {
			return // slow by right
		}
		template, err := fromSource(t, source)
		if err != nil {
			return
		}
		began := time.Now()
		out, err := template.Render([]Message{{"user", content}}, true)
		if took := time.Since(began); took > 2*maxTime || len(out) > maxPrompt {
			t.Fatal(fmt.Sprint(took, len(out), err))
		}
	})
}
