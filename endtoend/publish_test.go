package endtoend

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/workflows"
)

// TestTrainingSetsArePushedOnceWhoeverDies has a self-training run push its training sets at its end, and kills the worker when the
// commit is about to be made, and again when it stands and its answer is under way: one commit comes of it.
func TestTrainingSetsArePushedOnceWhoeverDies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hub, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = hub.Close() })
	token := "hf_" + l.t.Name()
	hub.AddToken(token, hubtest.Account{User: "me", Write: true})
	env := fmt.Sprintf("E2E_HUB_SETS_%d", time.Now().UnixNano())
	l.more = fmt.Sprintf("\nhub: {endpoint: %q, token_env: %s}\n", hub.URL(), env)
	l.moreEnv = []string{env + "=" + token}
	l.work(wiring{})
	var commits atomic.Int32
	hub.SetFault(func(r *http.Request) (f hubtest.Fault) {
		if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "/commit/") {
			return f
		}
		switch commits.Add(1) {
		case 1: // after the upload, before the commit
			f.Drop = true
		case 2: // after the commit, before its answer
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return f
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			f.Lose = true
		default:
			return f
		}
		if p := l.worker.Process(); p != nil {
			_ = p.Kill()
		}
		return f
	})
	l.start("publish={hub: {repo: me/sets}}")
	seen := l.finished()
	require.Equal(t, workflows.PhaseCompleted, seen.Phase, seen.Message)
	require.Len(t, seen.Pushed, 1)
	require.GreaterOrEqual(t, commits.Load(), int32(2), "the worker was killed twice")
	require.Equal(t, 1, pushes(hub, "me/sets"), "commits of the push")
	require.True(t, hub.Private("me/sets"))
	files := hub.Files("me/sets", "main")
	card := string(files["README.md"])
	for i := 1; i <= iterations; i++ {
		require.NotEmpty(t, files[fmt.Sprintf("iteration-%d/train-00000-of-00001.parquet", i)])
		require.Contains(t, card, fmt.Sprintf("config_name: iteration-%d", i))
	}
	require.Contains(t, card, "## How to make it again")
	l.secrets["Hub's token"] = token
	l.checkSecrets(runName)
}

// pushes counts the commits of a dataset that a push made.
func pushes(hub *hubtest.Server, repo string) (n int) {
	for _, c := range hub.Commits(repo, "main") {
		if strings.Contains(c.Message, "Selfalign-Push") {
			n++
		}
	}
	return n
}
