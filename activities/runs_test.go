package activities

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/llm"
)

// endpoint answers models and chats as it is told, and counts what it is asked.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newEndpoint(t *testing.T, status int, body string) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.asked = append(e.asked, r.URL.Path)
		e.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if status != http.StatusOK {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/models") {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"base","object":"model"},{"id":"judge","object":"model"}]}`)
			return
		}
		fmt.Fprint(w, `{"id":"1","object":"chat.completion","model":"base","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	}))
	t.Cleanup(e.Close)
	return e
}

// preflightOf is a worker with one provider p at an address, and a spec that uses it.
func preflightOf(t *testing.T, url string) (*Runs, config.Run) {
	t.Helper()
	settings := config.DefaultWorker()
	p := config.Provider{URL: url, KeyEnv: "P_KEY"}
	settings.Store.Bucket = "b"
	settings.Providers = map[string]config.Provider{"p": p}
	settings.Trainers = map[string]config.Trainer{"t": {Backend: config.BackendOpenAI, Provider: "p"}}
	settings.Servers = map[string]config.Server{"t": {Backend: config.BackendOpenAI, Provider: "p"}}
	spec := config.DefaultRun()
	spec.Name = "r"
	spec.Seeds, spec.Documents = []config.Source{{Path: "s3://b/s"}}, []config.Source{{Path: "s3://b/d"}}
	spec.Model = config.Model{Base: "base", Trainer: "t", Server: "t", Provider: "p"}
	models := llm.NewPool(map[string]llm.Provider{"p": {Name: "p", URL: url, Key: "secret-key"}})
	return &Runs{Store: s3test.Store(t), Models: models, Settings: settings}, spec
}

// Whatever would stop a run is found before anything is spent, and says what to do; no key is told.
func TestPreflight(t *testing.T) {
	t.Parallel()
	const ok = http.StatusOK
	lost, err := blob.Open(t.Context(), blob.Config{Bucket: "b", Endpoint: "http://127.0.0.1:1", Region: "us-east-1", PathStyle: true, AccessKeyEnv: "PATH", SecretKeyEnv: "PATH"})
	if err != nil {
		t.Fatal(err)
	}
	for about, c := range map[string]struct {
		status int
		body   string
		change func(*Runs, *config.Run)
		class  string // of the trouble; "" none
		want   string
	}{
		"all well":    {ok, "", nil, "", ""},
		"refused key": {401, `{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}`, nil, "auth", "set P_KEY for the workers"},
		"no key": {401, `{"error":{"message":"no key"}}`, func(r *Runs, _ *config.Run) {
			p := r.Settings.Providers["p"]
			p.KeyEnv = ""
			r.Settings.Providers["p"] = p
		}, "auth", "providers.p.key_env"},
		"quota":            {429, `{"error":{"message":"You exceeded your quota","code":"insufficient_quota","type":"insufficient_quota"}}`, nil, "quota", "raise the quota"},
		"a judge":          {ok, "", func(_ *Runs, s *config.Run) { s.Rate.Judge = &config.Judge{Provider: "p", Model: "judge"} }, "", ""},
		"no such provider": {ok, "", func(_ *Runs, s *config.Run) { s.Rate.Judge = &config.Judge{Provider: "q", Model: "x"} }, "setting", "mend the settings"},
		"no such trainer":  {ok, "", func(_ *Runs, s *config.Run) { s.Model.Trainer = "u" }, "setting", "mend the settings"},
		"broken template":  {ok, "", func(_ *Runs, s *config.Run) { s.Prompts.Rate = "{{.Nothing}}" }, "setting", "template"},
		"a server that starts a program for each model": {401, `{}`, func(r *Runs, s *config.Run) {
			r.Settings.Servers["t"] = config.Server{Backend: config.BackendCommand, Provider: "p"}
			r.Settings.Trainers["t"] = config.Trainer{Backend: config.BackendCommand}
			s.Model.Provider = ""
		}, "", ""},
		"lost bucket": {ok, "", func(r *Runs, _ *config.Run) { r.Store = lost }, "store", "make the bucket writable"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			e := newEndpoint(t, c.status, c.body)
			r, spec := preflightOf(t, e.URL+"/v1")
			if c.change != nil {
				c.change(r, &spec)
			}
			_, err := activityEnv(t, r).ExecuteActivity("Preflight", spec)
			if c.class == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			trouble, known := TroubleOf(err)
			if !known || trouble.Class != c.class || !strings.Contains(trouble.Way, c.want) {
				t.Errorf("%v: %+v", err, trouble)
			}
			if strings.Contains(fmt.Sprint(err, trouble), "secret-key") {
				t.Errorf("the key is told: %v", err)
			}
			if c.class == "setting" && len(e.asked) > 0 {
				t.Errorf("asked %v with settings that cannot be right", e.asked)
			}
		})
	}
}

func TestRecordsAreOverwritten(t *testing.T) {
	t.Parallel()
	r := &Runs{Store: s3test.Store(t)}
	env := activityEnv(t, r)
	for _, phase := range []string{`"running"`, `"completed"`} {
		if _, err := env.ExecuteActivity("SaveRecord", RecordInput{Run: "r", Name: "status.json", Body: json.RawMessage(phase)}); err != nil {
			t.Fatal(err)
		}
		if body, err := r.Store.Get(t.Context(), "runs/r/status.json"); err != nil || string(body) != phase {
			t.Errorf("%s, %v", body, err)
		}
	}
}
