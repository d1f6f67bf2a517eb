package webhook

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

const (
	testSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

func setup(t *testing.T, secret string) (*service, func(t *testing.T) finetune.Backend, *blob.Store) {
	t.Helper()
	s := &service{secret: testSecret, jobs: map[string]*training{}, received: map[string]bool{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	st := s3test.Store(t)
	return s, func(t *testing.T) finetune.Backend {
		b, err := New(Config{
			Config: rest.Config{URL: srv.URL + "/jobs", Attempts: 3, Backoff: 5 * time.Millisecond, MaxBackoff: time.Second},
			Secret: func() string { return secret },
		}, st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, st
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		s, fresh, st := setup(t, testSecret)
		s.loseClean = true
		return finetunetest.World{
			Store: st, Backend: fresh, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded",
			Secrets: []string{testSecret, strings.TrimPrefix(testSecret, "whsec_")}, NotExpressed: true, Estimates: true,
			Started: func(_ *testing.T, key string) (n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, o := range s.orders {
					if o.Key == key {
						n++
					}
				}
				return n
			},
			Left: func(_ *testing.T, key string) []string {
				s.mu.Lock()
				defer s.mu.Unlock()
				if j := s.jobs[finetune.NameOf(key)]; j != nil && j.copied {
					return []string{"a copy of the training file"}
				}
				return nil
			},
		}
	})
}

// A service that knows no cleaning up is let be, and so is one whose owner wants to keep what jobs leave.
func TestNothingIsCleanedUp(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, testSecret)
	b := fresh(t).(*Backend)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "kept", "quick", 12))
	if err != nil {
		t.Fatal(err)
	}
	finetunetest.Await(t, b, id, finetunetest.Ended)
	s.plain = true
	if err := b.Clean(t.Context(), id); err != nil {
		t.Error(err)
	}
	s.plain, b.keep = false, true
	if err := b.Clean(t.Context(), id); err != nil || !s.jobs[id].copied {
		t.Errorf("%v, there still: %v", err, s.jobs[id].copied)
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	s, fresh, st := setup(t, otherSecret+"  "+testSecret) // one secret replaces another
	s.loseSubmit = true
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "order", "quick", 12)
	job.Validation, job.Callback = job.Training, "https://here/finetune/t/w"
	b := fresh(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil || len(s.orders) != 1 {
		t.Fatalf("%v; %d orders", err, len(s.orders))
	}
	o := s.orders[0]
	if o.ID != id || o.CallbackURL != job.Callback || o.TrainingFile != st.URI(job.Training) || o.ValidationURL == "" || o.Hyper != job.Hyper || o.Seed != 7 {
		t.Errorf("%+v", o)
	}
	end := finetunetest.Await(t, b, id, finetunetest.Ended)
	if !end.CostKnown || end.CostMicroUSD != 1_500_000 || end.Artifact != job.Artifacts+"/adapter" || end.Model != "mine/"+id {
		t.Errorf("%+v", end)
	}
}

// A service that repeats the address of the training file in its words does not have it shown.
func TestPresignedAddressesAreHidden(t *testing.T) {
	t.Parallel()
	_, fresh, st := setup(t, testSecret)
	b := fresh(t)
	id, err := b.Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "hidden", "broken", 12))
	if err != nil {
		t.Fatal(err)
	}
	end := finetunetest.Await(t, b, id, finetunetest.Ended)
	if !strings.Contains(end.Message, "X-Amz-Signature=***") || !strings.Contains(end.Message, "X-Amz-Credential=***") {
		t.Errorf("%s", end.Message)
	}
}

func TestSecretsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"", "whsec_short", "whsec_c2hvcnQ=", otherSecret, "hunter2hunter2hunter2hunter2hunter2!"} {
		_, fresh, st := setup(t, secret)
		_, err := fresh(t).Submit(t.Context(), finetunetest.NewJob(t, finetunetest.World{Store: st}, "refused", "quick", 1))
		if finetune.ClassOf(err) != finetune.ClassAuth || secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

// TestSignature is the example of the specification's reference implementation.
func TestSignature(t *testing.T) {
	t.Parallel()
	key, err := standard.NewWebhook(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if err != nil || got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s, %v", got, err)
	}
	req := httptest.NewRequest(http.MethodPost, "/", nil)
	req.Header.Set(headerID, "submit-x")
	if err := sign(req, []byte("body"), otherSecret+" "+testSecret); err != nil {
		t.Fatal(err)
	}
	if err := key.Verify([]byte("body"), req.Header); err != nil {
		t.Error(err)
	}
	if err := key.Verify([]byte("bodY"), req.Header); !errors.Is(err, standard.ErrNoMatchingSignature) {
		t.Error(err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"id":"x","state":"succeeded","step":-1,"loss":1e308,"cost_usd":-1,"artifact":"s3://b/../x"}`))
	f.Add([]byte(`{"id":"x","state":"paused","not_expressed":["\u0000"],"tokens":-9}`))
	for _, raw := range []string{
		`{"id":"x","state":"succeeded","artifact":"s3://b/` + strings.Repeat("../", 50) + `","model":"` + strings.Repeat("m", 600) + `"}`,
		`{"state":"failed","message":"\ud800` + strings.Repeat("x", 300) + `"}`, `[{"id":{}}]`, `{"id":"x"}{"id":"y"}`, `null`, ``, "\xff\xfe",
		`{"loss":1e999,"step":1e30,"steps":-1}`, `{"not_expressed":[` + strings.Repeat(`"a",`, 60) + `"b"]}`, strings.Repeat(`{"id":`, 300), strings.Repeat("[", 11_000),
	} {
		f.Add([]byte(raw))
	}
	// One server for all: it is what says the bytes, not what is tried.
	var says atomic.Pointer[[]byte]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*says.Load()) }))
	f.Cleanup(srv.Close)
	client, err := rest.New(rest.Config{URL: srv.URL, Attempts: 1, Timeout: 5 * time.Second})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		says.Store(&raw)
		st, err := (&Backend{api: client, store: &blob.Store{}}).Poll(t.Context(), "x")
		if err == nil && (st.State == "" || st.Step < 0 || st.CostMicroUSD < 0 || st.TrainedTokens < 0 || len(st.Message) > finetune.MaxMessage) {
			t.Fatalf("%+v", st)
		}
	})
}
