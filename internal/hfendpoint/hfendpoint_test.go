package hfendpoint_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/hfendpoint"
	"github.com/selfalign/selfalign/internal/hfendpoint/endpointtest"
	"github.com/selfalign/selfalign/internal/llm"
)

// model answers as a chat endpoint does.
func model(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		if strings.HasSuffix(r.Host, ".invalid") {
			t.Errorf("host %s", r.Host)
		}
		fmt.Fprint(w, `{"choices":[{"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`)
	})
}

func client(t *testing.T, s *endpointtest.Server, token, name string) *llm.Client {
	t.Helper()
	cfg := hfendpoint.Config{API: s.URL, Namespace: "me", Name: name, Token: func() string { return token }}
	c, err := llm.New(llm.Provider{
		Name: "p", URL: cfg.Base(), Key: llm.Secret(token),
		Wrap: func(next http.RoundTripper) http.RoundTripper { return hfendpoint.New(cfg, next) },
	}, llm.WithMaxWait(100*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func ask(c *llm.Client) (llm.Response, error) {
	return c.Complete(context.Background(), llm.Request{Model: "tgi", Messages: []llm.Message{{Role: "user", Content: "Well?"}}, MaxTokens: 8})
}

func TestAnswersWhereItIs(t *testing.T) {
	t.Parallel()
	s := endpointtest.Start("me", "mine", "hf_token", model(t))
	defer s.Close()
	c := client(t, s, "hf_token", "mine")
	for range 20 {
		r, err := ask(c)
		require.NoError(t, err)
		require.Equal(t, "yes", r.Text)
	}
	looks, asked := s.Counts()
	require.Equal(t, 1, looks, "looks at the API")
	require.Equal(t, 20, asked)
}

// TestStates asks an endpoint in every state that there is, and holds what is said to what a person can do.
func TestStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state string
		class llm.Class
		says  string
	}{
		{"pending", llm.ClassYield, `the Inference Endpoint me/mine is "pending"`},
		{"initializing", llm.ClassYield, "will answer when it runs"},
		{"paused", llm.ClassNotFound, "Try: resume it"},
		{"failed", llm.ClassNotFound, "Try: look at its log"},
		{"nonsense", llm.ClassYield, `"nonsense"`},
	} {
		t.Run(c.state, func(t *testing.T) {
			t.Parallel()
			s := endpointtest.Start("me", "mine", "hf_token", model(t))
			defer s.Close()
			s.Set(c.state)
			_, err := ask(client(t, s, "hf_token", "mine"))
			require.Equal(t, c.class, llm.ClassOf(err), "%v", err)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "hf_token")
			_, asked := s.Counts()
			require.Zero(t, asked, "requests at the endpoint")
		})
	}
}

// TestWakes asks one that was scaled to zero: the request wakes it, and later ones wait until it runs.
func TestWakes(t *testing.T) {
	t.Parallel()
	s := endpointtest.Start("me", "mine", "hf_token", model(t))
	defer s.Close()
	s.Set("scaledToZero")
	c := client(t, s, "hf_token", "mine")
	_, err := ask(c)
	require.Equal(t, llm.ClassYield, llm.ClassOf(err), "%v", err)
	require.Equal(t, "initializing", s.State())
	s.Set("running")
	require.Eventually(t, func() bool {
		r, err := ask(c)
		return err == nil && r.Text == "yes"
	}, time.Minute, 200*time.Millisecond)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	s := endpointtest.Start("me", "mine", "hf_token", model(t))
	defer s.Close()
	_, err := ask(client(t, s, "hf_other", "mine"))
	require.Equal(t, llm.ClassAuth, llm.ClassOf(err), "%v", err)
	require.NotContains(t, err.Error(), "hf_other")
	_, err = ask(client(t, s, "hf_token", "yours"))
	require.Equal(t, llm.ClassNotFound, llm.ClassOf(err), "%v", err)
	require.ErrorContains(t, err, "does not exist")
}

// FuzzReply feeds replies of the API: whatever it says, requests go to an address with TLS or nowhere.
func FuzzReply(f *testing.F) {
	f.Add(`{"status":{"state":"running","url":"https://a.endpoints.huggingface.cloud"}}`)
	f.Add(`{"status":{"state":"running","url":"http://169.254.169.254/"}}`)
	f.Add(`{"status":{"state":"scaledToZero","url":null}}`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, reply string) {
		var went []string
		next := roundTrip(func(r *http.Request) (*http.Response, error) {
			rec := httptest.NewRecorder()
			if r.URL.Host == "api" {
				_, _ = rec.WriteString(reply)
			} else {
				went = append(went, r.URL.Scheme)
			}
			return rec.Result(), nil
		})
		cfg := hfendpoint.Config{API: "https://api", Namespace: "me", Name: "mine", Token: func() string { return "t" }}
		req := httptest.NewRequest(http.MethodGet, cfg.Base()+"/models", nil)
		res, err := hfendpoint.New(cfg, next).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if len(went) > 0 && went[0] != "https" {
			t.Fatalf("a request with a key went out by %s", went[0])
		}
		if len(went) == 0 && res.StatusCode != http.StatusServiceUnavailable && res.StatusCode != http.StatusNotFound {
			t.Fatalf("status %d", res.StatusCode)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
