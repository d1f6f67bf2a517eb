// Package ollama makes a running Ollama answer for trained models: from a LoRA adapter over a model that it has, from a GGUF
// file, or from the weights of a whole model.
//
// The routes are those of Ollama's own API: HEAD and POST /api/blobs/sha256:…, POST /api/create, /api/show, DELETE
// /api/delete. Its manifest of a model is written last, so a model is there wholly or not at all. Compared with the sources of 0.33.0-rc2.
package ollama

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/serve"
)

// Config says where Ollama is.
type Config struct {
	Provider string        // name of the provider at which models answer
	URL      string        // of Ollama, with or without the /v1 of its OpenAI-compatible part
	Key      func() string // for a proxy before Ollama, which wants none itself; "" sends none
	Model    serve.Pattern // names of models, with {run} and {digest}; a colon begins the tag
	From     string        // what Ollama calls the base model of adapters; "" is the trainer's name for it
	Quantize string        // for whole models in safetensors: q8_0, q4_K_M …; "" leaves them as they are
	HTTP     *http.Client  // default serve.NewClient
}

// Server implements serve.Server.
type Server struct {
	cfg   Config
	store *blob.Store
	admin serve.Admin
}

var _ serve.Server = (*Server)(nil)

// validName is what Ollama accepts as namespace/model:tag (types/model/name.go).
var validName = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_-]{0,79}/)?[A-Za-z0-9_][A-Za-z0-9._-]{0,79}(:[A-Za-z0-9_][A-Za-z0-9._-]{0,79})?$`)

// New returns a server over a running Ollama.
func New(cfg Config, store *blob.Store) (*Server, error) {
	if cfg.Provider == "" || cfg.URL == "" || store == nil {
		return nil, errors.New("ollama server: provider, url and store are needed")
	}
	if err := cfg.Model.CheckUnique(); err != nil {
		return nil, fmt.Errorf("ollama server: %w", err)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = serve.NewClient()
	}
	root := strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/v1")
	return &Server{cfg: cfg, store: store, admin: serve.Admin{URL: root, Key: cfg.Key, HTTP: cfg.HTTP}}, nil
}

// Deploy implements serve.Server. The model's name stands for its training, so one that Ollama has is not made again.
func (s *Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	name := s.cfg.Model.Name(m)
	if !validName.MatchString(name) {
		return dataset.ModelRef{}, serve.Wrong("give the server another model pattern, such as {run}:{role}-{iteration}-{digest}", "Ollama cannot call a model %.200q", name)
	}
	ref := dataset.ModelRef{Provider: s.cfg.Provider, Name: name, Revision: m.Revision()}
	if there, err := s.has(ctx, name); err != nil || there {
		return ref, err
	}
	files, err := serve.OpenArtifact(ctx, s.store, m)
	if err != nil {
		return ref, err
	}
	made, err := s.plan(ctx, files, m)
	if err != nil {
		return ref, err
	}
	if made.request.From != "" {
		there, err := s.has(ctx, made.request.From)
		if err != nil {
			return ref, err
		}
		if !there { // it would fetch it, many gigabytes perhaps, without being asked to
			return ref, serve.Wrong("ollama pull "+made.request.From+" there, or name the base model in the server's from",
				"Ollama at %s does not have the base model %s", s.admin.URL, made.request.From)
		}
	}
	for _, f := range made.files {
		digest, err := s.push(ctx, files, f)
		if err != nil {
			return ref, err
		}
		made.into[made.names[f.Path]] = digest
	}
	made.request.Model = name
	return ref, s.create(ctx, made.request)
}

// Teardown implements serve.Server.
func (s *Server) Teardown(ctx context.Context, m serve.Trained) error {
	name := s.cfg.Model.Name(m)
	if !validName.MatchString(name) {
		return nil // no such model can have been made
	}
	reply, err := s.admin.Do(ctx, http.MethodDelete, "/api/delete", map[string]string{"model": name})
	if err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if reply.Status != http.StatusOK && reply.Status != http.StatusNotFound {
		return fmt.Errorf("delete %s from %s: status %d: %s", name, s.admin.URL, reply.Status, reply.Words())
	}
	return nil
}

// has reports whether Ollama has a model of this name.
func (s *Server) has(ctx context.Context, name string) (bool, error) {
	reply, err := s.admin.Do(ctx, http.MethodPost, "/api/show", map[string]string{"model": name})
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	switch reply.Status {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("look for %s at %s: status %d: %s", name, s.admin.URL, reply.Status, reply.Words())
}

// createRequest is the body of /api/create.
type createRequest struct {
	Model    string            `json:"model"`
	From     string            `json:"from,omitempty"`
	Files    map[string]string `json:"files,omitempty"`    // digest by name
	Adapters map[string]string `json:"adapters,omitempty"` // digest by name
	Quantize string            `json:"quantize,omitempty"`
}

// plan is what is to be made of an artefact.
type plan struct {
	request createRequest
	files   []serve.File      // to be pushed
	names   map[string]string // for Ollama, by path in the artefact
	into    map[string]string // Files or Adapters of request
}

// plan finds out what the trainer left: an adapter in safetensors, one GGUF file, or whole weights.
func (s *Server) plan(ctx context.Context, a *serve.Artifact, m serve.Trained) (plan, error) {
	from := s.cfg.From
	if from == "" {
		from = m.Base
	}
	adapter := func(p plan) (plan, error) {
		if from == "" {
			return p, serve.Wrong("name the base model in the server's from", "it is not known over which model the adapter %s was trained", a.URI())
		}
		p.request.From, p.request.Adapters = from, p.into
		return p, nil
	}
	p := plan{names: map[string]string{}, into: map[string]string{}}
	take := func(dir string, wanted func(name string) bool) {
		for _, f := range a.In(dir) {
			if wanted(f.Path) {
				at := strings.TrimPrefix(dir+"/"+f.Path, "./")
				p.names[at] = f.Path
				f.Path = at
				p.files = append(p.files, f)
			}
		}
	}
	if dir, ok := a.Folder("adapter_config.json"); ok {
		take(dir, func(name string) bool {
			return name == "adapter_config.json" || strings.HasSuffix(name, ".safetensors")
		})
		return adapter(p)
	}
	var gguf []serve.File
	for _, f := range a.Files {
		if strings.HasSuffix(f.Path, ".gguf") {
			gguf = append(gguf, f)
		}
	}
	if len(gguf) > 1 {
		return p, serve.Wrong("have the trainer leave one of them", "%s holds %d GGUF files", a.URI(), len(gguf))
	}
	if len(gguf) == 1 {
		p.files, p.names[gguf[0].Path] = gguf, gguf[0].Path[strings.LastIndexByte(gguf[0].Path, '/')+1:]
		isAdapter, err := isAdapterFile(ctx, a, gguf[0])
		if err != nil {
			return p, err
		}
		if isAdapter {
			return adapter(p)
		}
		p.request.Files = p.into
		return p, nil
	}
	if dir, ok := a.Folder("config.json"); ok {
		take(dir, func(name string) bool {
			return strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".json") || name == "tokenizer.model"
		})
		p.request.Files, p.request.Quantize = p.into, s.cfg.Quantize
		return p, nil
	}
	return p, serve.Wrong("have the trainer leave an adapter, a GGUF file or the weights of a model", "%s holds nothing that Ollama can read", a.URI())
}

func isAdapterFile(ctx context.Context, a *serve.Artifact, f serve.File) (bool, error) {
	src, err := a.Open(ctx, f)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", f.Path, err)
	}
	defer src.Close()
	kind, err := ggufType(io.LimitReader(src, ggufHead))
	if err != nil {
		return false, serve.Wrong("have the trainer leave a GGUF file", "read %s of %s: %w", f.Path, a.URI(), err)
	}
	return kind == "adapter", nil
}

// push brings a file to Ollama unless it has it, and returns its digest as Ollama writes it.
func (s *Server) push(ctx context.Context, a *serve.Artifact, f serve.File) (string, error) {
	sum := f.SHA256
	if sum == "" {
		src, err := a.Open(ctx, f)
		if err != nil {
			return "", fmt.Errorf("read %s: %w", f.Path, err)
		}
		defer src.Close()
		h := sha256.New()
		if _, err := io.Copy(h, src); err != nil {
			return "", fmt.Errorf("read %s: %w", f.Path, err)
		}
		sum = hex.EncodeToString(h.Sum(nil))
	}
	digest := "sha256:" + sum
	reply, err := s.admin.Do(ctx, http.MethodHead, "/api/blobs/"+digest, nil)
	if err != nil || reply.Status == http.StatusOK {
		return digest, err
	}
	src, err := a.Open(ctx, f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", f.Path, err)
	}
	defer src.Close()
	answer, err := s.admin.Send(ctx, http.MethodPost, "/api/blobs/"+digest, src, f.Size)
	if err != nil {
		return "", fmt.Errorf("push %s: %w", f.Path, err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("push %s: %w", f.Path, err)
	}
	if answer.StatusCode != http.StatusCreated && answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("push %s to %s: status %d: %s", f.Path, s.admin.URL, answer.StatusCode, serve.Reply{Body: raw}.Words())
	}
	return digest, nil
}

// create has Ollama make the model, which it tells of line by line; errors come with status 200 too.
func (s *Server) create(ctx context.Context, request createRequest) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("create %s: %w", request.Model, err)
	}
	answer, err := s.admin.Send(ctx, http.MethodPost, "/api/create", strings.NewReader(string(raw)), 0)
	if err != nil {
		return fmt.Errorf("create %s: %w", request.Model, err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(answer.Body, 16<<20))
	lines.Buffer(nil, 1<<20)
	last := ""
	for lines.Scan() {
		var line struct {
			Status any    `json:"status"` // words, or the number that an error should have had
			Error  string `json:"error"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Error != "" {
			return serve.Wrong("mend what Ollama objects to: the base model, the adapter's architecture, its version",
				"Ollama at %s does not make %s: %s", s.admin.URL, request.Model, serve.Clip(line.Error))
		}
		if word, ok := line.Status.(string); ok {
			last = word
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("create %s: %w", request.Model, err)
	}
	if answer.StatusCode != http.StatusOK || last != "success" {
		return fmt.Errorf("create %s at %s: status %d, its last word was %q", request.Model, s.admin.URL, answer.StatusCode, serve.Clip(last))
	}
	return nil
}
