package pocketlm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Limits of a batch, as OpenAI has them.
const (
	maxBatchLines = 50_000
	maxBatchBytes = 200 << 20
)

type batchCounts struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

type batchErrors struct {
	Object string           `json:"object"`
	Data   []batchErrorItem `json:"data"`
}

type batchErrorItem struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int    `json:"line"`
}

type batch struct {
	ID         string            `json:"id"`
	Object     string            `json:"object"`
	Endpoint   string            `json:"endpoint"`
	Errors     *batchErrors      `json:"errors"`
	InputFile  string            `json:"input_file_id"`
	Window     string            `json:"completion_window"`
	Status     string            `json:"status"`
	OutputFile *string           `json:"output_file_id"`
	ErrorFile  *string           `json:"error_file_id"`
	Created    int64             `json:"created_at"`
	InProgress *int64            `json:"in_progress_at"`
	Expires    int64             `json:"expires_at"`
	Finalizing *int64            `json:"finalizing_at"`
	Completed  *int64            `json:"completed_at"`
	Failed     *int64            `json:"failed_at"`
	Expired    *int64            `json:"expired_at"`
	Cancelling *int64            `json:"cancelling_at"`
	Cancelled  *int64            `json:"cancelled_at"`
	Counts     batchCounts       `json:"request_counts"`
	Metadata   map[string]string `json:"metadata"`
	Order      int64             `json:"order"`
}

func (b *batch) over() bool {
	switch b.Status {
	case "completed", "failed", "expired", "cancelled":
		return true
	}
	return false
}

type batchLine struct {
	ID     string          `json:"custom_id"`
	Method string          `json:"method"`
	URL    string          `json:"url"`
	Body   json.RawMessage `json:"body"`
}

// batchResult is a line of the output or the error file, and of the progress file that survives a kill.
type batchResult struct {
	ID       string         `json:"id"`
	CustomID string         `json:"custom_id"`
	Response *batchResponse `json:"response"`
	Error    *batchItemErr  `json:"error"`
}

type batchItemErr struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type batchResponse struct {
	StatusCode int             `json:"status_code"`
	RequestID  string          `json:"request_id"`
	Body       json.RawMessage `json:"body"`
}

type batchStore struct {
	srv *Server
	dir string

	mu      sync.Mutex
	byID    map[string]*batch
	cancels map[string]context.CancelFunc
	last    int64
}

func openBatches(s *Server) (*batchStore, error) {
	st := &batchStore{srv: s, dir: filepath.Join(s.opt.Dir, "batches"), byID: map[string]*batch{}, cancels: map[string]context.CancelFunc{}}
	return st, loadAll(st.dir, func(b *batch) {
		st.byID[b.ID] = b
		st.last = max(st.last, b.Order)
	})
}

func (st *batchStore) save(b *batch) error { return saveJSON(filepath.Join(st.dir, b.ID+".json"), b) }

func (st *batchStore) resume() {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, b := range st.byID {
		if !b.over() {
			st.start(b)
		}
	}
}

// start runs a batch in the background. The caller holds mu.
func (st *batchStore) start(b *batch) {
	ctx, cancel := context.WithCancel(st.srv.ctx)
	st.cancels[b.ID] = cancel
	if b.Status == "cancelling" {
		cancel()
	}
	st.srv.work.Add(1)
	go func() {
		defer st.srv.work.Done()
		defer cancel()
		if err := st.run(ctx, b); err != nil {
			st.srv.log.Error("batch", "batch", b.ID, "error", err)
			st.reject(b, []batchErrorItem{{Code: "server_error", Message: err.Error()}})
		}
	}()
}

func (st *batchStore) update(b *batch, change func(now int64)) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	change(time.Now().Unix())
	return st.save(b)
}

func (st *batchStore) reject(b *batch, items []batchErrorItem) {
	err := st.update(b, func(now int64) {
		b.Status, b.Failed, b.Errors = "failed", &now, &batchErrors{Object: "list", Data: items}
	})
	if err != nil {
		st.srv.log.Error("save batch", "batch", b.ID, "error", err)
	}
}

// run does a batch, from where its progress file ends. An error is the server's own trouble.
func (st *batchStore) run(ctx context.Context, b *batch) error {
	s := st.srv
	lines, items, err := st.read(b)
	if err != nil {
		return err
	}
	if len(items) > 0 {
		st.reject(b, items)
		return nil
	}
	progress, done, err := openProgress(filepath.Join(st.dir, b.ID+".progress"))
	if err != nil {
		return err
	}
	defer progress.Close()
	cancelled := func() bool { st.mu.Lock(); defer st.mu.Unlock(); return b.Status == "cancelling" }
	f := s.faults.Load()
	upTo := len(lines) - int(float64(len(lines))*f.BatchExpires)
	if !cancelled() {
		if err := st.update(b, func(now int64) {
			if b.Status == "validating" {
				b.Status, b.InProgress = "in_progress", &now
			}
			b.Counts.Total = len(lines)
		}); err != nil {
			return err
		}
		for i, l := range lines[:upTo] {
			if done[l.ID] != nil {
				continue
			}
			if err := pause(ctx, f.BatchTime.Duration()/time.Duration(len(lines))); err != nil {
				break
			}
			r := s.batchItem(ctx, l)
			if r == nil {
				break
			}
			if err := progress.add(r); err != nil {
				return err
			}
			done[l.ID] = r
			if i%64 == 63 {
				st.mu.Lock()
				b.Counts.Completed, b.Counts.Failed = countResults(done)
				st.mu.Unlock()
			}
		}
	}
	if s.ctx.Err() != nil {
		return nil // the server closes: the next one goes on
	}
	return st.finish(b, lines, done, cancelled())
}

func countResults(done map[string]*batchResult) (ok, failed int) {
	for _, r := range done {
		if r.Response.StatusCode == http.StatusOK {
			ok++
		} else {
			failed++
		}
	}
	return ok, failed
}

// finish writes the output and error files, in the order of the input, and closes the batch.
func (st *batchStore) finish(b *batch, lines []batchLine, done map[string]*batchResult, cancelled bool) error {
	var good, bad bytes.Buffer
	status, code, message := "completed", "batch_expired", "This request could not be executed before the completion window expired."
	if cancelled {
		code, message = "batch_cancelled", "This request was not executed because the batch was cancelled."
	}
	for _, l := range lines {
		r := done[l.ID]
		to := &good
		switch {
		case r == nil:
			status = "expired"
			to, r = &bad, &batchResult{ID: newID("batch_req_"), CustomID: l.ID, Error: &batchItemErr{Code: code, Message: message}}
		case r.Response.StatusCode != http.StatusOK:
			to = &bad
		}
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode result: %w", err)
		}
		to.Write(append(line, '\n'))
	}
	if cancelled {
		status = "cancelled"
	}
	keep := func(name string, body *bytes.Buffer) (*string, error) {
		if body.Len() == 0 {
			return nil, nil //nolint:nilnil // no file
		}
		f, err := st.srv.files.add(b.ID+name, "batch_output", body)
		if err != nil {
			return nil, err
		}
		return &f.ID, nil
	}
	out, err := keep("_output.jsonl", &good)
	errFile, err2 := keep("_error.jsonl", &bad)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	err = st.update(b, func(now int64) {
		b.Status, b.OutputFile, b.ErrorFile, b.Finalizing = status, out, errFile, &now
		b.Counts.Completed, b.Counts.Failed = countResults(done)
		b.Counts.Total = len(lines)
		switch status {
		case "expired":
			b.Expired = &now
		case "cancelled":
			b.Cancelled = &now
		default:
			b.Completed = &now
		}
	})
	if err == nil {
		os.Remove(filepath.Join(st.dir, b.ID+".progress"))
	}
	return err
}

// batchItem answers one line like a call over HTTP, trying again what passes. Nil means that the batch was stopped.
func (s *Server) batchItem(ctx context.Context, l batchLine) *batchResult {
	route := routeChat
	if l.URL == "/v1/completions" {
		route = routeComplete
	}
	for try := 0; ; try++ {
		out, fate, bad := s.answer(ctx, route, "batch:"+route, l.Body)
		if out == nil && ctx.Err() != nil { // what was answered is paid, and belongs into the output
			return nil
		}
		r := &batchResult{ID: newID("batch_req_"), CustomID: l.ID, Response: &batchResponse{StatusCode: http.StatusOK, RequestID: newID("req_")}}
		switch {
		case bad != nil && (bad.status == http.StatusTooManyRequests || bad.status >= 500) && try < 8, bad == nil && out == nil && fate == fateReset && try < 8:
			continue
		case bad != nil:
			r.Response.StatusCode, r.Response.Body = bad.status, bytes.TrimSpace(bad.body())
		case out == nil:
			r.Response.StatusCode, r.Response.Body = 500, json.RawMessage(`{"error":{"message":"no answer","type":"server_error","param":null,"code":null}}`)
		default:
			r.Response.Body = bytes.TrimSpace(out.encode(time.Now()))
		}
		return r
	}
}

// read checks the input file. Items are what is wrong with it, as the batch's errors will say.
func (st *batchStore) read(b *batch) (lines []batchLine, items []batchErrorItem, err error) {
	in, bad := st.srv.files.get(b.InputFile)
	if bad != nil {
		return nil, []batchErrorItem{{Code: "invalid_file", Message: bad.Message}}, nil
	}
	if in.Bytes > maxBatchBytes {
		return nil, []batchErrorItem{{Code: "file_too_large", Message: fmt.Sprintf("The batch input is larger than %d bytes.", maxBatchBytes)}}, nil
	}
	f, err := os.Open(st.srv.files.path(in.ID))
	if err != nil {
		return nil, nil, fmt.Errorf("read batch input: %w", err)
	}
	defer f.Close()
	seen := map[string]bool{}
	sc := bufio.NewScanner(f)
	sc.Buffer(make([]byte, 64<<10), maxBody)
	n, tokens := 0, 0
	complain := func(code, format string, args ...any) {
		line := n
		if len(items) < 100 {
			items = append(items, batchErrorItem{Code: code, Message: fmt.Sprintf(format, args...), Line: &line})
		}
	}
	for sc.Scan() {
		n++
		if len(bytes.TrimSpace(sc.Bytes())) == 0 {
			continue
		}
		var l batchLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			complain("invalid_json_line", "This line is not parseable as valid JSON.")
			continue
		}
		switch {
		case l.ID == "":
			complain("missing_required_parameter", "Missing required parameter: custom_id.")
		case seen[l.ID]:
			complain("duplicate_custom_id", "The custom_id %.80q was used before in this file.", l.ID)
		case l.Method != http.MethodPost:
			complain("invalid_method", "Invalid method: %.20q, only POST is supported.", l.Method)
		case l.URL != b.Endpoint:
			complain("mismatched_url", "The url %.80q is not the endpoint of the batch.", l.URL)
		}
		seen[l.ID] = true
		tokens += len(l.Body) / 4
		lines = append(lines, l)
	}
	if err := sc.Err(); err != nil {
		complain("invalid_json_line", "This line cannot be read: %v", err)
	}
	limit := st.srv.faults.Load().EnqueuedTokens
	switch {
	case len(items) > 0:
	case len(lines) == 0:
		complain("empty_file", "The input file is empty.")
	case len(lines) > maxBatchLines:
		complain("too_many_requests", "A batch holds at most %d requests (got %d).", maxBatchLines, len(lines))
	case limit > 0 && tokens > limit:
		complain("token_limit_exceeded", "Enqueued token limit reached: %d tokens of %d.", tokens, limit)
	}
	return lines, items, nil
}
