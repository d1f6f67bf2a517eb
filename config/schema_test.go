package config_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	generate "github.com/invopop/jsonschema"
	check "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/selfalign/selfalign/config"
)

//go:generate go test -run TestSchemas -update

// The schemas in docs/ are made from the Go types: names, bounds and defaults from tags and Default…, descriptions from comments.
func TestSchemas(t *testing.T) {
	t.Parallel()
	for file, value := range map[string]any{"run": config.DefaultRun(), "worker": config.DefaultWorker(), "score": config.DefaultScore(), "eval": config.DefaultEvaluation()} {
		want := schemaOf(t, value)
		path := filepath.Join("..", "docs", file+".schema.json")
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // a document
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the types say; run go generate ./config (-want +got):\n%s", path, diff)
		}
	}
}

func schemaOf(t *testing.T, value any) []byte {
	t.Helper()
	r := generate.Reflector{RequiredFromJSONSchemaTags: true, DoNotReference: true, ExpandedStruct: true, Anonymous: true}
	if err := r.AddGoComments("github.com/selfalign/selfalign/config", "."); err != nil {
		t.Fatal(err)
	}
	// AddGoComments names the package by its folder, which is the current one.
	for k, v := range r.CommentMap {
		r.CommentMap[k] = strings.Join(strings.Fields(v), " ")
	}
	r.Mapper = func(t reflect.Type) *generate.Schema {
		if t == reflect.TypeFor[config.Duration]() {
			return &generate.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
		}
		return nil
	}
	schema := r.Reflect(value)
	schema.ID = ""
	body, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var tree, values map[string]any
	if json.Unmarshal(body, &tree) != nil || json.Unmarshal(defaults, &values) != nil {
		t.Fatal("schema is not JSON")
	}
	setDefaults(tree, values)
	properties := tree["properties"].(map[string]any) //nolint:forcetypeassert // a wrong schema may panic here
	for name, at := range map[string]string{"seeds": "items", "documents": "items", "providers": "additionalProperties", "trainers": "additionalProperties"} {
		if p, ok := properties[name].(map[string]any); ok { // what lists and maps hold has defaults too
			setDefaults(p[at].(map[string]any), elementDefaults(t, name)) //nolint:forcetypeassert // see above
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// setDefaults writes the values that are not zero into the properties of an object's schema as their defaults.
func setDefaults(object, values map[string]any) {
	properties, _ := object["properties"].(map[string]any)
	for name, p := range properties {
		property := p.(map[string]any) //nolint:forcetypeassert // invopop writes objects here
		switch v := values[name].(type) {
		case map[string]any:
			setDefaults(property, v)
		case float64:
			if v != 0 {
				property["default"] = v
			}
		case string:
			if v != "" {
				property["default"] = v
			}
		case []any:
			property["default"] = v
		}
	}
}

// elementDefaults returns what a fresh entry of a list or map holds.
func elementDefaults(t *testing.T, name string) map[string]any {
	t.Helper()
	run, err := config.ParseRun("r", []byte(goodRun))
	if err != nil {
		t.Fatal(err)
	}
	worker, err := config.ParseWorker("w", []byte("store: {bucket: b}\nproviders: {p: {url: 'http://h'}}\ntrainers: {t: {backend: openai, provider: p}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	source := run.Seeds[0]
	source.Path = ""
	provider, trainer := worker.Providers["p"], worker.Trainers["t"]
	provider.URL, trainer.Backend, trainer.Provider = "", "", ""
	body, err := json.Marshal(map[string]any{"seeds": source, "documents": source, "providers": provider, "trainers": trainer}[name])
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func compile(t *testing.T, name string) *check.Schema {
	t.Helper()
	schema, err := check.NewCompiler().Compile(filepath.Join("..", "docs", name+".schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func document(t *testing.T, body []byte) any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := check.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Every example is read by the program and accepted by the schema, and the run and worker of one folder fit together.
func TestExamples(t *testing.T) {
	t.Parallel()
	run, worker := compile(t, "run"), compile(t, "worker")
	specs, err := filepath.Glob("../examples/*/run.yaml")
	if err != nil || len(specs) < 3 {
		t.Fatalf("found the examples %v, want at least three: %v", specs, err)
	}
	for _, path := range specs {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := config.LoadRun(path)
		if err != nil {
			t.Error(err)
		}
		if err := run.Validate(document(t, body)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		settingsPath := filepath.Join(filepath.Dir(path), "worker.yaml")
		body, err = os.ReadFile(settingsPath)
		if os.IsNotExist(err) && strings.Contains(path, "quickstart") { // it makes its own
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		settings, err := config.LoadWorker(settingsPath)
		if err != nil {
			t.Error(err)
		}
		if err := worker.Validate(document(t, body)); err != nil {
			t.Errorf("%s: %v", settingsPath, err)
		}
		if err := config.CheckTogether(spec, settings); err != nil {
			t.Errorf("%s with its worker.yaml: %v", path, err)
		}
	}
}

// What the program refuses for a bound, the schema refuses too.
func TestSchemaRefusesWhatTheProgramRefuses(t *testing.T) {
	t.Parallel()
	run, worker := compile(t, "run"), compile(t, "worker")
	for _, bad := range []string{
		"name: Upper\n", "iterations: 0\n", "curate: {threshold: 5.5}\n", "augment: {top_p: 0}\n", "augment: {mode: never}\n",
		"approve: [lunch]\n", "unknown: 1\n", "seeds: []\n", "rate: {judge: {provider: p}}\n", "augment: {temperature: hot}\n",
		"segments: {repeat_jaccard: 2}\n", "documents: [{path: x, format: pdf}]\n", "data: {rows_per_partition: 0}\n",
	} {
		key, _, _ := strings.Cut(bad, ":")
		var body []string
		skip := false
		for _, line := range strings.Split(goodRun, "\n") {
			if !strings.HasPrefix(line, " ") {
				skip = strings.HasPrefix(line, key+":")
			}
			if !skip {
				body = append(body, line)
			}
		}
		text := []byte(strings.Join(body, "\n") + bad)
		if _, err := config.ParseRun("r", text); err == nil {
			t.Errorf("the program accepts %s", bad)
		}
		if run.Validate(document(t, text)) == nil {
			t.Errorf("the schema accepts %s", bad)
		}
	}
	for _, bad := range []string{
		"process: {queues: [gpu]}\n", "process: {stop_timeout: soon}\n", "process: {log_level: loud}\n", "temporal: {queue: 'a b'}\n", "extra: 1\n",
	} {
		text := []byte(goodWorker + bad)
		if _, err := config.ParseWorker("w", text); err == nil {
			t.Errorf("the program accepts %s", bad)
		}
		if worker.Validate(document(t, text)) == nil {
			t.Errorf("the schema accepts %s", bad)
		}
	}
}
