package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
)

// reader is a completions endpoint that answers with the head of what it was asked.
type reader struct {
	mu      sync.Mutex
	prompts []string
}

func (r *reader) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var in struct{ Prompt string }
	_ = json.NewDecoder(req.Body).Decode(&in)
	r.mu.Lock()
	r.prompts = append(r.prompts, in.Prompt)
	r.mu.Unlock()
	head, _, _ := strings.Cut(in.Prompt, " ")
	fmt.Fprintf(w, `{"choices":[{"text":%q,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, "What does the text under "+head+" say?")
}

func (r *reader) heads() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, p := range r.prompts {
		head, _, _ := strings.Cut(p, " ")
		out[head]++
	}
	return out
}

// chatBench is a bench whose endpoint takes one text, rendered by the template that *now is.
func chatBench(t *testing.T) (b *bench, asked *reader, now *chattemplate.Source) {
	t.Helper()
	asked, now = &reader{}, &chattemplate.Source{From: "hf://o/n@1", Template: "<old> {{ messages[-1].content }}", BOS: "<s>"}
	server := httptest.NewServer(asked)
	t.Cleanup(server.Close)
	b = &bench{t: t, st: s3test.Store(t), ref: newReferee(t)}
	b.in = b.segments("segments", 20, 1)
	b.deps = chatDeps(b, server.URL+"/v1", llm.APICompletions, now)
	return b, asked, now
}

func chatDeps(b *bench, url, api string, now *chattemplate.Source) Deps {
	p := provider(url)
	p.API = api
	return Deps{
		Store: b.st, Models: llm.NewPool(map[string]llm.Provider{"p": p}),
		Templates: &Templates{Find: func(context.Context, string) (chattemplate.Source, error) { return *now, nil }},
	}
}

// TestAnotherChatTemplateAsksAgain changes the template between two runs: answers to the old one are not taken for answers to the new.
func TestAnotherChatTemplateAsksAgain(t *testing.T) {
	t.Parallel()
	b, asked, now := chatBench(t)
	b.run(b.backtranslate("first"))
	require.Equal(t, map[string]int{"<old>": 20}, asked.heads())
	b.run(b.backtranslate("same"))
	require.Equal(t, map[string]int{"<old>": 20}, asked.heads(), "the same template asks nothing again")
	*now = chattemplate.Source{From: "hf://o/n@2", Template: "<new> {{ messages[-1].content }}"}
	b.run(b.backtranslate("other"))
	require.Equal(t, map[string]int{"<old>": 20, "<new>": 20}, asked.heads())
	for output, want := range map[string]string{"first": "hf://o/n@1", "other": "hf://o/n@2"} {
		w, from, err := Settled(t.Context(), b.st, b.backtranslate(output))
		require.NoError(t, err)
		require.Equal(t, want, from)
		require.NotEqual(t, Fingerprint(w), Fingerprint(b.backtranslate(output)), "it is part of the fingerprint")
		paid, err := Paid(t.Context(), b.st, w)
		require.NoError(t, err)
		require.Positive(t, paid.Spent.Calls, "and of where money is looked for")
	}
}

// TestAChatTemplateStaysForADataset moves the template while a dataset is half asked for, as another worker sees it.
func TestAChatTemplateStaysForADataset(t *testing.T) {
	t.Parallel()
	b, asked, now := chatBench(t)
	w := b.backtranslate("out")
	w.Partition = 0
	first, err := Run(t.Context(), b.deps, w, nil)
	require.NoError(t, err)
	require.True(t, first.Done)
	*now = chattemplate.Source{From: "hf://o/n@2", Template: "<new> {{ messages[-1].content }}"}
	successor := b.deps
	successor.Templates = &Templates{Find: b.deps.Templates.Find}
	w.Partition = 1
	_, err = Run(t.Context(), successor, w, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"<old>": 20}, asked.heads())
	for _, c := range rowsOf[dataset.Candidate](b, w) {
		require.Contains(t, c.Instruction, "<old>")
	}
	kept, err := ChatTemplate(t.Context(), b.st, "out")
	require.NoError(t, err)
	require.Equal(t, "hf://o/n@1", kept.From)
	require.Equal(t, "<s>", kept.BOS)
}

// TestTwoWhoBeginADataset has two workers that see different templates begin one dataset at once: one wins for both.
func TestTwoWhoBeginADataset(t *testing.T) {
	t.Parallel()
	b, asked, _ := chatBench(t)
	var both sync.WaitGroup
	for i := range 2 {
		d := b.deps
		d.Templates = &Templates{Find: func(context.Context, string) (chattemplate.Source, error) {
			return chattemplate.Source{Template: fmt.Sprintf("<%d> {{ messages[-1].content }}", i)}, nil
		}}
		w := b.backtranslate("out")
		w.Partition = i
		both.Go(func() {
			_, err := Run(context.Background(), d, w, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	require.Len(t, asked.heads(), 1)
}

func TestChatTemplateTroubles(t *testing.T) {
	t.Parallel()
	b, asked, now := chatBench(t)
	away := errors.New("the Hub is away")
	d := b.deps
	d.Templates = &Templates{Find: func(context.Context, string) (chattemplate.Source, error) { return chattemplate.Source{}, away }}
	_, err := Run(t.Context(), d, b.backtranslate("out"), nil)
	require.ErrorIs(t, err, away)
	_, err = Run(t.Context(), b.deps, b.backtranslate("out"), nil)
	require.NoError(t, err, "and when it is back")

	_, err = Run(t.Context(), b.deps, b.backtranslate("half"), nil)
	require.NoError(t, err)
	before := len(asked.heads())
	w := b.backtranslate("half")
	w.Partition = 1
	_, err = Run(t.Context(), chatDeps(b, "http://127.0.0.1:1/v1", llm.APIChat, &chattemplate.Source{}), w, nil)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, ClassSetting, e.Class)
	require.ErrorContains(t, err, "no api completions now")
	require.Len(t, asked.heads(), before)

	*now = chattemplate.Source{Template: "{% for %}"}
	_, err = Run(t.Context(), b.deps, b.backtranslate("broken"), nil)
	require.ErrorAs(t, err, &e)
	require.Equal(t, ClassSetting, e.Class)
}

// TestKeysWithoutAChatTemplate holds the names under which answers were kept before templates were part of them.
func TestKeysWithoutAChatTemplate(t *testing.T) {
	t.Parallel()
	w := Work{Task: TaskRespond, Output: "o", Model: dataset.ModelRef{Provider: "p", Name: "m"}, Sampling: Sampling{Temperature: 0.7, TopP: 1, MaxTokens: 64}, Prompt: "Answer.\n{{.Instruction}}"}
	require.Equal(t, "4fa0f957791a04d33cdc5c71192bd496", Scope(w))
	require.Equal(t, "cb5ac6b4f9d67bfec91c3c8214c3ea29", Fingerprint(w))
}
