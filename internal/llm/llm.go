// Package llm asks models behind OpenAI-compatible endpoints, each question answered once, as fast as the endpoint allows and never faster.
//
// A Client belongs to one endpoint. All its callers share one admission controller: a sliding window whose size adapts to
// what the endpoint bears, declared request and token rates, pauses that the endpoint asks for, and a circuit breaker.
// Complete is the only layer that retries; nothing above or below it should.
//
// The HTTP exchange runs through go-openai, which frames requests and decodes replies. The request body is encoded here,
// because go-openai leaves out a temperature of 0, has no room for extra fields and refuses parameters by the model's name.
package llm

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"
)

// Secret is a key that shows itself only to Reveal.
type Secret string

const masked = "***"

// String hides the key.
func (Secret) String() string { return masked }

// GoString hides the key from %#v.
func (Secret) GoString() string { return masked }

// MarshalText hides the key from JSON, YAML and other encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// LogValue hides the key from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// Reveal returns the key itself.
func (s Secret) Reveal() string { return string(s) }

// The two APIs of a Provider.
const (
	APIChat        = "chat"        // POST /chat/completions, the default
	APICompletions = "completions" // POST /completions with the messages rendered by Provider.Render or Plain
)

// Provider is one endpoint: where it is, what it allows, what it costs.
type Provider struct {
	Name    string                     // for messages and statistics
	URL     string                     // base URL, with /v1 where the endpoint has it; a query is kept on every request
	API     string                     // APIChat (also when empty) or APICompletions
	Key     Secret                     // sent as a bearer token; empty: no Authorization header
	Headers map[string]string          // sent with each request; their values are kept out of errors, as the key is
	Extra   map[string]json.RawMessage // further body fields, such as chat_template_kwargs; ours win over them
	Limits  Limits
	Prices  map[string]Price // by model name; a name ending in * covers all names that begin with it, the longest wins
	Timeout time.Duration    // of one attempt; 0: 10 minutes

	Render func([]Message) (string, error) `json:"-"` // API completions: renders a conversation; nil: Plain. An error that is no *Error is the request's own

	Wrap func(http.RoundTripper) http.RoundTripper `json:"-"` // what requests go through on their way out; nil: nothing

	Batch         bool    // the endpoint has the Batch API
	BatchDiscount float64 // share of the price that its Batch API takes off, from 0 to 1
}

// Limits are what an endpoint allows this process.
type Limits struct {
	InFlight          int     // most calls in flight at once; 0: 64
	RequestsPerMinute float64 // of all workers together; 0: not declared
	TokensPerMinute   float64 // of all workers together, prompt and completion; 0: not declared
	Workers           int     // worker processes that share the two rates; 0: 1
}

// Price is in US dollars per million tokens. All zero means that calls are free, which is not the same as unknown.
type Price struct {
	Input, Output float64
	CachedInput   float64 // 0: as Input
	AsOf          string  // when it was read, YYYY-MM-DD
}

// Message is one turn of a conversation. Role is system, developer, user or assistant.
type Message struct{ Role, Content string }

// Request is one question.
type Request struct {
	Model       string
	Messages    []Message
	Temperature float64 // always sent; 0 is greedy
	TopP        float64 // 0: not sent
	MaxTokens   int     // 0: not sent
	Seed        *int64
	Stop        []string
	LogProbs    bool            // ask for the log-probability of each token
	TopLogProbs int             // and for that many alternatives, 0..20
	Schema      json.RawMessage // JSON Schema that the answer must follow (response_format json_schema)
	SchemaName  string          // its name; empty: "answer"

	Render func([]Message) (string, error) `json:"-"` // API completions: instead of Provider.Render

	rendered string // by Render
	ready    bool   // rendered is set
}

// Usage counts tokens. CachedTokens are part of PromptTokens.
type Usage struct{ PromptTokens, CachedTokens, CompletionTokens int64 }

// TokenLogProb is a token of the answer with its log-probability and the likeliest alternatives, as the endpoint reports them.
type TokenLogProb struct {
	Token   string           `json:"token"`
	LogProb float64          `json:"logprob"`
	Top     []TokenCandidate `json:"top,omitempty"`
}

// TokenCandidate is one alternative at a position.
type TokenCandidate struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
}

// Response is one answer. An answer cut at MaxTokens comes with FinishReason "length"; the caller judges it.
type Response struct {
	Text           string
	FinishReason   string // stop, length, refusal (Text then says why) or what else the endpoint reports
	Model          string // as the endpoint names it
	RequestID      string
	Usage          Usage
	UsageEstimated bool // the endpoint reported no usage; ours is a guess from text lengths
	LogProbs       []TokenLogProb
	Latency        time.Duration // of the attempt that brought the answer
	Attempts       int           // requests sent for it, this one included
	InDoubt        int           // of those, failed ones that may have been processed and billed nevertheless
}

// Defaults of Options and Limits.
const (
	DefaultInFlight    = 64
	DefaultTimeout     = 10 * time.Minute
	DefaultMaxWait     = 30 * time.Second
	DefaultMaxAttempts = 8

	// MaxReply bounds a reply, in bytes. A longer one is a permanent error.
	MaxReply = 16 << 20
)

// Stats is a snapshot of a Client, for metrics and progress lines.
type Stats struct {
	InFlight    int           // calls at the endpoint now
	Waiting     int           // calls waiting for admission
	Limit       float64       // calls allowed in flight now
	MaxLimit    int           // and at most
	Breaker     string        // closed, open or probing
	PausedFor   time.Duration // until the endpoint may be asked again
	Calls       int64         // calls that ended, well or not
	Attempts    int64         // requests sent
	Answered    int64         // attempts that brought an answer
	Throttled   int64         // attempts answered by 429, 503 or 529
	Timeouts    int64         // attempts that ran out of time
	Broken      int64         // attempts lost to other 5xx, resets and unreadable replies
	Unreachable int64         // attempts that found no connection
	Yields      int64         // calls given back because the wait was too long
	Opened      int64         // times the breaker opened
}
