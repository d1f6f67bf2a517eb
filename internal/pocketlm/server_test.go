package pocketlm

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
)

// setup opens a server on a fresh folder and a client of it.
func setup(t *testing.T, opt Options) (*Server, *openai.Client, string) {
	t.Helper()
	if opt.Dir == "" {
		opt.Dir = t.TempDir()
	}
	s, err := Open(opt)
	require.NoError(t, err)
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		require.NoError(t, s.Close())
	})
	cfg := openai.DefaultConfig(opt.Key)
	cfg.BaseURL = web.URL + "/v1"
	return s, openai.NewClientWithConfig(cfg), web.URL
}

// train uploads a training file and waits for the model fitted on it.
func train(t *testing.T, c *openai.Client, jsonl []byte, suffix string) string {
	t.Helper()
	ctx := context.Background()
	f, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "train.jsonl", Bytes: jsonl, Purpose: openai.PurposeFineTune})
	require.NoError(t, err)
	j, err := c.CreateFineTuningJob(ctx, openai.FineTuningJobRequest{TrainingFile: f.ID, Model: BaseModel, Suffix: suffix})
	require.NoError(t, err)
	require.Empty(t, j.FineTunedModel, "the name is shown only once the model exists")
	require.Eventually(t, func() bool {
		j, err = c.RetrieveFineTuningJob(ctx, j.ID)
		require.NoError(t, err)
		require.NotEqual(t, jobFailed, j.Status)
		return j.Status == jobSucceeded
	}, 20*time.Second, 5*time.Millisecond)
	return j.FineTunedModel
}

func TestChatAfterTraining(t *testing.T) {
	t.Parallel()
	s, c, _ := setup(t, Options{Key: "k"})
	model := train(t, c, []byte(`{"messages":[{"role":"user","content":"What is rain?"},{"role":"assistant","content":"Rain is water that falls from clouds."}]}`+"\n"), "a")
	require.Regexp(t, `^ft:pocketlm-base:a:[0-9a-f]{12}$`, model)
	r, err := c.CreateChatCompletion(context.Background(), openai.ChatCompletionRequest{Model: model, Messages: []openai.ChatCompletionMessage{{Role: "user", Content: "What is rain?"}}})
	require.NoError(t, err)
	require.NotEmpty(t, r.Choices[0].Message.Content)
	require.EqualValues(t, 1, s.journal.snapshot().ByRoute[routeChat].Answered)
}
