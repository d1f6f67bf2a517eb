package hub

import (
	"context"
	"io"
	"sync"
	"time"
)

// watchdog breaks a transfer off when no byte has moved for a while. It sleeps while nobody waits for a byte, so that
// a slow reader of rows is not taken for a slow network.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
	after time.Duration
}

func newWatchdog(after time.Duration, bite func()) *watchdog {
	d := &watchdog{after: after, timer: time.AfterFunc(time.Hour, bite)}
	d.timer.Stop()
	return d
}

func (d *watchdog) watch() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer.Reset(d.after)
}

func (d *watchdog) rest() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer.Stop()
}

// localError marks a request body that could not be read on our side: no fault of the Hub.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// watchedReader is a request body: the time between two reads is the time that the network took.
type watchedReader struct {
	r   io.Reader
	dog *watchdog
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.dog.rest()
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		return n, &localError{err}
	}
	if err == nil {
		w.dog.watch()
	}
	return n, err
}

// watchedBody is a response body: the time inside a read is the time that the network took.
type watchedBody struct {
	body io.ReadCloser
	dog  *watchdog
	ctx  context.Context //nolint:containedctx // the request's own, asked why a read was broken off
	done func()
}

func (w *watchedBody) Read(p []byte) (int, error) {
	w.dog.watch()
	n, err := w.body.Read(p)
	w.dog.rest()
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (w *watchedBody) Close() error {
	err := w.body.Close()
	w.done()
	return err
}
