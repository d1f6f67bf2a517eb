// Package hfendpoint sends requests to a Hugging Face Inference Endpoint by its name: the endpoints API says at which address it
// answers now, and whether it does. While it starts, requests are answered with a 503 that says so, which whoever retries waits out.
//
// Source: GET /v2/endpoint/{namespace}/{name} of https://api.endpoints.huggingface.cloud, with the states that huggingface_hub knows:
// pending, initializing, updating, updateFailed, running, paused, failed, scaledToZero.
package hfendpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// API is where names are looked up.
const API = "https://api.endpoints.huggingface.cloud"

const (
	maxReply  = 1 << 20          // bytes read of the API's reply
	lookup    = 15 * time.Second // for one look
	seldom    = 3 * time.Second  // between two looks
	whileUp   = 5 * time.Minute  // that an address is believed while it answers
	retryWake = 10 * time.Second // told to whoever asks an endpoint that starts
)

// Config names an endpoint.
type Config struct {
	API       string // "" is API
	Namespace string // user or organisation
	Name      string
	Token     func() string // for the API; the endpoint gets the header that requests bring
}

// Base is a stand-in for the endpoint's address, by which clients and their errors name it. No such host exists.
func (c Config) Base() string {
	return fmt.Sprintf("https://%s.%s.inference-endpoint.invalid/v1", c.Name, c.Namespace)
}

// Transport sends what is meant for Config.Base to where the endpoint is. It is safe for concurrent use.
type Transport struct {
	cfg  Config
	next http.RoundTripper

	mu    sync.Mutex
	found found
	at    time.Time // of the last look; zero: look now
	bad   bool      // something spoke against what was found
}

// found is what the API said: an address, or an answer in place of one.
type found struct {
	base   *url.URL
	status int // of the answer in place of one
	why    string
}

// New makes a transport over another. It sends nothing.
func New(cfg Config, next http.RoundTripper) *Transport {
	if cfg.API == "" {
		cfg.API = API
	}
	return &Transport{cfg: cfg, next: next}
}

// CloseIdleConnections closes those of the transport beneath.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends a request to the endpoint, or answers it: 503 with Retry-After while the endpoint starts, 404 while it is paused
// or failed, 401 and 403 as the API said them.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	f, err := t.resolve(req.Context())
	if err != nil || f.base == nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		if err != nil {
			return nil, err
		}
		return answer(req, f), nil
	}
	to := req.Clone(req.Context())
	to.URL.Scheme, to.URL.Host, to.Host = f.base.Scheme, f.base.Host, ""
	to.URL.Path, to.URL.RawPath = strings.TrimSuffix(f.base.Path, "/")+req.URL.Path, ""
	res, err := t.next.RoundTrip(to)
	if err != nil {
		if req.Context().Err() == nil {
			t.doubt()
		}
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusNotFound, http.StatusBadGateway, http.StatusServiceUnavailable:
		t.doubt()
	}
	return res, nil
}

func (t *Transport) doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bad = true
}

// resolve returns where the endpoint is. The API is asked by one request at a time, and seldom.
func (t *Transport) resolve(ctx context.Context) (found, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := time.Since(t.at)
	if !t.at.IsZero() && (since < seldom || t.found.base != nil && !t.bad && since < whileUp) {
		return t.found, nil
	}
	f, err := t.look(ctx)
	if err != nil {
		return found{}, err
	}
	t.found, t.at, t.bad = f, time.Now(), false
	return f, nil
}

// look asks the API. An error is the caller's context alone.
func (t *Transport) look(ctx context.Context) (found, error) {
	what := fmt.Sprintf("the Inference Endpoint %s/%s", t.cfg.Namespace, t.cfg.Name)
	down := func(err error) (found, error) {
		if ctx.Err() != nil {
			return found{}, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return found{status: http.StatusServiceUnavailable, why: fmt.Sprintf("%s: the endpoints API does not answer: %v", what, err)}, nil
	}
	call, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	address := strings.TrimSuffix(t.cfg.API, "/") + "/v2/endpoint/" + url.PathEscape(t.cfg.Namespace) + "/" + url.PathEscape(t.cfg.Name)
	req, err := http.NewRequestWithContext(call, http.MethodGet, address, nil)
	if err != nil {
		return down(errors.New("not an address"))
	}
	if token := t.cfg.Token(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := t.next.RoundTrip(req) // no redirects: the token is for this host
	if err != nil {
		return down(err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, maxReply))
	if err != nil {
		return down(err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		return read(what, strings.HasPrefix(t.cfg.API, "http://"), body), nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return found{status: res.StatusCode, why: what + ": the endpoints API refuses the token. Try: a token of that account or organisation that may read Inference Endpoints"}, nil
	case http.StatusNotFound:
		return found{status: res.StatusCode, why: what + " does not exist, or the token may not see it. Try: the namespace and the name that its page shows"}, nil
	}
	return down(fmt.Errorf("status %d", res.StatusCode))
}

// read makes sense of the API's reply. plain allows addresses without TLS.
func read(what string, plain bool, body []byte) found {
	var reply struct {
		Status struct {
			State   string `json:"state"`
			Message string `json:"message"`
			URL     string `json:"url"`
		} `json:"status"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return found{status: http.StatusServiceUnavailable, why: what + ": the endpoints API sent no JSON"}
	}
	s := reply.Status
	state := what + " is " + strconv.Quote(shorten(s.State, 40))
	if s.Message != "" {
		state += " (" + strings.Join(strings.Fields(shorten(s.Message, 200)), " ") + ")"
	}
	switch s.State {
	case "paused":
		return found{status: http.StatusNotFound, why: state + ". Try: resume it on its page"}
	case "failed":
		return found{status: http.StatusNotFound, why: state + ". Try: look at its log, and start it again"}
	case "running", "scaledToZero", "updating", "updateFailed": // scaled to zero, a request wakes it; an update leaves the old one at work
		if s.URL == "" && s.State != "running" {
			break
		}
		base, err := url.Parse(s.URL)
		if err != nil || base.Host == "" || base.User != nil || base.Scheme != "https" && !(plain && base.Scheme == "http") {
			return found{status: http.StatusNotFound, why: state + " at an address that cannot be used"}
		}
		return found{base: base}
	}
	return found{status: http.StatusServiceUnavailable, why: state + " and will answer when it runs"}
}

func shorten(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// answer is a reply in the endpoint's place, as an OpenAI-compatible server writes it.
func answer(req *http.Request, f found) *http.Response {
	body, err := json.Marshal(map[string]any{"error": map[string]any{"message": f.why, "type": "inference_endpoint", "code": f.status}})
	if err != nil {
		body = nil
	}
	h := http.Header{"Content-Type": {"application/json"}}
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(int(retryWake/time.Second)))
	}
	return &http.Response{
		StatusCode: f.status, Status: fmt.Sprintf("%d %s", f.status, http.StatusText(f.status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}
