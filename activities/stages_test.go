package activities

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
	"github.com/selfalign/selfalign/internal/stage"
)

// asks returns the activities over a dataset of segments and a model at an address, and the work of asking about it.
func asks(t *testing.T, url string) (*Stages, stage.Work) {
	t.Helper()
	st := s3test.Store(t)
	var rows []dataset.Segment
	for i := range 6 {
		text := fmt.Sprintf("A text that is long enough to be asked about, number %d.", i)
		rows = append(rows, dataset.Segment{ID: dataset.SegmentID(text), Text: text, Source: "s", Document: "d"})
	}
	input := writeOne(t, st, dataset.KindSegments, "segments", rows, dataset.Receipt{})
	models := llm.NewPool(map[string]llm.Provider{"p": {Name: "p", URL: url, Limits: llm.Limits{InFlight: 2}}})
	return &Stages{Deps: stage.Deps{Store: st, Models: models}}, stage.Work{
		Task: stage.TaskBacktranslate, Run: "r", Input: input, Output: "out", Model: dataset.ModelRef{Provider: "p", Name: "m", Revision: "m"},
		Sampling: stage.Sampling{MaxTokens: 64}, Samples: 1, Attempts: 1, InFlight: 2, Budget: stage.Unlimited(),
	}
}

func answering(t *testing.T, began chan<- struct{}, hold <-chan struct{}) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case began <- struct{}{}:
		default:
		}
		if hold != nil {
			<-hold
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"What is it about?"}}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// A worker that stops hands its partition to another at once; what was answered is not asked again there.
func TestStoppingWorkerHandsItsPartitionBack(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	stop, hold := make(chan struct{}), make(chan struct{})
	s, work := asks(t, answering(t, began, hold).URL+"/v1")
	env := activityEnv(t, s)
	env.SetWorkerStopChannel(stop)
	go func() { <-began; close(stop); time.Sleep(time.Second); close(hold) }()
	_, err := env.ExecuteActivity("AskPartition", work)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != ErrTypeBusy || app.NonRetryable() || app.NextRetryDelay() > time.Second || app.Category() != temporal.ApplicationErrorCategoryBenign {
		t.Fatalf("ended with %v, want to be taken up by another at once", err)
	}
	value, err := activityEnv(t, s).ExecuteActivity("AskPartition", work)
	var done PartitionResult
	if err != nil || value.Get(&done) != nil || !done.Done || done.Receipt.Rows != 6 || done.Spent.Calls != 6 {
		t.Errorf("the other worker: %+v, %v", done, err)
	}
}

// A spent budget is a result: nothing failed.
func TestSpentBudgetIsAResult(t *testing.T) {
	t.Parallel()
	s, work := asks(t, answering(t, nil, nil).URL+"/v1")
	work.Budget.Calls = 4
	value, err := activityEnv(t, s).ExecuteActivity("AskPartition", work)
	var got PartitionResult
	if err != nil || value.Get(&got) != nil || got.Done || got.Stop != StopBudget || got.Spent.Calls > 4 || got.Spent.Calls == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRefusedKeyParksTheRun(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, http.StatusUnauthorized, `{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}`)
	s, work := asks(t, e.URL+"/v1")
	_, err := activityEnv(t, s).ExecuteActivity("AskPartition", work)
	if trouble, known := TroubleOf(err); !known || trouble.Class != "auth" || !strings.Contains(trouble.Way, "provider p accepts") {
		t.Errorf("%v: %+v", err, trouble)
	}
	work.Model.Provider = "none"
	_, err = activityEnv(t, s).ExecuteActivity("AskPartition", work)
	if trouble, known := TroubleOf(err); !known || trouble.Way == "" {
		t.Errorf("no such provider: %v", err)
	}
}
