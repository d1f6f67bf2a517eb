package batch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"time"

	"github.com/selfalign/selfalign/internal/llm"
)

// Job is a batch to be made.
type Job struct {
	Key   string // at most 64 characters of [A-Za-z0-9_-]; a batch is made once under it
	Path  string // of the API that the lines are for: llm.Client.Path
	Size  int64  // bytes of all lines
	Lines iter.Seq2[[]byte, error]
	// First says that nothing was ever sent under the key, so that nothing needs to be looked for.
	First bool
	// Since is when something was first sent under the key at the earliest; zero: not known.
	Since time.Time
}

// Submit makes the batch unless one stands under the key, and returns it. A request whose reply was lost is looked for
// before it is repeated, at the cost of a listing; of two batches that crossed each other the older one stands and the
// other is cancelled. Lines are streamed, and may be gone through several times.
func (c *Client) Submit(ctx context.Context, job Job) (Status, error) {
	if !job.First {
		if s, found, err := c.Find(ctx, job.Key, job.Since); err != nil || found {
			return s, err
		}
	}
	file, err := c.upload(ctx, job)
	if err != nil {
		return Status{}, fmt.Errorf("upload batch %s: %w", job.Key, err)
	}
	s, err := c.create(ctx, job, file)
	if err != nil {
		return Status{}, fmt.Errorf("make batch %s: %w", job.Key, err)
	}
	return s, nil
}

func (c *Client) create(ctx context.Context, job Job, file string) (Status, error) {
	body := map[string]any{
		"input_file_id": file, "endpoint": job.Path, "completion_window": "24h", "metadata": map[string]string{MetadataKey: job.Key},
	}
	for attempt := 1; ; attempt++ {
		var made wireBatch
		err := c.once(ctx, request{method: http.MethodPost, path: "/batches", body: body, into: &made})
		if err == nil && made.ID == "" {
			err = &llm.Error{Class: llm.ClassPassing, Code: llm.CodeInvalidReply, Message: errNoID.Error()}
		}
		if err == nil {
			return c.settle(ctx, job, c.status(made), attempt > 1)
		}
		if err = c.pause(ctx, attempt, err); err != nil {
			return Status{}, err
		}
		if s, found, err := c.Find(ctx, job.Key, job.Since); err != nil || found {
			return s, err
		}
	}
}

// settle makes two submissions of one key that crossed each other agree on one and stops the other.
func (c *Client) settle(ctx context.Context, job Job, made Status, again bool) (Status, error) {
	if job.First && !again {
		return made, nil
	}
	first, found, err := c.Find(ctx, job.Key, job.Since)
	if err != nil || !found || first.ID == made.ID {
		return made, nil //nolint:nilerr // the batch is made; not being able to look for a twin must not hide it
	}
	if err := c.Cancel(ctx, made.ID); err != nil {
		return Status{}, fmt.Errorf("stop the twin %s of %s: %w", made.ID, first.ID, err)
	}
	return first, nil
}

// Find returns the batch that stands under a key. One that runs or was done goes before one that was refused or
// cancelled; of equals the oldest, so that all who look agree. Endpoints list the newest first, so of two made in one
// second the one further down is older.
func (c *Client) Find(ctx context.Context, key string, since time.Time) (Status, bool, error) {
	var best Status
	found := false
	rank := func(s Status) int {
		if s.State == StateFailed || s.State == StateCancelled || s.Said == SaidCancelling {
			return 1
		}
		return 0
	}
	err := pages(ctx, c, "/batches", nil, since, func(b wireBatch) bool {
		if b.Metadata[MetadataKey] != key {
			return true
		}
		s := c.status(b)
		if !found || rank(s) < rank(best) || (rank(s) == rank(best) && !s.Created.After(best.Created)) {
			best, found = s, true
		}
		return true
	})
	if err != nil {
		return Status{}, false, fmt.Errorf("look for batch %s: %w", key, err)
	}
	return best, found, nil
}

// Status looks at a batch. One that the endpoint does not know is an error of llm.ClassNotFound.
func (c *Client) Status(ctx context.Context, id string) (Status, error) {
	var b wireBatch
	err := c.do(ctx, request{method: http.MethodGet, path: "/batches/" + url.PathEscape(id), into: &b})
	if err == nil && b.ID != id {
		err = &llm.Error{Class: llm.ClassPassing, Code: llm.CodeInvalidReply, Message: "the answer is not the batch asked for"}
	}
	if err != nil {
		return Status{}, fmt.Errorf("look at batch %s: %w", id, err)
	}
	return c.status(b), nil
}

// Check asks whether the endpoint has the Batch API and accepts the key.
func (c *Client) Check(ctx context.Context) error {
	var p page[wireBatch]
	if err := c.do(ctx, request{method: http.MethodGet, path: "/batches", query: url.Values{"limit": {"1"}}, into: &p}); err != nil {
		return fmt.Errorf("list batches: %w", err)
	}
	return nil
}

// Cancel stops a batch. What was done is paid and can be harvested. A batch that is over is left alone.
func (c *Client) Cancel(ctx context.Context, id string) error {
	err := c.do(ctx, request{method: http.MethodPost, path: "/batches/" + url.PathEscape(id) + "/cancel"})
	if err == nil {
		return nil
	}
	if s, lookErr := c.Status(ctx, id); lookErr == nil && (s.Over() || s.Said == SaidCancelling) {
		return nil
	}
	return fmt.Errorf("cancel batch %s: %w", id, err)
}

// Forget removes the input file of a batch whose answers are safe. Endpoints remove the other files by themselves.
func (c *Client) Forget(ctx context.Context, s Status) error {
	if s.Input == "" {
		return nil
	}
	return c.do(ctx, request{method: http.MethodDelete, path: "/files/" + url.PathEscape(s.Input)})
}

type wireFile struct {
	ID       string  `json:"id"`
	Bytes    int64   `json:"bytes"`
	Created  float64 `json:"created_at"`
	Filename string  `json:"filename"`
	Purpose  string  `json:"purpose"`
	Status   string  `json:"status"`
}

func (f wireFile) ident() string      { return f.ID }
func (f wireFile) createdAt() float64 { return f.Created }

// upload returns the input file of the batch: one that lies there whole under the batch's name, else a new one.
func (c *Client) upload(ctx context.Context, job Job) (string, error) {
	name := job.Key + ".jsonl"
	head, tail, kind := form(name)
	for attempt := 1; ; attempt++ {
		if !job.First || attempt > 1 {
			standing, err := c.findFile(ctx, name, job)
			if err != nil || standing != "" {
				return standing, err
			}
		}
		var made wireFile
		var lines *lineReader
		err := c.once(ctx, request{
			method: http.MethodPost, path: "/files", into: &made, kind: kind, size: int64(len(head)) + job.Size + int64(len(tail)),
			stream: func() io.ReadCloser {
				lines = newLineReader(job.Lines)
				return &framed{io.MultiReader(bytes.NewReader(head), lines, bytes.NewReader(tail)), lines}
			},
		})
		if lines != nil && lines.failure() != nil {
			return "", lines.failure()
		}
		if err == nil && made.ID == "" {
			err = &llm.Error{Class: llm.ClassPassing, Code: llm.CodeInvalidReply, Message: errNoID.Error()}
		}
		if err == nil {
			return made.ID, nil
		}
		if err = c.pause(ctx, attempt, err); err != nil {
			return "", err
		}
	}
}

// findFile returns the newest whole file of this name, or "". Endpoints without a listing of files have none.
func (c *Client) findFile(ctx context.Context, name string, job Job) (string, error) {
	var best wireFile
	err := pages(ctx, c, "/files", url.Values{"purpose": {"batch"}}, job.Since, func(f wireFile) bool {
		whole := f.Bytes == job.Size || f.Bytes == 0 // 0: an endpoint that does not tell
		usable := f.Status != "error" && f.Status != "deleted"
		if f.Filename == name && whole && usable && (best.ID == "" || f.Created > best.Created) {
			best = f
		}
		return true
	})
	var e *llm.Error
	if errors.As(err, &e) && e.Class == llm.ClassNotFound {
		return "", nil
	}
	return best.ID, err
}

// form returns what stands before and after the file in a multipart body, so that the body's length is known without
// holding it.
func form(name string) (head, tail []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	// Writes to a bytes.Buffer do not fail.
	_ = w.WriteField("purpose", "batch")
	_, _ = w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`},
		"Content-Type":        {"application/jsonl"},
	})
	n := b.Len()
	_ = w.Close()
	whole := b.Bytes()
	return whole[:n:n], whole[n:], w.FormDataContentType()
}

type framed struct {
	io.Reader
	io.Closer
}
