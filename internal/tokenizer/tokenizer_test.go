package tokenizer_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/internal/tokenizer"
)

const (
	model = "models:ann/model-instruct"
	token = "hf_readsonly"
)

func config(template string) []byte {
	return []byte(`{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "` + template + `"}`)
}

func start(t *testing.T) (*hubtest.Server, *tokenizer.Shelf) {
	t.Helper()
	server, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { server.Close() })
	server.AddToken(token, hubtest.Account{User: "ann"})
	client, err := hub.New(hub.Options{Endpoint: server.URL(), Attempts: 2, Backoff: time.Millisecond, Token: func() string { return token }})
	require.NoError(t, err)
	return server, &tokenizer.Shelf{Store: s3test.Store(t), Hub: client}
}

func TestFindPinsTheCommit(t *testing.T) {
	t.Parallel()
	server, shelf := start(t)
	server.AddRepo(model, false, true) // gated
	first := server.Put(model, "main", map[string][]byte{"tokenizer_config.json": config("old {{ messages[0].content }}")})
	old, err := shelf.Find(t.Context(), "ann/model-instruct", "")
	require.NoError(t, err)
	require.Equal(t, "hf://ann/model-instruct@"+first, old.From)
	require.Equal(t, chattemplate.Source{From: old.From, Template: "old {{ messages[0].content }}", BOS: "<s>", EOS: "</s>"}, old)

	second := server.Put(model, "main", map[string][]byte{ // the newer layout: a file of its own
		"tokenizer_config.json": config("old {{ messages[0].content }}"), "chat_template.jinja": []byte("new {{ messages[0].content }}"),
	})
	moved, err := shelf.Find(t.Context(), "ann/model-instruct", "main")
	require.NoError(t, err)
	require.Equal(t, "new {{ messages[0].content }}", moved.Template)
	require.Contains(t, moved.From, second)
	require.NotEqual(t, old.Digest(), moved.Digest())

	server.SetFault(func(*http.Request) hubtest.Fault { return hubtest.Fault{Drop: true} })
	again, err := shelf.Find(t.Context(), "ann/model-instruct", first)
	require.NoError(t, err, "a commit that was read is asked for no more")
	require.Equal(t, old, again)
	_, err = shelf.Find(t.Context(), "ann/model-instruct", "main")
	require.ErrorIs(t, err, hub.ErrPassing)
	require.NotErrorAs(t, err, new(*tokenizer.Error), "what passes is no matter for a person")
}

func TestWhatAPersonHasToMend(t *testing.T) {
	t.Parallel()
	server, shelf := start(t)
	server.AddRepo("models:bob/gated", false, true)
	server.Put("models:bob/gated", "main", map[string][]byte{"tokenizer_config.json": config("x")})
	server.AddRepo(model, false, false)
	server.Put(model, "main", map[string][]byte{"config.json": []byte("{}")})
	server.AddRepo("models:ann/base", false, false)
	server.Put("models:ann/base", "main", map[string][]byte{"tokenizer_config.json": []byte(`{"bos_token": null}`)})
	server.AddRepo("models:ann/huge", false, false)
	server.Put("models:ann/huge", "main", map[string][]byte{"tokenizer_config.json": []byte(strings.Repeat(" ", chattemplate.MaxConfig+1))})
	server.AddRepo("models:ann/odd", false, false)
	server.Put("models:ann/odd", "main", map[string][]byte{"tokenizer_config.json": config("{% set a, b = messages[0].role, messages[0].content %}{{ b }}")})
	for _, c := range []struct{ id, revision, says, try string }{
		{"ann/odd", "", "Jinja that is not read here", "api: chat and no tokenizer"},
		{"bob/gated", "", "access not granted", "accept the conditions"},
		{"ann/nothing", "", "not found", "owner and name"},
		{"ann/model-instruct", "", "not found", "no tokenizer_config.json"},
		{"ann/model-instruct", "v9", "not found", "revision"},
		{"ann/base", "", "no chat_template", "instruct variant"},
		{"ann/huge", "", "over the limit", ""},
		{"a b/c", "", "owner/name", "owner/name"},
	} {
		_, err := shelf.Find(t.Context(), c.id, c.revision)
		var e *tokenizer.Error
		require.ErrorAs(t, err, &e, c.id)
		require.ErrorContains(t, err, c.says, c.id)
		require.Contains(t, e.Try, c.try, c.id)
		require.NotContains(t, err.Error(), token)
	}
}

func TestLocal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := tokenizer.Local(dir)
	require.ErrorAs(t, err, new(*tokenizer.Error))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), config("{{ messages[0].content }}"), 0o600))
	found, err := tokenizer.Local(dir)
	require.NoError(t, err)
	require.Equal(t, dir, found.From)
	require.NotEmpty(t, found.Digest())

	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), config("{% set a, b = messages[0].role, messages[0].content %}{{ b }}"), 0o600))
	_, err = tokenizer.Local(dir)
	var e *tokenizer.Error
	require.ErrorAs(t, err, &e)
	require.Contains(t, e.Try, "api: chat and no tokenizer")
}
