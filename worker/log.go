package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
	"go.temporal.io/sdk/temporal"
)

func isTerminal(f *os.File) bool { return isatty.IsTerminal(f.Fd()) }

func textHandler(w io.Writer, level slog.Level) slog.Handler {
	f, ok := w.(*os.File)
	return tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !ok || !isTerminal(f)})
}

// calm has the SDK say in debugging what it warns of whenever an activity is told to stop, as at each pause: that a heartbeat was
// answered with the request to. Heartbeats that fail for any other reason stay warnings.
type calm struct{ slog.Handler }

const heartbeatWarning = "RecordActivityHeartbeat with error" // of the SDK

// Handle implements slog.Handler.
func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && r.Message == heartbeatWarning && cancelled(r) {
		if !c.Enabled(ctx, slog.LevelDebug) {
			return nil
		}
		r.Level = slog.LevelDebug
	}
	return c.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (c calm) WithAttrs(attrs []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (c calm) WithGroup(name string) slog.Handler { return calm{c.Handler.WithGroup(name)} }

// cancelled reports whether a record is about an activity that was told to stop.
func cancelled(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		var cancelled *temporal.CanceledError
		if err, ok := a.Value.Any().(error); ok {
			yes = yes || errors.As(err, &cancelled)
		}
		return !yes
	})
	return yes
}
