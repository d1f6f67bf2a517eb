// Package trainfile reads training files of chat messages, so that a mistake is found before a byte is sent or paid for.
package trainfile

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

// maxLine bounds one training example in bytes.
const maxLine = 16 << 20

// maxMistakes is how many broken lines an error names.
const maxMistakes = 5

// Stats is what a training file holds.
type Stats struct {
	Size     int64 // of the file, in bytes
	Examples int64
	Bytes    int64 // of all lines
}

// bytesPerToken is few: English has about four bytes a token, other scripts and code fewer, and the quotes and names of the
// JSON around them make up for more. An estimate of a price should rather be too high.
const bytesPerToken = 3

// Tokens estimates from above how many tokens one pass over the file trains on.
func (s Stats) Tokens() int64 { return s.Bytes / bytesPerToken }

// TokensOf estimates from above how many tokens a job trains on with this file.
func (s Stats) TokensOf(job finetune.Job) int64 {
	return int64(math.Ceil(float64(s.Tokens()) * max(1, job.Hyper.Passes(job.Examples))))
}

// Inspect checks a job's training file, and its validation file where it has one.
func Inspect(ctx context.Context, store *blob.Store, job finetune.Job, maxFile int64) (training, validation Stats, err error) {
	training, err = inspect(ctx, store, job.Training, maxFile)
	if err == nil && job.Examples > 0 && training.Examples != job.Examples {
		err = &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_training_file", Message: fmt.Sprintf("%d examples, the job speaks of %d", training.Examples, job.Examples)}
	}
	if err == nil && job.Validation != "" {
		if validation, err = inspect(ctx, store, job.Validation, maxFile); err != nil {
			err = fmt.Errorf("validation file: %w", err)
		}
	}
	return training, validation, err
}

func inspect(ctx context.Context, store *blob.Store, key string, maxFile int64) (Stats, error) {
	info, err := store.Stat(ctx, key)
	if err != nil {
		return Stats{}, StoreError("training file", err)
	}
	if maxFile > 0 && info.Size > maxFile {
		return Stats{}, &finetune.Error{Class: finetune.ClassPermanent, Code: "file_too_large", Message: fmt.Sprintf("the training file has %d bytes, the provider takes %d", info.Size, maxFile)}
	}
	src, err := store.Stream(ctx, key)
	if err != nil {
		return Stats{}, StoreError("training file", err)
	}
	found, err := Check(src)
	if closeErr := src.Close(); err == nil && closeErr != nil {
		return Stats{}, StoreError("training file", closeErr)
	}
	var e *finetune.Error
	if err != nil && !errors.As(err, &e) {
		return Stats{}, StoreError("training file", err)
	}
	found.Size = info.Size
	return found, err
}

// Afford refuses a job whose estimated price is above what it may cost.
func Afford(job finetune.Job, microUSD int64, how string) error {
	if job.MaxMicroUSD == nil || microUSD <= *job.MaxMicroUSD {
		return nil
	}
	return &finetune.Error{Class: finetune.ClassBudget, Code: "over_budget", Message: fmt.Sprintf(
		"training would cost about $%.2f (%s), $%.2f are left", float64(microUSD)/1e6, how, float64(*job.MaxMicroUSD)/1e6)}
}

// Check reads a training file of chat examples and returns what it holds. What is wrong with it is a permanent
// *finetune.Error that names the first lines; errors of r are returned as they are.
func Check(r io.Reader) (Stats, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var found Stats
	var line int64
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
			return Stats{}, err
		}
		if len(bytes.TrimSpace(raw)) == 0 {
			wrong = append(wrong, fmt.Sprintf("line %d: empty", line))
			continue
		}
		if why := mistake(raw); why != "" {
			wrong = append(wrong, fmt.Sprintf("line %d: %s", line, why))
			continue
		}
		found.Examples++
		found.Bytes += int64(len(raw))
	}
	if len(wrong) == 0 && found.Examples == 0 {
		wrong = append(wrong, "no examples")
	}
	if len(wrong) > 0 {
		return Stats{}, &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_training_file", Message: strings.Join(wrong, "; ")}
	}
	return found, nil
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

type framed struct {
	io.Reader
	io.Closer
}

// request returns the request that uploads the object under key as a multipart form with the given fields before it; the
// caller sets the path and where the answer goes.
func (s Shelf) request(key string, size int64, name string, fields [][2]string) rest.Request {
	head, tail, kind := form(name, fields)
	return rest.Request{
		Method: http.MethodPost, StreamType: kind, StreamSize: int64(len(head)) + size + int64(len(tail)),
		Stream: func(ctx context.Context) (io.ReadCloser, error) {
			src, err := s.Store.Stream(ctx, key)
			if err != nil {
				return nil, StoreError("training file", err)
			}
			return &framed{Reader: io.MultiReader(bytes.NewReader(head), src, bytes.NewReader(tail)), Closer: src}, nil
		},
	}
}

// PriceOf returns the price of a model: the one under its own name, else under the longest name ending in * that covers it.
func PriceOf(prices map[string]float64, model string) (float64, bool) {
	if p, ok := prices[model]; ok {
		return p, true
	}
	best, found := "", false
	for name := range prices {
		if stem, ok := strings.CutSuffix(name, "*"); ok && strings.HasPrefix(model, stem) && (!found || len(name) > len(best)) {
			best, found = name, true
		}
	}
	return prices[best], found
}

// form returns what stands before and after the file in a multipart body, so that the body's length is known
// without holding it.
func form(name string, fields [][2]string) (head, tail []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	// Writes to a bytes.Buffer do not fail.
	for _, f := range fields {
		_ = w.WriteField(f[0], f[1])
	}
	_, _ = w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + name + `"`},
		"Content-Type":        {"application/jsonl"},
	})
	n := b.Len()
	_ = w.Close()
	whole := b.Bytes()
	return whole[:n:n], whole[n:], w.FormDataContentType()
}

// StoreError is a blob store's error as a trainer's.
func StoreError(what string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	class := finetune.ClassPassing
	if errors.Is(err, blob.ErrNotFound) {
		class = finetune.ClassPermanent
	}
	return &finetune.Error{Class: class, Message: what, Err: err}
}
