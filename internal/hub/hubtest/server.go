// Package hubtest is a Hub in memory that keeps the promises of the real one's protocol and can be told to break them.
//
// It speaks to clients of Hugging Face's own making too: listing, ranged downloads through redirects to a storage host
// that refuses foreign tokens, large file uploads in one piece and in parts, atomic commits with parents. What it does
// not have: spaces, models but for reading, pull requests, Xet, deletion of repositories.
package hubtest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options shape a server. The zero value listens on free ports of the loopback.
type Options struct {
	Addr        string // of the Hub; "" is 127.0.0.1:0
	StorageAddr string // of the storage host; "" is 127.0.0.1:0
	PageSize    int    // entries of a list's page, default 1,000
	PartSize    int64  // bytes of a part; larger uploads go in parts; default 16 MiB
	CDN         string // base URL under which clients are sent to the storage host; "" is its address
}

// Account is who a token belongs to.
type Account struct {
	User  string
	Write bool     // may create and change what belongs to User and Orgs
	Orgs  []string // namespaces that it may read and, with Write, change
}

// Server is a running Hub.
type Server struct {
	opt     Options
	hub     *http.Server
	storage *http.Server
	hubURL  string
	blobURL string
	secret  []byte

	mu         sync.Mutex
	accounts   map[string]Account
	repos      map[string]*repo
	renamed    map[string]string
	objects    map[string][]byte // large files, by digest
	parts      map[string]map[int][]byte
	generation int // of signed addresses
	fault      func(*http.Request) Fault
	journal    []Request
	clock      int64
}

// Fault is what goes wrong with a request. The zero value is nothing.
type Fault struct {
	Delay  time.Duration // before anything else
	Status int           // answered instead of doing what was asked
	Code   string        // X-Error-Code with it
	Header http.Header   // more headers with it
	Drop   bool          // the connection breaks before anything was done
	Lose   bool          // what was asked is done, and the answer is lost
	Cut    int           // the answer breaks off after so many bytes
}

// Request is a request that came in.
type Request struct {
	Storage bool // at the storage host
	Method  string
	Path    string // escaped, without the query
	Token   string // as sent, whoever it belongs to
	Range   string
	Body    int64 // bytes sent
	Status  int   // answered, 0 when the answer was lost or never made
}

// Start listens and serves until Close.
func Start(opt Options) (*Server, error) {
	if opt.PageSize <= 0 {
		opt.PageSize = 1000
	}
	if opt.PartSize <= 0 {
		opt.PartSize = 16 << 20
	}
	s := &Server{
		opt: opt, secret: make([]byte, 32),
		accounts: map[string]Account{}, repos: map[string]*repo{}, renamed: map[string]string{},
		objects: map[string][]byte{}, parts: map[string]map[int][]byte{},
	}
	_, _ = rand.Read(s.secret) // never fails
	var err error
	if s.hub, s.hubURL, err = s.listen(opt.Addr, false); err != nil {
		return nil, err
	}
	if s.storage, s.blobURL, err = s.listen(opt.StorageAddr, true); err != nil {
		_ = s.hub.Close()
		return nil, err
	}
	if opt.CDN != "" {
		s.blobURL = strings.TrimSuffix(opt.CDN, "/")
	}
	return s, nil
}

func (s *Server) listen(addr string, storage bool) (*http.Server, string, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("hubtest: %w", err)
	}
	handler := s.serveHub
	if storage {
		handler = s.serveStorage
	}
	srv := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, storage, handler) }),
	}
	go func() { _ = srv.Serve(l) }() // ends with Close
	return srv, "http://" + l.Addr().String(), nil
}

// Close stops the server at once.
func (s *Server) Close() error { return errors.Join(s.hub.Close(), s.storage.Close()) }

// URL is the Hub's endpoint.
func (s *Server) URL() string { return s.hubURL }

// StorageURL is where large files lie, another host as far as clients can tell.
func (s *Server) StorageURL() string { return s.blobURL }

// AddToken makes a token known.
func (s *Server) AddToken(token string, a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[token] = a
}

// SetFault has fn asked before every request, at both hosts; nil is a server without faults.
func (s *Server) SetFault(fn func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fn
}

// Expire makes every signed address that was handed out so far worthless.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
}

// Requests returns the journal so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.journal...)
}

// countingBody counts what was sent.
type countingBody struct {
	io.ReadCloser
	n int64
}

func (c *countingBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// serve journals a request, lets its fault happen and answers it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, storage bool, handler http.HandlerFunc) {
	body := &countingBody{ReadCloser: r.Body}
	r.Body = body
	entry := Request{Storage: storage, Method: r.Method, Path: r.URL.EscapedPath(), Token: tokenOf(r), Range: r.Header.Get("Range")}
	s.mu.Lock()
	fn := s.fault
	s.mu.Unlock()
	var f Fault
	if fn != nil {
		f = fn(r)
	}
	note := func() { // before the client knows of an answer
		entry.Body = body.n
		s.mu.Lock()
		defer s.mu.Unlock()
		s.journal = append(s.journal, entry)
	}
	time.Sleep(f.Delay)
	switch {
	case f.Drop:
		note()
		drop(w)
		return
	case f.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		for k, v := range f.Header {
			w.Header()[k] = v
		}
		entry.Status = f.Status
		note()
		fail(w, f.Status, f.Code, "a fault was asked for")
		return
	}
	rec := httptest.NewRecorder()
	handler(rec, r)
	if f.Lose {
		note()
		drop(w)
		return
	}
	entry.Status = rec.Code
	note()
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	out := rec.Body.Bytes()
	if r.Method != http.MethodHead && w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	}
	w.WriteHeader(rec.Code)
	if f.Cut > 0 && f.Cut < len(out) {
		_, _ = w.Write(out[:f.Cut])
		_ = http.NewResponseController(w).Flush()
		drop(w)
		return
	}
	_, _ = w.Write(out)
}

// drop breaks the connection.
func drop(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

func tokenOf(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"error\":%q}", message)
}

// sign makes an address at the storage host (or, for the end of an upload in parts, at the Hub) good for a while.
func (s *Server) sign(base, path string) string {
	return fmt.Sprintf("%s%s?Signature=%s", base, path, s.signature(path, s.generation))
}

func (s *Server) signature(path string, generation int) string {
	h := hmac.New(sha256.New, s.secret)
	fmt.Fprintf(h, "%d %s", generation, path)
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Server) signed(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return hmac.Equal([]byte(r.URL.Query().Get("Signature")), []byte(s.signature(r.URL.Path, s.generation)))
}

// serveStorage answers for the storage host: signed addresses only, and nobody's token.
func (s *Server) serveStorage(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		fail(w, http.StatusBadRequest, "", "only one auth mechanism allowed")
		return
	}
	if !s.signed(r) {
		fail(w, http.StatusForbidden, "", "request has expired")
		return
	}
	seg := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case seg[0] == "blob" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		s.mu.Lock()
		content, ok := s.objects[seg[1]]
		s.mu.Unlock()
		if !ok {
			fail(w, http.StatusNotFound, "", "no such key")
			return
		}
		w.Header().Set("ETag", `"`+seg[1]+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	case seg[0] == "put" && r.Method == http.MethodPut:
		s.put(w, r, seg[1])
	case seg[0] == "part" && r.Method == http.MethodPut:
		s.putPart(w, r, seg[1], seg[2])
	default:
		fail(w, http.StatusMethodNotAllowed, "", "method not allowed")
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, oid string) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // broken off: nothing is stored
		fail(w, http.StatusBadRequest, "", "the content was broken off")
		return
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != oid {
		fail(w, http.StatusBadRequest, "", "the content does not match its digest")
		return
	}
	s.mu.Lock()
	s.objects[oid] = body
	s.mu.Unlock()
	w.Header().Set("ETag", `"`+oid[:32]+`"`)
}

func (s *Server) putPart(w http.ResponseWriter, r *http.Request, upload, number string) {
	body, err := io.ReadAll(r.Body)
	n, bad := strconv.Atoi(number)
	if err != nil || bad != nil {
		fail(w, http.StatusBadRequest, "", "the part was broken off")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[upload] == nil {
		s.parts[upload] = map[int][]byte{}
	}
	s.parts[upload][n] = body
	sum := sha256.Sum256(body)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
}
