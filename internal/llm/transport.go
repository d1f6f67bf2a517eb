package llm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// maxRefusal bounds what is read of the body of a refusal, in bytes.
const maxRefusal = 64 << 10

// exchange is one HTTP attempt: what goes out, and what is to be known of it afterwards. It travels in the request's context.
type exchange struct {
	body    []byte      // request body; nil: as go-openai made it (GET)
	started atomic.Bool // the body began to leave: the request may reach the endpoint and be billed
	reply   []byte      // a whole successful reply
	id      string      // the endpoint's name for the request
	err     *Error      // a refusal, or what went wrong
}

type exchangeKey struct{}

// doer is the HTTP side of a Client: go-openai calls it in place of an http.Client. It puts our body and headers on the
// request, reads the whole reply within bounds, and turns anything but a success into an Error.
type doer struct {
	http    *http.Client
	headers map[string]string
	query   string // of the base URL
	bearer  string
	redact  redactor
}

// newTransport keeps as many idle connections as there can be calls, so that a call does not open a socket.
func newTransport(inFlight int) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           inFlight + 4,
		MaxIdleConnsPerHost:    inFlight + 4,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		DisableCompression:     true, // replies are small; no bombs to watch for
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         2 << 10, // thousands of connections have one each, and replies are small
		WriteBufferSize:        2 << 10, // what is larger passes it by
	}
}

// sameHost lets redirects lead only to where the key was meant for.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return &Error{Class: ClassNotFound, Code: CodeRedirect, Message: "the endpoint redirects to " + req.URL.Scheme + "://" + req.URL.Host + "; set that as its URL if it is right"}
	}
	if len(via) >= 3 {
		return &Error{Class: ClassNotFound, Code: CodeRedirect, Message: "the endpoint redirects in circles"}
	}
	return nil
}

var errHandled = errors.New("llm: handled")

// Do makes one attempt. After an error the exchange says what it was.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("llm: request without an exchange")
	}
	d.prepare(req, x)
	res, err := d.http.Do(req)
	if err != nil {
		x.err = d.failure(req.Context(), x, err)
		return nil, errHandled
	}
	x.id = requestID(res.Header)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxRefusal)) // what cannot be read is not known; the status is
		_ = res.Body.Close()
		e := classify(res.StatusCode, body)
		e.RetryAfter = retryAfter(res.Header, e.Message, time.Now())
		x.err = e
		return nil, errHandled
	}
	x.reply, err = readReply(res)
	_ = res.Body.Close()
	if err != nil {
		x.err = d.failure(req.Context(), x, err)
		x.err.Status = res.StatusCode
		return nil, errHandled
	}
	res.Body = io.NopCloser(bytes.NewReader(x.reply))
	return res, nil
}

func (d *doer) prepare(req *http.Request, x *exchange) {
	for name, value := range d.headers {
		req.Header.Set(name, value)
	}
	if d.bearer != "" {
		req.Header.Set("Authorization", d.bearer)
	}
	if d.query != "" {
		req.URL.RawQuery = d.query
	}
	if x.body == nil {
		return // a GET costs nothing, whatever becomes of it
	}
	req.ContentLength = int64(len(x.body))
	req.Body = &outgoing{Reader: bytes.NewReader(x.body), started: &x.started}
	req.GetBody = func() (io.ReadCloser, error) {
		return &outgoing{Reader: bytes.NewReader(x.body), started: &x.started}, nil
	}
}

// outgoing is a request body that notes when its first byte is asked for.
type outgoing struct {
	*bytes.Reader
	started *atomic.Bool
}

func (o *outgoing) Read(p []byte) (int, error) {
	o.started.Store(true)
	return o.Reader.Read(p)
}

func (o *outgoing) WriteTo(w io.Writer) (int64, error) {
	o.started.Store(true)
	return o.Reader.WriteTo(w)
}

func (*outgoing) Close() error { return nil }

var errReplyTooLarge = errors.New("reply too large")

// readReply reads a whole reply of at most MaxReply bytes.
func readReply(res *http.Response) ([]byte, error) {
	if res.ContentLength > MaxReply {
		return nil, errReplyTooLarge
	}
	var buf bytes.Buffer
	if res.ContentLength > 0 {
		buf.Grow(int(res.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(res.Body, MaxReply+1))
	if err != nil {
		return nil, err
	}
	if n > MaxReply {
		return nil, errReplyTooLarge
	}
	return buf.Bytes(), nil
}

func requestID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "Apim-Request-Id", "Request-Id"} {
		if v := h.Get(name); v != "" {
			return bound(v, 200)
		}
	}
	return ""
}

// failure says what the lack of a whole reply means.
func (d *doer) failure(ctx context.Context, x *exchange, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok { // a redirect
		return e
	}
	// The URL may hold a key: leave it out.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	sent := x.started.Load()
	e := &Error{Class: ClassPassing, Message: err.Error(), InDoubt: sent}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknownAuthority := errors.AsType[x509.UnknownAuthorityError](err)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, errReplyTooLarge):
		e.Class, e.Code, e.Message = ClassPermanent, CodeReplyTooLarge, fmt.Sprintf("reply of more than %d bytes", MaxReply)
	case errors.Is(ctx.Err(), context.DeadlineExceeded), isNet && netErr.Timeout() && sent:
		e.Code, e.Message, e.kind = CodeTimeout, "no whole reply in time", kindTimeout
	case ctx.Err() != nil:
		e.kind = kindAbandoned
	case badCertificate, unknownAuthority:
		e.Class, e.Code, e.InDoubt = ClassNotFound, "tls", false
	case !sent:
		e.Code, e.kind = CodeUnreachable, kindUnreachable
	default:
		e.Code, e.kind = CodeConnection, kindBroken
	}
	return e
}
