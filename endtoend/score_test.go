package endtoend

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

const scoreText = `
name: recipe
load: {path: seeds.jsonl}
generate: {provider: pocketlm, model: pocketlm-base, num_generations: 2, temperature: 0.9, max_tokens: 300, in_flight: 8}
score: {provider: pocketlm, model: pocketlm-base, max_tokens: 200, in_flight: 8}
keep: {preferences: true, scored: true, test: 0.2}
push: {jsonl: true, hub: {repo: me/recipe}}
data: {min_partitions: 4}
`

// TestScoreIsPushedOnceWhoeverDies runs the recipe with the real worker, which is killed when its large files are uploaded and
// the commit is about to be made, and again when the commit stands and its answer is under way: one commit comes of it.
func TestScoreIsPushedOnceWhoeverDies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hub, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = hub.Close() })
	token := "hf_" + l.t.Name()
	hub.AddToken(token, hubtest.Account{User: "me", Write: true})
	env := fmt.Sprintf("E2E_HUB_%d", time.Now().UnixNano())
	l.more = fmt.Sprintf("\nhub: {endpoint: %q, token_env: %s}\n", hub.URL(), env)
	l.moreEnv = []string{env + "=" + token}
	l.work(wiring{})

	var commits atomic.Int32
	kill := func() {
		if p := l.worker.Process(); p != nil {
			_ = p.Kill()
		}
	}
	hub.SetFault(func(r *http.Request) hubtest.Fault {
		if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "/commit/") {
			return hubtest.Fault{}
		}
		switch commits.Add(1) {
		case 1: // after the upload, before the commit
			kill()
			return hubtest.Fault{Drop: true}
		case 2: // after the commit, before its answer
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return hubtest.Fault{}
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			kill()
			return hubtest.Fault{Lose: true}
		}
		return hubtest.Fault{}
	})
	dir := filepath.Join(l.dir, "spec")
	reduceExample(t, dir)
	path := filepath.Join(dir, "score.yaml")
	require.NoError(t, os.WriteFile(path, []byte(scoreText), 0o600))
	spec, err := config.LoadScore(path)
	require.NoError(t, err)
	spec, err = l.client.PrepareScore(t.Context(), spec, dir, func(runs.UploadProgress) {})
	require.NoError(t, err)
	_, err = l.client.StartScore(t.Context(), spec)
	require.NoError(t, err)

	var seen runs.Seen
	require.Eventually(t, func() bool {
		seen, err = l.client.Status(t.Context(), "recipe")
		return err == nil && (seen.Ended() || seen.Phase == workflows.PhaseBlocked)
	}, patience, 200*time.Millisecond)
	require.Equal(t, workflows.PhaseCompleted, seen.Phase, seen.Message)
	require.Len(t, seen.Pushed, 1)
	pushes := 0
	for _, c := range hub.Commits("me/recipe", "main") {
		if strings.Contains(c.Message, "Selfalign-Push") {
			pushes++
		}
	}
	require.Equal(t, 1, pushes, "commits of the push")
	require.True(t, hub.Private("me/recipe"))
	files := hub.Files("me/recipe", "main")
	for _, want := range []string{"README.md", "data/train-00000-of-00001.parquet", "preferences/train-00000-of-00001.parquet", "scored/train-00000-of-00001.parquet"} {
		require.NotEmpty(t, files[want], want)
	}
	card := string(files["README.md"])
	for _, want := range []string{"config_name: default", "- distilled", "## Scores", "## How to make it again", "num_generations: 2"} {
		require.Contains(t, card, want)
	}
	require.NotContains(t, card, token)
}
