package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Backends of servers, beside those that are trainers too.
const (
	BackendVLLM   = "vllm"
	BackendOllama = "ollama"
)

// Server makes a trained model answer requests.
type Server struct {
	// How a trained model comes to answer: openai (it does by itself, under the name that the trainer gave it), static (somebody else sees to it, under a fixed name), vllm (its LoRA adapter is loaded into running vLLMs), ollama (a running Ollama makes it) or command (a program on the worker's machine is started for it).
	Backend string `yaml:"backend" json:"backend" jsonschema:"required,enum=openai,enum=static,enum=vllm,enum=ollama,enum=command"`
	// The provider at which it answers.
	Provider string `yaml:"provider" json:"provider" jsonschema:"required"`
	// Not for backend openai: the model's name. {run}, {iteration}, {role} (forward or backward), {model} (the trainer's name for it) and {digest} (of its training set) stand for those of the trained model. Backend static must have it; vllm, ollama and command need {run} and {digest} in it, and have a default.
	Model string `yaml:"model" json:"model"`
	// Ask a few questions of the trained model and of the base model at model.provider of the run, and block the run when all answers are the same: the adapter is then not in use.
	Differs bool `yaml:"differs" json:"differs"`
	// Backend vllm: addresses of all replicas, with /v1, where the provider's is that of a load balancer. Absent: the provider's.
	URLs []string `yaml:"urls" json:"urls" jsonschema:"maxItems=1000"`
	// Backends vllm and command: folder for models. For vllm it is shared by the workers with the role control and all replicas; for command it is on the worker's machine.
	Dir string `yaml:"dir" json:"dir"`
	// Backend vllm: the same folder as vLLM sees it, where that is another path.
	SeenAs string `yaml:"seen_as" json:"seen_as"`
	// Backend ollama: what Ollama calls the base model of adapters. Absent: as the run's model.base.
	From string `yaml:"from" json:"from"`
	// Backend ollama: quantization of whole models, such as q8_0 or q4_K_M.
	Quantize string `yaml:"quantize" json:"quantize"`
	// Backend command: program and arguments. {model}, {artifacts}, {name}, {host} and {port} stand for the description and the files of the model, its name, and where it shall listen.
	Command []string `yaml:"command" json:"command" jsonschema:"maxItems=1000"`
	// Backend command: names of environment variables that the program gets from the worker's besides the usual ones; NAME=value sets one.
	Env []string `yaml:"env" json:"env" jsonschema:"maxItems=1000"`
	// Backend command: path that answers with a status of 2xx once the program can be asked.
	Health string `yaml:"health" json:"health"`
	// Backend command: further providers, each with a port of its own, so that as many models can be served at once. A run has two served at a time.
	Slots []string `yaml:"slots" json:"slots" jsonschema:"maxItems=100,uniqueItems=true"`
	// Backend command: longest time from the start of the program until it can be asked.
	StartTimeout Duration `yaml:"start_timeout" json:"start_timeout" min:"1s" max:"24h"`
}

func (s *Server) setDefaults() {
	*s = Server{Health: "/v1/models", StartTimeout: Duration(15 * time.Minute)}
}

// Pattern returns the pattern of the names of trained models; "" where the trainer names them.
func (s Server) Pattern() string {
	switch {
	case s.Backend == BackendOpenAI:
		return ""
	case s.Model != "" || s.Backend == BackendStatic:
		return s.Model
	case s.Backend == BackendOllama:
		return "{run}:{role}-{iteration}-{digest}" // Ollama allows 80 characters before the colon and 80 behind it
	}
	return "{run}-{role}-{iteration}-{digest}"
}

// Providers returns every provider at which models of this server may answer.
func (s Server) Providers() []string { return append([]string{s.Provider}, s.Slots...) }

func (ps *problems) servers(w Worker) {
	for _, name := range names(w.Servers) {
		at, s := join("servers", name), w.Servers[name]
		ps.name(at, name)
		if s.Provider != "" {
			ps.reference(at+".provider", s.Provider, "provider", w.Providers)
			ps.addressed(at+".provider", s.Provider, w)
		}
		switch s.Backend {
		case BackendStatic:
			ps.pattern(at+".model", s.Model)
		case BackendVLLM, BackendOllama, BackendCommand:
			ps.ownPattern(at+".model", s.Pattern())
		}
		for i, u := range s.URLs {
			ps.address(at+".urls["+strconv.Itoa(i)+"]", u)
		}
		if s.Backend == BackendVLLM && s.Dir == "" {
			ps.add(at+".dir", "is missing", "", "a folder that the workers with the role control and every vLLM see")
		}
		if s.Backend == BackendCommand {
			ps.commandServer(at, s, w)
		}
		for _, f := range []struct {
			name, backend string
			set           bool
		}{
			{"urls", BackendVLLM, len(s.URLs) > 0},
			{"seen_as", BackendVLLM, s.SeenAs != ""},
			{"from", BackendOllama, s.From != ""},
			{"quantize", BackendOllama, s.Quantize != ""},
			{"command", BackendCommand, len(s.Command) > 0},
			{"env", BackendCommand, len(s.Env) > 0},
			{"slots", BackendCommand, len(s.Slots) > 0},
		} {
			if f.set && s.Backend != "" && s.Backend != f.backend {
				ps.add(at+"."+f.name, "means something to backend "+f.backend+" only", "", "remove it")
			}
		}
	}
}

func (ps *problems) commandServer(at string, s Server, w Worker) {
	if len(s.Command) == 0 {
		ps.add(at+".command", "is missing", "", `[vllm, serve, "{artifacts}", --port, "{port}", --served-model-name, "{name}"]`)
	}
	if s.Dir == "" {
		ps.add(at+".dir", "is missing", "", "a folder on the worker's machine that outlives the worker")
	}
	if len(s.Slots) == 0 {
		ps.add(at+".slots", "is missing: a run has two models served at a time, each at a port of its own", "", "the name of a second provider")
	}
	if !strings.HasPrefix(s.Health, "/") {
		ps.add(at+".health", "must begin with a slash", quote(s.Health), "/v1/models")
	}
	ports := map[string]string{}
	for i, name := range s.Providers() {
		where := at + ".provider"
		if i > 0 {
			where = at + ".slots[" + strconv.Itoa(i-1) + "]"
			ps.reference(where, name, "provider", w.Providers)
		}
		u, err := url.Parse(w.Providers[name].URL)
		if _, known := w.Providers[name]; !known || err != nil {
			continue
		}
		switch {
		case u.Port() == "":
			ps.add(where, "the provider's url must have a port, at which the program shall listen", quote(name), "http://127.0.0.1:8001/v1")
		case ports[u.Port()] != "":
			ps.add(where, "has the port of provider "+ports[u.Port()], quote(name), "a port for each")
		}
		ports[u.Port()] = name
	}
}

// ownPattern checks the names of models that a server makes itself.
func (ps *problems) ownPattern(at, model string) {
	rest := strings.NewReplacer("{run}", "", "{iteration}", "", "{role}", "", "{model}", "", "{digest}", "").Replace(model)
	if strings.ContainsAny(rest, "{}") {
		ps.add(at, "may have only {run}, {iteration}, {role}, {model} and {digest} in braces", quote(model), "")
		return
	}
	if missing := slices.DeleteFunc([]string{"{run}", "{digest}"}, func(f string) bool { return strings.Contains(model, f) }); len(missing) > 0 {
		ps.add(at, "must have "+strings.Join(missing, " and ")+", so that no two models have one name", quote(model), `"{run}-{role}-{iteration}-{digest}"`)
	}
}
