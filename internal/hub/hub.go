// Package hub reads datasets from a Hugging Face Hub at a pinned commit, and pushes datasets to it exactly once.
package hub

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultEndpoint is the public Hub.
const DefaultEndpoint = "https://huggingface.co"

// Options say how a Hub is reached. The zero value reads public datasets of the public Hub.
type Options struct {
	Endpoint  string            // base URL; "" is DefaultEndpoint
	Token     func() string     // asked before every request, so that a rotated token is taken up; nil or "" is anonymous
	Transport http.RoundTripper // nil: a transport of our own with timeouts
	Log       *slog.Logger      // told of retries; nil is silent

	Parallel int           // files uploaded at once, default 4
	Attempts int           // tries of one request, default 6
	MaxWait  time.Duration // longest single wait that a server may ask for, default 2 minutes; longer ones are returned as an Error with RetryAfter
	Backoff  time.Duration // first wait between tries, doubled up to 30 s, default 500 ms
	Stall    time.Duration // a transfer that moves no byte for so long is broken off and tried again, default 1 minute
}

// Client speaks to one Hub. It is safe for concurrent use.
type Client struct {
	opt  Options
	base *url.URL
	http *http.Client
}

// New returns a client. It makes no request: a wrong endpoint or token shows in the first call.
func New(opt Options) (*Client, error) {
	if opt.Endpoint == "" {
		opt.Endpoint = DefaultEndpoint
	}
	base, err := url.Parse(strings.TrimRight(opt.Endpoint, "/"))
	if err != nil {
		return nil, fmt.Errorf("hub endpoint: not a URL") // url.Error would repeat a password in it
	}
	if (base.Scheme != "https" && base.Scheme != "http") || base.Host == "" || base.RawQuery != "" || base.User != nil {
		return nil, fmt.Errorf("hub endpoint %s://%s: expected https://host without user and query", base.Scheme, base.Host)
	}
	if opt.Token == nil {
		opt.Token = func() string { return "" }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = 5 * time.Minute // a commit of thousands of files takes its time
		t.MaxIdleConnsPerHost = 16
		t.DisableCompression = true // sizes and ranges are those of the file
		opt.Transport = t
	}
	setDefault(&opt.Parallel, 4)
	setDefault(&opt.Attempts, 6)
	setDefault(&opt.MaxWait, 2*time.Minute)
	setDefault(&opt.Backoff, 500*time.Millisecond)
	setDefault(&opt.Stall, time.Minute)
	return &Client{
		opt:  opt,
		base: base,
		http: &http.Client{
			Transport: opt.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // followed by hand: see do
			},
		},
	}, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// api returns the URL of an API route below the endpoint. Parts are escaped, slashes inside them included.
func (c *Client) api(parts ...string) *url.URL {
	return c.join(append([]string{"api"}, parts...))
}

func (c *Client) join(parts []string) *url.URL {
	u := *c.base
	var raw, plain strings.Builder
	raw.WriteString(c.base.EscapedPath())
	plain.WriteString(c.base.Path)
	for _, p := range parts {
		raw.WriteString("/" + url.PathEscape(p))
		plain.WriteString("/" + p)
	}
	u.Path, u.RawPath = plain.String(), raw.String()
	return &u
}

// repoURL returns a URL below /datasets/owner/name, or /owner/name of a model.
func (c *Client) repoURL(repo Repo, parts ...string) *url.URL {
	var at []string
	if !repo.Model {
		at = append(at, "datasets")
	}
	return c.join(append(append(at, repo.parts()...), parts...))
}

// repoAPI returns a URL below /api/datasets/owner/name, or /api/models/owner/name.
func (c *Client) repoAPI(repo Repo, parts ...string) *url.URL {
	kind := "datasets"
	if repo.Model {
		kind = "models"
	}
	return c.api(append(append([]string{kind}, repo.parts()...), parts...)...)
}

// Page returns the address of the repository's page for people.
func (c *Client) Page(repo Repo) string { return c.repoURL(repo).String() }
