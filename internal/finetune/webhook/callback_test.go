package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/selfalign/selfalign/internal/finetune"
)

func TestCallbacks(t *testing.T) {
	t.Parallel()
	var woken []string
	var wakeErr error
	r := &Receiver{
		Secrets: map[string]func() string{"mine": func() string { return otherSecret + " " + testSecret }, "none": func() string { return "" }},
		Wake: func(_ context.Context, trainer, waiting, job string) error {
			woken = append(woken, trainer+" "+waiting+" "+job)
			return wakeErr
		},
	}
	const good = `{"type":"finetune.changed","timestamp":"2026-11-22T10:00:00Z","data":{"id":"job-1"}}`
	call := func(path, id, body, secret string, at time.Time) int {
		key, err := standard.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := key.Sign(id, at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		req.Header.Set(standard.HeaderWebhookID, id)
		req.Header.Set(standard.HeaderWebhookTimestamp, fmt.Sprint(at.Unix()))
		req.Header.Set(standard.HeaderWebhookSignature, signature)
		rec := httptest.NewRecorder()
		r.ServeHTTP(rec, req)
		if strings.Contains(rec.Body.String(), secret) {
			t.Errorf("a secret shows in %q", rec.Body)
		}
		return rec.Code
	}
	path := CallbackPath("mine", "run/m1 train")
	now := time.Now()
	for _, c := range []struct {
		about, path, id, body, secret string
		at                            time.Time
		wake                          error
		code, woken                   int
	}{
		{"another secret", path, "m1", good, "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB", now, nil, 401, 0},
		{"too old", path, "m1", good, testSecret, now.Add(-6 * time.Minute), nil, 401, 0},
		{"from the future", path, "m1", good, testSecret, now.Add(6 * time.Minute), nil, 401, 0},
		{"too large", path, "m1", good + strings.Repeat(" ", maxCallback), testSecret, now, nil, 413, 0},
		{"no JSON", path, "m1", "hello", testSecret, now, nil, 400, 0},
		{"another event", path, "m1", strings.Replace(good, "changed", "submit", 1), testSecret, now, nil, 400, 0},
		{"unknown trainer", CallbackPath("yours", "w"), "m1", good, testSecret, now, nil, 404, 0},
		{"a trainer without a secret", CallbackPath("none", "w"), "m1", good, testSecret, now, nil, 401, 0},
		{"elsewhere", "/", "m1", good, testSecret, now, nil, 404, 0},
		{"the service cannot be asked", path, "m1", good, testSecret, now, errors.New("away"), 503, 1},
		{"called again", path, "m1", good, testSecret, now, nil, 204, 2},
		{"replayed", path, "m1", good, testSecret, now, nil, 204, 2},
		{"a job that is not there", path, "m2", good, testSecret, now, &finetune.Error{Class: finetune.ClassNotFound}, 404, 3},
		{"an older secret", path, "m3", good, otherSecret, now, nil, 204, 4},
	} {
		wakeErr = c.wake
		if code := call(c.path, c.id, c.body, c.secret, c.at); code != c.code || len(woken) != c.woken {
			t.Errorf("%s: %d, woken %d times; want %d, %d", c.about, code, len(woken), c.code, c.woken)
		}
	}
	if woken[0] != "mine run/m1 train job-1" {
		t.Errorf("%q", woken)
	}
}

// What is remembered is bounded, and what has passed is forgotten.
func TestCallbacksRemembered(t *testing.T) {
	t.Parallel()
	r := &Receiver{}
	now := time.Now()
	for i := range maxSeen {
		if got := r.admit(fmt.Sprint(i), now); got != admitted {
			t.Fatalf("callback %d: %d", i, got)
		}
		r.done(fmt.Sprint(i), true)
	}
	if got := r.admit("one more", now); got != tooMany {
		t.Errorf("%d", got)
	}
	if got := r.admit("0", now); got != known {
		t.Errorf("%d", got)
	}
	later := now.Add(seenFor + time.Second)
	if got := r.admit("one more", later); got != admitted || len(r.seen) != 1 {
		t.Errorf("%d, %d remembered", got, len(r.seen))
	}
	for range maxWaiting - 1 {
		r.waiting++
	}
	if got := r.admit("too many at once", later); got != tooMany {
		t.Errorf("%d", got)
	}
}
