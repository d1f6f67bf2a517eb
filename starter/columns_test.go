package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

// TestWrongColumns has plan, score and start name the columns there are, before anything is sent or asked.
func TestWrongColumns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, body string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(body), 0o600))
		return path
	}
	settings := write("worker.yaml", `
temporal: {address: "127.0.0.1:1"}
store: {bucket: b, endpoint: "http://127.0.0.1:1", path_style: true}
providers: {p: {url: "http://127.0.0.1:1/v1"}}
trainers: {t: {backend: openai, provider: p}}
servers: {t: {backend: openai, provider: p}}
`)
	write("rows.jsonl", "{\"prompt\": \"Why?\", \"completion\": \"So.\"}\n{\"prompt\": \"How?\", \"completion\": \"Thus.\"}\n")
	type row struct {
		Prompt     string `parquet:"prompt"`
		Completion string `parquet:"completion"`
	}
	require.NoError(t, parquet.WriteFile(filepath.Join(dir, "rows.parquet"), []row{{"Why?", "So."}}))
	score := write("score.yaml", `
name: s
load: {path: rows.jsonl, instruction: promt}
generate: {provider: p, model: m}
score: {provider: p, model: m}
`)
	train := write("run.yaml", `
name: r
seeds: [{path: rows.jsonl, instruction: promt, output: completion}]
documents: [{path: rows.jsonl, text: completion}]
model: {base: m, trainer: t, server: t}
`)
	command := func(args ...string) (int, string, string) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
		return code, stdout.String(), stderr.String()
	}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"plan", "-f", score}, []string{`"promt"`, "completion, prompt", "under load, instruction: prompt"}},
		{[]string{"plan", "-f", score, "--set", "load.path=rows.parquet"}, []string{"no column promt", "there are prompt, completion", "under load, instruction: prompt"}},
		{[]string{"score", "-f", score}, []string{`"promt"`, "completion, prompt", "under load, instruction: prompt"}},
		{[]string{"score", "-f", score, "--set", "load.path=rows.parquet"}, []string{"no column promt", "there are prompt, completion"}},
		{[]string{"score", "-f", score, "--set", "load.instruction=prompt", "--set", "load.system=sys", "--set", "load.path=rows.parquet", "--check"}, []string{"no column sys", "there are prompt, completion"}},
		{[]string{"plan", "-f", train}, []string{`"promt"`, "completion, prompt", "instruction: prompt"}},
		{[]string{"start", "-f", train}, []string{`"promt"`, "completion, prompt", "instruction: prompt"}},
	} {
		code, _, stderr := command(append(c.args, "-w", settings)...)
		require.Equal(t, exitUsage, code, "%v: %s", c.args, stderr)
		for _, want := range c.says {
			require.Contains(t, stderr, want, "%v", c.args)
		}
	}
	code, out, stderr := command("score", "-f", score, "--set", "load.instruction=prompt", "--check", "-w", settings)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, out, "well formed")
}
