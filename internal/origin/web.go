package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxRedirects = 5
	webAttempts  = 6
	maxWebWait   = 2 * time.Minute  // longest that a server may ask us to wait
	slowestWeb   = 30 * time.Second // between tries
	webStall     = time.Minute      // a transfer that moves no byte for so long is broken off
)

// WebOptions say what may be read over HTTPS. Allowed must be given.
type WebOptions struct {
	Allowed func(address string) bool
	RootCAs *x509.CertPool // nil: those of the machine
	Backoff time.Duration  // before the second try, doubled up to 30 s; 0 is 500 ms
	Stall   time.Duration  // 0 is a minute
}

// Web reads files over HTTPS from the places that are allowed. A redirect may lead to another host whose address is
// public; to a private one only when that is allowed by name. It sends no credentials and is safe for concurrent use.
type Web struct {
	opt     WebOptions
	trusted *http.Client // for what is allowed by name
	guarded *http.Client // for where redirects lead: connects to public addresses alone, and through no proxy
}

// NewWeb returns a client. It makes no request.
func NewWeb(opt WebOptions) *Web {
	if opt.Backoff <= 0 {
		opt.Backoff = 500 * time.Millisecond
	}
	if opt.Stall <= 0 {
		opt.Stall = webStall
	}
	client := func(guard bool) *http.Client {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true // sizes and ranges are those of the file
		t.ResponseHeaderTimeout = time.Minute
		t.TLSClientConfig = &tls.Config{RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12}
		if guard {
			t.Proxy = nil
			t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Control: publicOnly}).DialContext
		}
		return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Web{opt: opt, trusted: client(false), guarded: client(true)}
}

// errPrivate says that a redirect led to an address that is not public.
var errPrivate = errors.New("it leads to a private address")

// publicOnly refuses connections to addresses that are not reached over the internet.
func publicOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !isPublic(ap.Addr()) {
		return errPrivate
	}
	return nil
}

// reserved are ranges beside those that netip knows as private: shared, protocol and test addresses, and those that hold
// an IPv4 address inside (RFC 6890 and its kin).
var reserved = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// StatusError is an answer other than the file.
type StatusError struct {
	Status int
	after  time.Duration
}

func (e *StatusError) Error() string { return "HTTP " + strconv.Itoa(e.Status) }

func (e *StatusError) passing() bool {
	return e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooEarly || e.Status == http.StatusTooManyRequests || e.Status >= 500
}

// part is an answer: a file's bytes from an offset on.
type part struct {
	body   io.ReadCloser
	from   int64
	size   int64  // of the whole file; -1: not told
	tag    string // what tells versions of the file apart; "": nothing does
	ranges bool
}

// get asks for n bytes from off (n < 0: all) until an answer comes that is not passing. A server without ranges answers from
// the beginning.
func (w *Web) get(ctx context.Context, address string, off, n int64) (part, error) {
	var last error
	for try := range webAttempts {
		if try > 0 {
			if err := w.wait(ctx, try, last); err != nil {
				return part{}, err
			}
		}
		got, err := w.once(ctx, address, off, n)
		if err == nil {
			return got, nil
		}
		last = err
		var status *StatusError
		var ours *Error
		if ctx.Err() != nil || errors.As(err, &ours) || errors.As(err, &status) && !status.passing() {
			return part{}, err
		}
	}
	return part{}, last
}

func (w *Web) wait(ctx context.Context, try int, cause error) error {
	d := min(w.opt.Backoff<<(try-1), slowestWeb)
	d = d/2 + rand.N(d/2+1) //nolint:gosec // jitter
	var status *StatusError
	if errors.As(cause, &status) {
		d = max(d, min(status.after, maxWebWait))
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

var errStalled = errors.New("no byte moved for too long")

func (w *Web) once(ctx context.Context, address string, off, n int64) (part, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	target, err := url.Parse(address)
	if err != nil {
		cancel(nil)
		return part{}, &Error{Source: public(address), Problem: "is no address", Try: "https://host/folder/file"}
	}
	for hop := 0; ; hop++ {
		client := w.trusted
		if !w.opt.Allowed(target.String()) {
			if hop == 0 {
				cancel(nil)
				return part{}, notAllowed(address)
			}
			client = w.guarded
		}
		res, err := ask(ctx, client, target, off, n)
		if err != nil {
			cancel(nil)
			if errors.Is(err, errPrivate) {
				return part{}, &Error{
					Source: public(address), Problem: fmt.Sprintf("the server redirects to %s, which is a private address", target.Host),
					Try: "allow https://" + target.Host + "/ under sources.https in the worker's settings, if it is meant",
				}
			}
			return part{}, fmt.Errorf("read %s: %w", public(address), plainly(err))
		}
		next, err := redirect(res, target)
		if err != nil || next == nil {
			var got part
			if err == nil {
				got, err = answer(res, off, n)
			}
			if err != nil {
				res.Body.Close()
				cancel(nil)
				return part{}, explainWeb(address, err)
			}
			body := &watched{body: res.Body, stall: w.opt.Stall, cancel: cancel}
			body.timer = time.AfterFunc(w.opt.Stall, func() { cancel(errStalled) })
			got.body = body
			return got, nil
		}
		res.Body.Close()
		if target = next; hop == maxRedirects {
			cancel(nil)
			return part{}, &Error{Source: public(address), Problem: "redirects over and over", Try: "name the address that it leads to"}
		}
	}
}

func notAllowed(address string) error {
	folder := public(address)
	folder = folder[:strings.LastIndexByte(folder, '/')+1]
	return &Error{
		Source: public(address), Problem: "is not among the addresses that the worker's settings allow",
		Try: "sources.https: [" + folder + "] in the worker's settings, restart the workers, then retry",
	}
}

func ask(ctx context.Context, client *http.Client, target *url.URL, off, n int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "selfalign/1")
	req.Header.Set("Accept-Encoding", "identity")
	if n >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	} else if off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	return client.Do(req)
}

// redirect returns where an answer points, or nil.
func redirect(res *http.Response, from *url.URL) (*url.URL, error) {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil //nolint:nilnil // no redirect
	}
	next, err := from.Parse(res.Header.Get("Location"))
	if err != nil || next.Scheme != "https" || next.Host == "" || next.User != nil {
		return nil, &Error{Problem: "redirects away from https://", Try: "name the address that it leads to"}
	}
	next.Fragment = ""
	return next, nil
}

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18})$`)

// answer reads what an answer says it is.
func answer(res *http.Response, off, n int64) (part, error) {
	p := part{size: -1, tag: res.Header.Get("ETag")}
	if p.tag == "" {
		p.tag = res.Header.Get("Last-Modified")
	}
	switch res.StatusCode {
	case http.StatusPartialContent:
		m := contentRange.FindStringSubmatch(res.Header.Get("Content-Range"))
		if m == nil {
			return p, &Error{Problem: "the server answers with a range that cannot be read", Try: "a local copy"}
		}
		p.from, _ = strconv.ParseInt(m[1], 10, 64)
		to, _ := strconv.ParseInt(m[2], 10, 64)
		p.size, _ = strconv.ParseInt(m[3], 10, 64)
		if p.from != off || n >= 0 && to != min(off+n, p.size)-1 {
			return p, &Error{Problem: "the server answers with another range than asked for", Try: "a local copy"}
		}
		p.ranges = true
	case http.StatusOK:
		p.size = res.ContentLength
	case http.StatusRequestedRangeNotSatisfiable:
		p.from, p.size, p.ranges = off, 0, true
		if total, ok := strings.CutPrefix(res.Header.Get("Content-Range"), "bytes */"); ok {
			p.size, _ = strconv.ParseInt(total, 10, 64)
		}
		if off < p.size {
			return p, &StatusError{Status: res.StatusCode}
		}
	default:
		return p, &StatusError{Status: res.StatusCode, after: retryAfter(res.Header)}
	}
	return p, nil
}

func retryAfter(h http.Header) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil && s >= 0 && s < 1e6 {
		return time.Duration(s * float64(time.Second))
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// explainWeb turns an answer that will not change by itself into one for a person.
func explainWeb(address string, err error) error {
	var ours *Error
	var status *StatusError
	switch {
	case errors.As(err, &ours):
		if ours.Source == "" {
			ours.Source = public(address)
		}
		return ours
	case errors.As(err, &status) && !status.passing():
		if status.Status == http.StatusNotFound || status.Status == http.StatusGone {
			return gone(public(address), err)
		}
		return &Error{Source: public(address), Problem: "cannot be read", Err: err, Try: "open the address without logging in; what is not public wants s3:// or a local copy"}
	}
	return err
}

// plainly takes the address out of an error, which may hold a query.
func plainly(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// watched breaks a transfer off that stands still.
type watched struct {
	body   io.ReadCloser
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop() // a slow reader of ours is no stall
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.body.Close()
	w.cancel(nil)
	return err
}
