package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// fake speaks the wire shape and misbehaves on demand.
type fake struct {
	mu    sync.Mutex
	files []trainfile.File
	jobs  []map[string]any // oldest first
	event []map[string]any
	asked []string // "METHOD path"
	// before is asked first; true means that it has answered.
	before func(w http.ResponseWriter, r *http.Request, nth int) bool
	// afterCreate sees a job that was made; true means that the reply is lost.
	afterCreate func(job map[string]any) bool
	afterUpload func(n int) bool
	noMetadata  bool
	deleted     []string // ids of files
	checkpoints []map[string]any
	pageSize    int
	stuck       bool
	counts      map[string]int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1")
	f.asked = append(f.asked, what)
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[what]++
	if f.before != nil && f.before(w, r, f.counts[what]) {
		return
	}
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	id := r.PathValue("id")
	switch {
	case what == "POST /files":
		file, head, err := r.FormFile("file")
		if err != nil || r.FormValue("purpose") != "fine-tune" || r.ContentLength <= 0 {
			http.Error(w, fmt.Sprint("bad upload: ", err), http.StatusBadRequest)
			return
		}
		n, _ := io.Copy(io.Discard, file)
		made := trainfile.File{ID: "file-" + strconv.Itoa(len(f.files)), Bytes: n, Filename: head.Filename, Purpose: "fine-tune", Status: "processed"}
		f.files = append(f.files, made)
		if f.afterUpload != nil && f.afterUpload(len(f.files)) {
			hangUp(w)
			return
		}
		reply(made)
	case what == "GET /files":
		reply(map[string]any{"data": f.files})
	case strings.HasPrefix(what, "GET /files/"):
		id = strings.TrimPrefix(what, "GET /files/")
		if i := slices.IndexFunc(f.files, func(x trainfile.File) bool { return x.ID == id }); i >= 0 {
			reply(f.files[i])
			return
		}
		http.Error(w, `{"error":{"message":"no such file"}}`, http.StatusNotFound)
	case strings.HasPrefix(what, "DELETE /files/"):
		id = strings.TrimPrefix(what, "DELETE /files/")
		f.deleted = append(f.deleted, id)
		f.files = slices.DeleteFunc(f.files, func(x trainfile.File) bool { return x.ID == id })
		reply(map[string]any{"id": id, "deleted": true})
	case what == "POST /fine_tuning/jobs":
		var c map[string]any
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		f.add(c)
		made := f.jobs[len(f.jobs)-1]
		if f.afterCreate != nil && f.afterCreate(made) {
			hangUp(w)
			return
		}
		reply(made)
	case what == "GET /fine_tuning/jobs":
		reply(f.page(r.URL.Query()))
	case strings.HasSuffix(what, "/cancel"):
		id = strings.TrimSuffix(strings.TrimPrefix(what, "POST /fine_tuning/jobs/"), "/cancel")
		for _, j := range f.jobs {
			if j["id"] == id {
				j["status"] = "cancelled"
				reply(j)
				return
			}
		}
		http.Error(w, `{"error":{"message":"no such job"}}`, http.StatusNotFound)
	case strings.HasSuffix(what, "/events"):
		if f.event == nil {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		reply(map[string]any{"data": f.event})
	case strings.HasSuffix(what, "/checkpoints"):
		reply(map[string]any{"data": f.checkpoints})
	default:
		id = strings.TrimPrefix(what, "GET /fine_tuning/jobs/")
		for _, j := range f.jobs {
			if j["id"] == id {
				reply(j)
				return
			}
		}
		http.Error(w, `{"error":{"message":"no such job","code":"fine_tune_not_found"}}`, http.StatusNotFound)
	}
}

func (f *fake) add(create map[string]any) {
	j := map[string]any{"id": "ftjob-" + strconv.Itoa(len(f.jobs)), "status": "running", "created_at": 1000, "fine_tuned_model": nil, "error": map[string]any{}}
	for k, v := range create {
		j[k] = v
	}
	if f.noMetadata {
		delete(j, "metadata")
	}
	f.jobs = append(f.jobs, j)
}

func (f *fake) page(q url.Values) map[string]any {
	newest := slices.Clone(f.jobs)
	slices.Reverse(newest)
	if after := q.Get("after"); after != "" && !f.stuck {
		i := slices.IndexFunc(newest, func(j map[string]any) bool { return j["id"] == after })
		newest = newest[i+1:]
	}
	size := f.pageSize
	if size == 0 {
		size = 100
	}
	more := len(newest) > size || f.stuck
	return map[string]any{"data": newest[:min(size, len(newest))], "has_more": more}
}

func hangUp(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func (f *fake) start(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return srv.URL + "/v1"
}

func (f *fake) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[what]
}

func answer(w http.ResponseWriter, status int, body string, headers ...string) bool {
	for i := 0; i+1 < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	return true
}

var _ finetune.Backend = (*Backend)(nil)
