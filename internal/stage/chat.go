package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/llm"
)

// Templates are the chat templates that questions are rendered with where a provider has no chat API. A dataset is asked for with the
// template that its first partition found, whatever the settings say later: it is kept beside the dataset, and is part of the scope.
type Templates struct {
	// Find returns the template of a provider's tokenizer as it is now; zero: the provider has none. Errors may be *Error.
	Find func(ctx context.Context, provider string) (chattemplate.Source, error)

	mu       sync.Mutex
	byOutput map[string]*chattemplate.Template // what was settled; nil: none
}

// mostOutputs bounds what Templates remembers.
const mostOutputs = 1000

// ChatTemplateKey is where the template that a dataset was asked for with is kept.
func ChatTemplateKey(output string) string { return output + "/chat_template.json" }

// ChatTemplate returns the template that a dataset was asked for with; zero: none.
func ChatTemplate(ctx context.Context, st *blob.Store, output string) (s chattemplate.Source, err error) {
	body, err := st.Get(ctx, ChatTemplateKey(output))
	if errors.Is(err, blob.ErrNotFound) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &s)
	}
	if err != nil {
		return s, fmt.Errorf("chat template of %s: %w", output, err)
	}
	return s, nil
}

// settle returns the template that an output is asked for with, and has it stand before anything is asked.
func (t *Templates) settle(ctx context.Context, st *blob.Store, output, provider string) (*chattemplate.Template, error) {
	t.mu.Lock()
	known, ok := t.byOutput[output]
	t.mu.Unlock()
	if ok {
		return known, nil
	}
	s, err := ChatTemplate(ctx, st, output)
	if err == nil && s.Template == "" {
		s, err = t.decide(ctx, st, output, provider)
	}
	if err != nil {
		return nil, err
	}
	if s.Template != "" {
		if known, err = chattemplate.New(s); err != nil {
			return nil, &Error{Class: ClassSetting, Err: err, Way: "give provider " + provider + " another tokenizer in the worker's settings and start a new run"}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byOutput == nil || len(t.byOutput) >= mostOutputs {
		t.byOutput = map[string]*chattemplate.Template{}
	}
	t.byOutput[output] = known
	return known, nil
}

// decide takes the provider's template of now, unless another worker was first.
func (t *Templates) decide(ctx context.Context, st *blob.Store, output, provider string) (chattemplate.Source, error) {
	s, err := t.Find(ctx, provider)
	if err != nil || s.Template == "" {
		return s, err
	}
	body, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	err = st.PutIfAbsent(ctx, ChatTemplateKey(output), body)
	if errors.Is(err, blob.ErrExists) {
		return ChatTemplate(ctx, st, output)
	}
	return s, err
}

// settleChat finds out with which chat template the work is asked.
func (w *Work) settleChat(ctx context.Context, d *Deps) error {
	if d.Templates == nil {
		return nil
	}
	t, err := d.Templates.settle(ctx, d.Store, w.Output, w.Model.Provider)
	if err != nil || t == nil {
		return err
	}
	if p, err := d.Models.Provider(w.Model.Provider); err == nil && p.API != llm.APICompletions {
		return &Error{
			Class: ClassSetting, Err: fmt.Errorf("%s was begun with the chat template of %s, and provider %s has no api completions now", w.Output, t.From, p.Name),
			Way: "give the provider api: completions and its tokenizer again, or start a new run",
		}
	}
	w.chat = t.Digest()
	d.render = func(messages []llm.Message) (string, error) {
		return t.Prompt(chattemplate.Turns(messages))
	}
	return nil
}

// Settled is the work with the chat template that its output was begun with: what Scope, Fingerprint, Paid and OpenPartitions
// have to know of work whose output others ask for. from says where the template is from; "": there is none.
func Settled(ctx context.Context, st *blob.Store, w Work) (settled Work, from string, err error) {
	s, err := ChatTemplate(ctx, st, w.Output)
	w.chat = s.Digest()
	return w, s.From, err
}
