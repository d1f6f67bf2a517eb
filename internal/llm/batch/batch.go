// Package batch hands questions to an endpoint's Batch API as a file and fetches the answers hours later: a batch made
// under a key is found again by that key, whatever died in between, and answers are matched by id, never by position.
//
// Wire reference: https://platform.openai.com/docs/api-reference/batch.
package batch

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/llm"
)

// MetadataKey is the name under which a batch's key stands in its metadata at the endpoint. The name of its input file is
// the key too, with .jsonl behind it.
const MetadataKey = "selfalign_key"

// Window is how long an endpoint may take. The Batch API knows no other.
const Window = 24 * time.Hour

// What one batch may hold.
const (
	MaxRequests = 50_000
	MaxBytes    = 200_000_000
	MaxLine     = llm.MaxReply // of an input or output file, in bytes
)

// Codes of errors beside those of package llm.
const (
	// CodeEnqueued: too many tokens wait at the endpoint already (ClassYield). Try again when some are done.
	CodeEnqueued = "token_limit_exceeded"
	// CodeInvalid: the endpoint refused the batch after looking at its file (ClassPermanent).
	CodeInvalid = "batch_refused"
)

// Options change how a Client behaves. The zero value of each field means its default.
type Options struct {
	Timeout    time.Duration     // of one request without a file; 60 s. A file has 1 s more for every 64 KiB
	Attempts   int               // how often a request that fails in passing is made in all; 6
	Backoff    time.Duration     // before the second attempt, doubled each time, with jitter; 500 ms
	MaxBackoff time.Duration     // caps one wait, also one that the endpoint asks for: beyond it the call yields; 30 s
	Transport  http.RoundTripper // in place of our own
}

// Client speaks to the files and batches of one endpoint. It is safe for concurrent use. Errors are of type *llm.Error,
// hold no key, or wrap the context's.
type Client struct {
	provider llm.Provider
	base     string
	query    url.Values
	opts     Options
	http     *http.Client
}

// New makes a client. It sends nothing.
func New(p llm.Provider, o Options) (*Client, error) {
	u, err := url.Parse(p.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("provider %s: url: must begin with http:// or https:// and name a host", p.Name)
	}
	if strings.ContainsAny(p.Key.Reveal(), "\r\n") {
		return nil, fmt.Errorf("provider %s: key: holds a line break", p.Name)
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	or(&o.Timeout, time.Minute)
	or(&o.Backoff, 500*time.Millisecond)
	or(&o.MaxBackoff, 30*time.Second)
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			IdleConnTimeout: 30 * time.Second, ResponseHeaderTimeout: 5 * time.Minute, DisableCompression: true, MaxResponseHeaderBytes: 256 << 10,
		}
	}
	c := &Client{provider: p, query: u.Query(), opts: o}
	u.RawQuery, u.Fragment = "", ""
	c.base = strings.TrimRight(u.String(), "/")
	// A redirect could carry the key, or an upload, to another host.
	c.http = &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Counts are an endpoint's own words about a batch.
type Counts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// State is what has become of a batch.
type State string

// The states of a batch. What an endpoint says beyond them is StateRunning.
const (
	StateRunning   State = "running"
	StateCompleted State = "completed"
	StateFailed    State = "failed"    // refused after looking at its file: nothing was asked
	StateExpired   State = "expired"   // the window ended; what was done is there, and paid
	StateCancelled State = "cancelled" // likewise
)

// SaidCancelling is the word for a batch that is being cancelled, which may take minutes. It is StateRunning.
const SaidCancelling = "cancelling"

// Status is a batch as the endpoint sees it.
type Status struct {
	ID      string
	Key     string // ours; "": the endpoint keeps no metadata or the batch is not ours
	State   State
	Said    string // the endpoint's own word for the state
	Counts  Counts
	Created time.Time
	Input   string // files
	Output  string // "": none
	Errors  string
	Err     *llm.Error // of StateFailed
}

// Over reports whether nothing will change any more.
func (s Status) Over() bool { return s.State != StateRunning }

type wireBatch struct {
	ID         string            `json:"id"`
	Status     string            `json:"status"`
	InputFile  string            `json:"input_file_id"`
	OutputFile string            `json:"output_file_id"`
	ErrorFile  string            `json:"error_file_id"`
	Created    float64           `json:"created_at"`
	Counts     Counts            `json:"request_counts"`
	Metadata   map[string]string `json:"metadata"`
	Errors     struct {
		Data []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Line    *int   `json:"line"`
		} `json:"data"`
	} `json:"errors"`
}

func (b wireBatch) ident() string      { return b.ID }
func (b wireBatch) createdAt() float64 { return b.Created }

func (c *Client) status(b wireBatch) Status {
	s := Status{
		ID: b.ID, Key: b.Metadata[MetadataKey], Said: c.provider.Redact(b.Status), Counts: b.Counts, Created: time.Unix(int64(b.Created), 0).UTC(),
		Input: b.InputFile, Output: b.OutputFile, Errors: b.ErrorFile, State: StateRunning,
	}
	switch b.Status {
	case "completed":
		s.State = StateCompleted
	case "expired":
		s.State = StateExpired
	case "cancelled", "canceled":
		s.State = StateCancelled
	case "failed":
		s.State = StateFailed
		s.Err = c.refusal(b)
	}
	return s
}

// refusal says why the endpoint refused a batch, in its own words.
func (c *Client) refusal(b wireBatch) *llm.Error {
	e := &llm.Error{Class: llm.ClassPermanent, Code: CodeInvalid}
	var words []string
	for i, item := range b.Errors.Data {
		if isEnqueued(item.Code, item.Message) {
			e.Class, e.Code = llm.ClassYield, CodeEnqueued
		}
		if i < 3 {
			w := strings.TrimSpace(item.Code + ": " + item.Message)
			if item.Line != nil {
				w = fmt.Sprintf("line %d: %s", *item.Line, w)
			}
			words = append(words, w)
		}
	}
	if n := len(b.Errors.Data) - len(words); n > 0 {
		words = append(words, fmt.Sprintf("and %d more", n))
	}
	if len(words) == 0 {
		words = []string{"the endpoint gave no reason"}
	}
	e.Message = c.provider.Redact(strings.Join(words, "; "))
	return e
}

func isEnqueued(code, message string) bool {
	said := strings.ToLower(code + " " + message)
	return strings.Contains(said, CodeEnqueued) || strings.Contains(said, "enqueued token") || strings.Contains(said, "enqueued_token")
}

// Sizes says where to split.
type Sizes struct {
	Requests int   // most in a batch; 0: MaxRequests
	Bytes    int64 // most in a file; 0: MaxBytes
}

// Cut returns how many of the first lines, given by their lengths with the line end, fit into one batch. A single line
// always does: what is too large for an endpoint, the endpoint refuses.
func (s Sizes) Cut(lengths []int) (n int, bytes int64) {
	if s.Requests <= 0 {
		s.Requests = MaxRequests
	}
	if s.Bytes <= 0 {
		s.Bytes = MaxBytes
	}
	for n < len(lengths) && n < s.Requests && (n == 0 || bytes+int64(lengths[n]) <= s.Bytes) {
		bytes += int64(lengths[n])
		n++
	}
	return n, bytes
}

var errNoID = errors.New("the answer has no id")
