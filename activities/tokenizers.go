package activities

import (
	"context"
	"errors"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/stage"
	"github.com/selfalign/selfalign/internal/tokenizer"
)

// classTokenizer is the class of trouble with a chat template.
const classTokenizer llm.Class = "tokenizer"

// TemplatesOf finds chat templates by the tokenizers that the settings name. Errors for a person are *stage.Error.
func TemplatesOf(providers map[string]config.Provider, shelf *tokenizer.Shelf) func(ctx context.Context, provider string) (chattemplate.Source, error) {
	return func(ctx context.Context, provider string) (s chattemplate.Source, err error) {
		p := providers[provider]
		if id, revision, ok := p.HubTokenizer(); ok {
			s, err = shelf.Find(ctx, id, revision)
		} else if p.Tokenizer != "" {
			s, err = tokenizer.Local(p.Tokenizer)
		}
		var e *tokenizer.Error
		if errors.As(err, &e) {
			err = &stage.Error{Class: classTokenizer, Err: err, Way: "look at providers." + provider + ".tokenizer in the worker's settings: " + e.Try + "; restart the workers"}
		}
		return s, err
	}
}

// checkTokenizer finds out whether a provider's chat template can be had.
func (r *Runs) checkTokenizer(ctx context.Context, provider string) error {
	if r.Templates == nil {
		return nil
	}
	_, err := r.Templates.Find(ctx, provider)
	var e *stage.Error
	if errors.As(err, &e) {
		return blocked(string(e.Class), e.Err, e.Way+", then retry")
	}
	return err
}
