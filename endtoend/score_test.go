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

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub/hubtest"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// recipe is what is changed of examples/score.yaml: models that answer here, and everything that a recipe can keep.
var recipe = []string{
	"name=recipe", "generate.provider=pocketlm", "generate.model=pocketlm-base", "generate.num_generations=2", "generate.temperature=0.9",
	"generate.max_tokens=300", "score.provider=pocketlm", "score.model=pocketlm-base", "score.max_tokens=200",
	"keep.preferences=true", "keep.scored=true", "keep.test=0.2", "push.jsonl=true", "push.hub.repo=me/recipe", "data.min_partitions=4",
}

const promptsRepo = "HuggingFaceH4/instruction-dataset"

// promptsTable is a file of prompts in the shape of the recipe's dataset: a column prompt, a completion, and a struct.
func promptsTable(t *testing.T, from, to int) []byte {
	t.Helper()
	type meta struct {
		Category string `parquet:"category"`
		Source   string `parquet:"source"`
	}
	type row struct {
		Prompt     string `parquet:"prompt"`
		Completion string `parquet:"completion"`
		Meta       meta   `parquet:"meta"`
	}
	var rows []row
	for i := from; i < to; i++ {
		rows = append(rows, row{Prompt: fmt.Sprintf("Name %d things to do on a rainy day.", i), Completion: "Read.", Meta: meta{Category: "Brainstorm"}})
	}
	var b bytes.Buffer
	require.NoError(t, parquet.Write(&b, rows))
	return b.Bytes()
}

// TestScoreIsPushedOnceWhoeverDies runs the recipe as it stands in examples/score.yaml, with a Hub that the prompts (a gated,
// private dataset) are read from and the result is pushed to. Another commit comes to the prompts while they are read, and changes
// nothing. The worker is killed when its large files are uploaded and the commit is about to be made, and again when the commit stands
// and its answer is under way: one commit comes of it. Before that the token may not write: the run is blocked, and goes on after a retry.
func TestScoreIsPushedOnceWhoeverDies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hub, err := hubtest.Start(hubtest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = hub.Close() })
	token := "hf_" + l.t.Name()
	hub.AddToken(token, hubtest.Account{User: "me", Orgs: []string{"HuggingFaceH4"}})
	hub.AddRepo(promptsRepo, true, true)
	const file = "data/test-00000-of-00001-abc.parquet"
	pinned := hub.Put(promptsRepo, "main", map[string][]byte{
		file: promptsTable(t, 0, 24), "data/train-00000-of-00001-abc.parquet": promptsTable(t, 100, 200),
	})
	env := fmt.Sprintf("E2E_HUB_%d", time.Now().UnixNano())
	l.more = fmt.Sprintf("\nhub: {endpoint: %q, token_env: %s}\n", hub.URL(), env)
	l.moreEnv = []string{env + "=" + token}
	l.work(wiring{})

	var commits, opened atomic.Int32
	kill := func() {
		if p := l.worker.Process(); p != nil {
			_ = p.Kill()
		}
	}
	hub.SetFault(func(r *http.Request) hubtest.Fault {
		if strings.Contains(r.URL.Path, promptsRepo+"/resolve/") && opened.Add(1) == 1 { // listed, and about to be read
			hub.Put(promptsRepo, "main", map[string][]byte{file: promptsTable(t, 0, 12)})
		}
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
	spec, err := config.LoadScore("../examples/score.yaml", recipe...)
	require.NoError(t, err)
	require.NoError(t, config.CheckScoreTogether(spec, l.settings))
	spec, err = l.client.PrepareScore(t.Context(), spec, l.dir, func(runs.UploadProgress) {})
	require.NoError(t, err)
	_, err = l.client.StartScore(t.Context(), spec)
	require.NoError(t, err)

	var seen runs.Seen
	await := func(phase string) {
		t.Helper()
		require.Eventually(t, func() bool {
			seen, err = l.client.Status(t.Context(), "recipe")
			return err == nil && (seen.Ended() || seen.Phase == phase)
		}, patience, 200*time.Millisecond)
		require.Equal(t, phase, seen.Phase, seen.Message)
	}
	await(workflows.PhaseBlocked)
	require.Contains(t, seen.Message, "starter retry recipe")
	require.Empty(t, hub.Commits("me/recipe", "main"))
	paid := seen.Spent
	hub.AddToken(token, hubtest.Account{User: "me", Write: true, Orgs: []string{"HuggingFaceH4"}})
	_, err = l.client.Update(t.Context(), "recipe", workflows.UpdateRetry, nil)
	require.NoError(t, err)
	await(workflows.PhaseCompleted) // while the worker is dead, the run's record still says blocked
	require.Equal(t, paid, seen.Spent, "nothing is asked again")
	require.Len(t, seen.Pushed, 1)
	require.Equal(t, 1, pushes(hub, "me/recipe"), "commits of the push")
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

	m, _, err := dataset.Open(t.Context(), l.client.Store, seen.Results[0].Dir)
	require.NoError(t, err)
	require.Len(t, m.Origins, 1)
	require.Equal(t, pinned, m.Origins[0].Commit)
	require.EqualValues(t, 24, m.Rows, "prompts of the commit that was found first")
	require.Contains(t, card, "revision: "+pinned)
	again, err := config.ParseScore("card", []byte(between(t, card, "```yaml\n", "```")))
	require.NoError(t, err, "the spec of the card")
	require.Equal(t, config.Load{Path: "hf://" + promptsRepo, Split: "test", Revision: pinned, Format: "auto", Instruction: "prompt", Generation: "generation"}, again.Load)
	l.secrets["Hub's token"] = token
	l.checkSecrets("recipe")
}

// between returns what stands between two marks.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	require.True(t, ok, from)
	out, _, ok := strings.Cut(rest, to)
	require.True(t, ok, to)
	return out
}
