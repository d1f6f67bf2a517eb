package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/workflows"
)

// heartbeatThrottle bounds how long a pause or a cancel takes to reach a partition in work.
const heartbeatThrottle = 4 * time.Second

// work connects, builds the dependencies, and works until ctx ends.
func work(ctx context.Context, settings config.Worker, log *slog.Logger, stdout io.Writer) error {
	limitMemory(ctx)
	metrics, err := serveMetrics(ctx, settings.Process.MetricsAddr, log)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name of this machine: %w", err)
	}
	warnOfKeys(settings, log)
	parts, err := build(ctx, settings, host, log) // before Temporal is waited for: what is wrong here waiting does not mend
	if err != nil {
		return err
	}
	go tellOfStore(ctx, parts.store, log)
	c, err := dial(ctx, settings.Temporal, log, metrics)
	if ctx.Err() != nil {
		return nil // told to stop before there was anything to do
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := takeCallbacks(ctx, settings, parts.trainers, c, log); err != nil {
		return err
	}
	var workers []worker.Worker
	fatal := make(chan error, 8)
	for _, q := range queuesOf(settings, host) {
		w := worker.New(c, q.name, worker.Options{
			MaxConcurrentActivityExecutionSize: q.slots,
			MaxHeartbeatThrottleInterval:       heartbeatThrottle,
			DefaultHeartbeatThrottleInterval:   heartbeatThrottle,
			WorkerStopTimeout:                  time.Duration(settings.Process.StopTimeout),
			DisableWorkflowWorker:              q.role != workflows.RoleControl,
			OnFatalError: func(err error) {
				select {
				case fatal <- err:
				default:
				}
			},
		})
		parts.register(w, q.role)
		workers = append(workers, w)
	}
	for i, w := range workers {
		if err := w.Start(); err != nil {
			stopAll(workers[:i])
			return fmt.Errorf("start worker: %w", err)
		}
	}
	fmt.Fprintln(stdout, "ready") // one line for whoever started this process
	log.Info("working", "queues", settings.Process.Queues, "prefix", settings.Temporal.Queue)
	select {
	case <-ctx.Done():
		err = nil
	case err = <-fatal:
	}
	log.Info("stopping: calls in flight finish, partitions are handed back")
	stopAll(workers)
	return err
}

// tellOfStore says when the bucket cannot be used, and when it can again. Work that needs it waits meanwhile.
func tellOfStore(ctx context.Context, store *blob.Store, log *slog.Logger) {
	for wait := 10 * time.Second; ; wait = min(2*wait, 5*time.Minute) {
		err := store.Reach(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && wait > 10*time.Second:
			log.Info("the bucket answers", "bucket", store.Bucket())
			return
		case err == nil:
			return
		}
		log.Warn("cannot use the bucket; runs wait for it", "bucket", store.Bucket(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func stopAll(workers []worker.Worker) {
	done := make(chan struct{}, len(workers))
	for _, w := range workers {
		go func() { w.Stop(); done <- struct{}{} }()
	}
	for range workers {
		<-done
	}
}

type queue struct {
	role  string
	name  string
	slots int
}

// queuesOf lists the task queues that this worker serves: one a role, and for the jobs of local trainers one of this
// machine's own.
func queuesOf(settings config.Worker, host string) []queue {
	var out []queue
	for _, role := range settings.Process.Queues {
		slots := 20
		switch role {
		case workflows.RoleLLM:
			slots = partitionsOf(settings)
		case workflows.RoleCPU:
			slots = max(fewPartitions, runtime.GOMAXPROCS(0))
		}
		out = append(out, queue{role: role, name: workflows.QueueName(settings.Temporal.Queue, role), slots: slots})
	}
	if slices.Contains(settings.Process.Queues, workflows.RoleTrain) {
		out = append(out, queue{role: workflows.RoleTrain, name: hostQueue(settings, host), slots: 20})
	}
	return out
}

// fewPartitions are in work at least, so that several runs go on beside each other.
const fewPartitions = 4

// partitionsOf returns how many partitions are in work at once: what the settings say, else what it takes to have as many calls
// in flight as the providers allow.
func partitionsOf(settings config.Worker) int {
	if n := settings.Process.Partitions; n > 0 {
		return n
	}
	n := 0
	for _, p := range settings.Providers {
		n += workflows.PartitionsFor(p.Limits.InFlight)
	}
	return max(fewPartitions, n)
}

// hostQueue is the queue of jobs that only this machine can look after.
func hostQueue(settings config.Worker, host string) string {
	return workflows.QueueName(settings.Temporal.Queue, workflows.RoleTrain) + "-" + host
}

// dial connects to Temporal: the settings first, for what they leave open Temporal's environment variables and profile.
func dial(ctx context.Context, t config.Temporal, log *slog.Logger, metrics client.MetricsHandler) (client.Client, error) {
	options, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{ConfigFileProfile: t.Profile})
	if err != nil {
		return nil, fmt.Errorf("temporal configuration: %w", err)
	}
	if t.Address != "" {
		options.HostPort = t.Address
	}
	if t.Namespace != "" {
		options.Namespace = t.Namespace
	}
	options.Logger = sdklog.NewStructuredLogger(log)
	options.MetricsHandler = metrics
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		c, err := client.DialContext(attempt, options)
		cancel()
		if err == nil {
			return c, nil
		}
		log.Warn("waiting for Temporal", "address", options.HostPort, "namespace", options.Namespace, "error", err)
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}
