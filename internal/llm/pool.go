package llm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Pool holds one Client per endpoint, so that all work of a process shares its admission controller.
type Pool struct {
	providers map[string]Provider
	opts      []Option

	mu        sync.Mutex
	clients   map[string]*Client
	admission map[string]*controller // by URL and key
}

// NewPool makes a pool of the named providers. Clients are made when first asked for.
func NewPool(providers map[string]Provider, opts ...Option) *Pool {
	return &Pool{providers: maps.Clone(providers), opts: opts, clients: map[string]*Client{}, admission: map[string]*controller{}}
}

// Client returns the client of a provider. Two providers with one URL and key share one admission controller, that of the one
// asked for first.
func (p *Pool) Client(name string) (*Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.clients[name]; ok {
		return c, nil
	}
	provider, ok := p.providers[name]
	if !ok {
		return nil, fmt.Errorf("unknown provider %q (known: %s)", name, strings.Join(slices.Sorted(maps.Keys(p.providers)), ", "))
	}
	if provider.Name == "" {
		provider.Name = name
	}
	c, err := New(provider, p.opts...)
	if err != nil {
		return nil, err
	}
	endpoint := strings.TrimRight(strings.ToLower(provider.URL), "/") + "\x00" + provider.Key.Reveal()
	if shared, ok := p.admission[endpoint]; ok {
		c.admission = shared
	} else {
		p.admission[endpoint] = c.admission
	}
	p.clients[name] = c
	return c, nil
}

// Provider returns a provider as it was given to NewPool.
func (p *Pool) Provider(name string) (Provider, error) {
	provider, ok := p.providers[name]
	if !ok {
		return Provider{}, fmt.Errorf("unknown provider %q (known: %s)", name, strings.Join(p.Names(), ", "))
	}
	if provider.Name == "" {
		provider.Name = name
	}
	return provider, nil
}

// Names returns the names of the providers in order.
func (p *Pool) Names() []string { return slices.Sorted(maps.Keys(p.providers)) }

// Stats returns the statistics of the clients made so far, by provider.
func (p *Pool) Stats() map[string]Stats {
	p.mu.Lock()
	clients := maps.Clone(p.clients)
	p.mu.Unlock()
	out := make(map[string]Stats, len(clients))
	for name, c := range clients {
		out[name] = c.Stats()
	}
	return out
}

// Close closes idle connections of all clients.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.clients {
		c.Close()
	}
}
