package config

import (
	"regexp"
	"strings"
)

// InferenceEndpoint names a Hugging Face Inference Endpoint. Where it answers is looked up when it is asked, and requests wait while
// it starts: one that was scaled to zero is woken by them.
type InferenceEndpoint struct {
	// The user or organisation that it belongs to.
	Namespace string `yaml:"namespace" json:"namespace" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]{0\\,95}$"`
	// Its name.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9-]{0\\,62}$"`
	// Address of an API other than https://api.endpoints.huggingface.cloud.
	API string `yaml:"api" json:"api"`
}

// tokenizerIDs are ids of the Hub with a revision; anything else is a path.
var tokenizerIDs = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?$`)

// HubTokenizer returns the id and revision ("": main) of a tokenizer of the Hub; ok is false for a path, and where there is none. What
// is written tells, not what lies on a machine, so that all workers understand the same.
func (p Provider) HubTokenizer() (id, revision string, ok bool) {
	name, marked := strings.CutPrefix(p.Tokenizer, "hf://")
	m := tokenizerIDs.FindStringSubmatch(name)
	if m == nil || (!marked && strings.HasSuffix(name, ".json")) {
		return "", "", false
	}
	return m[1], m[2], true
}

// address checks where a provider is: an address, or an Inference Endpoint by name.
func (ps *problems) providerAddress(at string, p Provider) {
	if p.Tokenizer != "" && p.API != "completions" {
		ps.add(at+".tokenizer", "is for api completions: a chat API applies the model's template itself", quote(p.Tokenizer), "api: completions")
	}
	if _, _, ok := p.HubTokenizer(); !ok && strings.HasPrefix(p.Tokenizer, "hf://") {
		ps.add(at+".tokenizer", "must name a model of the Hub", quote(p.Tokenizer), "hf://owner/name or hf://owner/name@revision")
	}
	e := p.InferenceEndpoint
	switch {
	case e == nil && p.URL == "":
		ps.add(at+".url", "is missing", "", "http://127.0.0.1:8000/v1, or inference_endpoint: {namespace: me, name: my-endpoint}")
	case e == nil:
		ps.address(at+".url", p.URL)
	case p.URL != "":
		ps.add(at+".inference_endpoint", "cannot stand beside url", quote(e.Name), "remove one of both")
	}
	if e == nil {
		return
	}
	ps.address(at+".inference_endpoint.api", e.API)
	if p.KeyEnv == "" {
		ps.add(at+".key_env", "is missing: the name is looked up with a token", "", "HF_TOKEN")
	}
	if p.Batch {
		ps.add(at+".batch", "is not had by an Inference Endpoint", "true", "remove it")
	}
}

// addressed reports a provider that is known by name alone, where a backend needs its address.
func (ps *problems) addressed(at, name string, w Worker) {
	if p, known := w.Providers[name]; known && p.InferenceEndpoint != nil {
		ps.add(at, "must be a provider with a url: an Inference Endpoint answers, and does nothing else", quote(name), "")
	}
}
