package ollama

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/serve"
	"github.com/selfalign/selfalign/internal/serve/servetest"
)

const pattern = "{run}:{role}-{iteration}-{digest}"

func trained(n int) serve.Trained {
	return serve.Trained{
		Run: "demo", Iteration: n, Model: "adapter", Base: "llama3.2", Artifact: fmt.Sprintf("runs/demo/%02d/train/m", n),
		TrainingDigest: fmt.Sprintf("m%d-%016x", n, n+77),
	}
}

func server(t *testing.T, o *servetest.Ollama, store *blob.Store) *Server {
	t.Helper()
	s, err := New(Config{Provider: "p", URL: o.URL + "/v1", Model: pattern, Quantize: "q8_0"}, store)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	store, o := s3test.Store(t), servetest.NewOllama(t, "llama3.2")
	for n := range 3 {
		servetest.LeaveArtifact(t, store, trained(n).Artifact, map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": fmt.Sprint(n)})
	}
	servetest.Exercise(t, "p", func(t *testing.T) serve.Server { return server(t, o, store) }, trained)
}

// gguf is the head of a GGUF file with these fields of text, after fields of other types.
func gguf(fields ...string) string {
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) { put(uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(2))
	put(uint64(3 + len(fields)/2))
	text("general.alignment")
	put(uint32(4))
	put(uint32(32))
	text("tokens")
	put(uint32(9))
	put(uint32(8))
	put(uint64(2))
	text("a")
	text("b")
	text("scores")
	put(uint32(9))
	put(uint32(6))
	put(uint64(2))
	put([]float32{1, 2})
	for i := 0; i < len(fields); i += 2 {
		text(fields[i])
		put(uint32(8))
		text(fields[i+1])
	}
	b.WriteString("tensors")
	return b.String()
}

// Each kind of artefact becomes the model that Ollama can make of it.
func TestKindsOfArtefacts(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		files    map[string]string
		from     string
		adapters string
		whole    string
		quantize string
	}{
		"an adapter":             {map[string]string{"a/adapter_config.json": "{}", "a/adapter_model.safetensors": "w", "a/README.md": "", "checkpoint-1/optimizer.pt": "o"}, "llama3.2", "adapter_config.json adapter_model.safetensors", "", ""},
		"an adapter in GGUF":     {map[string]string{"out/lora.gguf": gguf("general.type", "adapter")}, "llama3.2", "lora.gguf", "", ""},
		"a model in GGUF":        {map[string]string{"model.gguf": gguf("general.type", "model"), "log.txt": "x"}, "", "", "model.gguf", ""},
		"a GGUF without a type":  {map[string]string{"model.gguf": gguf("general.name", "x")}, "", "", "model.gguf", ""},
		"the weights of a model": {map[string]string{"config.json": "{}", "model.safetensors": "w", "tokenizer.json": "{}", "train.log": "x"}, "", "", "config.json model.safetensors tokenizer.json", "q8_0"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store, o := s3test.Store(t), servetest.NewOllama(t, "llama3.2")
			servetest.LeaveArtifact(t, store, trained(1).Artifact, c.files)
			ref, err := server(t, o, store).Deploy(t.Context(), trained(1))
			if err != nil {
				t.Fatal(err)
			}
			m, ok := o.Models()[ref.Name]
			if !ok || m.From != c.from || m.Quantize != c.quantize {
				t.Errorf("%s: made %v from %q, quantized %q", ref.Name, ok, m.From, m.Quantize)
			}
			for what, sides := range map[string]struct {
				got  map[string]string
				want string
			}{"adapters": {m.Adapters, c.adapters}, "files": {m.Files, c.whole}} {
				if len(sides.got) != len(strings.Fields(sides.want)) {
					t.Errorf("%s: %v, want %s", what, sides.got, sides.want)
				}
				for _, name := range strings.Fields(sides.want) {
					if _, ok := sides.got[name]; !ok {
						t.Errorf("%s: no %s", what, name)
					}
				}
			}
			if err := server(t, o, store).Teardown(t.Context(), trained(1)); err != nil || len(o.Models()) != 1 {
				t.Errorf("after teardown %v, %v", o.Models(), err)
			}
		})
	}
}

// A creation that broke off is done again, and what was sent before is not sent again.
func TestCreationBreaksOff(t *testing.T) {
	t.Parallel()
	store, o := s3test.Store(t), servetest.NewOllama(t, "llama3.2")
	servetest.LeaveArtifact(t, store, trained(1).Artifact, map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": "w"})
	o.CutNextCreate()
	if _, err := server(t, o, store).Deploy(t.Context(), trained(1)); err == nil || errors.As(err, new(*serve.Error)) || len(o.Models()) != 1 {
		t.Errorf("%v, %v", err, o.Models())
	}
	for range 2 {
		if _, err := server(t, o, store).Deploy(t.Context(), trained(1)); err != nil {
			t.Fatal(err)
		}
	}
	if o.Pushes() != 2 || len(o.Models()) != 2 {
		t.Errorf("%d blobs were sent, models %v", o.Pushes(), o.Models())
	}
}

// Without a manifest of the trainer's the digests are taken here.
func TestWithoutAManifest(t *testing.T) {
	t.Parallel()
	store, o := s3test.Store(t), servetest.NewOllama(t, "llama3.2")
	for name, body := range map[string]string{"adapter_config.json": "{}", "adapter_model.safetensors": "w"} {
		if err := store.Put(t.Context(), trained(1).Artifact+"/"+name, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := server(t, o, store).Deploy(t.Context(), trained(1))
	if err != nil || o.Models()[ref.Name].Adapters["adapter_model.safetensors"] != "w" {
		t.Errorf("%v, %v", o.Models(), err)
	}
}

func TestWhatNeedsAPerson(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		files map[string]string
		model func(*serve.Trained)
		want  string
		way   string
	}{
		"no base":       {map[string]string{"adapter_config.json": "{}", "x.safetensors": ""}, func(m *serve.Trained) { m.Base = "mistral" }, "does not have the base model mistral", "ollama pull mistral"},
		"unknown base":  {map[string]string{"adapter_config.json": "{}", "x.safetensors": ""}, func(m *serve.Trained) { m.Base = "" }, "not known over which model", "from"},
		"nothing in it": {map[string]string{"log.txt": ""}, func(*serve.Trained) {}, "nothing that Ollama can read", "adapter"},
		"two files":     {map[string]string{"a.gguf": "x", "b.gguf": "y"}, func(*serve.Trained) {}, "2 GGUF files", "one of them"},
		"no GGUF":       {map[string]string{"a.gguf": "x"}, func(*serve.Trained) {}, "not a GGUF file", "GGUF"},
		"no weights":    {map[string]string{"adapter_config.json": "{}"}, func(*serve.Trained) {}, "unknown type", "objects"},
		"a long name":   {map[string]string{"adapter_config.json": "{}"}, func(m *serve.Trained) { m.Run = strings.Repeat("r", 81) }, "cannot call a model", "pattern"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store, o := s3test.Store(t), servetest.NewOllama(t, "llama3.2")
			m := trained(1)
			servetest.LeaveArtifact(t, store, m.Artifact, c.files)
			c.model(&m)
			_, err := server(t, o, store).Deploy(t.Context(), m)
			var wrong *serve.Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) || !strings.Contains(wrong.Way, c.way) {
				t.Errorf("%v; %v", err, wrong)
			}
			if len(o.Models()) != 1 {
				t.Errorf("models %v", o.Models())
			}
			if err := server(t, o, store).Teardown(t.Context(), m); err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzGGUFType(f *testing.F) {
	f.Add([]byte(gguf("general.type", "adapter")))
	f.Add([]byte("GGUF"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, err := ggufType(bytes.NewReader(raw))
		if len(kind) > 64<<10 || err != nil && kind != "" {
			t.Errorf("%q, %v", kind, err)
		}
	})
}
