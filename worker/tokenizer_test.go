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

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/llm"
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
	providers, err := providersOf(settings)
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
	_, err = providersOf(settings)
	require.ErrorContains(t, err, "provider p: tokenizer")
}
