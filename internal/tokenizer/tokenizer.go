// Package tokenizer finds the chat template of a model by the name of its tokenizer: in a folder, or at a commit of the Hub.
package tokenizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/chattemplate"
	"github.com/selfalign/selfalign/internal/hub"
)

// Error is what a person has to mend: a name that is nowhere, a repository that the token may not read, a template that cannot be used.
type Error struct {
	Name string
	Err  error
	Try  string
}

// Error says what happened.
func (e *Error) Error() string { return "tokenizer " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Files are where the template lies in a repository, the newer place last; it goes first.
const (
	configFile   = "tokenizer_config.json"
	templateFile = "chat_template.jinja"
)

// Shelf finds templates of the Hub and keeps them by commit, so that a commit is read from the Hub once.
type Shelf struct {
	Store *blob.Store
	Hub   *hub.Client
}

// Local reads the template of a tokenizer_config.json, or of the folder that holds one. Errors are *Error.
func Local(path string) (chattemplate.Source, error) {
	t, err := chattemplate.Open(path)
	if err != nil {
		return chattemplate.Source{}, &Error{Name: path, Err: err, Try: way(err, "a tokenizer_config.json with a chat template on every worker's machine, or the tokenizer's id on the Hub")}
	}
	t.From = path
	return t.Source, nil
}

// Find returns the template of a tokenizer of the Hub as it is at a revision ("" is main), tried out. From names the commit. An *Error
// is for a person; other errors pass.
func (s *Shelf) Find(ctx context.Context, id, revision string) (chattemplate.Source, error) {
	repo, err := hub.ParseRepo(id)
	if err != nil {
		return chattemplate.Source{}, &Error{Name: id, Err: err, Try: "owner/name as on the model's page of the Hub"}
	}
	repo.Model = true
	if revision == "" {
		revision = "main"
	}
	if isCommit(revision) {
		if found, err := s.kept(ctx, repo, revision); err != nil || found.Template != "" {
			return found, err
		}
	}
	config, commit, err := s.read(ctx, repo, revision, configFile)
	if err != nil {
		return chattemplate.Source{}, explain(repo, err)
	}
	if found, err := s.kept(ctx, repo, commit); err != nil || found.Template != "" {
		return found, err
	}
	separate, _, err := s.read(ctx, repo, commit, templateFile)
	if err != nil && !errors.Is(err, hub.ErrNotFound) {
		return chattemplate.Source{}, explain(repo, err)
	}
	found, err := chattemplate.Read(config, string(separate))
	if err == nil {
		_, err = chattemplate.New(found)
	}
	found.From = "hf://" + repo.String() + "@" + commit
	if err != nil {
		return chattemplate.Source{}, &Error{Name: found.From, Err: err, Try: way(err, "the tokenizer of the model's instruct variant, or an endpoint with api: chat, which applies the template itself")}
	}
	body, err := json.Marshal(found)
	if err != nil {
		return chattemplate.Source{}, err
	}
	return found, s.Store.Put(ctx, key(repo, commit), body)
}

func (s *Shelf) read(ctx context.Context, repo hub.Repo, revision, path string) ([]byte, string, error) {
	file, commit, err := s.Hub.Head(ctx, repo, revision, path)
	if err != nil {
		return nil, "", err
	}
	body, err := s.Hub.Small(ctx, repo, commit, file, chattemplate.MaxConfig)
	return body, commit, err
}

// kept returns what was found at a commit before; zero: nothing was.
func (s *Shelf) kept(ctx context.Context, repo hub.Repo, commit string) (found chattemplate.Source, err error) {
	body, err := s.Store.Get(ctx, key(repo, commit))
	if errors.Is(err, blob.ErrNotFound) {
		return found, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &found)
	}
	return found, err
}

// way is what to do about a template that is there and cannot be used, else what is given.
func way(err error, otherwise string) string {
	if errors.Is(err, chattemplate.ErrUnread) {
		return "an endpoint with api: chat and no tokenizer, which applies the template itself (vLLM, TGI, SGLang, llama.cpp and Ollama have one), " +
			"or a folder on every worker's machine with the template written otherwise as chat_template.jinja, beside its tokenizer_config.json"
	}
	return otherwise
}

func key(repo hub.Repo, commit string) string {
	return fmt.Sprintf("tokenizers/%s/%s.json", repo, commit)
}

func isCommit(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// explain sorts an answer of the Hub: what passes by itself, and what a person has to mend.
func explain(repo hub.Repo, err error) error {
	var said *hub.Error
	if !errors.As(err, &said) || errors.Is(said.Kind, hub.ErrPassing) {
		return err
	}
	plain := *said
	plain.Try = ""
	try := said.Try
	if try == "" {
		try = "see what the Hub says of " + repo.String()
	}
	if said.Code == "EntryNotFound" {
		try = "the tokenizer of the model's instruct variant: this repository has no " + configFile
	}
	return &Error{Name: "hf://" + repo.String(), Err: &plain, Try: try}
}
