package openai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
)

// maxLine bounds one training example in bytes.
const maxLine = 16 << 20

// maxMistakes is how many broken lines an error names.
const maxMistakes = 5

type wireFile struct {
	ID            string          `json:"id"`
	Bytes         int64           `json:"bytes"`
	CreatedAt     int64           `json:"created_at"`
	Filename      string          `json:"filename"`
	Purpose       string          `json:"purpose"`
	Status        string          `json:"status"`
	StatusDetails json.RawMessage `json:"status_details"`
}

// upload returns the provider's id of the training file: of the one that lies there under the job's name, else of
// a new one. The name follows from the key alone, so an upload whose reply was lost is found again.
func (b *Backend) upload(ctx context.Context, job finetune.Job) (string, error) {
	info, err := b.store.Stat(ctx, job.Training)
	if err != nil {
		return "", storeError("training file", err)
	}
	if info.Size > b.cfg.MaxFile {
		return "", &finetune.Error{Class: finetune.ClassPermanent, Code: "file_too_large", Message: fmt.Sprintf("the training file has %d bytes, the provider takes %d", info.Size, b.cfg.MaxFile)}
	}
	if err := b.check(ctx, job); err != nil {
		return "", err
	}
	name := job.Name() + ".jsonl"
	for attempt := 1; ; attempt++ {
		standing, err := b.findFile(ctx, name, info.Size)
		if err != nil {
			return "", fmt.Errorf("look for the training file: %w", err)
		}
		if standing != "" {
			return b.ready(ctx, standing)
		}
		var made wireFile
		head, tail, kind := form(name)
		err = b.once(ctx, request{
			method: http.MethodPost, path: "/files", into: &made, streamType: kind,
			streamSize: int64(len(head)) + info.Size + int64(len(tail)),
			stream: func(ctx context.Context) (io.ReadCloser, error) {
				src, err := b.store.Stream(ctx, job.Training)
				if err != nil {
					return nil, storeError("training file", err)
				}
				return &framed{Reader: io.MultiReader(bytes.NewReader(head), src, bytes.NewReader(tail)), Closer: src}, nil
			},
		})
		if err == nil && made.ID == "" {
			err = &finetune.Error{Class: finetune.ClassPermanent, Message: "the answer to an uploaded file has no id"}
		}
		if err == nil {
			return b.ready(ctx, made.ID)
		}
		if err = b.pause(ctx, attempt, err); err != nil {
			return "", fmt.Errorf("upload the training file: %w", err)
		}
	}
}

type framed struct {
	io.Reader
	io.Closer
}

// form returns what stands before and after the file in a multipart body, so that the body's length is known
// without holding it.
func form(name string) (head, tail []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	// Writes to a bytes.Buffer do not fail.
	_ = w.WriteField("purpose", "fine-tune")
	_, _ = w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`},
		"Content-Type":        {"application/jsonl"},
	})
	n := b.Len()
	_ = w.Close()
	whole := b.Bytes()
	return whole[:n:n], whole[n:], w.FormDataContentType()
}

// findFile returns the newest whole file of this name, or "". Providers without a listing of files have none.
func (b *Backend) findFile(ctx context.Context, name string, size int64) (string, error) {
	var best wireFile
	err := pages(ctx, b, "/files", func(f wireFile) bool {
		whole := f.Bytes == size || f.Bytes == 0 // 0: a provider that does not tell
		usable := f.Status != "error" && f.Status != "deleted"
		if f.Filename == name && whole && usable && (best.ID == "" || f.CreatedAt > best.CreatedAt) {
			best = f
		}
		return true
	})
	if finetune.ClassOf(err) == finetune.ClassNotFound {
		return "", nil
	}
	return best.ID, err
}

// ready waits until the provider has taken the file in. It does not wait for ever: making the job says the same,
// and a provider that cannot tell about its files needs no waiting.
func (b *Backend) ready(ctx context.Context, id string) (string, error) {
	for deadline := time.Now().Add(b.cfg.MaxBackoff); ; {
		var f wireFile
		err := b.do(ctx, request{method: http.MethodGet, path: "/files/" + url.PathEscape(id), into: &f})
		switch {
		case finetune.ClassOf(err) == finetune.ClassNotFound:
			return id, nil
		case err != nil:
			return "", fmt.Errorf("look at the training file: %w", err)
		case f.Status == "error":
			return "", &finetune.Error{Class: finetune.ClassPermanent, Code: "file_refused", Message: b.clean("the provider refused the training file: " + string(f.StatusDetails))}
		case f.Status != "pending" && f.Status != "running" && f.Status != "uploading":
			return id, nil
		case time.Now().After(deadline):
			return id, nil
		}
		timer := time.NewTimer(b.cfg.Backoff)
		select {
		case <-ctx.Done():
			timer.Stop()
			return "", ctx.Err()
		case <-timer.C:
		}
	}
}

// check reads the whole training file before any of it is sent: a mistake found by the provider an hour later
// costs that hour.
func (b *Backend) check(ctx context.Context, job finetune.Job) error {
	src, err := b.store.Stream(ctx, job.Training)
	if err != nil {
		return storeError("training file", err)
	}
	n, err := Check(src)
	if closeErr := src.Close(); err == nil && closeErr != nil {
		return storeError("training file", closeErr)
	}
	var e *finetune.Error
	if err != nil && !errors.As(err, &e) {
		return storeError("training file", err)
	}
	if err == nil && job.Examples > 0 && n != job.Examples {
		return &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_training_file", Message: fmt.Sprintf("%d examples, the job speaks of %d", n, job.Examples)}
	}
	return err
}

// Check reads a training file of chat examples and returns how many it holds. What is wrong with it is a permanent
// *finetune.Error that names the first lines; errors of r are returned as they are.
func Check(r io.Reader) (int64, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var examples, line int64
	var wrong []string
	for len(wrong) < maxMistakes {
		raw, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		line++
		if errors.Is(err, errLong) {
			wrong = append(wrong, fmt.Sprintf("line %d: more than %d bytes", line, maxLine))
			break // the rest of it is not read
		}
		if err != nil {
			return 0, err
		}
		if len(bytes.TrimSpace(raw)) == 0 {
			wrong = append(wrong, fmt.Sprintf("line %d: empty", line))
			continue
		}
		if why := mistake(raw); why != "" {
			wrong = append(wrong, fmt.Sprintf("line %d: %s", line, why))
			continue
		}
		examples++
	}
	if len(wrong) == 0 && examples == 0 {
		wrong = append(wrong, "no examples")
	}
	if len(wrong) > 0 {
		return 0, &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_training_file", Message: strings.Join(wrong, "; ")}
	}
	return examples, nil
}

var errLong = errors.New("line too long")

// readLine returns the next line without its end; io.EOF when there is none.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

// mistake says what is wrong with one example, or "".
func mistake(raw []byte) string {
	if !utf8.Valid(raw) {
		return "not UTF-8"
	}
	var ex struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(raw, &ex); err != nil {
		return "not a JSON object with messages: " + err.Error()
	}
	if len(ex.Messages) == 0 {
		return "no messages"
	}
	for i, m := range ex.Messages {
		switch m.Role {
		case "system", "user", "assistant", "developer":
		default:
			return fmt.Sprintf("message %d: role %.40q", i+1, m.Role)
		}
		var text string
		if json.Unmarshal(m.Content, &text) != nil || strings.TrimSpace(text) == "" {
			return fmt.Sprintf("message %d (%s): no text", i+1, m.Role)
		}
	}
	if last := ex.Messages[len(ex.Messages)-1].Role; last != "assistant" {
		return fmt.Sprintf("the last message is the %s's, there is nothing to learn", last)
	}
	return ""
}

// storeError is a blob store's error as a trainer's.
func storeError(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	class := finetune.ClassPassing
	if errors.Is(err, blob.ErrNotFound) {
		class = finetune.ClassPermanent
	}
	return &finetune.Error{Class: class, Message: what, Err: err}
}
