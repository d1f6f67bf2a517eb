package vllm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/servetest"
)

const pattern = "{run}-{role}-{iteration}-{digest}"

func trained(n int) serve.Trained {
	return serve.Trained{
		Run: "demo", Iteration: n, Model: "adapter", Artifact: fmt.Sprintf("runs/demo/%02d/train/m", n), TrainingDigest: fmt.Sprintf("m%d-%016x", n, n+77),
	}
}

// world is a store with three adapters, a shared folder and two replicas.
type world struct {
	store *blob.Store
	dir   string
	vllms []*servetest.VLLM
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{store: s3test.Store(t), dir: t.TempDir()}
	for n := range 3 {
		servetest.LeaveArtifact(t, w.store, trained(n).Artifact, map[string]string{
			"adapter_config.json": `{"r": 8}`, "adapter_model.safetensors": strings.Repeat("w", 1000), "logs/train.txt": "x",
		})
	}
	for range 2 {
		w.vllms = append(w.vllms, servetest.NewVLLM(t, "base", "secret"))
	}
	return w
}

func (w *world) server(t *testing.T) *Server {
	t.Helper()
	s, err := New(Config{
		Provider: "p", URLs: []string{w.vllms[0].URL, w.vllms[1].URL}, Key: func() string { return "secret" }, Model: pattern, Dir: w.dir,
	}, w.store)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servetest.Exercise(t, "p", func(t *testing.T) serve.Server { return w.server(t) }, trained)
}

// Every replica loads the model once, has it again after it was restarted, and loses it with its files at teardown.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref, err := w.server(t).Deploy(t.Context(), trained(1))
	if err != nil {
		t.Fatal(err)
	}
	if want := "demo-forward-1-m1-000000000"; ref.Name != want {
		t.Errorf("name %s, want %s", ref.Name, want)
	}
	w.vllms[0].Restart()
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2, 1} {
		if got := w.vllms[i].Adapters()[ref.Name]; got != want {
			t.Errorf("replica %d loaded the model %d times, want %d", i, got, want)
		}
	}
	w.vllms[1].Evict(ref.Name)
	if err := w.server(t).Teardown(t.Context(), trained(1)); err != nil {
		t.Fatal(err)
	}
	for i, v := range w.vllms {
		if left := v.Adapters(); len(left) != 0 {
			t.Errorf("replica %d still has %v", i, left)
		}
	}
	if left, err := os.ReadDir(w.dir); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// A replica that is away is waited for by whoever tries again, and the others are not held up by it.
func TestReplicaIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.vllms[1].Down(true)
	_, err := w.server(t).Deploy(t.Context(), trained(1))
	if err == nil || errors.As(err, new(*serve.Error)) || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("%v", err)
	}
	if len(w.vllms[0].Adapters()) != 1 {
		t.Error("the replica that is there was not loaded")
	}
	if err := w.server(t).Teardown(t.Context(), trained(1)); err == nil {
		t.Error("teardown passes though a replica may have the model")
	}
	w.vllms[1].Down(false)
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil {
		t.Error(err)
	}
}

// Files that somebody's teardown took away while they were loaded are copied again by whoever tries again.
func TestTakenDownWhileLoading(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.vllms[0].Refuse(func(name string) (int, string) {
		if err := os.RemoveAll(filepath.Join(w.dir, folder(trained(1)))); err != nil {
			t.Error(err)
		}
		return http.StatusNotFound, "No adapter found for " + name
	})
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err == nil || errors.As(err, new(*serve.Error)) || !strings.Contains(err.Error(), "taken down") {
		t.Error(err)
	}
	w.vllms[0].Refuse(nil)
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil {
		t.Error(err)
	}
}

// What a person must mend is told with what to do about it.
func TestWhatNeedsAPerson(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		spoil func(w *world, cfg *Config, m *serve.Trained)
		want  string // in the error
		way   string
	}{
		"updating is off": {func(w *world, _ *Config, _ *serve.Trained) { w.vllms[1].SwitchOff() }, "does not load adapters", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"},
		"wrong key":       {func(_ *world, c *Config, _ *serve.Trained) { c.Key = nil }, "refuses the key", "key_env"},
		"elsewhere":       {func(_ *world, c *Config, _ *serve.Trained) { c.SeenAs = "/nowhere" }, "does not find the files", "seen_as"},
		"no artefact":     {func(_ *world, _ *Config, m *serve.Trained) { m.Artifact = "" }, "left no files", "trainer"},
		"an empty prefix": {func(_ *world, _ *Config, m *serve.Trained) { m.Artifact = "runs/other" }, "holds 0 files", "look"},
		"rank, as newer versions say it": {func(w *world, _ *Config, _ *serve.Trained) {
			w.vllms[0].Refuse(func(string) (int, string) {
				return http.StatusInternalServerError, "LoRA rank 64 is greater than max_lora_rank 16."
			})
		}, "greater than max_lora_rank", "--max-lora-rank"},
		"rank, as older versions say it": {func(w *world, _ *Config, _ *serve.Trained) {
			w.vllms[0].Old()
			w.vllms[0].Refuse(func(string) (int, string) {
				return http.StatusBadRequest, "LoRA rank 64 is greater than max_lora_rank 16."
			})
		}, "greater than max_lora_rank", "--max-lora-rank"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cfg, m := w.server(t).cfg, trained(1)
			cfg.SeenAs = ""
			c.spoil(w, &cfg, &m)
			s, err := New(cfg, w.store)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Deploy(t.Context(), m)
			var wrong *serve.Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) || !strings.Contains(wrong.Way, c.way) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v; way %v", err, wrong)
			}
		})
	}
}

// A model with all its weights is no adapter.
func TestWholeModelsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := trained(1)
	m.Artifact = "runs/demo/01/train/whole"
	servetest.LeaveArtifact(t, w.store, m.Artifact, map[string]string{"config.json": "{}", "model.safetensors": "x"})
	if _, err := w.server(t).Deploy(t.Context(), m); !errors.As(err, new(*serve.Error)) || !strings.Contains(err.Error(), "no adapter_config.json") {
		t.Error(err)
	}
}

// Files whose content is not what the trainer wrote are never put into place.
func TestSpoiledFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.store.Put(t.Context(), trained(1).Artifact+"/adapter_model.safetensors", []byte(strings.Repeat("v", 1000))); err != nil {
		t.Fatal(err)
	}
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err == nil || !strings.Contains(err.Error(), "the trainer wrote") {
		t.Error(err)
	}
	if left, err := os.ReadDir(w.dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A copy that died on the way is no model, and is removed once it is old.
func TestDeathWhileCopying(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dead := filepath.Join(w.dir, ".copy-dead")
	if err := os.MkdirAll(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(dead, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := w.server(t).Deploy(t.Context(), trained(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Error("the dead copy stays")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.server(t).Teardown(ctx, trained(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("teardown of an ended context: %v", err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := Config{Provider: "p", URLs: []string{"http://x/v1"}, Model: pattern, Dir: "d"}
	for about, spoil := range map[string]func(*Config){
		"no provider": func(c *Config) { c.Provider = "" },
		"no url":      func(c *Config) { c.URLs = nil },
		"no folder":   func(c *Config) { c.Dir = "" },
		"one name":    func(c *Config) { c.Model = "{run}-{role}-{iteration}" },
	} {
		c := good
		spoil(&c)
		if _, err := New(c, &blob.Store{}); err == nil {
			t.Error(about)
		}
	}
}
