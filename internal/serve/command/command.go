// Package command serves trained models by programs on this machine, one for each model: started, watched, adopted after the
// death of the worker that started it, started again when it dies itself, and stopped at teardown.
//
// # What the program is given
//
// Its own session and process group, no standard input, of the worker's environment what a trainer gets (see
// internal/finetune/command), and
//
//	SELFALIGN_MODEL      path of model.json, with the fields of Spec ({model} in the command line)
//	SELFALIGN_ARTIFACTS  folder with the model's files ({artifacts})
//	SELFALIGN_NAME       name under which the model is to answer ({name})
//	SELFALIGN_HOST       host and
//	SELFALIGN_PORT       port to listen at ({host}, {port}): those of a provider's address
//	SELFALIGN_SLOT       number of the provider, from 0 ({slot}): which GPU to use, for example
//
// It answers GET on the health path with 2xx once it can be asked, and ends on TERM within Config.Grace.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/command"
	"github.com/selfalign/selfalign/internal/serve"
)

// Slot is a provider at whose port one program can listen.
type Slot struct {
	Provider string
	URL      string // with a port
}

// Config says what to run and where.
type Config struct {
	Name    string // of the server, for messages
	Command []string
	Dir     string // outlives the worker; belongs to one machine
	Env     []string
	Slots   []Slot // as many models can be served at once
	Model   serve.Pattern
	Health  string        // path that says whether the program can be asked
	Start   time.Duration // longest time until it can
	Grace   time.Duration // between TERM and KILL; default 10 s
	HTTP    *http.Client
}

// Server implements serve.Server.
type Server struct {
	cfg   Config
	store *blob.Store
	mu    sync.Mutex // slots are given out one at a time
}

var _ serve.Server = (*Server)(nil)

// Spec is model.json: what the program is told.
type Spec struct {
	Format    int           `json:"format"` // 1
	Name      string        `json:"name"`
	Model     serve.Trained `json:"model"`
	Artifacts string        `json:"artifacts"` // folder with the model's files; "" where the trainer left none
	Provider  string        `json:"provider"`
	Host      string        `json:"host"`
	Port      int           `json:"port"`
	Slot      int           `json:"slot"`
}

const specFile = "model.json"

// New returns a server over Config.Dir.
func New(cfg Config, store *blob.Store) (*Server, error) {
	if len(cfg.Command) == 0 || cfg.Dir == "" || len(cfg.Slots) == 0 || store == nil {
		return nil, errors.New("command server: command, folder, provider and store are needed")
	}
	if err := cfg.Model.CheckUnique(); err != nil {
		return nil, fmt.Errorf("command server: %w", err)
	}
	for _, slot := range cfg.Slots {
		if _, _, err := slot.listen(); err != nil {
			return nil, fmt.Errorf("command server: provider %s: %w", slot.Provider, err)
		}
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("command server: folder: %w", err)
	}
	cfg.Dir = dir
	if cfg.Health == "" {
		cfg.Health = "/v1/models"
	}
	if cfg.Start <= 0 {
		cfg.Start = 15 * time.Minute
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: 5 * time.Second}
	}
	return &Server{cfg: cfg, store: store}, nil
}

func (s Slot) listen() (host string, port int, err error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return "", 0, errors.New("its url cannot be read")
	}
	port, err = strconv.Atoi(u.Port())
	if err != nil {
		return "", 0, errors.New("its url has no port")
	}
	return u.Hostname(), port, nil
}

// id names the folder of a model: its run and training, whatever name it answers under.
func id(m serve.Trained) string { return finetune.NameOf(m.Run + " " + m.TrainingDigest) }

func (s *Server) folder(id string) string { return filepath.Join(s.cfg.Dir, id) }

func (s *Server) service(id string) (*command.Service, error) {
	return command.OpenService(s.folder(id), command.Config{Name: s.cfg.Name, Env: s.cfg.Env, Grace: s.cfg.Grace})
}

func (s *Server) spec(id string) (Spec, error) {
	var spec Spec
	raw, err := os.ReadFile(filepath.Join(s.folder(id), specFile))
	if err == nil {
		err = json.Unmarshal(raw, &spec)
	}
	return spec, err
}

// Deploy implements serve.Server: it finds a free slot, brings the model's files, starts the program unless it runs, and waits
// until it is healthy. Model.json is written before the program starts, so that whatever runs is found again.
func (s *Server) Deploy(ctx context.Context, m serve.Trained) (dataset.ModelRef, error) {
	if err := ctx.Err(); err != nil {
		return dataset.ModelRef{}, fmt.Errorf("deploy model: %w", err)
	}
	if err := m.Validate(); err != nil {
		return dataset.ModelRef{}, err
	}
	spec, err := s.claim(m)
	if err != nil {
		return dataset.ModelRef{}, err
	}
	if m.Artifact != "" {
		files, err := serve.OpenArtifact(ctx, s.store, m)
		if err != nil {
			return dataset.ModelRef{}, err
		}
		if err := files.CopyTo(ctx, spec.Artifacts); err != nil {
			return dataset.ModelRef{}, err
		}
	}
	ref := dataset.ModelRef{Provider: spec.Provider, Name: spec.Name, Revision: m.Revision()}
	svc, err := s.service(id(m))
	if err != nil {
		return ref, err
	}
	if err := s.start(ctx, svc, spec); err != nil {
		return ref, err
	}
	return ref, s.healthy(ctx, svc, spec)
}

// claim gives the model the slot that it has or a free one, and records it.
func (s *Server) claim(m serve.Trained) (Spec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if spec, err := s.spec(id(m)); err == nil {
		return spec, nil
	}
	taken := map[string]string{}
	for _, other := range s.all() {
		if spec, err := s.spec(other); err == nil {
			taken[spec.Provider] = spec.Name
		}
	}
	var names []string
	for i, slot := range s.cfg.Slots {
		if name, busy := taken[slot.Provider]; busy {
			names = append(names, name)
			continue
		}
		host, port, err := slot.listen()
		if err != nil {
			return Spec{}, err
		}
		spec := Spec{Format: 1, Name: s.cfg.Model.Name(m), Model: m, Provider: slot.Provider, Host: host, Port: port, Slot: i}
		if m.Artifact != "" {
			spec.Artifacts = filepath.Join(s.folder(id(m)), "artifacts")
		}
		return spec, s.record(id(m), spec)
	}
	return Spec{}, fmt.Errorf("every port of server %s serves a model (%s): this one waits until one is torn down (Try: more slots in the server's settings)",
		s.cfg.Name, strings.Join(names, ", "))
}

// record writes model.json, whole or not at all.
func (s *Server) record(id string, spec Spec) error {
	if err := os.MkdirAll(s.folder(id), 0o700); err != nil {
		return fmt.Errorf("make folder of model: %w", err)
	}
	raw, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return fmt.Errorf("record model: %w", err)
	}
	at := filepath.Join(s.folder(id), specFile)
	if err := os.WriteFile(at+".new", raw, 0o600); err != nil {
		return fmt.Errorf("record model: %w", err)
	}
	return os.Rename(at+".new", at)
}

// all lists the folders of models.
func (s *Server) all() []string {
	var out []string
	entries, _ := os.ReadDir(s.cfg.Dir) // none yet
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

func (s *Server) start(ctx context.Context, svc *command.Service, spec Spec) error {
	port, slot := strconv.Itoa(spec.Port), strconv.Itoa(spec.Slot)
	file := filepath.Join(s.folder(id(spec.Model)), specFile)
	places := strings.NewReplacer("{model}", file, "{artifacts}", spec.Artifacts, "{name}", spec.Name, "{host}", spec.Host, "{port}", port, "{slot}", slot)
	args := make([]string, 0, len(s.cfg.Command))
	for _, a := range s.cfg.Command {
		args = append(args, places.Replace(a))
	}
	return svc.Start(ctx, args, []string{
		"SELFALIGN_MODEL=" + file, "SELFALIGN_ARTIFACTS=" + spec.Artifacts, "SELFALIGN_NAME=" + spec.Name,
		"SELFALIGN_HOST=" + spec.Host, "SELFALIGN_PORT=" + port, "SELFALIGN_SLOT=" + slot,
	})
}

// healthy waits until the program can be asked. One that ends before is an Error with its last words.
func (s *Server) healthy(ctx context.Context, svc *command.Service, spec Spec) error {
	deadline := time.Now().Add(s.cfg.Start)
	for {
		alive, code, exited, err := svc.Alive(ctx)
		if err != nil {
			return err
		}
		if !alive {
			how := "died"
			if exited {
				how = fmt.Sprintf("ended with exit code %d", code)
			}
			return serve.Wrong("mend the command of server "+s.cfg.Name, "the program for %s %s: %s", spec.Name, how, svc.LastWords())
		}
		if s.answers(ctx, spec) {
			return nil
		}
		if time.Now().After(deadline) {
			return serve.Wrong("raise start_timeout of server "+s.cfg.Name+", or mend its command",
				"the program for %s runs and does not answer GET %s after %s: %s", spec.Name, s.cfg.Health, s.cfg.Start, svc.LastWords())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is healthy: %w", spec.Name, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (s *Server) answers(ctx context.Context, spec Spec) bool {
	at := "http://" + net.JoinHostPort(spec.Host, strconv.Itoa(spec.Port)) + s.cfg.Health
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return false
	}
	answer, err := s.cfg.HTTP.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	// A server that wants a key is there.
	return answer.StatusCode/100 == 2 || answer.StatusCode == http.StatusUnauthorized
}

// Teardown implements serve.Server: the program is stopped, then its folder removed, which frees the slot.
func (s *Server) Teardown(ctx context.Context, m serve.Trained) error {
	if _, err := os.Stat(s.folder(id(m))); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s.mu.Lock() // a watch must not start it again in between
	defer s.mu.Unlock()
	svc, err := s.service(id(m))
	if err != nil {
		return err
	}
	if err := svc.Stop(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(s.folder(id(m))); err != nil {
		return fmt.Errorf("remove folder of model: %w", err)
	}
	return nil
}

// Watch starts programs again that died though their models were not torn down, at once, and then ever more slowly up to a
// minute apart, until ctx ends. Programs outlive it.
func (s *Server) Watch(ctx context.Context, every time.Duration, told func(name string, err error)) {
	wait, next := map[string]time.Duration{}, map[string]time.Time{}
	for {
		for _, id := range s.all() {
			if time.Now().Before(next[id]) {
				continue
			}
			name, started, err := s.look(ctx, id)
			if !started && err == nil {
				delete(wait, id)
				continue
			}
			wait[id] = min(max(2*wait[id], every), time.Minute)
			next[id] = time.Now().Add(wait[id])
			if ctx.Err() == nil {
				told(name, err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// look starts the program of a folder again if it should run and does not.
func (s *Server) look(ctx context.Context, id string) (name string, started bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spec, err := s.spec(id)
	if err != nil {
		return id, false, nil //nolint:nilerr // not one of ours, or torn down just now
	}
	if spec.Artifacts != "" {
		if _, err := os.Stat(spec.Artifacts); err != nil {
			return spec.Name, false, nil //nolint:nilerr // its files are still on their way
		}
	}
	svc, err := s.service(id)
	if err != nil {
		return spec.Name, false, err
	}
	if alive, _, _, err := svc.Alive(ctx); err != nil || alive {
		return spec.Name, false, err
	}
	return spec.Name, true, s.start(ctx, svc, spec)
}
