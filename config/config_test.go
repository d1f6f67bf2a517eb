package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/selfalign/selfalign/config"
)

var update = flag.Bool("update", false, "write golden files and JSON Schemas")

const goodRun = `
name: demo
seeds: [{path: seeds.jsonl}]
documents:
  - path: pages/
    format: html
model: {base: b, trainer: t}
`

const goodWorker = `
store: {bucket: data}
providers:
  p:
    url: https://api.example.com/v1
    key_env: EXAMPLE_KEY
    prices:
      "ft:b*": {input: 1, output: 2, as_of: 2026-11-01}
      judge: {input: 3, output: 4}
trainers:
  t: {backend: openai, provider: p}
servers:
  t: {backend: openai, provider: p}
`

// Each file in testdata holds one bad input (run.yaml or worker.yaml) and every message that it must bring.
func TestMessages(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in, want := archive.Files[0], &archive.Files[len(archive.Files)-1]
			var got error
			switch in.Name {
			case "run.yaml":
				_, got = config.ParseRun(in.Name, in.Data)
			case "worker.yaml":
				_, got = config.ParseWorker(in.Name, in.Data)
			default:
				t.Fatalf("first file is %q", in.Name)
			}
			if got == nil {
				t.Fatal("accepted")
			}
			if *update {
				want.Data = []byte(got.Error() + "\n")
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), got.Error()+"\n"); diff != "" {
				t.Errorf("messages differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultsSurviveWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	run, err := config.ParseRun("run.yaml", []byte(goodRun+"augment: {temperature: 0}\nrate:\n"))
	if err != nil {
		t.Fatal(err)
	}
	if run.Augment.Temperature != 0 || run.Augment.TopP != 0.9 || run.Augment.MaxTokens != 512 {
		t.Errorf("augment is %+v", run.Augment)
	}
	if diff := cmp.Diff(config.DefaultRun().Rate, run.Rate); diff != "" {
		t.Errorf("rate differs from the default:\n%s", diff)
	}
	if s := run.Seeds[0]; s.Format != "auto" || s.Instruction != "instruction" || s.Language != "en" {
		t.Errorf("source is %+v", s)
	}
	worker, err := config.ParseWorker("worker.yaml", []byte(goodWorker))
	if err != nil {
		t.Fatal(err)
	}
	if p := worker.Providers["p"]; p.API != "chat" || time.Duration(p.Timeout) != 2*time.Minute || p.Limits.InFlight != 64 {
		t.Errorf("provider is %+v", p)
	}
	if time.Duration(worker.Process.StopTimeout) != 30*time.Second || worker.Temporal.Queue != "selfalign" {
		t.Errorf("worker is %+v", worker)
	}
}

func TestNumbersInAnyNotation(t *testing.T) {
	t.Parallel()
	run, err := config.ParseRun("r", []byte(goodRun+"budget: {calls: 1e6, tokens: 2_000_000, usd: 12}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Budget{USD: 12, Calls: 1e6, Tokens: 2e6}, run.Budget); diff != "" {
		t.Error(diff)
	}
}

func TestAugmentMode(t *testing.T) {
	t.Parallel()
	judge := &config.Judge{Provider: "p", Model: "m"}
	for _, tt := range []struct {
		mode  string
		judge *config.Judge
		want  string
	}{
		{"auto", nil, "once"},
		{"auto", judge, "each"},
		{"once", judge, "once"},
		{"each", nil, "each"},
		{"", nil, "once"},
	} {
		run := config.DefaultRun()
		run.Augment.Mode, run.Rate.Judge = tt.mode, tt.judge
		if got := run.AugmentMode(); got != tt.want {
			t.Errorf("mode %q with judge %v is %s, want %s", tt.mode, tt.judge, got, tt.want)
		}
	}
}

func TestDigestFollowsValuesOnly(t *testing.T) {
	t.Parallel()
	parse := func(s string) config.Run {
		run, err := config.ParseRun("r", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return run
	}
	a := config.Digest(parse(goodRun))
	if b := config.Digest(parse("# a comment\n" + goodRun + "iterations: 2\n")); a != b {
		t.Error("a comment or a written-out default changes the digest")
	}
	if b := config.Digest(parse(goodRun + "iterations: 3\n")); a == b {
		t.Error("another value keeps the digest")
	}
	if len(a) != 64 {
		t.Errorf("digest %q", a)
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	run, err := config.ParseRun("run.yaml", []byte(goodRun), "augment.temperature=0.2", "seeds[0].path=other.jsonl", "name=007",
		"rate.judge.model=gpt", "rate.judge.provider=p", "approve=[finetune]")
	if err != nil {
		t.Fatal(err)
	}
	if run.Augment.Temperature != 0.2 || run.Seeds[0].Path != "other.jsonl" || run.Name != "007" || run.Rate.Judge.Model != "gpt" || len(run.Approve) != 1 {
		t.Errorf("run is %+v", run)
	}
	_, err = config.ParseRun("run.yaml", []byte(goodRun), "augment.temprature=1", "iterations=many", "seeds[3].path=x", "nothing", "curate.threshold=9")
	want := strings.TrimSpace(`
run.yaml: --set augment.temprature: unknown field "augment.temprature". Try: temperature (got "1")
run.yaml: --set iterations: must be a whole number (got "many")
run.yaml: --set seeds[3].path: seeds has no entry [3] (got "x")
run.yaml: --set: must be path=value (got "nothing"). Try: --set augment.temperature=0.2
run.yaml:1: curate.threshold: must be from 1 to 5 (got 9)`)
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestCheckTogether(t *testing.T) {
	t.Parallel()
	worker, err := config.ParseWorker("worker.yaml", []byte(goodWorker))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, more, want string }{
		{"fits", "", ""},
		{"priced", "budget: {usd: 5}\nrate: {judge: {provider: p, model: judge}}\n", ""},
		{
			"unpriced judge", "budget: {usd: 5}\nrate: {judge: {provider: p, model: other}}\n",
			`budget.usd: cannot be kept: the worker's settings have no price for model "other" at provider p (got 5). Try: providers.p.prices, or a budget in calls or tokens`,
		},
		{
			"unknown judge", "rate: {judge: {provider: q, model: other}}\n",
			`rate.judge.provider: no provider of this name in the worker's settings (got "q"). Try: one of p`,
		},
	} {
		run, err := config.ParseRun("run.yaml", []byte(goodRun+tt.more))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := config.CheckTogether(run, worker); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	run := config.DefaultRun()
	run.Model = config.Model{Base: "b", Trainer: "none", Server: "nowhere", Provider: "nobody"}
	var all *config.Error
	if err := config.CheckTogether(run, worker); !errors.As(err, &all) || len(all.Problems) != 3 {
		t.Errorf("got %v, want three problems", err)
	}
}

func TestPrice(t *testing.T) {
	t.Parallel()
	p := config.Provider{Prices: map[string]config.Price{
		"m": {Input: 1}, "m*": {Input: 2}, "mo*": {Input: 3}, "free": {},
	}}
	for model, want := range map[string]float64{"m": 1, "max": 2, "model": 3, "free": 0, "other": -1} {
		price, ok := p.Price(model)
		if got := price.Input; (want < 0) == ok || (ok && got != want) {
			t.Errorf("price of %s is %v, %v; want %v", model, got, ok, want)
		}
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"too long":         strings.Repeat("#", 1<<20+1),
		"flow nesting":     "a: " + strings.Repeat("[", 1<<19),
		"flow maps":        strings.Repeat("{a: ", 1<<17),
		"entries nesting":  strings.Repeat("- ", 1<<18),
		"keys nesting":     strings.Repeat("? ", 1<<18),
		"tags":             strings.Repeat("!!a ", 1<<17),
		"alias bomb":       "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
		"merge":            "a: {x: 1}\n<<: {b: 2}\n",
		"two documents":    goodRun + "---\n" + goodRun,
		"bytes":            "\x00\xff\xfe",
		"quotes":           strings.Repeat("\"", 1<<19+1),
		"indented nesting": nested(1000),
		"many keys":        "budget:\n" + strings.Repeat("  calls: 1\n", 60_000),
		"many values":      "approve: [" + strings.Repeat("a,", 200_000) + "a]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := config.ParseRun("run.yaml", []byte(body))
			if err == nil {
				t.Fatal("accepted")
			}
			if n := len(err.Error()); n > 20_000 {
				t.Errorf("message of %d bytes", n)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func nested(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goodRun))
	f.Add([]byte(goodWorker))
	f.Add([]byte("name: [a, {b: c}]\nseeds: {path: 1}\nseeds: ~\n"))
	f.Add([]byte("budget: {usd: .inf, calls: 0x1F, tokens: 99999999999999999999}\n"))
	f.Add([]byte("process: {stop_timeout: 5, queues: [llm, llm]}\nproviders: {p: {key_env: sk-secret}}\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		run, err := config.ParseRun("run.yaml", body)
		if err == nil {
			if again := run.Validate(); again != nil {
				t.Errorf("accepted, then refused: %v", again)
			}
			config.Digest(run)
		}
		worker, err := config.ParseWorker("worker.yaml", body)
		if err == nil && worker.Validate() != nil {
			t.Error("accepted, then refused")
		}
	})
}

// Every backend of servers wants what it cannot do without, and nothing that means something to another one only.
func TestServers(t *testing.T) {
	t.Parallel()
	const head = "store: {bucket: b}\nproviders: {p: {url: 'http://h:8001/v1'}, p2: {url: 'http://h:8002/v1'}, same: {url: 'http://g:8001/v1'}, none: {url: 'http://h/v1'}}\nservers:\n  s: "
	for server, want := range map[string]string{
		"{backend: vllm, provider: p, dir: d}":                                               "",
		"{backend: ollama, provider: p}":                                                     "",
		"{backend: command, provider: p, slots: [p2], command: [x], dir: d}":                 "",
		"{backend: vllm, provider: p}":                                                       "servers.s.dir: is missing",
		"{backend: vllm, provider: p, dir: d, model: '{run}-{role}'}":                        "servers.s.model: must have {digest}",
		"{backend: vllm, provider: p, dir: d, model: '{x}'}":                                 "servers.s.model: may have only",
		"{backend: vllm, provider: p, dir: d, urls: ['ftp://x']}":                            "servers.s.urls[0]: must be an address",
		"{backend: ollama, provider: p, urls: ['http://x/v1']}":                              "servers.s.urls: means something to backend vllm only",
		"{backend: openai, provider: p, from: x}":                                            "servers.s.from: means something to backend ollama only",
		"{backend: command, provider: p, command: [x], dir: d}":                              "servers.s.slots: is missing",
		"{backend: command, provider: p, slots: [p2], dir: d}":                               "servers.s.command: is missing",
		"{backend: command, provider: p, slots: [same], command: [x], dir: d}":               "servers.s.slots[0]: has the port of provider p",
		"{backend: command, provider: none, slots: [p2], command: [x], dir: d}":              "servers.s.provider: the provider's url must have a port",
		"{backend: command, provider: p, slots: [p3], command: [x], dir: d}":                 "servers.s.slots[0]: no provider of this name",
		"{backend: command, provider: p, slots: [p2], command: [x], dir: d, health: health}": "servers.s.health: must begin with a slash",
	} {
		_, err := config.ParseWorker("worker.yaml", []byte(head+server+"\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", server, err, want)
		}
	}
	if _, err := config.ParseWorker("worker.yaml", []byte("store: {bucket: b}\nproviders: {p: {url: 'http://host /v1'}}\n")); err == nil || !strings.Contains(err.Error(), "must not have spaces") {
		t.Errorf("an address with a space: %v", err)
	}
}
