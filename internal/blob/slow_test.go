package blob_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// A store that takes connections and never answers is told of while it is waited for; one that answers is not.
func TestSlowIsTold(t *testing.T) {
	t.Parallel()
	told := make(chan struct{}, 10)
	cfg := s3test.Config(t)
	tell := func() { told <- struct{}{} }
	st, err := blob.OpenTelling(t.Context(), cfg, tell)
	require.NoError(t, err)
	_, err = st.Get(t.Context(), "no/such")
	require.ErrorIs(t, err, blob.ErrNotFound)

	hole, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer hole.Close()
	cfg.Endpoint = "http://" + hole.Addr().String()
	silent, err := blob.OpenTelling(t.Context(), cfg, tell)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() {
		_, err := silent.Get(ctx, "no/such")
		ended <- err
	}()
	select {
	case <-told:
	case err := <-ended:
		t.Fatalf("not told before the end: %v", err)
	}
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Empty(t, told)
}
