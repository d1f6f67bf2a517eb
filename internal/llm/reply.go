package llm

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	openai "github.com/sashabaranov/go-openai"
)

// neutral is the model's name that go-openai sees, so that it does not refuse parameters or APIs by name. The body that
// is sent has the real one.
const neutral = "-"

func (c *Client) askChat(ctx context.Context, x *exchange, out *Response) *Error {
	reply, err := c.api.CreateChatCompletion(ctx, openai.ChatCompletionRequest{Model: neutral})
	return chatAnswer(x, &reply, err, out)
}

// chatAnswer reads a reply of the chat API.
func chatAnswer(x *exchange, reply *openai.ChatCompletionResponse, err error, out *Response) *Error {
	if e := replyError(x, err, len(reply.Choices)); e != nil {
		return e
	}
	choice := &reply.Choices[0]
	out.Text, out.FinishReason, out.Model = choice.Message.Content, string(choice.FinishReason), reply.Model
	if out.Text == "" && len(choice.Message.MultiContent) > 0 {
		var b strings.Builder
		for _, part := range choice.Message.MultiContent {
			b.WriteString(part.Text)
		}
		out.Text = b.String()
	}
	if out.Text == "" && choice.Message.Refusal != "" {
		out.Text, out.FinishReason = choice.Message.Refusal, "refusal"
	}
	out.Usage = usageOf(&reply.Usage)
	if choice.LogProbs != nil {
		out.LogProbs = make([]TokenLogProb, len(choice.LogProbs.Content))
		for i, t := range choice.LogProbs.Content {
			out.LogProbs[i] = TokenLogProb{Token: t.Token, LogProb: t.LogProb}
			for _, alt := range t.TopLogProbs {
				out.LogProbs[i].Top = append(out.LogProbs[i].Top, TokenCandidate{alt.Token, alt.LogProb})
			}
		}
	}
	return filtered(out)
}

func (c *Client) askCompletions(ctx context.Context, x *exchange, out *Response) *Error {
	reply, err := c.api.CreateCompletion(ctx, openai.CompletionRequest{Model: neutral, Prompt: ""})
	return completionsAnswer(x, &reply, err, out)
}

// completionsAnswer reads a reply of the completions API.
func completionsAnswer(x *exchange, reply *openai.CompletionResponse, err error, out *Response) *Error {
	if e := replyError(x, err, len(reply.Choices)); e != nil {
		return e
	}
	choice := &reply.Choices[0]
	out.Text, out.FinishReason, out.Model = choice.Text, choice.FinishReason, reply.Model
	out.Usage = usageOf(reply.Usage)
	lp := &choice.LogProbs
	for i := range min(len(lp.Tokens), len(lp.TokenLogprobs)) {
		t := TokenLogProb{Token: lp.Tokens[i], LogProb: float64(lp.TokenLogprobs[i])}
		if i < len(lp.TopLogprobs) {
			t.Top = candidates(lp.TopLogprobs[i])
		}
		out.LogProbs = append(out.LogProbs, t)
	}
	return filtered(out)
}

func usageOf(u *openai.Usage) Usage {
	if u == nil {
		return Usage{}
	}
	out := Usage{PromptTokens: int64(max(0, u.PromptTokens)), CompletionTokens: int64(max(0, u.CompletionTokens))}
	if d := u.PromptTokensDetails; d != nil {
		out.CachedTokens = max(0, min(int64(d.CachedTokens), out.PromptTokens))
	}
	return out
}

// replyError says what is wrong with a reply, if anything is. A field of an unexpected type elsewhere in a reply that has
// its choices is no reason to lose an answer.
func replyError(x *exchange, err error, choices int) *Error {
	if x.err != nil {
		return x.err
	}
	if choices > 0 {
		if err == nil {
			return nil
		}
		if _, odd := errors.AsType[*json.UnmarshalTypeError](err); odd {
			return nil
		}
	}
	e := &Error{Class: ClassPassing, Status: 200, Code: CodeInvalidReply, kind: kindBroken, InDoubt: true}
	switch {
	case x.reply == nil && err != nil:
		e.Status, e.InDoubt, e.Message = 0, false, err.Error()
	case err != nil:
		e.Message = "reply is not the JSON expected: " + err.Error() + ": " + plainText(x.reply)
	default:
		e.Message = "reply without choices: " + plainText(x.reply)
		// Some gateways answer 200 with the error of another endpoint behind them.
		var body struct {
			Error json.RawMessage `json:"error"`
		}
		if json.Unmarshal(x.reply, &body) == nil && len(body.Error) > 2 && string(body.Error) != "null" {
			return relayed(x.reply, body.Error)
		}
	}
	return e
}

// relayed classifies an error that came with status 200 by the status it holds, else as one that may pass.
func relayed(reply, inner json.RawMessage) *Error {
	status := 502
	var code struct {
		Code   any `json:"code"`
		Status any `json:"status"`
	}
	if json.Unmarshal(inner, &code) == nil {
		for _, v := range []any{code.Code, code.Status} {
			if f, ok := v.(float64); ok && f >= 400 && f < 600 {
				status = int(f)
			}
		}
	}
	return classify(status, reply)
}

// filtered turns an answer that the endpoint withheld into a permanent error, which keeps the tokens that were billed.
func filtered(r *Response) *Error {
	if r.FinishReason != string(openai.FinishReasonContentFilter) {
		return nil
	}
	return &Error{Class: ClassPermanent, Status: 200, Code: CodeContentFilter, Message: "the endpoint withheld the answer", Usage: r.Usage, kind: kindAnswer}
}
