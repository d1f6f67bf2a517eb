package batch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/llm"
)

const secret = "sk-very-secret-key"

// endpoint is a Batch API that does nothing by itself.
type endpoint struct {
	t   *testing.T
	url string
	// refuse may answer a request in the endpoint's place. after says that the endpoint has done its work.
	refuse func(w http.ResponseWriter, r *http.Request, after bool) bool

	mu      sync.Mutex
	files   []map[string]any
	bodies  map[string][]byte
	batches []map[string]any // oldest first
	calls   []string
	clock   int
}

func newEndpoint(t *testing.T) (*endpoint, *Client) {
	e := &endpoint{t: t, bodies: map[string][]byte{}, clock: 1_800_000_000}
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	e.url = srv.URL + "/v1"
	c, err := New(llm.Provider{Name: "p", URL: e.url, Key: secret}, Options{Backoff: time.Millisecond, MaxBackoff: 50 * time.Millisecond, Attempts: 4, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return e, c
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+secret {
		http.Error(w, `{"error":{"message":"bad key"}}`, http.StatusUnauthorized)
		return
	}
	e.mu.Lock()
	e.calls = append(e.calls, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1"))
	e.mu.Unlock()
	if e.refuse != nil && e.refuse(w, r, false) {
		return
	}
	reply := e.answer(r)
	if e.refuse != nil && e.refuse(w, r, true) {
		return
	}
	if raw, ok := reply.([]byte); ok {
		_, _ = w.Write(raw)
		return
	}
	if reply == nil {
		http.Error(w, `{"error":{"message":"no such thing"}}`, http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(reply)
}

func (e *endpoint) answer(r *http.Request) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clock++
	path := strings.TrimPrefix(r.URL.Path, "/v1")
	switch {
	case r.Method == http.MethodPost && path == "/files":
		if r.ContentLength <= 0 {
			e.t.Error("an upload without its length")
		}
		f, head, err := r.FormFile("file")
		if err != nil {
			return nil // an upload that was broken off
		}
		body, _ := io.ReadAll(f)
		id := fmt.Sprintf("file-%d", len(e.files)+1)
		e.bodies[id] = body
		file := map[string]any{"id": id, "bytes": len(body), "filename": head.Filename, "purpose": r.FormValue("purpose"), "created_at": e.clock}
		e.files = append(e.files, file)
		return file
	case r.Method == http.MethodGet && path == "/files":
		return e.page(r, e.files)
	case r.Method == http.MethodGet && strings.HasSuffix(path, "/content"):
		body, ok := e.bodies[strings.TrimSuffix(strings.TrimPrefix(path, "/files/"), "/content")]
		if !ok {
			return nil
		}
		return body
	case r.Method == http.MethodDelete:
		return map[string]any{"deleted": true}
	case r.Method == http.MethodPost && path == "/batches":
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			e.t.Error(err)
		}
		b := map[string]any{"id": fmt.Sprintf("batch_%d", len(e.batches)+1), "status": "in_progress", "created_at": e.clock, "metadata": in["metadata"], "input_file_id": in["input_file_id"]}
		e.batches = append(e.batches, b)
		return b
	case path == "/batches":
		return e.page(r, e.batches)
	}
	for _, b := range e.batches {
		if id := b["id"].(string); strings.HasPrefix(path, "/batches/"+id) && (path == "/batches/"+id || strings.HasSuffix(path, "/cancel")) {
			if strings.HasSuffix(path, "/cancel") {
				b["status"] = "cancelled"
			}
			return b
		}
	}
	return nil
}

// page lists the newest first, three at a time.
func (e *endpoint) page(r *http.Request, all []map[string]any) any {
	list := slices.Clone(all)
	slices.Reverse(list)
	if after := r.URL.Query().Get("after"); after != "" {
		i := slices.IndexFunc(list, func(m map[string]any) bool { return m["id"] == after })
		list = list[i+1:]
	}
	more := len(list) > 3
	return map[string]any{"data": list[:min(3, len(list))], "has_more": more}
}

func (e *endpoint) count(call string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.calls {
		if c == call {
			n++
		}
	}
	return n
}

func job(key string, first bool, lines ...string) Job {
	size := int64(0)
	for _, l := range lines {
		size += int64(len(l))
	}
	return Job{Key: key, Path: "/v1/chat/completions", Size: size, First: first, Lines: sequence(lines, nil)}
}

func sequence(lines []string, err error) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, l := range lines {
			if !yield([]byte(l), nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func result(id string, status int, body string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"id":"x","custom_id":%q,"response":{"status_code":%d,"body":%s},"error":null}`+"\n", id, status, body)
	return b.String()
}
