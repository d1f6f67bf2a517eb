// Package pocketlm serves a small model that really learns behind the API of OpenAI, on one machine and one folder: any
// OpenAI client can list models, chat, upload files, fine-tune and run batches, and nothing it was told is lost to a kill.
//
// It is a baseline for trying out, testing and demonstrating. It can be told to misbehave (Faults), and keeps a journal
// of every request (Journal), which makes it the referee of tests and benchmarks.
package pocketlm

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// BaseModel is the name of the untrained model.
const BaseModel = "pocketlm-base"

// ContextTokens is the most tokens that a prompt may have.
const ContextTokens = 32_768

const (
	maxBody   = 16 << 20 // bytes of a JSON request
	maxUpload = 1 << 30  // bytes of an uploaded file
)

// Options are what a Server needs. Dir is required; it belongs to one server at a time.
type Options struct {
	Dir    string
	Key    string // API key that requests must carry; empty: any or none
	Faults Faults
	Fsync  bool // sync the journal to the device at each group of entries, against power cuts as well as kills
	Log    *slog.Logger
}

// Server is the model server. Make one with Open.
type Server struct {
	opt     Options
	log     *slog.Logger
	mux     *http.ServeMux
	journal *journalWriter
	lock    *os.File
	key     [32]byte

	faults   atomic.Pointer[Faults]
	stats    gauge
	files    *fileStore
	models   *modelStore
	jobs     *jobStore
	batches  *batchStore
	ctx      context.Context //nolint:containedctx // ends the server's own work (training, batches) at Close
	stop     context.CancelFunc
	work     sync.WaitGroup
	closing  sync.Once
	closeErr error
}

// Open opens or creates the folder and takes up the jobs and batches that a killed server left unfinished.
func Open(opt Options) (*Server, error) {
	if opt.Dir == "" {
		return nil, errors.New("open pocketlm: Dir is required")
	}
	if err := opt.Faults.Validate(); err != nil {
		return nil, fmt.Errorf("open pocketlm: faults: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	for _, sub := range []string{"files", "models", "training", "jobs", "batches"} {
		if err := os.MkdirAll(filepath.Join(opt.Dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open pocketlm: %w", err)
		}
	}
	lock, err := lockDir(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("open pocketlm: %w", err)
	}
	s := &Server{opt: opt, log: opt.Log, lock: lock, key: sha256.Sum256([]byte(opt.Key))}
	s.faults.Store(&opt.Faults)
	s.stats.since = time.Now()
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.load(); err != nil {
		s.stop()
		if s.journal != nil {
			s.journal.close() //nolint:errcheck // the first error says it
		}
		lock.Close()
		return nil, fmt.Errorf("open pocketlm: %w", err)
	}
	s.routes()
	s.jobs.resume()
	s.batches.resume()
	return s, nil
}

func (s *Server) load() (err error) {
	if s.journal, err = openJournal(s.opt.Dir, s.opt.Fsync); err != nil {
		return err
	}
	if s.files, err = openFiles(filepath.Join(s.opt.Dir, "files")); err != nil {
		return err
	}
	if s.models, err = openModels(s.opt.Dir); err != nil {
		return err
	}
	if s.jobs, err = openJobs(s); err != nil {
		return err
	}
	s.batches, err = openBatches(s)
	return err
}

// Handler serves the API under /v1 and the administration under /pocketlm.
func (s *Server) Handler() http.Handler { return s.mux }

// Close stops training and batches (the next Open finishes them), flushes the journal and frees the folder.
// Handlers still running answer errors.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.stop()
		s.work.Wait()
		s.closeErr = errors.Join(s.journal.close(), s.lock.Close())
	})
	return s.closeErr
}

// ListenAndServe serves addr (host:port) until ctx ends, then gives requests in flight five seconds. It does not Close.
func (s *Server) ListenAndServe(ctx context.Context, addr string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("pocketlm: %w", err)
	}
	return s.Serve(ctx, ln)
}

// Serve is ListenAndServe on a listener that the caller made.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	hs := &http.Server{Handler: s.mux, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- hs.Serve(ln) }()
	select {
	case err := <-done:
		return fmt.Errorf("pocketlm: serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := hs.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("pocketlm: shut down: %w", err), hs.Close())
	}
	return nil
}

// SetFaults replaces the faults for requests that come from now on.
func (s *Server) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	s.faults.Store(&f)
	return nil
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	h := func(pattern string, fn func(http.ResponseWriter, *http.Request) *apiError) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Openai-Version", "2020-10-01")
			w.Header().Set("X-Request-Id", newID("req_"))
			if err := s.authorize(r); err != nil {
				writeError(w, err)
				return
			}
			if err := fn(w, r); err != nil {
				writeError(w, err)
			}
		})
	}
	h("POST /v1/chat/completions", s.chat)
	h("POST /v1/completions", s.complete)
	h("GET /v1/models", s.listModels)
	h("GET /v1/models/{id}", s.getModel)
	h("DELETE /v1/models/{id}", s.deleteModel)
	h("POST /v1/files", s.createFile)
	h("GET /v1/files", s.listFiles)
	h("GET /v1/files/{id}", s.getFile)
	h("DELETE /v1/files/{id}", s.deleteFile)
	h("GET /v1/files/{id}/content", s.fileContent)
	h("POST /v1/fine_tuning/jobs", s.createJob)
	h("GET /v1/fine_tuning/jobs", s.listJobs)
	h("GET /v1/fine_tuning/jobs/{id}", s.getJob)
	h("POST /v1/fine_tuning/jobs/{id}/cancel", s.cancelJob)
	h("GET /v1/fine_tuning/jobs/{id}/events", s.jobEvents)
	h("GET /v1/fine_tuning/jobs/{id}/checkpoints", s.jobCheckpoints)
	h("POST /v1/batches", s.createBatch)
	h("GET /v1/batches", s.listBatches)
	h("GET /v1/batches/{id}", s.getBatch)
	h("POST /v1/batches/{id}/cancel", s.cancelBatch)
	h("GET /pocketlm/faults", s.getFaults)
	h("POST /pocketlm/faults", s.postFaults)
	h("GET /pocketlm/journal", s.getJournal)
	h("GET /pocketlm/stats", s.getStats)
	h("/", func(_ http.ResponseWriter, r *http.Request) *apiError {
		return notFound("", "unknown_url", "Unknown request URL: %s %s.", r.Method, r.URL.Path)
	})
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
}

func (s *Server) authorize(r *http.Request) *apiError {
	if s.opt.Key == "" {
		return nil
	}
	const bearer = "Bearer "
	got := r.Header.Get("Authorization")
	if len(got) > len(bearer) && got[:len(bearer)] == bearer {
		sum := sha256.Sum256([]byte(got[len(bearer):]))
		if subtle.ConstantTimeCompare(sum[:], s.key[:]) == 1 {
			return nil
		}
	}
	return &apiError{status: http.StatusUnauthorized, Type: "invalid_request_error", Code: "invalid_api_key", Message: "Incorrect API key provided."}
}
