package batch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/selfalign/selfalign/internal/llm"
)

// Codes of results that were not asked at all.
const (
	CodeExpired   = "batch_expired"
	CodeCancelled = "batch_cancelled"
)

// Result is what became of one line.
type Result struct {
	ID     string
	Status int             // HTTP status of the reply; 0: there was none
	Body   json.RawMessage // of the reply
	Code   string          // why there was none
	Words  string
}

// Asked reports whether the endpoint tried to answer.
func (r Result) Asked() bool {
	return r.Status != 0 || (r.Code != CodeExpired && r.Code != CodeCancelled)
}

// Tally counts what a harvest met.
type Tally struct {
	Results    int64 // given to the caller
	Replies    int64 // of them, replies of status 200
	Refusals   int64 // of them, replies of another status
	Duplicates int64 // further results of an id: passed over
	Unknown    int64 // of ids that were not asked: passed over
	Broken     int64 // lines that cannot be read: passed over
}

// Harvest reads the output file of a batch and then its error file, and gives every result of an id that known accepts to
// each, the first one of each id. The order is the endpoint's. An error of each ends the harvest and is returned as it is.
// A file that the endpoint no longer has is an error of llm.ClassNotFound.
func (c *Client) Harvest(ctx context.Context, s Status, known func(id string) bool, each func(Result) error) (Tally, error) {
	given := map[string]bool{}
	var t Tally
	for _, file := range []string{s.Output, s.Errors} {
		if file == "" {
			continue
		}
		if err := c.harvestFile(ctx, file, &t, given, known, each); err != nil {
			return t, fmt.Errorf("harvest batch %s: %w", s.ID, err)
		}
	}
	return t, nil
}

func (c *Client) harvestFile(ctx context.Context, file string, t *Tally, given map[string]bool, known func(string) bool, each func(Result) error) error {
	var pass Tally // of one reading: counts of readings that broke off are not added up
	already := map[string]bool{}
	for id := range given {
		already[id] = true
	}
	err := c.do(ctx, request{method: http.MethodGet, path: "/files/" + url.PathEscape(file) + "/content", read: func(r io.Reader) error {
		pass = Tally{Results: pass.Results, Replies: pass.Replies, Refusals: pass.Refusals}
		seen := map[string]bool{}
		return readResults(r, func(res Result, ok bool) error {
			switch {
			case !ok:
				pass.Broken++
				return nil
			case !known(res.ID):
				pass.Unknown++
				return nil
			case seen[res.ID] || already[res.ID]:
				pass.Duplicates++
				return nil
			}
			seen[res.ID] = true
			if given[res.ID] {
				return nil // by a reading that broke off
			}
			if err := each(res); err != nil {
				return &stopped{err}
			}
			given[res.ID] = true
			pass.Results++
			switch res.Status {
			case http.StatusOK:
				pass.Replies++
			case 0:
			default:
				pass.Refusals++
			}
			return nil
		})
	}})
	t.Results, t.Replies, t.Refusals = t.Results+pass.Results, t.Replies+pass.Replies, t.Refusals+pass.Refusals
	t.Duplicates, t.Unknown, t.Broken = t.Duplicates+pass.Duplicates, t.Unknown+pass.Unknown, t.Broken+pass.Broken
	var own *stopped
	if errors.As(err, &own) {
		return own.err
	}
	return err
}

// readResults reads the lines of an output or error file. fn gets each; ok is false for one that cannot be read.
func readResults(r io.Reader, fn func(res Result, ok bool) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	for {
		line, long, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 || long {
			res, ok := Result{}, false
			if !long {
				res, ok = parseResult(line)
			}
			if err := fn(res, ok); err != nil {
				return err
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the end
		}
	}
}

// readLine returns the next line without its end. A line of more than MaxLine bytes is passed over, and long is set.
func readLine(in *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if !long && len(line)+len(part) > MaxLine+1 {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r' || line[len(line)-1] == ' ') {
			line = line[:len(line)-1]
		}
		return line, long, err
	}
}

func parseResult(line []byte) (Result, bool) {
	var w struct {
		ID       string `json:"custom_id"`
		Response *struct {
			Status int             `json:"status_code"`
			Body   json.RawMessage `json:"body"`
		} `json:"response"`
		Error *struct {
			Code    json.RawMessage `json:"code"`
			Message string          `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(line, &w) != nil || w.ID == "" {
		return Result{}, false
	}
	r := Result{ID: w.ID}
	switch {
	case w.Response != nil && w.Response.Status > 0:
		r.Status, r.Body = w.Response.Status, w.Response.Body
	case w.Error != nil:
		var code string
		if json.Unmarshal(w.Error.Code, &code) != nil {
			code = string(w.Error.Code)
		}
		r.Code, r.Words = clip(code, 100), clip(w.Error.Message, 500)
	default:
		return Result{}, false
	}
	return r, true
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// IsNotFound reports whether the endpoint does not know what was asked for.
func IsNotFound(err error) bool { return llm.ClassOf(err) == llm.ClassNotFound }
