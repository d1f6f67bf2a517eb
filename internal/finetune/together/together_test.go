package together

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/finetunetest"
	"github.com/selfalign/selfalign/internal/finetune/rest"
)

func setup(t *testing.T, s *service, change ...func(*Config)) (func(t *testing.T) finetune.Backend, *blob.Store) {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	st := s3test.Store(t)
	return func(t *testing.T) finetune.Backend {
		cfg := Config{Config: rest.Config{
			URL: srv.URL + "/v1", Key: func() string { return testKey }, Attempts: 3, Backoff: 5 * time.Millisecond, MaxBackoff: time.Second,
		}}
		for _, c := range change {
			c(&cfg)
		}
		b, err := New(cfg, st)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, st
}

func TestConformance(t *testing.T) {
	t.Parallel()
	finetunetest.Exercise(t, func(t *testing.T) finetunetest.World {
		s := &service{}
		fresh, st := setup(t, s)
		return finetunetest.World{
			Store: st, Backend: fresh, Quick: "quick", Endless: "endless", Broken: "broken", LastWords: "exploded",
			Secrets: []string{testKey}, NotExpressed: true, Estimates: true,
			Started: func(_ *testing.T, key string) (n int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, c := range s.sent {
					if strings.HasSuffix(c["suffix"].(string), finetune.Job{Key: key}.Digest()) {
						n++
					}
				}
				return n
			},
			Left: func(*testing.T, string) (left []string) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, f := range s.files {
					left = append(left, f["filename"].(string))
				}
				return left
			},
		}
	})
}

// TestRecipe shows the paper's recipe for 3,200 examples on the wire.
func TestRecipe(t *testing.T) {
	t.Parallel()
	job := finetune.Job{Key: "run/M_1", BaseModel: "meta/base", Suffix: "my run m1", Examples: 3200, Hyper: finetune.PaperHyper(3200), Seed: -7}
	for _, c := range []struct {
		rank int
		want string
	}{
		{0, `{"type":"Full"}`},
		{64, `{"type":"Lora","lora_r":64,"lora_alpha":128,"lora_dropout":0.1,"lora_trainable_modules":"all-linear"}`},
	} {
		b := &Backend{cfg: Config{LoRA: c.rank}}
		body := b.createOf(job)
		body.TrainingFile = "file-1"
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		want := `{"training_file":"file-1","model":"meta/base","packing":false,"n_epochs":5,"n_checkpoints":1,"n_evals":0,"batch_size":32,` +
			`"learning_rate":0.00001,"lr_scheduler":{"lr_scheduler_type":"linear","lr_scheduler_args":{"min_lr_ratio":0.9}},"warmup_ratio":0,` +
			`"weight_decay":0.1,"random_seed":` + seedText(raw) + `,"suffix":"` + job.Label(maxSuffix) + `",` +
			`"training_method":{"method":"sft","train_on_inputs":false},"training_type":` + c.want + `}`
		if diff := cmp.Diff(strings.ReplaceAll(want, "0.9}", "RATIO}"), strings.NewReplacer("0.8999999999999999}", "RATIO}", "0.9}", "RATIO}", "1e-05", "0.00001").Replace(string(raw))); diff != "" {
			t.Error(diff)
		}
		if body.RandomSeed < 0 || len(body.Suffix) > maxSuffix {
			t.Errorf("%+v", body)
		}
	}
}

func seedText(raw []byte) string {
	var c struct {
		Seed json.Number `json:"random_seed"`
	}
	_ = json.Unmarshal(raw, &c)
	return c.Seed.String()
}

func TestLostRepliesMakeNothingTwice(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		s := &service{loseCreate: true, loseUpload: true, forgetSuffix: forget}
		fresh, st := setup(t, s)
		w := finetunetest.World{Store: st}
		job := finetunetest.NewJob(t, w, "lost", "quick", 12)
		id, err := fresh(t).Submit(t.Context(), job)
		if err != nil || id != "ft-0" || len(s.sent) != 1 || len(s.files) != 1 {
			t.Errorf("forget %v: %q, %v; %d jobs, %d files", forget, id, err, len(s.sent), len(s.files))
		}
	}
}

func TestCostAndValidation(t *testing.T) {
	t.Parallel()
	s := &service{noMetrics: true}
	fresh, st := setup(t, s)
	w := finetunetest.World{Store: st}
	job := finetunetest.NewJob(t, w, "cost", "quick", 12)
	job.Validation = job.Training
	b := fresh(t)
	id, err := b.Submit(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	status := finetunetest.Await(t, b, id, finetunetest.Ended)
	if !status.CostKnown || status.CostMicroUSD != 1_500_000 || status.TrainedTokens != 1234 || status.Steps != 1000 {
		t.Errorf("%+v", status)
	}
	if s.sent[0]["validation_file"] != "file-1" || s.sent[0]["n_evals"] != s.sent[0]["n_epochs"] {
		t.Errorf("%v", s.sent[0])
	}
}

// TestEstimateWithoutTheService falls back on tokens times price.
func TestEstimateWithoutTheService(t *testing.T) {
	t.Parallel()
	s := &service{noEstimate: true}
	fresh, st := setup(t, s, func(c *Config) { c.Price = map[string]float64{"qu*": 10} })
	job := finetunetest.NewJob(t, finetunetest.World{Store: st}, "estimate", "quick", 120)
	little, enough := int64(100), int64(10_000_000)
	job.MaxMicroUSD = &little
	if _, err := fresh(t).Submit(t.Context(), job); finetune.ClassOf(err) != finetune.ClassBudget {
		t.Errorf("%v", err)
	}
	job.MaxMicroUSD = &enough
	if _, err := fresh(t).Submit(t.Context(), job); err != nil {
		t.Error(err)
	}
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"id":"x","status":"running","events":[{"step":-1,"total_steps":9}],"training_type":{}}`))
	f.Add([]byte(`{"id":"x","status":"completed","model_output_name":"m","total_price":-1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(raw) }))
		defer srv.Close()
		client, err := rest.New(rest.Config{URL: srv.URL, Attempts: 1, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		st, err := (&Backend{api: client}).Poll(t.Context(), "x")
		if err == nil && (st.State == "" || st.Step < 0 || st.CostMicroUSD < 0) {
			t.Fatalf("%+v", st)
		}
	})
}
