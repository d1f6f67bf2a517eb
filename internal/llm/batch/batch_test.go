package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/llm"
)

func TestSubmitOnceWhateverIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		call string // whose first reply is
		how  string // lost, or refused
	}{
		{"nothing", "", ""},
		{"upload lost", "POST /v1/files", "lost"},
		{"upload refused", "POST /v1/files", "refused"},
		{"create lost", "POST /v1/batches", "lost"},
		{"create refused", "POST /v1/batches", "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, client := newEndpoint(t)
			done := false
			e.refuse = func(w http.ResponseWriter, r *http.Request, after bool) bool {
				if done || r.Method+" "+r.URL.Path != c.call || after != (c.how == "lost") {
					return false
				}
				done = true
				if after {
					panic(http.ErrAbortHandler)
				}
				http.Error(w, "busy", http.StatusServiceUnavailable)
				return true
			}
			s, err := client.Submit(t.Context(), job("key", true, "{\"a\":1}\n", "{\"b\":2}\n"))
			if err != nil || s.ID == "" || s.Key != "key" || s.State != StateRunning {
				t.Fatalf("%+v, %v", s, err)
			}
			again, err := client.Submit(t.Context(), job("key", false, "{\"a\":1}\n", "{\"b\":2}\n"))
			if err != nil || again.ID != s.ID {
				t.Fatalf("again: %+v, %v", again, err)
			}
			if len(e.batches) != 1 || len(e.files) != 1 {
				t.Errorf("%d batches of %d files", len(e.batches), len(e.files))
			}
			if got := string(e.bodies["file-1"]); got != "{\"a\":1}\n{\"b\":2}\n" || e.files[0]["filename"] != "key.jsonl" || e.files[0]["purpose"] != "batch" {
				t.Errorf("uploaded %q as %v", got, e.files[0])
			}
			if c.call == "" && e.count("GET /batches") != 1 {
				t.Errorf("a first submission looks for itself: %v", e.calls)
			}
		})
	}
}

func TestOfTwinsTheOlderStands(t *testing.T) {
	t.Parallel()
	e, client := newEndpoint(t)
	e.refuse = func(_ http.ResponseWriter, r *http.Request, after bool) bool {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/batches" && !after {
			e.mu.Lock()
			e.batches = append(e.batches, map[string]any{"id": "batch_twin", "status": "validating", "created_at": e.clock, "metadata": map[string]any{MetadataKey: "key"}})
			e.mu.Unlock()
		}
		return false
	}
	s, err := client.Submit(t.Context(), job("key", false, "{}\n"))
	if err != nil || s.ID != "batch_twin" || e.batches[1]["status"] != "cancelled" {
		t.Fatalf("%+v, %v, %v", s, err, e.batches)
	}
}

func TestFindGoesThroughAllPagesAndStopsWhenTheyAreTooOld(t *testing.T) {
	t.Parallel()
	e, client := newEndpoint(t)
	for i := range 20 {
		e.batches = append(e.batches, map[string]any{"id": fmt.Sprint("b", i), "status": "completed", "created_at": 1_800_000_000 + i*3600, "metadata": map[string]any{MetadataKey: fmt.Sprint("k", i)}})
	}
	s, found, err := client.Find(t.Context(), "k1", time.Time{})
	if err != nil || !found || s.ID != "b1" || s.State != StateCompleted {
		t.Fatalf("%+v, %v, %v", s, found, err)
	}
	before := e.count("GET /batches")
	if _, found, err := client.Find(t.Context(), "none", time.Unix(1_800_000_000+18*3600, 0)); found || err != nil || e.count("GET /batches") > before+2 {
		t.Errorf("%v, %v after %d pages", found, err, e.count("GET /batches")-before)
	}
	e.batches[19]["metadata"], e.batches[3]["metadata"] = map[string]any{MetadataKey: "k"}, map[string]any{MetadataKey: "k"}
	e.batches[3]["status"] = "failed"
	if s, _, _ := client.Find(t.Context(), "k", time.Time{}); s.ID != "b19" {
		t.Errorf("a refused batch stands before one that was done: %+v", s)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	e, client := newEndpoint(t)
	status, body, header := 0, "", ""
	e.refuse = func(w http.ResponseWriter, _ *http.Request, after bool) bool {
		if after || status == 0 {
			return false
		}
		w.Header().Set("Retry-After", header)
		http.Error(w, body, status)
		return true
	}
	for _, c := range []struct {
		status       int
		body, header string
		class        llm.Class
		code         string
	}{
		{401, `{"error":{"message":"key ` + secret + ` is wrong"}}`, "", llm.ClassAuth, ""},
		{429, `{"error":{"message":"Enqueued token limit reached for m","code":"token_limit_exceeded"}}`, "", llm.ClassYield, CodeEnqueued},
		{400, `{"error":{"message":"Enqueued token limit reached for m"}}`, "", llm.ClassYield, CodeEnqueued},
		{429, `{"error":{"message":"slow down"}}`, "3600", llm.ClassYield, ""},
		{429, `{"error":{"code":"insufficient_quota","message":"no money"}}`, "", llm.ClassQuota, "insufficient_quota"},
		{500, "oops", "", llm.ClassPassing, ""},
		{404, "no such route", "", llm.ClassNotFound, ""},
		{302, "", "", llm.ClassNotFound, llm.CodeRedirect},
		{413, "too much", "", llm.ClassPermanent, llm.CodeTooLarge},
		{200, "<html>", "", llm.ClassPassing, llm.CodeInvalidReply},
	} {
		status, body, header = c.status, c.body, c.header
		_, err := client.Submit(t.Context(), job("key", true, "{}\n"))
		var got *llm.Error
		if !errors.As(err, &got) || got.Class != c.class || (c.code != "" && got.Code != c.code) {
			t.Errorf("%d %s: %v", c.status, c.body, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the key is in %v", err)
		}
	}
	status = 0
	if _, err := client.Status(t.Context(), "none"); !IsNotFound(err) {
		t.Errorf("an unknown batch: %v", err)
	}
	e.batches = []map[string]any{{"id": "b", "status": "failed", "errors": map[string]any{"data": []map[string]any{
		{"code": "invalid_json_line", "message": "bad " + secret, "line": 7}, {"code": "x", "message": "y"}, {"code": "x"}, {"code": "x"},
	}}}}
	s, err := client.Status(t.Context(), "b")
	if err != nil || s.State != StateFailed || s.Err.Class != llm.ClassPermanent || !strings.Contains(s.Err.Message, "line 7: invalid_json_line: bad ***") || !strings.Contains(s.Err.Message, "and 1 more") {
		t.Errorf("%+v, %v", s, err)
	}
	own := errors.New("the rows are away")
	broken := job("key", true, "{}\n")
	broken.Lines, broken.Size = sequence([]string{"{}\n"}, own), 100
	if _, err := client.Submit(t.Context(), broken); !errors.Is(err, own) {
		t.Errorf("an error of the lines: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Submit(ended, job("key", true, "{}\n")); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func TestHarvestMatchesById(t *testing.T) {
	t.Parallel()
	e, client := newEndpoint(t)
	out := result("c", 200, `{"n":3}`) + "\r\n" + result("a", 200, `{"n":1}`) + "not json\n" + result("a", 200, `{"n":9}`) + result("stranger", 200, `{}`) + `{"custom_id":"d","response":null,"error":null}`
	bad := result("b", 400, `{"error":{"message":"no"}}`) + `{"custom_id":"e","response":null,"error":{"code":"batch_expired","message":"late"}}` + "\n" + result("c", 500, `{}`)
	e.bodies["out"], e.bodies["bad"] = []byte(out), []byte(bad)
	cut := 2
	e.refuse = func(w http.ResponseWriter, r *http.Request, after bool) bool {
		if after || cut == 0 || !strings.HasSuffix(r.URL.Path, "/out/content") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(out)))
		_, _ = w.Write([]byte(out[:cut*70]))
		cut--
		panic(http.ErrAbortHandler)
	}
	got := map[string]string{}
	known := func(id string) bool { return strings.Contains("abcde", id) }
	tally, err := client.Harvest(t.Context(), Status{ID: "x", Output: "out", Errors: "bad"}, known, func(r Result) error {
		if _, twice := got[r.ID]; twice {
			t.Errorf("%s twice", r.ID)
		}
		got[r.ID] = fmt.Sprintf("%d %s%s %v", r.Status, r.Body, r.Code, r.Asked())
		return nil
	})
	want := map[string]string{"a": `200 {"n":1} true`, "b": `400 {"error":{"message":"no"}} true`, "c": `200 {"n":3} true`, "e": "0 batch_expired false"}
	for id, w := range want {
		if got[id] != w {
			t.Errorf("%s: %q, want %q", id, got[id], w)
		}
	}
	if err != nil || len(got) != len(want) || tally != (Tally{Results: 4, Replies: 2, Refusals: 1, Duplicates: 2, Unknown: 1, Broken: 2}) {
		t.Errorf("%+v, %v, %v", tally, got, err)
	}
	own := errors.New("the ledger is full")
	if _, err := client.Harvest(t.Context(), Status{Output: "out"}, known, func(Result) error { return own }); !errors.Is(err, own) {
		t.Errorf("an error of the caller: %v", err)
	}
	if _, err := client.Harvest(t.Context(), Status{Output: "gone"}, known, func(Result) error { return nil }); !IsNotFound(err) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(1, 100), 1, 50).Draw(t, "lengths")
		s := Sizes{Requests: rapid.IntRange(1, 20).Draw(t, "requests"), Bytes: int64(rapid.IntRange(1, 300).Draw(t, "bytes"))}
		n, bytes := s.Cut(lengths)
		sum := int64(0)
		for _, l := range lengths[:n] {
			sum += int64(l)
		}
		switch {
		case n < 1 || n > s.Requests || sum != bytes || (n > 1 && bytes > s.Bytes):
			t.Fatalf("%d lines of %d bytes", n, bytes)
		case n < len(lengths) && n < s.Requests && bytes+int64(lengths[n]) <= s.Bytes:
			t.Fatal("one more would fit")
		}
	})
	if n, _ := (Sizes{}).Cut(make([]int, 60_000)); n != MaxRequests {
		t.Errorf("%d requests in a batch", n)
	}
	body := []byte(`{"model":"m"}`)
	if line := AppendLine(nil, "id", "/v1/x", body); len(line) != LineLength("id", "/v1/x", body) || string(line) != `{"custom_id":"id","method":"POST","url":"/v1/x","body":{"model":"m"}}`+"\n" {
		t.Errorf("line %s", line)
	}
}

func FuzzResults(f *testing.F) {
	f.Add([]byte(result("a", 200, `{}`) + result("b", 500, `"x"`)))
	f.Add([]byte(`{"custom_id":"a","error":{"code":5}}` + "\n\x00\n{"))
	f.Fuzz(func(t *testing.T, body []byte) {
		lines := 0
		err := readResults(bytes.NewReader(body), func(r Result, ok bool) error {
			lines++
			if ok && (r.ID == "" || r.Status < 0 || (r.Status > 0 && r.Code != "")) {
				t.Errorf("%+v", r)
			}
			return nil
		})
		if err != nil || lines > bytes.Count(body, []byte("\n"))+1 {
			t.Errorf("%d lines, %v", lines, err)
		}
	})
}
