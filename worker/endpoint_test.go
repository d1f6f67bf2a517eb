package main

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/hfendpoint/endpointtest"
	"github.com/selfalign/selfalign/internal/llm"
)

// TestInferenceEndpoint has a run's preflight wait for an Inference Endpoint that is known by its name and starts.
func TestInferenceEndpoint(t *testing.T) {
	s := endpointtest.Start("me", "mine", "hf_token", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"tgi"}]}`)
	}))
	defer s.Close()
	s.Set("initializing")
	t.Setenv("TEST_HF_TOKEN", "hf_token")
	settings, err := config.ParseWorker("worker.yaml", fmt.Appendf(nil, `
store: {bucket: b}
providers: {hf: {inference_endpoint: {namespace: me, name: mine, api: %q}, key_env: TEST_HF_TOKEN}}
`, s.URL))
	require.NoError(t, err)
	providers, err := providersOf(settings, nil)
	require.NoError(t, err)
	pool := llm.NewPool(providers)
	defer pool.Close()
	store := s3test.Store(t)
	spec, err := config.ParseScore("score.yaml", []byte("name: s\nload: {path: s3://b/x.jsonl}\ngenerate: {provider: hf, model: tgi}\nscore: {provider: hf, model: tgi}\n"))
	require.NoError(t, err)
	preflight := func() error {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		runs := &activities.Runs{Store: store, Models: pool, Settings: settings}
		env.RegisterActivity(runs)
		_, err := env.ExecuteActivity(runs.PreflightScore, spec)
		return err
	}
	var starts *temporal.ApplicationError
	require.ErrorAs(t, preflight(), &starts)
	require.False(t, starts.NonRetryable(), "it is looked at again")
	require.Contains(t, starts.Message(), `the Inference Endpoint me/mine is "initializing"`)
	s.Set("paused")
	require.Eventually(t, func() bool { return errors.As(preflight(), &starts) && starts.Type() == activities.ErrTypeBlocked }, time.Minute, 100*time.Millisecond)
	s.Set("running")
	require.Eventually(t, func() bool { return preflight() == nil }, time.Minute, 100*time.Millisecond)
}
