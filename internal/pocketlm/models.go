package pocketlm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/pocketlm/lm"
)

// loadedModels is how many fitted models are kept in memory; others are fitted again from their training data when asked.
const loadedModels = 16

// trained is the record of a fine-tuned model. Its training data are its weights: it is fitted from them when first used.
type trained struct {
	ID       string  `json:"id"`
	Base     string  `json:"base"`
	Training string  `json:"training_sha256"` // names the copy of the training file
	Passes   int     `json:"passes"`
	Rate     float64 `json:"rate"`
	Seed     int64   `json:"seed"`
	Created  int64   `json:"created"`
	Job      string  `json:"job"`
}

type modelStore struct {
	dir, training string
	base          *lm.Model
	started       int64

	mu     sync.Mutex
	byName map[string]*trained
	loaded map[string]*loading
	uses   []string // names of loaded models, least lately used first
}

type loading struct {
	once  sync.Once
	model *lm.Model
	err   error
}

func openModels(dir string) (*modelStore, error) {
	st := &modelStore{
		dir: filepath.Join(dir, "models"), training: filepath.Join(dir, "training"), base: lm.Base(), started: time.Now().Unix(),
		byName: map[string]*trained{}, loaded: map[string]*loading{},
	}
	return st, loadAll(st.dir, func(t *trained) { st.byName[t.ID] = t })
}

func (st *modelStore) known(name string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return name == BaseModel || st.byName[name] != nil
}

// get finds a model by name and fits it if it is not in memory.
func (st *modelStore) get(name string) (*lm.Model, *apiError) {
	if name == BaseModel {
		return st.base, nil
	}
	st.mu.Lock()
	t := st.byName[name]
	if t == nil {
		st.mu.Unlock()
		return nil, notFound("model", "model_not_found", "The model `%.120s` does not exist or you do not have access to it.", name)
	}
	l := st.use(name)
	st.mu.Unlock()
	l.once.Do(func() { l.model, l.err = st.fit(t, nil) })
	if l.err != nil {
		return nil, internal(fmt.Errorf("load model %s: %w", name, l.err))
	}
	return l.model, nil
}

// use marks a model as lately used and makes room. The caller holds mu.
func (st *modelStore) use(name string) *loading {
	l := st.loaded[name]
	if l == nil {
		l = &loading{}
		st.loaded[name] = l
	} else if len(st.uses) > 0 && st.uses[len(st.uses)-1] == name {
		return l
	}
	st.uses = append(slices.DeleteFunc(st.uses, func(n string) bool { return n == name }), name)
	if len(st.uses) > loadedModels {
		delete(st.loaded, st.uses[0])
		st.uses = slices.Delete(st.uses, 0, 1)
	}
	return l
}

// fit reads the training data of the model, and of the fine-tuned models it was made from, and fits it.
func (st *modelStore) fit(t *trained, progress func(int, int, float64)) (*lm.Model, error) {
	var all []lm.Example
	for at, depth := t, 0; at != nil; depth++ {
		if depth > 32 {
			return nil, errors.New("fine-tuned from too long a chain of models")
		}
		examples, err := st.examples(at.Training)
		if err != nil {
			return nil, err
		}
		all = append(examples, all...)
		if at.Base == BaseModel {
			break
		}
		st.mu.Lock()
		parent := st.byName[at.Base]
		st.mu.Unlock()
		if parent == nil {
			return nil, fmt.Errorf("the model %s it was made from is gone", at.Base)
		}
		at = parent
	}
	return lm.Fit(t.ID, all, lm.FitOptions{Passes: t.Passes, Rate: t.Rate, Seed: t.Seed, Progress: progress}), nil
}

func (st *modelStore) examples(digest string) ([]lm.Example, error) {
	f, err := os.Open(filepath.Join(st.training, digest+".jsonl"))
	if err != nil {
		return nil, fmt.Errorf("training data: %w", err)
	}
	defer f.Close()
	return lm.ParseTraining(f)
}

// keepTraining keeps the training file under its digest, whatever becomes of the upload.
func (st *modelStore) keepTraining(path, digest string) error {
	if _, err := hex.DecodeString(digest); err != nil {
		return fmt.Errorf("training digest: %w", err)
	}
	to := filepath.Join(st.training, digest+".jsonl")
	if err := os.Link(path, to); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	body, err := os.ReadFile(path) // no hard links here
	if err != nil {
		return fmt.Errorf("keep training data: %w", err)
	}
	return writeAside(to, body)
}

// publish makes a fitted model available, also after a restart. The same name is the same model.
func (st *modelStore) publish(t *trained, m *lm.Model) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.byName[t.ID] != nil {
		return nil
	}
	if err := saveJSON(filepath.Join(st.dir, fileName(t.ID)+".json"), t); err != nil {
		return err
	}
	st.byName[t.ID] = t
	l := st.use(t.ID)
	l.once.Do(func() { l.model = m })
	return nil
}

// fileName spells a model's name without the colons that some file systems refuse.
func fileName(model string) string { return strings.ReplaceAll(model, ":", "__") }

type jsonModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Root    string `json:"root"`
	Parent  string `json:"parent,omitempty"`
}

func (st *modelStore) describe(name string) (jsonModel, bool) {
	if name == BaseModel {
		return jsonModel{ID: BaseModel, Object: "model", Created: st.started, OwnedBy: "pocketlm", Root: BaseModel}, true
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	t := st.byName[name]
	if t == nil {
		return jsonModel{}, false
	}
	return jsonModel{ID: t.ID, Object: "model", Created: t.Created, OwnedBy: "user", Root: BaseModel, Parent: t.Base}, true
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) *apiError {
	s.models.mu.Lock()
	names := []string{BaseModel}
	for n := range s.models.byName {
		names = append(names, n)
	}
	s.models.mu.Unlock()
	slices.Sort(names[1:])
	list := make([]jsonModel, 0, len(names))
	for _, n := range names {
		if m, ok := s.models.describe(n); ok {
			list = append(list, m)
		}
	}
	writeJSON(w, map[string]any{"object": "list", "data": list})
	return nil
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) *apiError {
	m, ok := s.models.describe(r.PathValue("id"))
	if !ok {
		return notFound("model", "model_not_found", "The model '%.120s' does not exist.", r.PathValue("id"))
	}
	writeJSON(w, m)
	return nil
}

func (s *Server) deleteModel(w http.ResponseWriter, r *http.Request) *apiError {
	name := r.PathValue("id")
	st := s.models
	st.mu.Lock()
	defer st.mu.Unlock()
	if name == BaseModel {
		return &apiError{status: http.StatusForbidden, Type: "invalid_request_error", Message: "The base model cannot be deleted."}
	}
	if st.byName[name] == nil {
		return notFound("model", "model_not_found", "The model '%.120s' does not exist.", name)
	}
	if err := os.Remove(filepath.Join(st.dir, fileName(name)+".json")); err != nil {
		return internal(err)
	}
	delete(st.byName, name)
	delete(st.loaded, name)
	st.uses = slices.DeleteFunc(st.uses, func(n string) bool { return n == name })
	writeJSON(w, map[string]any{"id": name, "object": "model", "deleted": true})
	return nil
}
