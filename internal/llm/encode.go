package llm

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxStops is what OpenAI accepts.
const maxStops = 4

// check finds what no endpoint could make sense of.
func (r *Request) check() *Error {
	switch {
	case r.Model == "":
		return invalid("request without a model")
	case len(r.Messages) == 0:
		return invalid("request without messages")
	case bad(r.Temperature) || r.Temperature < 0:
		return invalid("temperature %v is not a number of at least 0", r.Temperature)
	case bad(r.TopP) || r.TopP < 0 || r.TopP > 1:
		return invalid("top-p %v is not between 0 and 1", r.TopP)
	case r.MaxTokens < 0:
		return invalid("negative max tokens %d", r.MaxTokens)
	case r.TopLogProbs < 0 || r.TopLogProbs > 20:
		return invalid("top log-probabilities %d are not between 0 and 20", r.TopLogProbs)
	case len(r.Stop) > maxStops:
		return invalid("%d stop sequences, at most %d are possible", len(r.Stop), maxStops)
	case len(r.Schema) > 0 && !json.Valid(r.Schema):
		return invalid("schema is not JSON")
	}
	for _, m := range r.Messages {
		if !slices.Contains([]string{"system", "developer", "user", "assistant"}, m.Role) {
			return invalid("unknown role %q", m.Role)
		}
	}
	return nil
}

// render puts the rendered conversation into a request that goes out as one prompt by the model's own template.
func (r *Request) render(c *Client) *Error {
	render := r.Render
	if render == nil {
		render = c.render
	}
	if render == nil || !c.completions {
		return nil
	}
	text, err := render(r.Messages)
	var told *Error
	switch {
	case errors.As(err, &told):
		return told
	case err != nil:
		return invalid("%v", err)
	}
	r.rendered, r.ready = text, true
	return nil
}

func bad(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }

// The field that bounds an answer, as it stands in a body. Inside of strings quotes are escaped.
const (
	oldName = `,"max_tokens":`
	newName = `,"max_completion_tokens":`
)

// withNewName changes the field's name in a body.
func withNewName(body []byte) []byte { return bytes.Replace(body, []byte(oldName), []byte(newName), 1) }

// encode renders the body of a request. renamed: the endpoint wants max_completion_tokens instead of max_tokens.
func (c *Client) encode(r *Request, renamed bool) []byte {
	n := 256
	for _, m := range r.Messages {
		n += len(m.Content) + len(m.Content)/8 + 32
	}
	b := make([]byte, 0, n)
	b = append(b, `{"model":`...)
	b = appendString(b, r.Model)
	stop := r.Stop
	if c.completions {
		b = append(b, `,"prompt":`...)
		if r.ready {
			b = appendString(b, r.rendered)
		} else {
			b = appendString(b, Plain(r.Messages))
			stop = plainStops(stop)
		}
	} else {
		b = append(b, `,"messages":[`...)
		for i, m := range r.Messages {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"role":`...)
			b = appendString(b, m.Role)
			b = append(b, `,"content":`...)
			b = appendString(b, m.Content)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = append(b, `,"temperature":`...)
	b = strconv.AppendFloat(b, r.Temperature, 'g', -1, 64)
	if r.TopP > 0 {
		b = append(b, `,"top_p":`...)
		b = strconv.AppendFloat(b, r.TopP, 'g', -1, 64)
	}
	if r.MaxTokens > 0 {
		if renamed {
			b = append(b, newName...)
		} else {
			b = append(b, oldName...)
		}
		b = strconv.AppendInt(b, int64(r.MaxTokens), 10)
	}
	if r.Seed != nil {
		b = append(b, `,"seed":`...)
		b = strconv.AppendInt(b, *r.Seed, 10)
	}
	if len(stop) > 0 {
		b = append(b, `,"stop":[`...)
		for i, s := range stop {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		b = append(b, ']')
	}
	b = c.appendLogProbs(b, r)
	if len(r.Schema) > 0 {
		name := r.SchemaName
		if name == "" {
			name = "answer"
		}
		b = append(b, `,"response_format":{"type":"json_schema","json_schema":{"name":`...)
		b = appendString(b, name)
		b = append(b, `,"strict":true,"schema":`...)
		b = append(b, r.Schema...)
		b = append(b, `}}`...)
	}
	b = append(b, c.extra...)
	return append(b, '}')
}

func (c *Client) appendLogProbs(b []byte, r *Request) []byte {
	if !r.LogProbs && r.TopLogProbs == 0 {
		return b
	}
	if c.completions {
		b = append(b, `,"logprobs":`...)
		return strconv.AppendInt(b, int64(max(1, r.TopLogProbs)), 10)
	}
	b = append(b, `,"logprobs":true`...)
	if r.TopLogProbs > 0 {
		b = append(b, `,"top_logprobs":`...)
		b = strconv.AppendInt(b, int64(r.TopLogProbs), 10)
	}
	return b
}

// ownFields are the body fields that Provider.Extra cannot set.
var ownFields = []string{
	"model", "messages", "prompt", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop",
	"logprobs", "top_logprobs", "response_format", "stream", "n",
}

// extraFields renders a provider's further body fields, each with a leading comma, in the order of their names.
func extraFields(extra map[string]json.RawMessage) ([]byte, error) {
	names := make([]string, 0, len(extra))
	for name := range extra {
		names = append(names, name)
	}
	slices.Sort(names)
	var b []byte
	for _, name := range names {
		if slices.Contains(ownFields, name) {
			return nil, errorf("extra field %s is set by requests themselves", name)
		}
		if !json.Valid(extra[name]) {
			return nil, errorf("extra field %s is not JSON", name)
		}
		b = append(b, ',')
		b = appendString(b, name)
		b = append(b, ':')
		b = append(b, extra[name]...)
	}
	return b, nil
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		ch := s[i]
		if ch >= 0x20 && ch != '"' && ch != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch ch {
		case '"', '\\':
			b = append(b, '\\', ch)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[ch>>4], hexDigits[ch&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
