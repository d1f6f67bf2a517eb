// Package temporaltest gives end-to-end tests a real Temporal service without linking it: the program temporald, built once
// on a machine for each state of its sources, runs as a child process.
package temporaltest

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/devstack/child"
	"github.com/selfalign/selfalign/internal/devstack/gobuild"
	"github.com/selfalign/selfalign/internal/devstack/programs"
)

// Server is a running service with the namespace "default".
type Server struct {
	// Address is the host and port of the service. It stays the same over Restart.
	Address string
	// UI is the address of the Web UI, if it was asked for.
	UI string
	// Dir is the data folder.
	Dir string

	args    []string
	mu      sync.Mutex
	process *child.Process
}

// Binary returns the path of temporald and builds it if need be.
var Binary = sync.OnceValues(func() (string, error) {
	return gobuild.CachedPatiently(context.Background(), programs.Temporald)
})

// Start starts a service on a free port with a new database in the test's own folder. It ends with the test.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir()}
	s.args = flags
	s.start(t)
	t.Cleanup(func() { s.current().Stop(10 * time.Second) })
	return s
}

// Kill ends the service as kill -9 does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.current().Kill(); err != nil {
		t.Fatalf("kill Temporal: %v", err)
	}
}

// Restart starts the service again on the same data and port after Kill.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.start(t)
}

func (s *Server) current() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	binary, err := Binary()
	if err != nil {
		t.Fatalf("build temporald: %v", err)
	}
	command := append([]string{binary, "-dir", s.Dir}, s.args...)
	if s.Address != "" {
		command = append(command, "-port", portOf(s.Address))
	}
	process, err := child.Start(t.Context(), child.Spec{
		Name: "Temporal", Command: command, Log: filepath.Join(s.Dir, "temporald.log"), Ready: 90 * time.Second,
	})
	if err != nil {
		t.Fatalf("start Temporal: %v", err)
	}
	var ready struct{ Address, UI string }
	if err := json.Unmarshal(process.Ready(), &ready); err != nil {
		t.Fatalf("read ready line: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.Address, s.UI = process, ready.Address, ready.UI
}
