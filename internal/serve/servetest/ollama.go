package servetest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
)

// OllamaModel is what a model was made of.
type OllamaModel struct {
	From     string
	Files    map[string]string // content by name
	Adapters map[string]string
	Quantize string
}

// Ollama is a server with Ollama's routes for models and blobs, as server/create.go and server/routes.go of its main branch
// answer (read at commit fb30760, 2026-08-21). It keeps blobs and models in memory and looks no further into files than at
// their names and first bytes.
type Ollama struct {
	URL string

	mu     sync.Mutex
	models map[string]OllamaModel
	blobs  map[string][]byte
	pushes int
	cut    bool // the next create ends in mid-stream
}

// NewOllama starts an Ollama that has the named models. It ends with the test.
func NewOllama(t testing.TB, models ...string) *Ollama {
	t.Helper()
	o := &Ollama{models: map[string]OllamaModel{}, blobs: map[string][]byte{}}
	for _, m := range models {
		o.models[tagged(m)] = OllamaModel{}
	}
	server := httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(server.Close)
	o.URL = server.URL
	return o
}

// Models returns the models that are there, by full name.
func (o *Ollama) Models() map[string]OllamaModel {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]OllamaModel{}
	for k, v := range o.models {
		out[k] = v
	}
	return out
}

// Pushes returns how many blobs were sent.
func (o *Ollama) Pushes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pushes
}

// CutNextCreate has the next creation break off in the middle of its answer, with nothing made.
func (o *Ollama) CutNextCreate() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cut = true
}

func tagged(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		name += ":latest"
	}
	return strings.ToLower(name)
}

func (o *Ollama) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	digest, isBlob := strings.CutPrefix(r.URL.Path, "/api/blobs/")
	if isBlob {
		o.blob(w, r, digest)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /api/show":
		if name, ok := o.named(w, r); ok {
			reply(w, http.StatusOK, map[string]any{"details": map[string]any{"parent_model": o.models[name].From}, "model_info": map[string]any{}})
		}
	case "DELETE /api/delete":
		if name, ok := o.named(w, r); ok {
			delete(o.models, name)
		}
	case "POST /api/create":
		o.create(w, r)
	case "GET /v1/models":
		data := []any{}
		for name := range o.models {
			data = append(data, map[string]any{"id": name, "object": "model", "created": 1, "owned_by": "library"})
		}
		reply(w, http.StatusOK, map[string]any{"object": "list", "data": data})
	default:
		http.Error(w, "404 page not found", http.StatusNotFound)
	}
}

// named reads the model of a request and finds it.
func (o *Ollama) named(w http.ResponseWriter, r *http.Request) (string, bool) {
	var in struct {
		Model string `json:"model"`
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil || in.Model == "" {
		reply(w, http.StatusBadRequest, map[string]string{"error": "missing request body"})
		return "", false
	}
	name := tagged(in.Model)
	if _, ok := o.models[name]; !ok {
		reply(w, http.StatusNotFound, map[string]string{"error": fmt.Sprintf("model '%s' not found", in.Model)})
		return "", false
	}
	return name, true
}

func (o *Ollama) blob(w http.ResponseWriter, r *http.Request, digest string) {
	_, there := o.blobs[digest]
	switch {
	case r.Method == http.MethodHead && !there:
		w.WriteHeader(http.StatusNotFound)
	case there:
		w.WriteHeader(http.StatusOK)
	default:
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		sum := sha256.Sum256(raw)
		if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
			reply(w, http.StatusBadRequest, map[string]string{"error": fmt.Sprintf("digest mismatch, expected %q, got %q", digest, got)})
			return
		}
		o.blobs[digest] = raw
		o.pushes++
		w.WriteHeader(http.StatusCreated)
	}
}

func (o *Ollama) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string            `json:"model"`
		From     string            `json:"from"`
		Files    map[string]string `json:"files"`
		Adapters map[string]string `json:"adapters"`
		Quantize string            `json:"quantize"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	say := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	fail := func(words string) { say(map[string]any{"error": words, "status": http.StatusBadRequest}) }
	if o.cut {
		o.cut = false
		say(map[string]string{"status": "parsing GGUF"})
		return
	}
	made := OllamaModel{From: in.From, Files: map[string]string{}, Adapters: map[string]string{}, Quantize: in.Quantize}
	_, known := o.models[tagged(in.From)]
	switch {
	case in.From == "" && in.Files == nil:
		fail("neither 'from' or 'files' was specified")
		return
	case in.From != "" && !known:
		say(map[string]string{"status": "pulling manifest"})
		fail("pull model manifest: file does not exist")
		return
	}
	for _, part := range []struct{ from, to map[string]string }{{in.Files, made.Files}, {in.Adapters, made.Adapters}} {
		kind := ""
		for name, digest := range part.from {
			raw, ok := o.blobs[digest]
			if !ok || !fs.ValidPath(name) {
				fail("file path must be relative, and its blob there")
				return
			}
			if e := path.Ext(name); e == ".safetensors" || e == ".gguf" {
				kind = e
			}
			part.to[name] = string(raw)
		}
		if len(part.from) > 0 && kind == "" {
			fail("unknown type")
			return
		}
	}
	say(map[string]string{"status": "converting adapter"})
	say(map[string]string{"status": "writing manifest"})
	o.models[tagged(in.Model)] = made
	say(map[string]string{"status": "success"})
}
