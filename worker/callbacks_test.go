package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.temporal.io/api/serviceerror"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/webhook"
	"github.com/selfalign/selfalign/workflows"
)

const callbackSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

type toldBackend struct {
	finetune.Backend
	status finetune.Status
	err    error
}

func (b *toldBackend) Poll(context.Context, string) (finetune.Status, error) { return b.status, b.err }

type signals struct {
	got []string
	err error
}

func (s *signals) SignalWorkflow(_ context.Context, id, _, name string, _ any) error {
	s.got = append(s.got, id+" "+name)
	return s.err
}

// A callback is not believed: what waits is woken when the service, asked, says that the job has ended.
func TestCallbackWakesWhatWaits(t *testing.T) {
	t.Setenv("SELFALIGN_TEST_CALLBACK_SECRET", callbackSecret)
	backend, told := &toldBackend{}, &signals{}
	settings := config.Worker{Trainers: map[string]config.Trainer{
		"mine": {Backend: config.BackendHTTP, SecretEnv: "SELFALIGN_TEST_CALLBACK_SECRET"}, "other": {Backend: config.BackendOpenAI},
	}}
	trainers := &activities.Trainers{Trainers: map[string]activities.Trainer{"mine": {Backend: backend}}}
	receiver := below("https://here/callbacks/", callbackReceiver(settings, trainers, told, slog.New(slog.DiscardHandler)))
	for i, c := range []struct {
		about   string
		trainer string
		status  finetune.Status
		poll    error
		signal  error
		code    int
		signals int
	}{
		{"at work", "mine", finetune.Status{State: finetune.StateRunning}, nil, nil, 204, 0},
		{"the service is away", "mine", finetune.Status{}, errors.New("away"), nil, 503, 0},
		{"no such job", "mine", finetune.Status{}, &finetune.Error{Class: finetune.ClassNotFound}, nil, 404, 0},
		{"ended", "mine", finetune.Status{State: finetune.StateSucceeded}, nil, nil, 204, 1},
		{"failed", "mine", finetune.Status{State: finetune.StateFailed}, nil, nil, 204, 2},
		{"nobody waits", "mine", finetune.Status{State: finetune.StateFailed}, nil, serviceerror.NewNotFound("gone"), 204, 3},
		{"Temporal is away", "mine", finetune.Status{State: finetune.StateFailed}, nil, serviceerror.NewUnavailable("away"), 503, 4},
		{"a trainer that has no callbacks", "other", finetune.Status{State: finetune.StateFailed}, nil, nil, 404, 4},
	} {
		backend.status, backend.err, told.err = c.status, c.poll, c.signal
		rec := httptest.NewRecorder()
		receiver.ServeHTTP(rec, callback(t, []string{"", "/callbacks"}[i%2]+webhook.CallbackPath(c.trainer, "demo/01/m1"), fmt.Sprint("call-", i)))
		if rec.Code != c.code || len(told.got) != c.signals {
			t.Errorf("%s: %d, %d signals; want %d, %d", c.about, rec.Code, len(told.got), c.code, c.signals)
		}
	}
	if told.got[0] != "demo/01/m1 "+workflows.SignalEnded {
		t.Errorf("%q", told.got)
	}
}

func callback(t *testing.T, path, id string) *http.Request {
	t.Helper()
	const body = `{"type":"finetune.changed","timestamp":"2026-11-22T10:00:00Z","data":{"id":"job-1"}}`
	key, err := standard.NewWebhook(callbackSecret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := key.Sign(id, time.Now(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set(standard.HeaderWebhookID, id)
	req.Header.Set(standard.HeaderWebhookTimestamp, fmt.Sprint(time.Now().Unix()))
	req.Header.Set(standard.HeaderWebhookSignature, signature)
	return req
}
