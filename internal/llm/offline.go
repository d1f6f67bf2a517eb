package llm

import (
	"encoding/json"
	"math"
	"net/http"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// What a question needs that does not travel by Complete but in a file of many, through the Batch API: its body, the
// reading of its reply, and its price.

// Path returns the path of the provider's API below its host, as the lines of a batch name it.
func (c *Client) Path() string {
	if c.completions {
		return "/v1/completions"
	}
	return "/v1/chat/completions"
}

// Encode returns the body that Complete would send. Errors are of type *Error.
func (c *Client) Encode(r Request) ([]byte, error) {
	if e := r.check(); e != nil {
		return nil, e
	}
	if e := r.render(c); e != nil {
		return nil, e
	}
	return c.encode(&r, c.wantsNewName(r.Model)), nil
}

// Decode reads the reply to a request that was encoded by Encode, as Complete would. Errors are of type *Error; they are
// never of ClassYield, and of ClassPassing where asking again may help.
func (c *Client) Decode(r Request, status int, reply []byte) (Response, error) {
	resp := Response{Attempts: 1}
	e := c.decode(status, reply, &resp)
	if e != nil {
		if e.wantsNewName() && r.MaxTokens > 0 && !c.completions {
			c.mu.Lock()
			c.newNames[r.Model] = true
			c.mu.Unlock()
			e.Class = ClassPassing // under its new name the limit will be taken
		}
		e.Attempts = 1
		if e.InDoubt {
			e.Doubtful = 1
		}
		e.Message, e.Code = c.doer.redact.text(e.Message), c.doer.redact.text(e.Code)
		return Response{}, e
	}
	if resp.Usage.PromptTokens == 0 && resp.Usage.CompletionTokens == 0 {
		prompt := 0
		for i := range r.Messages {
			prompt += len(r.Messages[i].Content) + 8
		}
		resp.Usage, resp.UsageEstimated = c.reckoning.guess(prompt, len(resp.Text)), true
	}
	return resp, nil
}

func (c *Client) decode(status int, reply []byte, out *Response) *Error {
	if status < 200 || status > 299 {
		e := classify(status, reply)
		if e.kind != kindAnswer && e.Class != ClassPassing {
			e.Class = ClassPassing
		}
		return e
	}
	x := &exchange{reply: reply}
	if c.completions {
		var body openai.CompletionResponse
		err := json.Unmarshal(reply, &body)
		return completionsAnswer(x, &body, err, out)
	}
	var body openai.ChatCompletionResponse
	err := json.Unmarshal(reply, &body)
	return chatAnswer(x, &body, err, out)
}

// BatchCost is Cost in the Batch API.
func (c *Client) BatchCost(model string, u Usage) (microUSD int64, known bool) {
	full, known := c.prices.cost(model, u)
	return int64(math.Ceil(float64(full)*c.batchShare - 1e-6)), known
}

// BatchWorstCost is WorstCost in the Batch API.
func (c *Client) BatchWorstCost(model string, promptTokens, maxTokens int) (microUSD int64, known bool) {
	return c.BatchCost(model, Usage{PromptTokens: int64(promptTokens), CompletionTokens: int64(maxTokens)})
}

// Refusal reads a reply with an error status of another API of the provider: its class, what it says without the
// provider's secrets, and how long it asks to wait.
func (p *Provider) Refusal(status int, h http.Header, body []byte) *Error {
	e := classify(status, body)
	e.RetryAfter = retryAfter(h, e.Message, time.Now())
	e.Message, e.Code = p.Redact(e.Message), p.Redact(e.Code)
	return e
}

// Redact takes the provider's secrets out of a text, and makes it one line of bounded length.
func (p *Provider) Redact(text string) string {
	secrets := []string{p.Key.Reveal()}
	for _, v := range p.Headers {
		secrets = append(secrets, v)
	}
	return newRedactor(secrets...).text(text)
}
