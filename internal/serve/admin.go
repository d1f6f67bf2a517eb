package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// maxReply bounds what an admin route may answer.
const maxReply = 4 << 20

// Admin speaks to the admin routes of one server. The key goes nowhere but there.
type Admin struct {
	URL  string        // without a slash at its end
	Key  func() string // "" sends none
	HTTP *http.Client
}

// NewClient returns a client for admin routes: patient with answers, since loading takes minutes, and not with connections.
// Redirects are not followed, so that a key does not travel.
func NewClient() *http.Client {
	transport, _ := http.DefaultTransport.(*http.Transport)
	transport = transport.Clone()
	transport.ResponseHeaderTimeout = 10 * time.Minute
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Reply is an answer of an admin route.
type Reply struct {
	Status int
	Body   []byte
}

// Words returns what the server says in a refusal, in whichever of the usual shapes, at most 1,000 bytes.
func (r Reply) Words() string {
	var body struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	words := string(r.Body)
	if json.Unmarshal(r.Body, &body) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var text string
		switch {
		case json.Unmarshal(body.Error, &inner) == nil && inner.Message != "":
			words = inner.Message
		case json.Unmarshal(body.Error, &text) == nil && text != "":
			words = text
		case body.Message != "":
			words = body.Message
		case json.Unmarshal(body.Detail, &text) == nil && text != "":
			words = text
		}
	}
	return Clip(words)
}

// Clip shortens foreign words to 1,000 bytes of plain text.
func Clip(words string) string {
	words = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, " "))
	words = strings.TrimSpace(words)
	if len(words) > 1000 {
		words = strings.ToValidUTF8(words[:1000], "") + "…"
	}
	return words
}

// Do sends body as JSON, or nothing where it is nil, and returns the answer, whatever its status. A refused key is an Error.
func (a Admin) Do(ctx context.Context, method, route string, body any) (Reply, error) {
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return Reply{}, fmt.Errorf("%s: %w", route, err)
		}
		payload = bytes.NewReader(raw)
	}
	answer, err := a.Send(ctx, method, route, payload, 0)
	if err != nil {
		return Reply{}, err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	if err != nil {
		return Reply{}, fmt.Errorf("%s%s: %w", a.URL, route, err)
	}
	r := Reply{Status: answer.StatusCode, Body: raw}
	if r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden {
		return r, Wrong("set the provider's key_env to a key that it accepts and restart the workers", "%s%s refuses the key: %s", a.URL, route, r.Words())
	}
	return r, nil
}

// Send sends a request and returns the answer, whose body the caller closes. size is that of payload where it cannot tell
// itself.
func (a Admin) Send(ctx context.Context, method, route string, payload io.Reader, size int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.URL+route, payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", route, err)
	}
	if size > 0 {
		request.ContentLength = size
		request.Header.Set("Content-Type", "application/octet-stream")
	} else if payload != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if a.Key != nil {
		if key := a.Key(); key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
	}
	answer, err := a.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, route, err)
	}
	return answer, nil
}

// Gone reports whether nobody listens at the address, so that nothing can be loaded there.
func Gone(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
