// Package links puts wires between processes that can be cut, slowed down and reset while they are in use.
package links

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// What may happen to a wire.
const (
	Cut   = "cut"   // connections end, new ones are refused
	Hang  = "hang"  // connections stay, and nothing comes through
	Slow  = "slow"  // 200 ms more, give or take 100, and in pieces of about 1 KB, a millisecond apart
	Reset = "reset" // connections are reset as soon as something is sent
)

// Kinds returns all that may happen to a wire.
func Kinds() []string { return []string{Cut, Hang, Slow, Reset} }

// toxics of a kind, as toxiproxy reads them.
var toxics = map[string][]string{
	Hang: {
		`{"name":"hang-down","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`,
		`{"name":"hang-up","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`,
	},
	Slow: {
		`{"name":"late","type":"latency","stream":"downstream","attributes":{"latency":200,"jitter":100}}`,
		`{"name":"narrow","type":"slicer","stream":"upstream","attributes":{"average_size":1000,"size_variation":200,"delay":1000}}`,
	},
	Reset: {`{"name":"reset","type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`},
}

// Wire leads from a port of its own on the loopback interface to a TCP service.
type Wire struct {
	proxy *toxiproxy.Proxy
}

// Lay lays a wire to a host and port. Its goroutines end some time after Close.
func Lay(name, upstream string) (*Wire, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	w := &Wire{toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	if err := w.proxy.Start(); err != nil {
		return nil, fmt.Errorf("lay wire to %s: %w", upstream, err)
	}
	return w, nil
}

// Addr returns the host and port at which the wire begins. It stays the same over cuts.
func (w *Wire) Addr() string { return w.proxy.Listen }

// Hurt makes something happen to the wire, until mend is called.
func (w *Wire) Hurt(kind string) (mend func() error, err error) {
	if kind == Cut {
		w.proxy.Stop()
		return w.proxy.Start, nil
	}
	if toxics[kind] == nil {
		return nil, fmt.Errorf("unknown kind %q (known: %s)", kind, strings.Join(Kinds(), ", "))
	}
	var names []string
	mend = func() error {
		var failed error
		for _, name := range names {
			failed = errors.Join(failed, w.proxy.Toxics.RemoveToxic(context.Background(), name))
		}
		return failed
	}
	for _, text := range toxics[kind] {
		added, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(text))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hurt wire: %w", err), mend())
		}
		names = append(names, added.Name)
	}
	return mend, nil
}

// Close ends all connections.
func (w *Wire) Close() { w.proxy.Stop() }
