package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/sdk/client"
)

// serveMetrics serves Prometheus metrics at addr until ctx ends; without an address it does nothing.
func serveMetrics(ctx context.Context, addr string, log *slog.Logger) (client.MetricsHandler, error) {
	if addr == "" {
		return client.MetricsNopHandler, nil
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics at %s: %w. Try: another process.metrics_addr", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close() // nothing is lost with a scrape
	}()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("serve metrics", "error", err)
		}
	}()
	return &prometheusHandler{metrics: &metricSet{registry: registry, vectors: map[string]prometheus.Collector{}}}, nil
}

// metricSet creates each metric on its first use. A name that comes with other labels later keeps those it came with first.
type metricSet struct {
	mu       sync.Mutex
	registry *prometheus.Registry
	vectors  map[string]prometheus.Collector
}

// prometheusHandler is Temporal's view of the metrics, with the labels that apply.
type prometheusHandler struct {
	metrics *metricSet
	tags    map[string]string
}

func (h *prometheusHandler) WithTags(tags map[string]string) client.MetricsHandler {
	merged := make(map[string]string, len(h.tags)+len(tags))
	for k, v := range h.tags {
		merged[k] = v
	}
	for k, v := range tags {
		merged[k] = v
	}
	return &prometheusHandler{metrics: h.metrics, tags: merged}
}

// labels returns the labels in an order that does not change.
func (h *prometheusHandler) labels() (names, values []string) {
	for k := range h.tags {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		values = append(values, h.tags[k])
	}
	return names, values
}

// vector returns the metric with these labels; the label set is part of its identity.
func vector[V prometheus.Collector](h *prometheusHandler, name string, fresh func(labels []string) V) (V, []string, bool) {
	names, values := h.labels()
	key := name + "\x00" + strings.Join(names, "\x00")
	h.metrics.mu.Lock()
	defer h.metrics.mu.Unlock()
	if c, ok := h.metrics.vectors[key]; ok {
		v, ok := c.(V)
		return v, values, ok
	}
	v := fresh(names)
	if err := h.metrics.registry.Register(v); err != nil {
		var none V
		return none, nil, false // the name is taken with other labels
	}
	h.metrics.vectors[key] = v
	return v, values, true
}

func (h *prometheusHandler) Counter(name string) client.MetricsCounter {
	v, values, ok := vector(h, name, func(labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: name}, labels)
	})
	if !ok {
		return client.MetricsNopHandler.Counter(name)
	}
	return counter{v.WithLabelValues(values...)}
}

func (h *prometheusHandler) Gauge(name string) client.MetricsGauge {
	v, values, ok := vector(h, name, func(labels []string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: name}, labels)
	})
	if !ok {
		return client.MetricsNopHandler.Gauge(name)
	}
	return gauge{v.WithLabelValues(values...)}
}

func (h *prometheusHandler) Timer(name string) client.MetricsTimer {
	v, values, ok := vector(h, name+"_seconds", func(labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name + "_seconds", Help: name, Buckets: prometheus.ExponentialBuckets(.001, 4, 10),
		}, labels)
	})
	if !ok {
		return client.MetricsNopHandler.Timer(name)
	}
	return timer{v.WithLabelValues(values...)}
}

type counter struct{ prometheus.Counter }

func (c counter) Inc(n int64) { c.Add(float64(n)) }

type gauge struct{ prometheus.Gauge }

func (g gauge) Update(v float64) { g.Set(v) }

type timer struct{ prometheus.Observer }

func (t timer) Record(d time.Duration) { t.Observe(d.Seconds()) }
