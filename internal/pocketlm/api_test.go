package pocketlm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
)

// trainingFile is the forward training file of lm's test pairs.
func trainingFile(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("lm/testdata/pairs.jsonl")
	require.NoError(t, err)
	var out bytes.Buffer
	for line := range bytes.Lines(raw) {
		var p struct{ Instruction, Output string }
		require.NoError(t, json.Unmarshal(line, &p))
		b, err := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": p.Instruction}, {"role": "assistant", "content": p.Output}}})
		require.NoError(t, err)
		out.Write(append(b, '\n'))
	}
	return out.Bytes()
}

func ask(model, content string) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{Model: model, Messages: []openai.ChatCompletionMessage{{Role: "user", Content: content}}}
}

const ratingOf = "Rate the answer, from 1 to 5.\n<question>\nHow do I boil an egg?\n</question>\n<answer>\n%s\n</answer>\nGive a reason, then the line\nScore: <rating>"

func requireAPIError(t *testing.T, err error, status int, code any) {
	t.Helper()
	var e *openai.APIError
	require.ErrorAs(t, err, &e)
	require.Equal(t, status, e.HTTPStatusCode, e.Message)
	require.Equal(t, code, e.Code)
	require.NotEmpty(t, e.Message)
	require.NotEmpty(t, e.Type)
}

func TestChatOptions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, c, _ := setup(t, Options{})
	model := train(t, c, trainingFile(t), "judge")
	req := ask(model, fmt.Sprintf(ratingOf, "Put it in boiling water and wait seven minutes. Then cool the egg in cold water."))
	req.N, req.LogProbs, req.TopLogProbs, req.Temperature, req.MaxTokens = 3, true, 9, 1.2, 200
	seed := 7
	req.Seed = &seed
	one, err := c.CreateChatCompletion(ctx, req)
	require.NoError(t, err)
	require.Len(t, one.Choices, 3)
	two, err := c.CreateChatCompletion(ctx, req)
	require.NoError(t, err)
	require.Equal(t, one.Choices, two.Choices, "the same request has the same answer")
	require.Equal(t, one.Usage, two.Usage)
	require.Equal(t, one.Usage.PromptTokens+one.Usage.CompletionTokens, one.Usage.TotalTokens)
	var joined strings.Builder
	for _, tok := range one.Choices[0].LogProbs.Content {
		joined.WriteString(tok.Token)
		require.NotEmpty(t, tok.TopLogProbs)
		require.GreaterOrEqual(t, tok.TopLogProbs[0].LogProb, tok.LogProb)
	}
	require.Equal(t, one.Choices[0].Message.Content, joined.String())

	req.N, req.LogProbs, req.TopLogProbs, req.MaxTokens = 0, false, 0, 5
	short, err := c.CreateChatCompletion(ctx, req)
	require.NoError(t, err)
	require.Equal(t, openai.FinishReasonLength, short.Choices[0].FinishReason)
	require.Equal(t, 5, short.Usage.CompletionTokens)

	req.MaxTokens, req.Stop = 0, []string{"Score"}
	stopped, err := c.CreateChatCompletion(ctx, req)
	require.NoError(t, err)
	require.NotContains(t, stopped.Choices[0].Message.Content, "Score")
}

func TestStream(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, c, _ := setup(t, Options{})
	model := train(t, c, trainingFile(t), "")
	req := ask(model, "How do I unclog a sink?")
	req.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	st, err := c.CreateChatCompletionStream(ctx, req)
	require.NoError(t, err)
	defer st.Close()
	var text strings.Builder
	var usage *openai.Usage
	finish := openai.FinishReason("")
	for {
		r, err := st.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if r.Usage != nil {
			usage = r.Usage
		}
		for _, ch := range r.Choices {
			text.WriteString(ch.Delta.Content)
			finish += ch.FinishReason
		}
	}
	whole, err := c.CreateChatCompletion(ctx, ask(model, "How do I unclog a sink?"))
	require.NoError(t, err)
	require.Equal(t, whole.Choices[0].Message.Content, text.String())
	require.Equal(t, whole.Usage.CompletionTokens, usage.CompletionTokens)
	require.Equal(t, openai.FinishReasonStop, finish)
}

func TestCompletionsAndModels(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, c, _ := setup(t, Options{Key: "secret"})
	model := train(t, c, trainingFile(t), "x")
	r, err := c.CreateCompletion(ctx, openai.CompletionRequest{Model: model, Prompt: []string{"How do I boil an egg?", "What is a metaphor?"}, LogProbs: 2, Echo: true})
	require.NoError(t, err)
	require.Len(t, r.Choices, 2)
	require.Contains(t, r.Choices[0].Text, "How do I boil an egg?")
	require.NotEmpty(t, r.Choices[1].LogProbs.Tokens)

	list, err := c.ListModels(ctx)
	require.NoError(t, err)
	require.Len(t, list.Models, 2)
	m, err := c.GetModel(ctx, model)
	require.NoError(t, err)
	require.Equal(t, model, m.ID)
	_, err = c.DeleteFineTuneModel(ctx, model)
	require.NoError(t, err)
	_, err = c.CreateChatCompletion(ctx, ask(model, "hi"))
	requireAPIError(t, err, http.StatusNotFound, "model_not_found")
	again := train(t, c, trainingFile(t), "x")
	require.Equal(t, model, again, "the same training makes the same name")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, c, url := setup(t, Options{Key: "secret"})
	cfg := openai.DefaultConfig("wrong")
	cfg.BaseURL = url + "/v1"
	_, err := openai.NewClientWithConfig(cfg).ListModels(ctx)
	requireAPIError(t, err, http.StatusUnauthorized, "invalid_api_key")
	_, err = c.CreateChatCompletion(ctx, ask(BaseModel, strings.Repeat("word ", 40_000)))
	requireAPIError(t, err, http.StatusBadRequest, "context_length_exceeded")
	_, err = c.CreateFineTuningJob(ctx, openai.FineTuningJobRequest{TrainingFile: "file-none", Model: BaseModel})
	requireAPIError(t, err, http.StatusBadRequest, 0)
	_, err = c.RetrieveFineTuningJob(ctx, "ftjob-none")
	requireAPIError(t, err, http.StatusNotFound, "fine_tune_not_found")
	_, err = c.GetFile(ctx, "file-none")
	requireAPIError(t, err, http.StatusNotFound, 0)
	_, err = c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "x", Bytes: []byte("x"), Purpose: "nonsense"})
	requireAPIError(t, err, http.StatusBadRequest, 0)
	files, err := c.ListFiles(ctx)
	require.NoError(t, err)
	require.Empty(t, files.Files)
	require.EqualValues(t, 1, s.journal.snapshot().ByRoute[routeChat].Refused)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, c, _ := setup(t, Options{})
	f, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "a.jsonl", Bytes: []byte("abc"), Purpose: openai.PurposeBatch})
	require.NoError(t, err)
	got, err := c.GetFile(ctx, f.ID)
	require.NoError(t, err)
	require.Equal(t, "a.jsonl", got.FileName)
	require.Equal(t, 3, got.Bytes)
	body, err := c.GetFileContent(ctx, f.ID)
	require.NoError(t, err)
	defer body.Close()
	b, err := io.ReadAll(body)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
	require.NoError(t, c.DeleteFile(ctx, f.ID))
	_, err = c.GetFile(ctx, f.ID)
	require.Error(t, err)
}

func TestJobEventsCancelAndFailure(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, c, url := setup(t, Options{Faults: Faults{TrainingTime: 60_000}})
	f, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "t.jsonl", Bytes: trainingFile(t), Purpose: openai.PurposeFineTune})
	require.NoError(t, err)
	slow, err := c.CreateFineTuningJob(ctx, openai.FineTuningJobRequest{TrainingFile: f.ID, Model: BaseModel, Hyperparameters: &openai.Hyperparameters{Epochs: 2}})
	require.NoError(t, err)
	waits, err := c.CreateFineTuningJob(ctx, openai.FineTuningJobRequest{TrainingFile: f.ID, Model: BaseModel, Suffix: "second"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		j, err := c.RetrieveFineTuningJob(ctx, slow.ID)
		return err == nil && j.Status == jobRunning
	}, 10*time.Second, 5*time.Millisecond)
	cancelled, err := c.CancelFineTuningJob(ctx, slow.ID)
	require.NoError(t, err)
	require.Equal(t, jobCancelled, cancelled.Status)
	require.Empty(t, cancelled.FineTunedModel)
	_, err = c.CancelFineTuningJob(ctx, slow.ID)
	requireAPIError(t, err, http.StatusBadRequest, 0)
	_, err = c.CancelFineTuningJob(ctx, waits.ID)
	require.NoError(t, err)

	require.NoError(t, s.SetFaults(Faults{TrainingFails: "out of memory"}))
	failed := finished(t, c, f.ID, BaseModel)
	require.Equal(t, jobFailed, failed.Status)
	events, err := c.ListFineTuningJobEvents(ctx, failed.ID)
	require.NoError(t, err)
	require.Equal(t, "out of memory", events.Data[0].Message)

	require.NoError(t, s.SetFaults(Faults{}))
	good := finished(t, c, f.ID, BaseModel)
	require.Equal(t, jobSucceeded, good.Status)
	require.Len(t, good.ResultFiles, 1)
	require.Positive(t, good.TrainedTokens)
	var page, rest struct {
		Data    []jobEvent `json:"data"`
		HasMore bool       `json:"has_more"`
	}
	getJSON(t, url+"/v1/fine_tuning/jobs/"+good.ID+"/events?limit=2", &page)
	require.True(t, page.HasMore)
	require.Len(t, page.Data, 2)
	getJSON(t, url+"/v1/fine_tuning/jobs/"+good.ID+"/events?after="+page.Data[1].ID, &rest)
	require.NotContains(t, rest.Data, page.Data[1])
	require.False(t, rest.HasMore)

	bad, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "t.jsonl", Bytes: []byte("{}\n"), Purpose: openai.PurposeFineTune})
	require.NoError(t, err)
	require.Equal(t, jobFailed, finished(t, c, bad.ID, BaseModel).Status)

	further := finished(t, c, f.ID, good.FineTunedModel)
	require.Equal(t, jobSucceeded, further.Status, "a fine-tuned model can be tuned further")
}

func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	r, err := http.Get(url) //nolint:gosec,noctx // our own server
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.NoError(t, json.NewDecoder(r.Body).Decode(v))
}

func finished(t *testing.T, c *openai.Client, file, base string) openai.FineTuningJob {
	t.Helper()
	j, err := c.CreateFineTuningJob(context.Background(), openai.FineTuningJobRequest{TrainingFile: file, Model: base})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		j, err = c.RetrieveFineTuningJob(context.Background(), j.ID)
		return err == nil && (j.Status == jobSucceeded || j.Status == jobFailed)
	}, 20*time.Second, 5*time.Millisecond)
	return j
}

func TestBatch(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, c, _ := setup(t, Options{})
	var in strings.Builder
	for i := range 10 {
		model := BaseModel
		if i == 3 {
			model = "missing"
		}
		fmt.Fprintf(&in, `{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":"Hello %d"}]}}`+"\n", i, model, i)
	}
	run := func(body string) openai.BatchResponse {
		f, err := c.CreateFileBytes(ctx, openai.FileBytesRequest{Name: "b.jsonl", Bytes: []byte(body), Purpose: openai.PurposeBatch})
		require.NoError(t, err)
		b, err := c.CreateBatch(ctx, openai.CreateBatchRequest{InputFileID: f.ID, Endpoint: openai.BatchEndpointChatCompletions, CompletionWindow: "24h"})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			b, err = c.RetrieveBatch(ctx, b.ID)
			return err == nil && (b.Status == "completed" || b.Status == "failed" || b.Status == "expired")
		}, 10*time.Second, 5*time.Millisecond)
		return b
	}
	content := func(id *string) string {
		require.NotNil(t, id)
		r, err := c.GetFileContent(ctx, *id)
		require.NoError(t, err)
		defer r.Close()
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		return string(b)
	}
	b := run(in.String())
	require.Equal(t, "completed", b.Status)
	require.Equal(t, openai.BatchRequestCounts{Total: 10, Completed: 9, Failed: 1}, b.RequestCounts)
	require.Equal(t, 9, strings.Count(content(b.OutputFileID), `"status_code":200`))
	require.Contains(t, content(b.ErrorFileID), `"custom_id":"r3"`)

	require.NoError(t, s.SetFaults(Faults{BatchExpires: 0.4}))
	b = run(strings.ReplaceAll(in.String(), "Hello", "Bye"))
	require.Equal(t, "expired", b.Status)
	require.Equal(t, 4, strings.Count(content(b.ErrorFileID), "batch_expired"))
	require.Equal(t, 5, strings.Count(content(b.OutputFileID), "\n"))

	require.Equal(t, "failed", run(in.String()+in.String()).Status, "custom ids must differ")
	require.NoError(t, s.SetFaults(Faults{EnqueuedTokens: 10}))
	require.Equal(t, "failed", run(in.String()).Status)
	list, err := c.ListBatch(ctx, nil, nil)
	require.NoError(t, err)
	require.Len(t, list.Data, 4)
	counts := s.journal.snapshot()
	require.EqualValues(t, 14, counts.ByRoute["batch:chat.completions"].Answered)
	require.Zero(t, counts.Repeated)
}

// An item that is answered while its batch is being cancelled is paid: it comes back all the same.
func TestBatchItemAnsweredWhileCancelled(t *testing.T) {
	t.Parallel()
	s, _, _ := setup(t, Options{})
	kept := 0
	for i := range 400 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			time.Sleep(time.Duration(i) * 5 * time.Microsecond)
			cancel()
		}()
		body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hello %d"}]}`, BaseModel, i)
		if s.batchItem(ctx, batchLine{ID: "r", URL: "/v1/chat/completions", Body: json.RawMessage(body)}) != nil {
			kept++
		}
		cancel()
	}
	require.EqualValues(t, s.journal.snapshot().ByRoute["batch:chat.completions"].Answered, kept)
}
