// Package loopback finds ports on this machine's loopback address, and says clearly when one is taken.
package loopback

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Host is the address that everything here listens on: nothing outside this machine can reach it.
const Host = "127.0.0.1"

// ErrTaken is the error of a port on which something else listens.
var ErrTaken = errors.New("port is taken")

// Free returns a port on which nothing listens now. Somebody else may take it before the caller does.
func Free() (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(Host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// Resolve returns the port to use for a part: the given one if nothing listens on it, a free one if it is 0. The error of a
// taken port names the part.
func Resolve(part string, port int) (int, error) {
	if port == 0 {
		return Free()
	}
	listener, err := net.Listen("tcp", Address(port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return 0, fmt.Errorf("%s: %w: %s. Try: stop what listens there, or choose other ports", part, ErrTaken, Address(port))
	case err != nil:
		return 0, fmt.Errorf("%s: listen on %s: %w", part, Address(port), err)
	}
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("%s: close probe of %s: %w", part, Address(port), err)
	}
	return port, nil
}

// Address returns the host and port under which a port is reached.
func Address(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }
