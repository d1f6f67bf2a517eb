// Package loopback finds ports on this machine's loopback address, and says clearly when one is taken.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Host is the address that everything here listens on: nothing outside this machine can reach it.
const Host = "127.0.0.1"

// ErrTaken is the error of a port on which something else listens.
var ErrTaken = errors.New("port is taken")

// Ports that are chosen from: those below the ones from which operating systems take the near end of connections, which
// would otherwise be taken between the choice and the use. A process that is started takes seconds until it listens; servers
// of this process, which come and go by the hundred in tests, keep away from its ports.
const (
	lowest  = 20_000
	highest = 32_000
	here    = 12_000
)

// Free returns a port on which nothing listens now. Somebody else may take it before the caller does.
func Free() (int, error) { return draw(lowest, highest) }

// FreeHere is Free for a server of this process that listens at once.
func FreeHere() (int, error) { return draw(here, lowest) }

func draw(from, to int) (int, error) {
	var last error
	for range 100 {
		port := from + rand.IntN(to-from)
		listener, err := net.Listen("tcp", Address(port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("find a free port: %w", last)
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
