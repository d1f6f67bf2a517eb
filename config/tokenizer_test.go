package config_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
)

func TestTokenizerNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"meta-llama/Llama-3.1":         {"meta-llama/Llama-3.1", ""},
		"hf://meta-llama/Llama-3.1":    {"meta-llama/Llama-3.1", ""},
		"owner/name@v1.2":              {"owner/name", "v1.2"},
		"hf://owner/name@refs/pr/3":    {"owner/name", "refs/pr/3"},
		"./models/llama":               {},
		"/models/llama":                {},
		"models/tokenizer_config.json": {},
		"a/b/c":                        {},
		"":                             {},
	} {
		id, revision, ok := config.Provider{Tokenizer: name}.HubTokenizer()
		require.Equal(t, want, [2]string{id, revision}, name)
		require.Equal(t, want[0] != "", ok, name)
	}
	_, err := config.ParseWorker("w.yaml", fmt.Appendf(nil, "store: {bucket: b}\nproviders: {p: {url: http://x/v1, api: completions, tokenizer: %q}}\n", "hf://owner"))
	require.ErrorContains(t, err, "must name a model of the Hub")
}
