// Package runs starts, watches and steers runs: what the starter does for a person, for any program.
//
// A run is a workflow in Temporal and a record in S3 under runs/<name>/. The record outlives the workflow.
package runs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/workflows"
)

// Deadlines of single requests. Nothing here waits for ever.
const (
	shortCall  = 10 * time.Second // a look at something
	updateCall = 30 * time.Second // an update: a worker must answer
	objectCall = time.Minute      // one small object

	slowAfter = 3 * time.Second // a wait for a worker of which people are told
)

// ErrNotFound says that there is no such run, or nothing yet of what was asked of it.
var ErrNotFound = errors.New("not found")

// UnreachableError says that Temporal, its workers or S3 did not answer, and what to try.
type UnreachableError struct {
	What string // Temporal at localhost:7233, s3://bucket …
	Try  string
	Err  error
}

// Error returns what did not answer, why, and the way out.
func (e *UnreachableError) Error() string {
	text := fmt.Sprintf("cannot reach %s: %s", e.What, strings.TrimRight(e.Err.Error(), ". "))
	if strings.Contains(text, "Try: ") {
		return text // whoever knew more has said it
	}
	return text + ". Try: " + e.Try
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// ConflictError says that a request does not fit what is there already, and what to try.
type ConflictError struct{ What, Try string }

// Error returns what does not fit, and the way out.
func (e *ConflictError) Error() string { return e.What + ". Try: " + e.Try }

// Client reaches the two places where runs live. Its fields may be set by hand, in tests as well.
type Client struct {
	Store     *blob.Store
	Temporal  client.Client
	Address   string // of Temporal, for messages
	Namespace string
	Queue     string // prefix of the task queues
	UI        string // address of the Web UI, or ""
	Endpoint  string // of S3, for messages; "" is AWS
	Settings  string // file of the worker's settings, for messages; "" is worker.yaml
	// Slow, where set, is told from another goroutine what has not answered for some seconds: once of S3, once an update of workers.
	Slow     func(waiting string)
	toldSlow sync.Once
	unsent   bool // uploads only tell the address that they would have
}

// Connect returns a client for the places that the worker's settings name. It makes no request: what is not there shows in
// Preflight or the first use. Empty settings of Temporal come from its standard environment variables and profile.
func Connect(ctx context.Context, w config.Worker) (*Client, error) {
	c := &Client{Queue: w.Temporal.Queue, UI: w.Temporal.UI, Endpoint: w.Store.Endpoint}
	store, err := blob.OpenTelling(ctx, blob.Config(w.Store), c.storeSlow)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{ConfigFileProfile: w.Temporal.Profile})
	if err != nil {
		return nil, fmt.Errorf("read Temporal's environment and profile: %w", err)
	}
	if w.Temporal.Address != "" {
		options.HostPort = w.Temporal.Address
	}
	if w.Temporal.Namespace != "" {
		options.Namespace = w.Temporal.Namespace
	}
	if options.HostPort == "" {
		options.HostPort = client.DefaultHostPort
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	options.Logger = log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	options.Identity = identity()
	lazy, err := client.NewLazyClient(options)
	if err != nil {
		return nil, fmt.Errorf("connect to Temporal: %w", err)
	}
	c.Store, c.Temporal, c.Address, c.Namespace = store, lazy, options.HostPort, options.Namespace
	return c, nil
}

// storeSlow tells that the bucket does not answer.
func (c *Client) storeSlow() {
	if c.Slow == nil {
		return
	}
	what := "s3://" + c.Store.Bucket()
	if c.Endpoint != "" {
		what += " at " + c.Endpoint
	}
	c.toldSlow.Do(func() {
		c.Slow(fmt.Sprintf("waiting for %s, which does not answer; trying for up to a minute", what))
	})
}

// Close releases the connection to Temporal.
func (c *Client) Close() {
	if c.Temporal != nil {
		c.Temporal.Close()
	}
}

// identity names who steers, for the history of a run.
func identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	user := os.Getenv("USER")
	if user == "" {
		user = "starter"
	}
	return user + "@" + host
}

// Keys of a run's record.
func recordKey(run string) string { return "runs/" + run + "/" + workflows.RecordRun }
func statusKey(run string) string { return "runs/" + run + "/" + workflows.RecordStatus }
func stateDir(run string) string  { return "runs/" + run + "/" + workflows.RecordState + "/" }
func reportKey(run string) string { return "runs/" + run + "/report.html" }

// getJSON reads a small JSON object. Errors: ErrNotFound, UnreachableError.
func (c *Client) getJSON(ctx context.Context, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	body, err := c.Store.Get(ctx, key)
	if err != nil {
		return c.storeError(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read %s: %w", c.Store.URI(key), err)
	}
	return nil
}

// storeError says which kind of error of the store this is.
func (c *Client) storeError(err error) error {
	switch {
	case err == nil, errors.Is(err, blob.ErrExists), errors.Is(err, blob.ErrChanged), errors.Is(err, blob.ErrTooLarge), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, blob.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	default:
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer in time: %w", context.DeadlineExceeded)
		}
		return &UnreachableError{What: "s3://" + c.Store.Bucket(), Err: err, Try: "check store in the worker's settings, and that its keys are exported"}
	}
}

// temporalError says which kind of error of Temporal this is; run is the run that was asked for.
func (c *Client) temporalError(run string, err error) error {
	var (
		notFound    *serviceerror.NotFound
		namespace   *serviceerror.NamespaceNotFound
		denied      *serviceerror.PermissionDenied
		unavailable *serviceerror.Unavailable
		deadline    *serviceerror.DeadlineExceeded
	)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &namespace):
		return &UnreachableError{What: "Temporal's namespace " + c.Namespace + " at " + c.Address, Err: err, Try: "temporal operator namespace create -n " + c.Namespace}
	case errors.As(err, &notFound):
		return fmt.Errorf("run %s: %w in Temporal's namespace %s", run, ErrNotFound, c.Namespace)
	case errors.As(err, &denied):
		return &UnreachableError{What: "Temporal at " + c.Address, Err: err, Try: "check the API key or certificate in Temporal's environment variables or profile"}
	case errors.As(err, &unavailable), errors.As(err, &deadline), errors.Is(err, context.DeadlineExceeded):
		return &UnreachableError{What: "Temporal at " + c.Address, Err: err, Try: "check temporal.address in the worker's settings or TEMPORAL_ADDRESS, and that the service runs"}
	default:
		return err
	}
}
