package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/webhook"
	"github.com/selfalign/selfalign/workflows"
)

// signaller is what callbacks need of Temporal's client.
type signaller interface {
	SignalWorkflow(ctx context.Context, workflowID, runID, signal string, arg any) error
}

// takeCallbacks listens for callbacks of training services until ctx ends, where the settings want that.
func takeCallbacks(ctx context.Context, settings config.Worker, trainers *activities.Trainers, c signaller, log *slog.Logger) error {
	if settings.Callbacks.Listen == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", settings.Callbacks.Listen)
	if err != nil {
		return fmt.Errorf("callbacks.listen: %w", err)
	}
	server := &http.Server{
		Handler:           below(settings.Callbacks.URL, callbackReceiver(settings, trainers, c, log)),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		<-ctx.Done()
		_ = server.Close() // who called is answered by the job's next look
	}()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("callbacks", "error", err)
		}
	}()
	log.Info("taking callbacks", "address", listener.Addr().String())
	return nil
}

// below serves h at the address's path, and at the root for a proxy that takes that path away.
func below(address string, h http.Handler) http.Handler {
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Path == "" {
		return h
	}
	stripped := http.StripPrefix(u.Path, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, u.Path+"/") {
			stripped.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// callbackReceiver asks the trainer about the job that a callback names, and wakes what waits for it if it has ended.
func callbackReceiver(settings config.Worker, trainers *activities.Trainers, c signaller, log *slog.Logger) *webhook.Receiver {
	secrets := map[string]func() string{}
	for name, t := range settings.Trainers {
		if t.Backend == config.BackendHTTP {
			secrets[name] = envOf(t.SecretEnv)
		}
	}
	return &webhook.Receiver{Secrets: secrets, Wake: func(ctx context.Context, trainer, waiting, job string) error {
		status, err := trainers.Trainers[trainer].Backend.Poll(ctx, job)
		if finetune.ClassOf(err) == finetune.ClassNotFound {
			return err
		}
		if err != nil {
			log.Warn("callback: ask about the job", "trainer", trainer, "job", job, "error", err)
			return err
		}
		if !status.State.Terminal() {
			return nil // progress is looked at in its own time
		}
		err = c.SignalWorkflow(ctx, waiting, "", workflows.SignalEnded, nil)
		if gone := new(serviceerror.NotFound); errors.As(err, &gone) {
			return nil // nobody waits any more
		}
		if err != nil {
			log.Warn("callback: wake the workflow", "workflow", waiting, "error", err)
		}
		return err
	}}
}
