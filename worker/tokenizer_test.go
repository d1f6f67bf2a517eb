package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/internal/tokenizer"
)

// TestTokenizer asks a completions endpoint through the template that the settings name, and holds what goes out to it.
func TestTokenizer(t *testing.T) {
	t.Parallel()
	var prompt string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Prompt string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		prompt = body.Prompt
		fmt.Fprint(w, `{"choices":[{"text":"yes","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "tokenizer_config.json")
	write := func(template string) {
		body, err := json.Marshal(map[string]any{"bos_token": "<s>", "chat_template": template})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, body, 0o600))
	}
	settings, err := config.ParseWorker("worker.yaml", fmt.Appendf(nil, "store: {bucket: b}\nproviders: {p: {url: %q, api: completions, tokenizer: %q}}\n", s.URL+"/v1", path))
	require.NoError(t, err)
	write(`{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}`)
	providers, err := providersOf(settings, activities.TemplatesOf(settings.Providers, nil))
	require.NoError(t, err)
	pool := llm.NewPool(providers)
	defer pool.Close()
	client, err := pool.Client("p")
	require.NoError(t, err)
	r, err := client.Complete(t.Context(), llm.Request{Model: "m", Messages: []llm.Message{{Role: "user", Content: "Well?"}}})
	require.NoError(t, err)
	require.Equal(t, "yes", r.Text)
	require.Equal(t, "<|user|>Well?", prompt, "the server puts the first token itself")
	_, err = client.Complete(t.Context(), llm.Request{Model: "m", Messages: []llm.Message{{Role: "system", Content: "s"}, {Role: "user", Content: "u"}}})
	require.Equal(t, llm.ClassPermanent, llm.ClassOf(err), "%v", err)
	require.ErrorContains(t, err, "one at a time")

	write(`{% for %}`)
	_, err = providersOf(settings, activities.TemplatesOf(settings.Providers, nil))
	require.ErrorContains(t, err, "provider p: tokenizer")
}

// TestTokenizerOfTheHub has a preflight tell what is wrong with a tokenizer's id before anything is asked, and trials wait for the Hub.
func TestTokenizerOfTheHub(t *testing.T) {
	t.Parallel()
	remote, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	defer remote.Close()
	remote.AddRepo("models:o/instruct", false, false)
	remote.Put("models:o/instruct", "main", map[string][]byte{"tokenizer_config.json": []byte(`{"chat_template": "<{{ messages[0].content }}>"}`)})
	var prompt string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Prompt string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		prompt = body.Prompt
		fmt.Fprint(w, `{"data":[{"id":"m"}],"choices":[{"text":"yes","finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	}))
	defer s.Close()
	settings, err := config.ParseWorker("worker.yaml", fmt.Appendf(nil, `
store: {bucket: b}
hub: {endpoint: %q}
providers:
  good: {url: %q, api: completions, tokenizer: o/instruct}
  bad: {url: %q, api: completions, tokenizer: hf://o/nothing}
`, remote.URL(), s.URL+"/v1", s.URL+"/v1"))
	require.NoError(t, err)
	store := s3test.Store(t)
	client, err := hub.New(hub.Options{Endpoint: remote.URL(), Attempts: 1})
	require.NoError(t, err)
	templates := &stage.Templates{Find: activities.TemplatesOf(settings.Providers, &tokenizer.Shelf{Store: store, Hub: client})}
	providers, err := providersOf(settings, templates.Find)
	require.NoError(t, err, "the Hub is not asked when a worker starts")
	pool := llm.NewPool(providers)
	defer pool.Close()
	preflight := func(generate, score string) error {
		spec, err := config.ParseScore("score.yaml", fmt.Appendf(nil, "name: s\nload: {path: s3://b/x.jsonl}\ngenerate: {provider: %s, model: m}\nscore: {provider: %s, model: m}\n", generate, score))
		require.NoError(t, err)
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		runs := &activities.Runs{Store: store, Models: pool, Settings: settings, Templates: templates}
		env.RegisterActivity(runs)
		_, err = env.ExecuteActivity(runs.PreflightScore, spec)
		return err
	}
	require.NoError(t, preflight("good", "good"))
	trouble, needsAPerson := activities.TroubleOf(preflight("good", "bad"))
	require.True(t, needsAPerson)
	require.Equal(t, "tokenizer", trouble.Class)
	require.Contains(t, trouble.Way, "providers.bad.tokenizer")
	require.Contains(t, trouble.Message, "hf://o/nothing")

	ask, err := pool.Client("good")
	require.NoError(t, err)
	remote.SetFault(func(*http.Request) hubtest.Fault { return hubtest.Fault{Drop: true} })
	_, err = ask.Complete(t.Context(), llm.Request{Model: "m", Messages: []llm.Message{{Role: "user", Content: "Well?"}}})
	require.Equal(t, llm.ClassPassing, llm.ClassOf(err), "%v", err)
	remote.SetFault(nil)
	_, err = ask.Complete(t.Context(), llm.Request{Model: "m", Messages: []llm.Message{{Role: "user", Content: "Well?"}}})
	require.NoError(t, err)
	require.Equal(t, "<Well?>", prompt)
}
