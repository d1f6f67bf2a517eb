package pocketlm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm/lm"
)

// usage are the tokens of a call, as the deterministic tokenizer counts them.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// outcome is a good answer to a call.
type outcome struct {
	call    *call
	choices []lm.Completion
	usage   usage
	latency time.Duration // what Faults gave to it
}

// answer does one call with its faults and its latency; what comes back has been noted in the journal, as route noteRoute.
// The fate says how the transport is to spoil the reply. Without outcome and error there is no reply at all.
func (s *Server) answer(ctx context.Context, route, noteRoute string, body []byte) (*outcome, fate, *apiError) {
	c, bad := parseCall(route, body)
	if bad != nil {
		e := Entry{Route: noteRoute, Digest: rawDigest(route, body)}
		s.journal.received(e)
		return nil, fateNone, s.refuse(e, bad)
	}
	e := Entry{Route: noteRoute, Model: c.model, Digest: c.digest}
	attempt := s.journal.received(e)
	f := s.faults.Load()
	fate := f.fateOf(c.digest, attempt)
	switch {
	case fate == fateHang && noteRoute == route: // a batch has no connection to hang
		select {
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		return nil, fate, nil
	case fate == fateReset:
		return nil, fate, nil
	}
	if bad := f.refusal(c.digest, fate); bad != nil {
		return nil, fateNone, s.refuse(e, bad)
	}
	started := time.Now()
	out, bad := s.generate(c, f, attempt)
	if bad != nil {
		return nil, fateNone, s.refuse(e, bad)
	}
	out.latency = f.latency(c.digest, attempt, out.usage.Completion)
	if err := pause(ctx, out.latency-time.Since(started)); err != nil {
		return nil, fateReset, nil //nolint:nilerr // the client left: received, never answered
	}
	e.Kind, e.Status, e.PromptTokens, e.CompletionTokens = Answered, http.StatusOK, out.usage.Prompt, out.usage.Completion
	if err := s.journal.settled(e); err != nil {
		return nil, fateNone, internal(err)
	}
	return out, fate, nil
}

func (s *Server) refuse(e Entry, bad *apiError) *apiError {
	e.Kind, e.Status = Refused, bad.status
	if err := s.journal.settled(e); err != nil {
		return internal(err)
	}
	return bad
}

func rawDigest(route string, body []byte) Digest {
	sum := sha256.Sum256(append([]byte(route+"\x00raw\x00"), body...))
	return Digest(sum[:12])
}

// generate asks the model.
func (s *Server) generate(c *call, f *Faults, attempt int) (*outcome, *apiError) {
	m, bad := s.models.get(c.model)
	if bad != nil {
		return nil, bad
	}
	out := &outcome{call: c}
	unparsable := f.Unparsable > 0 && f.uniform(c.digest, attempt, drawUnparsable) < f.Unparsable
	for _, p := range c.prompts {
		n := 3 // what a conversation costs besides its words
		for _, t := range p {
			n += lm.Count(t.Content) + 4
		}
		if n+max(c.sampling.MaxTokens, 1) > ContextTokens {
			e := badRequest("messages", "This model's maximum context length is %d tokens. However, you requested %d tokens in the messages and %d for the completion.", ContextTokens, n, c.sampling.MaxTokens)
			e.Code = "context_length_exceeded"
			return nil, e
		}
		out.usage.Prompt += n
		var draft lm.Draft
		switch {
		case unparsable:
			draft = lm.Draft{{{Text: "Well, it depends on how one looks at it, and there is much that could be said here", P: 1}}}
		case f.Canned:
			draft = canned(c.digest)
		default:
			draft = m.Answer(p, c.format)
		}
		for i := range c.n {
			sampling := c.sampling
			sampling.Seed = drawSeed(m.Digest(), c.digest, len(out.choices), i)
			done := draft.Draw(sampling)
			out.usage.Completion += done.Tokens
			if c.echo {
				done.Text = p[0].Content + done.Text
			}
			out.choices = append(out.choices, done)
		}
	}
	out.usage.Total = out.usage.Prompt + out.usage.Completion
	return out, nil
}

// canned is a rating that looks like one and costs nothing.
func canned(d Digest) lm.Draft {
	scores := [...]string{"1", "2", "2.5", "3", "3.5", "4", "4.5", "5"}
	return lm.Draft{{{Text: "A canned answer, made from the digest of the request.\nScore: " + scores[d[0]%8], P: 1}}}
}

func drawSeed(model string, d Digest, prompt, choice int) [2]uint64 {
	h := sha256.New()
	h.Write(d[:]) //nolint:errcheck // a hash takes everything
	h.Write([]byte(model))
	h.Write([]byte{byte(prompt), byte(choice)})
	sum := h.Sum(nil)
	return [2]uint64{binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])}
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) *apiError {
	return s.serveCall(w, r, routeChat)
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request) *apiError {
	return s.serveCall(w, r, routeComplete)
}

func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, route string) *apiError {
	f := s.faults.Load()
	entered, ok := s.stats.enter(f.Capacity)
	if !ok {
		return f.tooMany("Too many requests at once (capacity).")
	}
	status := http.StatusOK
	var out *outcome
	defer func() { s.stats.leave(entered, status, out) }()
	body, err := readBody(w, r)
	if err != nil {
		status = err.status
		return err
	}
	var fate fate
	var bad *apiError
	out, fate, bad = s.answer(r.Context(), route, route, body)
	switch {
	case bad != nil:
		status = bad.status
		return bad
	case out == nil:
		status = 0
		return hangUp(w)
	case fate == fateGarbage:
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<html><body>upstream connect error\x00\xff</body></html>")) //nolint:errcheck // garbage anyhow
		return nil
	}
	if out.call.stream {
		s.stream(w, r, out, fate == fateTruncated)
		return nil
	}
	reply := out.encode(time.Now())
	if fate == fateTruncated {
		status = 0
		w.Header().Set("Content-Type", "application/json")
		w.Write(reply[:len(reply)/2]) //nolint:errcheck // cut short on purpose
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	writeBody(w, reply)
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *apiError) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Message: "Request body is too large."}
	case err != nil:
		return nil, badRequest("", "We could not read your request: %v", err)
	}
	return body, nil
}

// hangUp resets the connection without a reply.
func hangUp(w http.ResponseWriter) *apiError {
	if hj, ok := w.(http.Hijacker); ok {
		if conn, _, err := hj.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0) //nolint:errcheck // without it the client sees an end of file, nearly the same
			}
			conn.Close()
			return nil
		}
	}
	panic(http.ErrAbortHandler)
}

type jsonMessage struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

type jsonAlternative struct {
	Token   string  `json:"token"`
	LogProb float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

type jsonToken struct {
	jsonAlternative
	Top []jsonAlternative `json:"top_logprobs"`
}

type jsonLogProbs struct {
	Content []jsonToken `json:"content"`
	Refusal []jsonToken `json:"refusal"`
}

type jsonChoice struct {
	Index        int           `json:"index"`
	Message      jsonMessage   `json:"message"`
	LogProbs     *jsonLogProbs `json:"logprobs"`
	FinishReason string        `json:"finish_reason"`
}

type jsonPlainLogProbs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogProbs []float64            `json:"token_logprobs"`
	TopLogProbs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

type jsonPlainChoice struct {
	Index        int                `json:"index"`
	Text         string             `json:"text"`
	LogProbs     *jsonPlainLogProbs `json:"logprobs"`
	FinishReason string             `json:"finish_reason"`
}

type jsonReply struct {
	ID                string `json:"id"`
	Object            string `json:"object"`
	Created           int64  `json:"created"`
	Model             string `json:"model"`
	Choices           any    `json:"choices"`
	Usage             *usage `json:"usage,omitempty"`
	SystemFingerprint string `json:"system_fingerprint"`
}

const systemFingerprint = "fp_pocketlm1"

// encode writes the reply; now is its creation time, the only thing in it (with the id) that does not follow from the request.
func (o *outcome) encode(now time.Time) []byte {
	rep := jsonReply{Created: now.Unix(), Model: o.call.model, Usage: &o.usage, SystemFingerprint: systemFingerprint}
	if o.call.route == routeChat {
		rep.ID, rep.Object = newID("chatcmpl-"), "chat.completion"
		choices := make([]jsonChoice, len(o.choices))
		for i, c := range o.choices {
			choices[i] = jsonChoice{Index: i, Message: jsonMessage{Role: "assistant", Content: c.Text}, FinishReason: c.Finish}
			if o.call.sampling.LogProbs {
				choices[i].LogProbs = chatLogProbs(c.Detail)
			}
		}
		rep.Choices = choices
	} else {
		rep.ID, rep.Object = newID("cmpl-"), "text_completion"
		choices := make([]jsonPlainChoice, len(o.choices))
		for i, c := range o.choices {
			choices[i] = jsonPlainChoice{Index: i, Text: c.Text, FinishReason: c.Finish}
			if o.call.sampling.LogProbs {
				choices[i].LogProbs = plainLogProbs(c.Detail)
			}
		}
		rep.Choices = choices
	}
	b, err := json.Marshal(rep)
	if err != nil { // no type in it can fail
		return internal(err).body()
	}
	return append(b, '\n')
}

func chatLogProbs(tokens []lm.Token) *jsonLogProbs {
	lp := &jsonLogProbs{Content: make([]jsonToken, len(tokens))}
	for i, t := range tokens {
		jt := jsonToken{jsonAlternative: jsonAlternative{t.Text, t.LogProb, byteList(t.Text)}, Top: []jsonAlternative{}}
		for _, a := range t.Top {
			jt.Top = append(jt.Top, jsonAlternative{a.Text, a.LogProb, byteList(a.Text)})
		}
		lp.Content[i] = jt
	}
	return lp
}

func byteList(s string) []int {
	b := make([]int, len(s))
	for i := range len(s) {
		b[i] = int(s[i])
	}
	return b
}

func plainLogProbs(tokens []lm.Token) *jsonPlainLogProbs {
	lp := &jsonPlainLogProbs{Tokens: []string{}, TokenLogProbs: []float64{}, TopLogProbs: []map[string]float64{}, TextOffset: []int{}}
	at := 0
	for _, t := range tokens {
		top := map[string]float64{}
		for _, a := range t.Top {
			top[a.Text] = a.LogProb
		}
		lp.Tokens = append(lp.Tokens, t.Text)
		lp.TokenLogProbs = append(lp.TokenLogProbs, t.LogProb)
		lp.TopLogProbs = append(lp.TopLogProbs, top)
		lp.TextOffset = append(lp.TextOffset, at)
		at += len(t.Text)
	}
	return lp
}
