// Package vllm loads trained LoRA adapters into running vLLM servers and takes them out again.
//
// The routes are those of vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True: POST /v1/load_lora_adapter and
// /v1/unload_lora_adapter, GET /v1/models, which lists adapters with their path as root. vLLM reads an adapter's files
// again after it had to put it out of memory, so they stay for as long as it is served. Routes, words and statuses were compared
// with the sources of vLLM 0.33.0.
package vllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// Config says where the servers are and where adapters are put for them.
type Config struct {
	Provider string        // name of the provider at which models answer
	URLs     []string      // of every replica, ending in /v1; an adapter must be loaded by all of them
	Key      func() string // that the replicas accept; "" sends none
	Model    serve.Pattern // names of models, with {digest}
	Dir      string        // folder for adapters, as the workers that deploy see it
	SeenAs   string        // the same folder as vLLM sees it; "" where both see it alike
	HTTP     *http.Client  // default serve.NewClient
}

// Server implements serve.Server.
type Server struct {
	cfg      Config
	store    *blob.Store
	replicas []serve.Admin
}

var _ serve.Server = (*Server)(nil)

// poll is the time between two looks at a replica that has loaded an adapter and does not list it yet.
const poll = 250 * time.Millisecond

// New returns a server over running vLLMs.
func New(cfg Config, store *blob.Store) (*Server, error) {
	if cfg.Provider == "" || len(cfg.URLs) == 0 || cfg.Dir == "" || store == nil {
		return nil, errors.New("vllm server: provider, url, folder and store are needed")
	}
	if err := cfg.Model.CheckUnique(); err != nil {
		return nil, fmt.Errorf("vllm server: %w", err)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("vllm server: folder: %w", err)
	}
	cfg.Dir = dir
	if cfg.SeenAs == "" {
		cfg.SeenAs = filepath.ToSlash(dir)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = serve.NewClient()
	}
	s := &Server{cfg: cfg, store: store}
	for _, u := range cfg.URLs {
		s.replicas = append(s.replicas, serve.Admin{URL: strings.TrimRight(u, "/"), Key: cfg.Key, HTTP: cfg.HTTP})
	}
	return s, nil
}

// folder names an adapter's files: those of one training are the same ones under whatever run and name.
func folder(m serve.Trained) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, strings.TrimLeft(m.Run+"-"+m.TrainingDigest, "."))
}

// Deploy implements serve.Server: the adapter's files are brought into the shared folder, every replica loads them, lists
// the model and answers once. Called again it loads the adapter where a replica has lost it.
func (s *Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	name := s.cfg.Model.Name(m)
	files, err := serve.OpenArtifact(ctx, s.store, m)
	if err != nil {
		return dataset.ModelRef{}, err
	}
	within, ok := files.Folder("adapter_config.json")
	if !ok {
		return dataset.ModelRef{}, serve.Wrong("have the trainer train a LoRA adapter, or serve whole models by backend command",
			"%s holds no adapter_config.json, so vLLM cannot load it beside its base model", files.URI())
	}
	dir := folder(m)
	copied := filepath.Join(s.cfg.Dir, dir)
	if err := files.CopyTo(ctx, copied); err != nil {
		return dataset.ModelRef{}, err
	}
	at := path.Join(s.cfg.SeenAs, dir, within)
	err = s.each(func(r serve.Admin) error { return s.load(ctx, r, name, at) })
	if _, gone := os.Stat(copied); err != nil && errors.Is(gone, fs.ErrNotExist) {
		// not what a person must mend, whatever vLLM said: the next attempt copies them again
		err = fmt.Errorf("the files of %s were taken down while vLLM loaded them: %s", name, err.Error())
	}
	return dataset.ModelRef{Provider: s.cfg.Provider, Name: name, Revision: m.Revision()}, err
}

// each does f at all replicas at once. What a person must mend is told before what may pass.
func (s *Server) each(f func(r serve.Admin) error) error {
	errs := make([]error, len(s.replicas))
	var all sync.WaitGroup
	for i, r := range s.replicas {
		all.Go(func() { errs[i] = f(r) })
	}
	all.Wait()
	var passing error
	for _, err := range errs {
		if errors.As(err, new(*serve.Error)) {
			return err
		}
		if passing == nil {
			passing = err
		}
	}
	return passing
}

// loaded returns where a replica has loaded the model from, and "" where it has not.
func loaded(ctx context.Context, r serve.Admin, name string) (from string, ok bool, err error) {
	reply, err := r.Do(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return "", false, fmt.Errorf("list models of %s: %w", r.URL, err)
	}
	var list struct {
		Data []struct {
			ID   string `json:"id"`
			Root string `json:"root"`
		} `json:"data"`
	}
	if reply.Status != http.StatusOK {
		return "", false, fmt.Errorf("list models of %s: status %d: %s", r.URL, reply.Status, reply.Words())
	}
	if err := json.Unmarshal(reply.Body, &list); err != nil {
		return "", false, fmt.Errorf("list models of %s: %w", r.URL, err)
	}
	for _, m := range list.Data {
		if m.ID == name {
			return m.Root, true, nil
		}
	}
	return "", false, nil
}

type loadRequest struct {
	Name    string `json:"lora_name"`
	Path    string `json:"lora_path"`
	InPlace bool   `json:"load_inplace,omitempty"` // older versions leave it out of account
}

type unloadRequest struct {
	Name string `json:"lora_name"`
}

// load has one replica load the adapter unless it has, and waits until it lists the model and answers.
func (s *Server) load(ctx context.Context, r serve.Admin, name, at string) error {
	from, ok, err := loaded(ctx, r, name)
	if err != nil {
		return err
	}
	if ok && from != at { // the shared folder has moved; the name says that it is the same training
		if err := unload(ctx, r, name); err != nil {
			return err
		}
		ok = false
	}
	if !ok {
		reply, err := r.Do(ctx, http.MethodPost, "/load_lora_adapter", loadRequest{Name: name, Path: at})
		if err != nil {
			return fmt.Errorf("load %s into %s: %w", name, r.URL, err)
		}
		if err := refused(r, reply, name, at); err != nil {
			return err
		}
	}
	for !ok {
		if _, ok, err = loaded(ctx, r, name); err != nil {
			return err
		}
		if !ok {
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait until %s lists %s: %w", r.URL, name, ctx.Err())
			case <-time.After(poll):
			}
		}
	}
	return answers(ctx, r, name)
}

// refused says what is to be done about a refusal to load.
func refused(r serve.Admin, reply serve.Reply, name, at string) error {
	words := reply.Words()
	switch {
	case reply.Status == http.StatusOK, reply.Status == http.StatusBadRequest && strings.Contains(words, "already been loaded"):
		return nil // by this call, or by another one just now
	case switchedOff(reply):
		return serve.Wrong("start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment",
			"%s does not load adapters at runtime", r.URL)
	case reply.Status == http.StatusNotFound, strings.Contains(words, "No adapter found"):
		return serve.Wrong("let vLLM see the server's dir, or say in seen_as where it sees it",
			"vLLM at %s does not find the files of %s at %s: %s", r.URL, name, at, words)
	case reply.Status == http.StatusBadRequest, reply.Status == http.StatusUnprocessableEntity,
		reply.Status == http.StatusInternalServerError && json.Valid(reply.Body): // its engine's own words
		return serve.Wrong("mend what vLLM objects to: --max-lora-rank, the base model, the adapter's modules",
			"vLLM at %s does not load %s: %s", r.URL, name, words)
	}
	return fmt.Errorf("load %s into %s: status %d: %s", name, r.URL, reply.Status, words)
}

// switchedOff reports whether the route is not there, which FastAPI says in its own shape.
func switchedOff(reply serve.Reply) bool {
	var fastAPI struct {
		Detail string `json:"detail"`
	}
	return (reply.Status == http.StatusNotFound || reply.Status == http.StatusMethodNotAllowed) &&
		json.Unmarshal(reply.Body, &fastAPI) == nil && fastAPI.Detail != ""
}

// answers asks the model for one token, by the route that wants no chat template.
func answers(ctx context.Context, r serve.Admin, name string) error {
	reply, err := r.Do(ctx, http.MethodPost, "/completions", map[string]any{"model": name, "prompt": "Hello", "max_tokens": 1})
	if err != nil {
		return fmt.Errorf("ask %s at %s: %w", name, r.URL, err)
	}
	if reply.Status != http.StatusOK {
		return fmt.Errorf("ask %s at %s: status %d: %s", name, r.URL, reply.Status, reply.Words())
	}
	return nil
}

// Teardown implements serve.Server. A replica at which nobody listens has nothing loaded.
func (s *Server) Teardown(ctx context.Context, m serve.Trained) error {
	name := s.cfg.Model.Name(m)
	err := s.each(func(r serve.Admin) error {
		err := unload(ctx, r, name)
		if serve.Gone(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(s.cfg.Dir, folder(m))); err != nil {
		return fmt.Errorf("remove files of %s: %w", name, err)
	}
	return nil
}

// unload takes the adapter out of one replica. Some versions refuse with status 500 where the engine has put the adapter out
// of memory by itself; then it is loaded in place first.
func unload(ctx context.Context, r serve.Admin, name string) error {
	for again := range 2 {
		reply, err := r.Do(ctx, http.MethodPost, "/unload_lora_adapter", unloadRequest{Name: name})
		switch {
		case err != nil:
			return fmt.Errorf("unload %s from %s: %w", name, r.URL, err)
		case reply.Status == http.StatusOK, reply.Status == http.StatusNotFound:
			return nil
		case reply.Status == http.StatusBadRequest && strings.Contains(reply.Words(), "cannot be found"):
			return nil
		case again == 0 && reply.Status == http.StatusInternalServerError:
			if at, ok, err := loaded(ctx, r, name); err == nil && ok {
				if _, err := r.Do(ctx, http.MethodPost, "/load_lora_adapter", loadRequest{name, at, true}); err != nil {
					return fmt.Errorf("load %s into %s, to unload it: %w", name, r.URL, err)
				}
				continue
			}
		}
		return fmt.Errorf("unload %s from %s: status %d: %s", name, r.URL, reply.Status, reply.Words())
	}
	return nil
}
