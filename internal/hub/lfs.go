package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	filesPerCall = 256     // of preupload and LFS batch
	maxParts     = 100_000 // of one multipart upload
)

// lfsAction is where and how the Hub wants a step of an upload done.
type lfsAction struct {
	Href   string `json:"href"`
	Header texts  `json:"header"`
}

// lfsObject is the Hub's answer for one object: no actions when it has the content already.
type lfsObject struct {
	OID     string `json:"oid"`
	Size    int64  `json:"size"`
	Actions *struct {
		Upload *lfsAction `json:"upload"`
		Verify *lfsAction `json:"verify"`
	} `json:"actions"`
	Error *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// texts is a JSON object of strings; numbers are taken for strings.
type texts map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(b []byte) error {
	var raw map[string]any
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*t = texts{}
	for k, v := range raw {
		switch v := v.(type) {
		case string:
			(*t)[k] = v
		case float64:
			(*t)[k] = strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return nil
}

var lfsHeader = http.Header{
	"Accept":       {"application/vnd.git-lfs+json"},
	"Content-Type": {"application/vnd.git-lfs+json"},
}

// sendLarge uploads content to large file storage, several files at once. What the Hub has already is not sent again:
// so a push that was broken off goes on where it stopped.
func (c *Client) sendLarge(ctx context.Context, p *Push, files []Upload) error {
	unique := make([]Upload, 0, len(files))
	seen := map[string]bool{}
	for _, f := range files {
		if !seen[f.SHA256] {
			seen[f.SHA256] = true
			unique = append(unique, f)
		}
	}
	state := Progress{Files: len(unique)}
	for _, f := range unique {
		state.Bytes += f.Size
	}
	var mu sync.Mutex
	note := func(f Upload) {
		mu.Lock()
		defer mu.Unlock()
		state.FilesDone++
		state.BytesDone += f.Size
		p.Progress(state)
	}
	for len(unique) > 0 {
		n := min(len(unique), filesPerCall)
		batch := unique[:n]
		unique = unique[n:]
		objects, err := c.batch(ctx, p, batch)
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(c.opt.Parallel)
		for i, f := range batch {
			g.Go(func() error {
				if err := c.sendOne(gctx, p, f, objects[i]); err != nil {
					return fmt.Errorf("upload %s: %w", f.Path, err)
				}
				note(f)
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// batch asks how the objects are to be uploaded; the answers come in the order of files.
func (c *Client) batch(ctx context.Context, p *Push, files []Upload) ([]lfsObject, error) {
	type object struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	}
	in := struct {
		Operation string            `json:"operation"`
		Transfers []string          `json:"transfers"`
		Objects   []object          `json:"objects"`
		HashAlgo  string            `json:"hash_algo"`
		Ref       map[string]string `json:"ref"`
	}{"upload", []string{"basic", "multipart"}, nil, "sha256", map[string]string{"name": p.branch()}}
	for _, f := range files {
		in.Objects = append(in.Objects, object{f.SHA256, f.Size})
	}
	var out struct {
		Objects []lfsObject `json:"objects"`
	}
	op := "ask where to upload to " + p.Repo.String()
	u := c.join(append([]string{"datasets"}, append(p.Repo.parts()[:len(p.Repo.parts())-1:len(p.Repo.parts())-1], p.Repo.Name+".git", "info", "lfs", "objects", "batch")...))
	if err := c.post(ctx, op, p.Repo, u, lfsHeader, in, &out); err != nil {
		return nil, err
	}
	byOID := map[string]lfsObject{}
	for _, o := range out.Objects {
		byOID[o.OID] = o
	}
	answers := make([]lfsObject, len(files))
	for i, f := range files {
		o, ok := byOID[f.SHA256]
		switch {
		case !ok:
			return nil, &Error{Op: op, Kind: ErrProtocol, Message: "no answer for " + f.Path}
		case o.Error != nil:
			e := &Error{Op: op, Status: o.Error.Code, Message: f.Path + ": " + redact(o.Error.Message, c.opt.Token())}
			c.classify(e, p.Repo)
			return nil, e
		}
		answers[i] = o
	}
	return answers, nil
}

// sendOne brings one object to where the Hub wants it. A signed address that has expired is asked for anew.
func (c *Client) sendOne(ctx context.Context, p *Push, f Upload, o lfsObject) error {
	for try := 1; ; try++ {
		if o.Actions == nil || o.Actions.Upload == nil {
			return nil // it is there
		}
		err := c.transfer(ctx, p, f, o.Actions.Upload)
		if err == nil {
			break
		}
		var failed *Error
		stale := errors.As(err, &failed) && (failed.Status == 400 || failed.Status == 401 || failed.Status == 403 || failed.Status == 404 || failed.Status == 410)
		if !stale || try >= c.opt.Attempts {
			return err
		}
		if err := c.wait(ctx, try, failed); err != nil {
			return err
		}
		again, err := c.batch(ctx, p, []Upload{f})
		if err != nil {
			return err
		}
		o = again[0]
	}
	if o.Actions.Verify == nil {
		return nil
	}
	u, err := c.local(o.Actions.Verify.Href)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	header := http.Header{"Accept": lfsHeader["Accept"]}
	for k, v := range o.Actions.Verify.Header {
		header.Set(k, v)
	}
	return c.post(ctx, "verify the upload", p.Repo, u, header, map[string]any{"oid": f.SHA256, "size": f.Size}, nil)
}

func (c *Client) transfer(ctx context.Context, p *Push, f Upload, a *lfsAction) error {
	u, err := c.local(a.Href)
	if err != nil {
		return fmt.Errorf("the Hub named %w to upload to", err)
	}
	if a.Header["chunk_size"] != "" {
		return c.multipart(ctx, p, f, a, u)
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	for k, v := range a.Header {
		header.Set(k, v)
	}
	_, err = c.put(ctx, p, f, u, header, 0, f.Size)
	return err
}

// put sends a part of the content and returns the answer's headers. A part that is the whole file is held against the
// file's digest before its last byte leaves.
func (c *Client) put(ctx context.Context, p *Push, f Upload, u *url.URL, header http.Header, off, n int64) (http.Header, error) {
	var release atomic.Pointer[func()]
	defer func() {
		if done := release.Load(); done != nil {
			(*done)()
		}
	}()
	body := func() (io.Reader, error) {
		r, done, err := f.section(ctx, off, n)
		if err != nil {
			return nil, err
		}
		if old := release.Swap(&done); old != nil {
			(*old)()
		}
		if n == f.Size {
			r = &hashed{r: r, left: n, h: sha256.New(), want: f.SHA256}
		}
		return r, nil
	}
	return c.json(ctx, call{op: "send the content", repo: p.Repo, method: http.MethodPut, url: u, header: header, body: body, size: n}, nil)
}

// hashed passes bytes on while it digests them, and fails at the end if they are others than announced.
type hashed struct {
	r    io.Reader
	left int64
	h    hash.Hash
	want string
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.h.Write(p[:n])
	if h.left -= int64(n); h.left <= 0 && n > 0 && hex.EncodeToString(h.h.Sum(nil)) != h.want {
		return 0, errChanged
	}
	return n, err
}

// multipart sends the parts of a large file one after another (files go in parallel) and asks for their assembly.
func (c *Client) multipart(ctx context.Context, p *Push, f Upload, a *lfsAction, done *url.URL) error {
	chunk, err := strconv.ParseInt(a.Header["chunk_size"], 10, 64)
	if err != nil || chunk <= 0 {
		return fmt.Errorf("the Hub asks for parts of %.20q bytes", a.Header["chunk_size"])
	}
	parts := (f.Size + chunk - 1) / chunk
	if parts > maxParts {
		return fmt.Errorf("the Hub asks for %d parts", parts)
	}
	type part struct {
		Number int64  `json:"partNumber"`
		ETag   string `json:"etag"`
	}
	out := struct {
		OID   string `json:"oid"`
		Parts []part `json:"parts"`
	}{OID: f.SHA256}
	named := map[int64]string{}
	for k, v := range a.Header {
		if n, err := strconv.ParseInt(k, 10, 64); err == nil { // numbers may have leading zeros
			named[n] = v
		}
	}
	for n := int64(1); n <= parts; n++ {
		u, err := c.local(named[n])
		if err != nil || named[n] == "" {
			return fmt.Errorf("the Hub names no address for part %d of %d", n, parts)
		}
		off := (n - 1) * chunk
		h, err := c.put(ctx, p, f, u, nil, off, min(chunk, f.Size-off))
		if err != nil {
			return fmt.Errorf("part %d of %d: %w", n, parts, err)
		}
		tag := h.Get("ETag")
		if tag == "" {
			return fmt.Errorf("part %d of %d: no ETag came back", n, parts)
		}
		out.Parts = append(out.Parts, part{n, tag})
	}
	return c.post(ctx, "put the parts together", p.Repo, done, lfsHeader, out, nil)
}
