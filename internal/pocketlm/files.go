package pocketlm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// file is an uploaded or produced file. Its bytes lie beside its JSON, which is written last.
type file struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Bytes    int64  `json:"bytes"`
	Created  int64  `json:"created_at"`
	Filename string `json:"filename"`
	Purpose  string `json:"purpose"`
	Status   string `json:"status"`
	Digest   string `json:"sha256"` // not in OpenAI's API; clients pass it over
	Order    int64  `json:"order"`
}

type fileStore struct {
	dir string

	mu   sync.Mutex
	byID map[string]*file
	last int64 // order of the newest file
}

func openFiles(dir string) (*fileStore, error) {
	st := &fileStore{dir: dir, byID: map[string]*file{}}
	err := loadAll(dir, func(f *file) {
		st.byID[f.ID] = f
		st.last = max(st.last, f.Order)
	})
	if err != nil {
		return nil, err
	}
	// Bytes without a JSON are uploads that a kill interrupted: their client never got an id.
	bodies, err := filepath.Glob(filepath.Join(dir, "*.data"))
	if err != nil {
		return nil, err
	}
	for _, b := range bodies {
		if st.byID[strings.TrimSuffix(filepath.Base(b), ".data")] == nil {
			os.Remove(b)
		}
	}
	return st, nil
}

func (st *fileStore) path(id string) string { return filepath.Join(st.dir, id+".data") }

// add keeps a copy of body, at most maxUpload bytes.
func (st *fileStore) add(name, purpose string, body io.Reader) (*file, error) {
	f := &file{ID: newID("file-"), Object: "file", Created: time.Now().Unix(), Filename: name, Purpose: purpose, Status: "processed"}
	tmp, err := os.CreateTemp(st.dir, ".aside-*")
	if err != nil {
		return nil, fmt.Errorf("store file: %w", err)
	}
	defer os.Remove(tmp.Name())
	h := sha256.New()
	f.Bytes, err = io.Copy(io.MultiWriter(tmp, h), io.LimitReader(body, maxUpload+1))
	if err == nil && f.Bytes > maxUpload {
		err = errTooLarge
	}
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return nil, fmt.Errorf("store file: %w", err)
	}
	f.Digest = hex.EncodeToString(h.Sum(nil))
	if err := os.Rename(tmp.Name(), st.path(f.ID)); err != nil {
		return nil, fmt.Errorf("store file: %w", err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.last++
	f.Order = st.last
	if err := saveJSON(filepath.Join(st.dir, f.ID+".json"), f); err != nil {
		return nil, fmt.Errorf("store file: %w", err)
	}
	st.byID[f.ID] = f
	return f, nil
}

var errTooLarge = fmt.Errorf("file is larger than %d bytes", maxUpload)

func (st *fileStore) get(id string) (*file, *apiError) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if f := st.byID[id]; f != nil {
		return f, nil
	}
	return nil, notFound("id", "", "No such File object: %.80s", id)
}

func (s *Server) createFile(w http.ResponseWriter, r *http.Request) *apiError {
	mt, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != "multipart/form-data" || params["boundary"] == "" {
		return badRequest("file", "files are uploaded as multipart/form-data with the fields purpose and file")
	}
	var (
		purpose string
		stored  *file
	)
	mr := multipart.NewReader(http.MaxBytesReader(w, r.Body, maxUpload+(1<<20)), params["boundary"])
	for {
		part, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.forget(stored)
			return badRequest("file", "could not read the upload: %v", err)
		}
		switch {
		case part.FormName() == "purpose":
			b, err := io.ReadAll(io.LimitReader(part, 100))
			if err != nil {
				s.forget(stored)
				return badRequest("purpose", "could not read the upload: %v", err)
			}
			purpose = string(b)
		case part.FormName() == "file" && stored == nil:
			if stored, err = s.files.add(part.FileName(), "", part); err != nil {
				if errors.Is(err, errTooLarge) {
					return &apiError{status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Param: "file", Message: errTooLarge.Error()}
				}
				return badRequest("file", "could not store the upload: %v", err)
			}
		}
	}
	if stored == nil {
		return badRequest("file", "'file' is a required property")
	}
	if !slices.Contains([]string{"fine-tune", "batch", "assistants", "user_data", "evals", "vision"}, purpose) {
		s.forget(stored)
		return badRequest("purpose", "'%.40s' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'", purpose)
	}
	f, err := s.files.setPurpose(stored, purpose)
	if err != nil {
		return internal(err)
	}
	sum := sha256.Sum256([]byte("files\x00" + purpose + "\x00" + f.Digest))
	if bad := s.noteSubmission(Entry{Route: "files", Digest: Digest(sum[:12])}); bad != nil {
		return bad
	}
	writeJSON(w, f)
	return nil
}

// setPurpose replaces the file's record, since the fields of a form come in any order.
func (st *fileStore) setPurpose(f *file, purpose string) (*file, error) {
	c := *f
	c.Purpose = purpose
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := saveJSON(filepath.Join(st.dir, c.ID+".json"), &c); err != nil {
		return nil, err
	}
	st.byID[c.ID] = &c
	return &c, nil
}

func (s *Server) forget(f *file) {
	if f != nil {
		s.files.remove(f.ID) //nolint:errcheck // an upload that failed; the next Open tidies up
	}
}

func (st *fileStore) remove(id string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.byID, id)
	return errors.Join(os.Remove(filepath.Join(st.dir, id+".json")), os.Remove(st.path(id)))
}

// noteSubmission journals a request that creates something: received and answered at once.
func (s *Server) noteSubmission(e Entry) *apiError {
	s.journal.received(e)
	e.Kind, e.Status = Answered, http.StatusOK
	if err := s.journal.settled(e); err != nil {
		return internal(err)
	}
	return nil
}

func (s *Server) listFiles(w http.ResponseWriter, r *http.Request) *apiError {
	s.files.mu.Lock()
	var all []*file
	purpose := r.URL.Query().Get("purpose")
	for _, f := range s.files.byID {
		if f.Purpose != "" && (purpose == "" || f.Purpose == purpose) {
			all = append(all, f)
		}
	}
	s.files.mu.Unlock()
	slices.SortFunc(all, func(a, b *file) int { return int(b.Order - a.Order) })
	if r.URL.Query().Get("order") == "asc" {
		slices.Reverse(all)
	}
	return writePage(w, r, all, 10_000, func(f *file) string { return f.ID })
}

// writePage answers a list in OpenAI's shape, with limit and after.
func writePage[T any](w http.ResponseWriter, r *http.Request, all []T, limit int, id func(T) string) *apiError {
	q := r.URL.Query()
	if v := q.Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return badRequest("limit", "Invalid 'limit': must be a positive integer (got %.40q).", v)
		}
		limit = min(n, limit)
	}
	if after := q.Get("after"); after != "" {
		i := slices.IndexFunc(all, func(v T) bool { return id(v) == after })
		if i < 0 {
			return notFound("after", "", "No object with id %.80q to go on after.", after)
		}
		all = all[i+1:]
	}
	page := map[string]any{"object": "list", "has_more": len(all) > limit}
	all = append([]T{}, all[:min(limit, len(all))]...)
	page["data"] = all
	if len(all) > 0 {
		page["first_id"], page["last_id"] = id(all[0]), id(all[len(all)-1])
	}
	writeJSON(w, page)
	return nil
}

func (s *Server) getFile(w http.ResponseWriter, r *http.Request) *apiError {
	f, bad := s.files.get(r.PathValue("id"))
	if bad == nil {
		writeJSON(w, f)
	}
	return bad
}

func (s *Server) deleteFile(w http.ResponseWriter, r *http.Request) *apiError {
	f, bad := s.files.get(r.PathValue("id"))
	if bad != nil {
		return bad
	}
	if err := s.files.remove(f.ID); err != nil {
		return internal(err)
	}
	writeJSON(w, map[string]any{"id": f.ID, "object": "file", "deleted": true})
	return nil
}

func (s *Server) fileContent(w http.ResponseWriter, r *http.Request) *apiError {
	f, bad := s.files.get(r.PathValue("id"))
	if bad != nil {
		return bad
	}
	body, err := os.Open(s.files.path(f.ID))
	if err != nil {
		return internal(err)
	}
	defer body.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(f.Bytes, 10))
	io.Copy(w, body) //nolint:errcheck // the client has gone
	return nil
}
