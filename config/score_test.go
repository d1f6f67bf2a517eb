package config_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
)

const plainScore = `
name: recipe
load: {path: hf://owner/prompts, split: test}
generate: {provider: p, model: writer}
score: {provider: q, model: judge}
`

func TestScoreExampleIsTheRecipe(t *testing.T) {
	t.Parallel()
	s, err := config.LoadScore("../examples/score.yaml", "generate.temperature=0.2")
	if err != nil {
		t.Fatal(err)
	}
	g := s.Generate
	if g == nil || g.Temperature != 0.2 || g.MaxTokens != 1024 || g.Calls() != 50 || s.Score.Temperature != 0.7 || s.Push.Hub == nil || s.Push.Hub.Public {
		t.Fatalf("spec %+v", s)
	}
	if got := s.Load.Address(); got != "hf://HuggingFaceH4/instruction-dataset?split=test" {
		t.Fatal(got)
	}
}

func TestScoreMistakes(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]string{
		"generate.temprature=0.2":          `unknown field "generate.temprature". Try: temperature`,
		"generate.temperature=3":           "must be from 0 to 2",
		"keep.preferences=true":            "needs several answers to a prompt",
		"keep.min_score=0.5":               "must be from 1 to 5",
		"keep.columns=[nothing]":           "none of the values",
		"load.path=prompts.jsonl":          "is for hf:// datasets",
		"push.s3=s3://bucket/folder":       "with a slash at its end",
		"approve=[publish]":                "waits for nothing",
		"push.hub.repo=nobody":             "must match",
		"generate=null":                    "",
		"load.instruction.inner=x":         "has no fields",
		"score.samples":                    "must be path=value",
		"generate.num_generations=[1, 2]":  "must be a whole number",
		"prompts.score={a: b}":             "must be text",
		"score.rubric=addditive":           "Try: additive",
		"load.revision=main":               "",
		"budget.usd=5":                     "",
		"generate.input_batch_size=100001": "must be from 0 to 100000",
	} {
		_, err := config.ParseScore("score.yaml", []byte(plainScore), change)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", change, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, expected %q", change, err, want)
		}
	}
}

func FuzzScoreOverride(f *testing.F) {
	for _, s := range []string{"generate.temperature=0.2", "keep.columns=[score]", "push.hub.repo=a/b", "load[0].path=x", "score.model={{", "=", "generate=", "a.b.c=1e99", "approve=[publish, publish]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, change string) {
		s, err := config.ParseScore("score.yaml", []byte(plainScore), change)
		var told *config.Error
		if err != nil && !errors.As(err, &told) {
			t.Fatalf("%q: %v", change, err)
		}
		if err == nil && s.Validate() != nil {
			t.Fatalf("%q was taken and is not valid", change)
		}
	})
}

func TestScoreSchemaStands(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("../docs/score.schema.json"); err != nil {
		t.Fatal(err)
	}
}

func TestPinnedLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ path, revision, want string }{
		{"hf://a/b", "main", "hf://a/b@c0"},
		{"hf://a/b@v1", "", "hf://a/b@c0"},
		{"hf://a/b@v1?split=test", "", "hf://a/b@c0?split=test"},
		{"hf://a/b@v1/data/x.parquet", "", "hf://a/b@c0/data/x.parquet"},
		{"hf://a/b@refs/pr/1/x.parquet", "", "hf://a/b@c0/x.parquet"},
		{"hf://a/b@refs/convert/parquet", "", "hf://a/b@c0"},
		{"s3://a/b@v1", "", "s3://a/b@v1"},
	} {
		if got := (config.Load{Path: c.path, Revision: c.revision}).At("c0").Address(); got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.path, c.revision, got, c.want)
		}
	}
}

func TestPublishOfARun(t *testing.T) {
	t.Parallel()
	const run = "name: r\nseeds: [{path: s.jsonl}]\ndocuments: [{path: d.txt}]\nmodel: {base: b, trainer: t}\n"
	s, err := config.ParseRun("run.yaml", []byte(run+"publish: {hub: {repo: me/sets, public: true}, jsonl: true}\napprove: [publish]\n"))
	require.NoError(t, err)
	require.True(t, s.Publish.Leaves())
	require.True(t, s.Publish.Hub.Public)
	w, err := config.ParseWorker("w.yaml", []byte("store: {bucket: b}\nproviders: {p: {url: 'http://x/v1'}}\ntrainers: {t: {backend: openai, provider: p}}\nservers: {t: {backend: openai, provider: p}}\n"))
	require.NoError(t, err)
	require.ErrorContains(t, config.CheckTogether(s, w), "publish.hub")
	plain, err := config.ParseRun("run.yaml", []byte(run))
	require.NoError(t, err)
	require.False(t, plain.Publish.Leaves())
	for spec, want := range map[string]string{
		"approve: [publish]\n":             "publish waits for nothing",
		"publish: {s3: 's3://b/f'}\n":      "with a slash at its end",
		"publish: {hub: {repo: nobody}}\n": "must match",
	} {
		_, err := config.ParseRun("run.yaml", []byte(run+spec))
		require.ErrorContains(t, err, want)
	}
}
