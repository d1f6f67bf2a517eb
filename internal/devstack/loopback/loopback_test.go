package loopback

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPorts(t *testing.T) {
	t.Parallel()
	port, err := Free()
	require.NoError(t, err)
	require.GreaterOrEqual(t, port, lowest)
	require.Less(t, port, highest)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	taken := listener.Addr().(*net.TCPAddr).Port
	_, err = Resolve("S3", taken)
	require.ErrorIs(t, err, ErrTaken)
	require.EqualError(t, err, "S3: port is taken: "+Address(taken)+". Try: stop what listens there, or choose other ports")

	_, err = Resolve("S3", 70_000)
	require.ErrorContains(t, err, "S3: listen on 127.0.0.1:70000")
	port, err = Resolve("S3", 0)
	require.NoError(t, err)
	require.NotZero(t, port)
}
