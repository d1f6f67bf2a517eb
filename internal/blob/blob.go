// Package blob keeps immutable objects in S3 and says for certain who wrote one first.
package blob

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What callers tell apart. Every method wraps them with the operation and the object's URI.
var (
	ErrNotFound = errors.New("object not found")
	ErrExists   = errors.New("object exists already")
	ErrChanged  = errors.New("object changed while it was read")
	ErrTooLarge = errors.New("object too large to be read at once")
)

const (
	// MaxGet is the largest object, in bytes, that Get reads into memory.
	MaxGet = 256 << 20

	attempts       = 8                // per request, with the first one
	maxBackoff     = 10 * time.Second // between two attempts
	idleConns      = 256              // kept open to the endpoint: one a partition in work, with room
	headerTimeout  = 60 * time.Second // from the last byte sent to the first byte of the answer
	connectTimeout = 5 * time.Second
)

// Config says where objects live. The zero value of everything but Bucket is usable.
type Config struct {
	Bucket    string
	Prefix    string // put before every key, without slashes at its ends; "" is the bucket's root
	Endpoint  string // base URL of a store other than AWS, such as http://127.0.0.1:9000; "" is AWS
	Region    string // "" takes what the AWS environment says, else us-east-1
	PathStyle bool   // http://host/bucket/key instead of http://bucket.host/key

	// Names of the environment variables that hold the credentials. Both empty: the AWS default chain
	// (environment, shared files, container and instance roles).
	AccessKeyEnv string
	SecretKeyEnv string
}

// Store reads and writes the objects below one prefix of one bucket. It is safe for concurrent use.
//
// Keys are slash-separated, without a slash at either end and without empty, "." and ".." elements. No key may
// be a "folder" of another (a and a/b): stores that keep objects as files cannot hold both.
type Store struct {
	client *s3.Client
	bucket string
	prefix string // "" or ends with a slash
}

// Open returns the store that cfg describes. It makes no request: a wrong endpoint, bucket or key shows in Check.
func Open(ctx context.Context, cfg Config) (*Store, error) { return OpenTelling(ctx, cfg, nil) }

// OpenTelling is Open with a function that is called, from another goroutine, whenever the store has not answered an operation
// for some seconds. The operation goes on: it is repeated for up to a minute.
func OpenTelling(ctx context.Context, cfg Config, slow func()) (*Store, error) {
	if cfg.Bucket == "" {
		return nil, errors.New("open store: no bucket given")
	}
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("open store: endpoint %q is not a URL such as https://s3.example.com", cfg.Endpoint)
		}
	}
	prefix := strings.Trim(cfg.Prefix, "/")
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, fmt.Errorf("open store: prefix: %w", err)
		}
		prefix += "/"
	}
	load, err := loadOptions(cfg)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	base, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open store: read AWS settings: %w", err)
	}
	if base.Region == "" {
		base.Region = "us-east-1"
	}
	client := s3.NewFromConfig(base, func(o *s3.Options) {
		o.UsePathStyle = cfg.PathStyle
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(strings.TrimRight(cfg.Endpoint, "/"))
		}
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
		o.DisableLogOutputChecksumValidationSkipped = true
		if slow != nil {
			o.APIOptions = append(o.APIOptions, tellSlow(slow))
		}
	})
	return &Store{client: client, bucket: cfg.Bucket, prefix: prefix}, nil
}

func loadOptions(cfg Config) ([]func(*config.LoadOptions) error, error) {
	client := awshttp.NewBuildableClient().
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = 2 * idleConns
			t.MaxIdleConnsPerHost = idleConns
			t.ResponseHeaderTimeout = headerTimeout
		}).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout })
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithRetryer(newRetryer),
	}
	if cfg.Region != "" {
		load = append(load, config.WithRegion(cfg.Region))
	}
	if cfg.AccessKeyEnv == "" && cfg.SecretKeyEnv == "" {
		return load, nil
	}
	access, err := fromEnv("access key", cfg.AccessKeyEnv)
	if err != nil {
		return nil, err
	}
	secret, err := fromEnv("secret key", cfg.SecretKeyEnv)
	if err != nil {
		return nil, err
	}
	return append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(access, secret, ""))), nil
}

func fromEnv(what, name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("no environment variable named for the %s (the other key has one). Try: name both, or neither", what)
	}
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("environment variable %s, which should hold the %s, is empty. Try: export %s=…", name, what, name)
	}
	return value, nil
}

// newRetryer retries what passes by itself. It is the only layer that repeats a request; a body that breaks off
// in the middle is continued by stream and Reader.
func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = maxBackoff
		o.RateLimiter = ratelimit.None
		// Two conditional puts met in AWS; the documented answer is to ask again.
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{
			Codes: map[string]struct{}{"ConditionalRequestConflict": {}, "OperationAborted": {}},
		})
	})
}

// Bucket returns the bucket's name.
func (s *Store) Bucket() string { return s.bucket }

// URI returns the object's address as s3://bucket/prefix/key.
func (s *Store) URI(key string) string { return "s3://" + s.bucket + "/" + s.prefix + key }

// full returns the key in the bucket.
func (s *Store) full(key string) (*string, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	return aws.String(s.prefix + key), nil
}

func checkKey(key string) error {
	if len(key) > 900 {
		return fmt.Errorf("key of %d bytes is longer than 900", len(key))
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element == "." || element == ".." {
			return fmt.Errorf("key %q has an empty, \".\" or \"..\" element", key)
		}
	}
	return nil
}

// wrap adds the operation and turns S3's ways of saying "not there" and "there already" into our errors.
func (s *Store) wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case statusOf(err) == http.StatusNotFound && codeOf(err) != "NoSuchBucket":
		err = ErrNotFound
	case statusOf(err) == http.StatusPreconditionFailed:
		err = ErrChanged
	}
	return fmt.Errorf("%s %s: %w", op, s.URI(key), plain(err))
}

// plainError is an error of the SDK in the words of the store, without those of the SDK.
type plainError struct {
	text string
	err  error
}

// plain returns err with the store's own code and message, or what the network said, in place of the SDK's sentence of
// operations, attempts and identifiers. What nobody but the store's people can explain keeps the identifier of the request.
func plain(err error) error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		text := strings.TrimSuffix(strings.TrimSuffix(api.ErrorCode()+": "+strings.TrimRight(api.ErrorMessage(), ". "), ": "), ": UnknownError")
		if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.HTTPStatusCode() >= http.StatusInternalServerError && answer.RequestID != "" {
			text += " (request " + answer.RequestID + ")"
		}
		return &plainError{text, err}
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return &plainError{u.Err.Error(), err}
	}
	return err
}

// Error returns the short text.
func (e *plainError) Error() string { return e.text }

// Unwrap returns the SDK's error.
func (e *plainError) Unwrap() error { return e.err }

func statusOf(err error) int {
	if re, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}

func codeOf(err error) string {
	if ae, ok := errors.AsType[smithy.APIError](err); ok {
		return ae.ErrorCode()
	}
	return ""
}
