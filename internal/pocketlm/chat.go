package pocketlm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash"
	"io"
	"math"
	"strings"

	"github.com/selfalign/selfalign/internal/pocketlm/lm"
)

// Routes of models, as the journal names them.
const (
	routeChat     = "chat.completions"
	routeComplete = "completions"
)

const maxChoices = 16

// stopList is a string, a list of at most four, or null.
type stopList []string

func (l *stopList) UnmarshalJSON(b []byte) error {
	*l = nil
	if len(b) > 0 && b[0] == '"' {
		*l = make([]string, 1)
		return json.Unmarshal(b, &(*l)[0])
	}
	return json.Unmarshal(b, (*[]string)(l))
}

type chatMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

// callBody is the body of both chat and plain completions; fields that only one has are marked.
type callBody struct {
	Model               string          `json:"model"`
	Messages            []chatMessage   `json:"messages"` // chat
	Prompt              json.RawMessage `json:"prompt"`   // completions
	Temperature         *float64        `json:"temperature"`
	TopP                *float64        `json:"top_p"`
	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"` // chat
	Seed                *int64          `json:"seed"`
	N                   *int            `json:"n"`
	Stop                stopList        `json:"stop"`
	LogProbs            json.RawMessage `json:"logprobs"` // chat: bool; completions: number of alternatives
	TopLogProbs         *int            `json:"top_logprobs"`
	Echo                bool            `json:"echo"` // completions
	Stream              bool            `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	ResponseFormat *struct {
		Type       string `json:"type"`
		JSONSchema *struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	} `json:"response_format"`
}

// call is a checked request to a model.
type call struct {
	route    string
	model    string
	prompts  [][]lm.Message // one conversation for chat; one or more for completions
	sampling lm.Sampling
	seed     int64
	n        int
	format   lm.Format
	stream   bool
	usage    bool // stream ends with usage
	echo     bool
	digest   Digest
}

// parseCall reads and checks a request body for a route. The model is not looked up yet.
func parseCall(route string, body []byte) (*call, *apiError) {
	var b callBody
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, badRequest("", "We could not parse the JSON body of your request: %v", err)
	}
	if b.Model == "" {
		return nil, badRequest("model", "you must provide a model parameter")
	}
	c := &call{route: route, model: b.Model, n: 1, stream: b.Stream, echo: b.Echo && route == routeComplete}
	c.usage = b.StreamOptions != nil && b.StreamOptions.IncludeUsage
	c.sampling = lm.Sampling{Temperature: 1, TopP: 1, Stop: b.Stop}
	if err := c.takeSampling(&b); err != nil {
		return nil, err
	}
	if err := c.takePrompts(&b); err != nil {
		return nil, err
	}
	if rf := b.ResponseFormat; rf != nil {
		switch rf.Type {
		case "text", "":
		case "json_object":
			c.format.Object = true
		case "json_schema":
			if rf.JSONSchema == nil || len(rf.JSONSchema.Schema) == 0 {
				return nil, badRequest("response_format.json_schema", "Missing required parameter: 'response_format.json_schema.schema'.")
			}
			c.format.Schema = rf.JSONSchema.Schema
		default:
			return nil, badRequest("response_format.type", "Invalid value: '%.40s'. Supported values are: 'json_object', 'json_schema', and 'text'.", rf.Type)
		}
	}
	c.digest = c.canonical()
	return c, nil
}

func (c *call) takeSampling(b *callBody) *apiError {
	s := &c.sampling
	if b.Temperature != nil {
		if s.Temperature = *b.Temperature; !(s.Temperature >= 0 && s.Temperature <= 2) {
			return badRequest("temperature", "Invalid 'temperature': must be between 0 and 2 (got %v).", s.Temperature)
		}
	}
	if b.TopP != nil {
		if s.TopP = *b.TopP; !(s.TopP > 0 && s.TopP <= 1) {
			return badRequest("top_p", "Invalid 'top_p': must be above 0 and at most 1 (got %v).", s.TopP)
		}
	}
	if b.N != nil {
		if c.n = *b.N; c.n < 1 || c.n > maxChoices {
			return badRequest("n", "Invalid 'n': must be between 1 and %d (got %d).", maxChoices, c.n)
		}
	}
	if len(b.Stop) > 4 {
		return badRequest("stop", "Invalid 'stop': at most 4 sequences.")
	}
	for _, limit := range []*int{b.MaxTokens, b.MaxCompletionTokens} {
		if limit != nil {
			if s.MaxTokens = *limit; s.MaxTokens < 1 {
				return badRequest("max_tokens", "Invalid 'max_tokens': must be at least 1 (got %d).", s.MaxTokens)
			}
		}
	}
	if b.Seed != nil {
		c.seed = *b.Seed
	}
	raw := bytes.TrimSpace(b.LogProbs)
	if c.route == routeChat {
		if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
			if err := json.Unmarshal(raw, &s.LogProbs); err != nil {
				return badRequest("logprobs", "Invalid type for 'logprobs': expected a boolean.")
			}
		}
		if b.TopLogProbs != nil {
			if s.Top = *b.TopLogProbs; s.Top < 0 || s.Top > 20 {
				return badRequest("top_logprobs", "Invalid 'top_logprobs': must be between 0 and 20 (got %d).", s.Top)
			}
			if !s.LogProbs && s.Top > 0 {
				return badRequest("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
			}
		}
		return nil
	}
	if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
		if err := json.Unmarshal(raw, &s.Top); err != nil || s.Top < 0 || s.Top > 20 {
			return badRequest("logprobs", "Invalid 'logprobs': must be a number between 0 and 20.")
		}
		s.LogProbs = true
	}
	return nil
}

func (c *call) takePrompts(b *callBody) *apiError {
	if c.route == routeChat {
		if len(b.Messages) == 0 {
			return badRequest("messages", "Invalid 'messages': empty array. Expected an array with minimum length 1.")
		}
		msgs := make([]lm.Message, len(b.Messages))
		for i, m := range b.Messages {
			switch m.Role {
			case "system", "developer", "user", "assistant", "tool", "function":
			default:
				return badRequest("messages", "Invalid value for 'messages[%d].role': '%.40s'.", i, m.Role)
			}
			text, err := lm.ContentText(m.Content)
			if err != nil {
				return badRequest("messages", "Invalid 'messages[%d]': %v.", i, err)
			}
			msgs[i] = lm.Message{Role: m.Role, Content: text}
		}
		c.prompts = [][]lm.Message{msgs}
		return nil
	}
	var texts []string
	if raw := bytes.TrimSpace(b.Prompt); len(raw) > 0 && raw[0] == '"' {
		texts = make([]string, 1)
		if err := json.Unmarshal(raw, &texts[0]); err != nil {
			return badRequest("prompt", "Invalid 'prompt': %v", err)
		}
	} else if len(raw) == 0 || json.Unmarshal(raw, &texts) != nil {
		return badRequest("prompt", "Invalid 'prompt': expected a string or a list of strings.")
	}
	if len(texts) == 0 || len(texts) > maxChoices {
		return badRequest("prompt", "Invalid 'prompt': between 1 and %d prompts (got %d).", maxChoices, len(texts))
	}
	for _, t := range texts {
		c.prompts = append(c.prompts, []lm.Message{{Role: "user", Content: t}})
	}
	return nil
}

// canonical digests what decides the answer, whatever the spelling of the JSON: defaults filled in, content parts joined.
// Whether the answer is streamed is not in it.
func (c *call) canonical() Digest {
	h := sha256.New()
	var num [8]byte
	putNum := func(v uint64) {
		binary.LittleEndian.PutUint64(num[:], v)
		h.Write(num[:])
	}
	put := func(s string) {
		putNum(uint64(len(s)))
		writeString(h, s)
	}
	put(c.route)
	put(c.model)
	for _, p := range c.prompts {
		putNum(uint64(len(p)))
		for _, m := range p {
			put(m.Role)
			put(m.Content)
		}
	}
	s := &c.sampling
	for _, v := range [...]uint64{math.Float64bits(s.Temperature), math.Float64bits(s.TopP), uint64(s.MaxTokens), uint64(c.seed), uint64(c.n), uint64(s.Top)} {
		putNum(v)
	}
	put(strings.Join(s.Stop, "\x00"))
	put(string(c.format.Schema))
	flags := uint64(0)
	for i, f := range [...]bool{s.LogProbs, c.echo, c.format.Object} {
		if f {
			flags |= 1 << i
		}
	}
	putNum(flags)
	var d Digest
	copy(d[:], h.Sum(nil))
	return d
}

func writeString(h hash.Hash, s string) { io.WriteString(h, s) } //nolint:errcheck // a hash takes everything
