package pocketlm

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm/lm"
)

// stream sends the answer as server-sent events, a token each, then usage if asked for, then [DONE].
// With cut the connection ends half-way.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, o *outcome, cut bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	flush := func() {}
	if f, ok := w.(http.Flusher); ok {
		flush = f.Flush
	}
	id, object := newID("chatcmpl-"), "chat.completion.chunk"
	if o.call.route == routeComplete {
		id, object = newID("cmpl-"), "text_completion"
	}
	created := time.Now().Unix()
	send := func(choices any, u *usage) bool {
		b, err := json.Marshal(jsonReply{ID: id, Object: object, Created: created, Model: o.call.model, Choices: choices, Usage: u, SystemFingerprint: systemFingerprint})
		if err != nil || r.Context().Err() != nil {
			return false
		}
		_, err = w.Write(append(append([]byte("data: "), b...), "\n\n"...))
		return err == nil
	}
	for i, c := range o.choices {
		if o.call.route == routeChat && !send([]any{chunk(i, map[string]any{"role": "assistant", "content": ""}, nil, nil)}, nil) {
			return
		}
		tokens := lm.Tokens(c.Text)
		for k, t := range tokens {
			if cut && k >= len(tokens)/2 {
				flush()
				panic(http.ErrAbortHandler)
			}
			var ok bool
			if o.call.route == routeChat {
				var lp any
				if k < len(c.Detail) {
					lp = chatLogProbs(c.Detail[k : k+1])
				}
				ok = send([]any{chunk(i, map[string]any{"content": t}, lp, nil)}, nil)
			} else {
				ok = send([]any{map[string]any{"index": i, "text": t, "logprobs": nil, "finish_reason": nil}}, nil)
			}
			if !ok {
				return
			}
			if k%16 == 0 {
				flush()
			}
		}
		last := any(chunk(i, map[string]any{}, nil, c.Finish))
		if o.call.route == routeComplete {
			last = map[string]any{"index": i, "text": "", "logprobs": nil, "finish_reason": c.Finish}
		}
		if !send([]any{last}, nil) {
			return
		}
	}
	if o.call.usage && !send([]any{}, &o.usage) {
		return
	}
	w.Write([]byte("data: [DONE]\n\n")) //nolint:errcheck // the client has gone
	flush()
}

func chunk(index int, delta map[string]any, logprobs, finish any) map[string]any {
	return map[string]any{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
}
