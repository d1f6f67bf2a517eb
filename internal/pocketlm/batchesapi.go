package pocketlm

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"
)

// progressFile holds the results of a running batch, a line each, written before the next item is asked.
type progressFile struct{ f *os.File }

// openProgress reads what a killed server had done; a torn last line is cut off.
func openProgress(path string) (progressFile, map[string]*batchResult, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return progressFile{}, nil, fmt.Errorf("open batch progress: %w", err)
	}
	if err := cutTornLine(f); err != nil {
		return progressFile{}, nil, errors.Join(fmt.Errorf("open batch progress: %w", err), f.Close())
	}
	done := map[string]*batchResult{}
	r, err := os.Open(path)
	if err != nil {
		return progressFile{}, nil, errors.Join(fmt.Errorf("open batch progress: %w", err), f.Close())
	}
	defer r.Close()
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), 64<<20)
	for sc.Scan() {
		var b batchResult
		if json.Unmarshal(sc.Bytes(), &b) == nil && b.Response != nil {
			done[b.CustomID] = &b
		}
	}
	return progressFile{f}, done, sc.Err()
}

func (p progressFile) add(r *batchResult) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode batch progress: %w", err)
	}
	if _, err := p.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write batch progress: %w", err)
	}
	return nil
}

func (p progressFile) Close() { p.f.Close() }

func (s *Server) createBatch(w http.ResponseWriter, r *http.Request) *apiError {
	raw, bad := readBody(w, r)
	if bad != nil {
		return bad
	}
	var body struct {
		InputFile string            `json:"input_file_id"`
		Endpoint  string            `json:"endpoint"`
		Window    string            `json:"completion_window"`
		Metadata  map[string]string `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return badRequest("", "We could not parse the JSON body of your request: %v", err)
	}
	if body.Endpoint != "/v1/chat/completions" && body.Endpoint != "/v1/completions" {
		return badRequest("endpoint", "Invalid value: '%.80s'. Supported values are: '/v1/chat/completions' and '/v1/completions'.", body.Endpoint)
	}
	window, err := time.ParseDuration(body.Window)
	if err != nil || window <= 0 {
		return badRequest("completion_window", "Invalid 'completion_window': expected '24h' (got '%.40s').", body.Window)
	}
	f, bad := s.files.get(body.InputFile)
	if bad != nil || f.Purpose != "batch" {
		return badRequest("input_file_id", "File '%.80s' does not exist or has not the purpose 'batch'.", body.InputFile)
	}
	now := time.Now()
	b := &batch{
		ID: newID("batch_"), Object: "batch", Endpoint: body.Endpoint, InputFile: f.ID, Window: body.Window, Status: "validating",
		Created: now.Unix(), Expires: now.Add(window).Unix(), Metadata: body.Metadata,
	}
	digest := sha256.Sum256([]byte("batches\x00" + body.Endpoint + "\x00" + f.Digest))
	if bad := s.noteSubmission(Entry{Route: "batches", Digest: Digest(digest[:12])}); bad != nil {
		return bad
	}
	st := s.batches
	st.mu.Lock()
	defer st.mu.Unlock()
	st.last++
	b.Order = st.last
	if err := st.save(b); err != nil {
		return internal(err)
	}
	st.byID[b.ID] = b
	writeJSON(w, b)
	st.start(b)
	return nil
}

func (s *Server) batch(r *http.Request) (*batch, *apiError) {
	s.batches.mu.Lock()
	defer s.batches.mu.Unlock()
	if b := s.batches.byID[r.PathValue("id")]; b != nil {
		return b, nil
	}
	return nil, notFound("id", "", "No batch found with id '%.80s'.", r.PathValue("id"))
}

func (s *Server) getBatch(w http.ResponseWriter, r *http.Request) *apiError {
	b, bad := s.batch(r)
	if bad != nil {
		return bad
	}
	s.batches.mu.Lock()
	c := *b
	s.batches.mu.Unlock()
	writeJSON(w, c)
	return nil
}

func (s *Server) listBatches(w http.ResponseWriter, r *http.Request) *apiError {
	s.batches.mu.Lock()
	all := make([]batch, 0, len(s.batches.byID))
	for _, b := range s.batches.byID {
		all = append(all, *b)
	}
	s.batches.mu.Unlock()
	slices.SortFunc(all, func(a, b batch) int { return int(b.Order - a.Order) })
	return writePage(w, withDefaultLimit(r), all, 100, func(b batch) string { return b.ID })
}

func (s *Server) cancelBatch(w http.ResponseWriter, r *http.Request) *apiError {
	b, bad := s.batch(r)
	if bad != nil {
		return bad
	}
	st := s.batches
	st.mu.Lock()
	defer st.mu.Unlock()
	if b.over() {
		return conflict("Cannot cancel a batch with status '%s'.", b.Status)
	}
	now := time.Now().Unix()
	b.Status, b.Cancelling = "cancelling", &now
	if err := st.save(b); err != nil {
		return internal(err)
	}
	if cancel := st.cancels[b.ID]; cancel != nil {
		cancel()
	}
	writeJSON(w, b)
	return nil
}
