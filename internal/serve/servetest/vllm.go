package servetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// VLLM is a server with vLLM's routes for models and adapters, as vllm/entrypoints/openai/models/serving.py and
// vllm/entrypoints/serve/lora/api_router.py of its main branch answer (read in 2026-11), and a completion that names its model.
// Adapters are read from the file system, like vLLM's.
type VLLM struct {
	URL string // ends in /v1

	mu       sync.Mutex
	base     string
	key      string
	off      bool              // runtime updating is not allowed
	old      bool              // the shape of errors before 0.10, and no load_inplace
	evicted  map[string]bool   // put out of memory by the engine itself
	adapters map[string]string // path by name
	loads    map[string]int    // by name
	down     bool
	parrot   bool // every model answers alike
	refuse   func(name string) (int, string)
}

// NewVLLM starts a vLLM whose base model has this name. It ends with the test.
func NewVLLM(t testing.TB, base, key string) *VLLM {
	t.Helper()
	v := &VLLM{base: base, key: key, adapters: map[string]string{}, loads: map[string]int{}, evicted: map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(server.Close)
	v.URL = server.URL + "/v1"
	return v
}

func (v *VLLM) with(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// Restart forgets all adapters, as a process that starts anew does.
func (v *VLLM) Restart() { v.with(func() { clear(v.adapters); clear(v.evicted) }) }

// Down has every request answered with 503 while it is true, as by a proxy before a vLLM that is starting.
func (v *VLLM) Down(down bool) { v.with(func() { v.down = down }) }

// SwitchOff starts the server without VLLM_ALLOW_RUNTIME_LORA_UPDATING.
func (v *VLLM) SwitchOff() { v.with(func() { v.off = true }) }

// Old has errors in the shape of versions before 0.10.
func (v *VLLM) Old() { v.with(func() { v.old = true }) }

// Parrot has every model answer like the base model, as where an adapter changes nothing.
func (v *VLLM) Parrot() { v.with(func() { v.parrot = true }) }

// Evict has the engine put an adapter out of memory, whose removal then fails.
func (v *VLLM) Evict(name string) { v.with(func() { v.evicted[name] = true }) }

// Refuse has loading fail with a status and the engine's words. A status of 0 lets it pass.
func (v *VLLM) Refuse(f func(name string) (int, string)) { v.with(func() { v.refuse = f }) }

// Adapters returns the names that are loaded, and how often each was.
func (v *VLLM) Adapters() map[string]int {
	out := map[string]int{}
	v.with(func() {
		for name := range v.adapters {
			out[name] = v.loads[name]
		}
	})
	return out
}

func (v *VLLM) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.down:
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		return
	case v.key != "" && r.Header.Get("Authorization") != "Bearer "+v.key:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"Unauthorized"}`)
		return
	}
	switch route := r.Method + " " + r.URL.Path; {
	case route == "GET /v1/models":
		v.models(w)
	case route == "POST /v1/load_lora_adapter" && !v.off:
		v.load(w, r)
	case route == "POST /v1/unload_lora_adapter" && !v.off:
		v.unload(w, r)
	case route == "POST /v1/completions", route == "POST /v1/chat/completions":
		v.complete(w, r)
	default:
		reply(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (v *VLLM) fail(w http.ResponseWriter, status int, kind, message string) {
	body := map[string]any{"message": message, "type": kind, "param": nil, "code": status}
	if v.old {
		body["object"] = "error"
		reply(w, status, body)
		return
	}
	reply(w, status, map[string]any{"error": body})
}

func (v *VLLM) models(w http.ResponseWriter) {
	card := func(id, root string, parent any) map[string]any {
		return map[string]any{
			"id": id, "object": "model", "created": 1_790_000_000, "owned_by": "vllm", "root": root, "parent": parent,
			"permission": []any{map[string]any{"object": "model_permission", "allow_sampling": true}},
		}
	}
	data := []any{card(v.base, v.base, nil)}
	for name, path := range v.adapters {
		data = append(data, card(name, path, v.base))
	}
	reply(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

type loraRequest struct {
	Name    *string `json:"lora_name"`
	Path    *string `json:"lora_path"`
	InPlace bool    `json:"load_inplace"`
}

// read decodes a request as FastAPI does: only JSON, and with what the route needs.
func read(w http.ResponseWriter, r *http.Request, path bool) (loraRequest, bool) {
	var in loraRequest
	if r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&in) != nil || in.Name == nil || path && in.Path == nil {
		reply(w, http.StatusUnprocessableEntity, map[string]any{"detail": []any{map[string]any{"type": "missing", "msg": "Field required"}}})
		return in, false
	}
	return in, true
}

func (v *VLLM) load(w http.ResponseWriter, r *http.Request) {
	in, ok := read(w, r, true)
	if !ok {
		return
	}
	name, path := *in.Name, *in.Path
	_, there := v.adapters[name]
	switch {
	case name == "" || path == "":
		v.fail(w, http.StatusBadRequest, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
		return
	case there && (v.old || !in.InPlace):
		v.fail(w, http.StatusBadRequest, "InvalidUserInput", fmt.Sprintf("The lora adapter '%s' has already been loaded. "+
			"If you want to load the adapter in place, set 'load_inplace' to True.", name))
		return
	}
	if v.refuse != nil {
		if status, words := v.refuse(name); status != 0 {
			v.fail(w, status, "InternalServerError", words)
			return
		}
	}
	if _, err := os.Stat(filepath.Join(path, "adapter_config.json")); err != nil {
		v.fail(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("Loading lora %s failed: No adapter found for %s", name, path))
		return
	}
	v.adapters[name] = path
	v.loads[name]++
	delete(v.evicted, name)
	fmt.Fprintf(w, "Success: LoRA adapter '%s' added successfully.", name)
}

func (v *VLLM) unload(w http.ResponseWriter, r *http.Request) {
	in, ok := read(w, r, false)
	if !ok {
		return
	}
	name := *in.Name
	switch _, there := v.adapters[name]; {
	case !there:
		v.fail(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("The lora adapter '%s' cannot be found.", name))
		return
	case v.evicted[name]:
		v.fail(w, http.StatusInternalServerError, "InternalServerError", fmt.Sprintf("Failed to remove lora adapter '%s' from the engine.", name))
		return
	}
	delete(v.adapters, name)
	fmt.Fprintf(w, "Success: LoRA adapter '%s' removed successfully.", name)
}

func (v *VLLM) complete(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model string `json:"model"`
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		reply(w, http.StatusUnprocessableEntity, map[string]any{"detail": []any{}})
		return
	}
	path, there := v.adapters[in.Model]
	if !there && in.Model != v.base {
		v.fail(w, http.StatusNotFound, "NotFoundError", fmt.Sprintf("The model `%s` does not exist.", in.Model))
		return
	}
	if there {
		if _, err := os.Stat(filepath.Join(path, "adapter_config.json")); err != nil { // read again after it was evicted
			v.fail(w, http.StatusInternalServerError, "InternalServerError", "Loading lora failed: No adapter found for "+path)
			return
		}
	}
	text := "an answer of " + in.Model
	if v.parrot {
		text = "an answer of " + v.base
	}
	reply(w, http.StatusOK, map[string]any{
		"id": "cmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": in.Model,
		"choices": []any{map[string]any{
			"index": 0, "text": text, "message": map[string]any{"role": "assistant", "content": text}, "finish_reason": "stop",
		}},
		"usage": map[string]any{"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
	})
}
