// Package endpointtest is the API of Hugging Face's Inference Endpoints, as far as a name is looked up in it, and an endpoint that
// answers when it runs.
package endpointtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// Server is the API and one endpoint of it.
type Server struct {
	URL string // of the API

	api, endpoint *httptest.Server
	path, token   string

	mu    sync.Mutex
	state string
	looks int
	asked int
}

// Start serves an endpoint in state "running", which a handler answers for.
func Start(namespace, name, token string, handler http.Handler) *Server {
	s := &Server{path: "/v2/endpoint/" + namespace + "/" + name, token: token, state: "running"}
	s.api = httptest.NewServer(http.HandlerFunc(s.serveAPI))
	s.endpoint = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked++
		state := s.state
		if state == "scaledToZero" {
			s.state = "initializing"
		}
		s.mu.Unlock()
		switch {
		case r.Header.Get("Authorization") != "Bearer "+s.token:
			http.Error(w, `{"error":"unauthorized"}`, http.StatusUnauthorized)
		case state != "running":
			http.Error(w, `{"error":"503 Service Unavailable"}`, http.StatusServiceUnavailable)
		default:
			handler.ServeHTTP(w, r)
		}
	}))
	s.URL = s.api.URL
	return s
}

// Close stops both.
func (s *Server) Close() {
	s.api.Close()
	s.endpoint.Close()
}

// Set puts the endpoint into a state of the API. One that is scaled to zero initialises when it is asked.
func (s *Server) Set(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// State returns the state.
func (s *Server) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Counts returns how often the name was looked up, and how often the endpoint was asked.
func (s *Server) Counts() (looks, asked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks, s.asked
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+s.token:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"Invalid credentials"}`)
	case r.URL.Path != s.path:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error":"not found"}`)
	default:
		status := map[string]any{"state": s.state, "message": "Endpoint is " + s.state, "createdAt": "2026-01-01T00:00:00Z"}
		if s.state != "pending" && s.state != "initializing" && s.state != "paused" && s.state != "failed" {
			status["url"] = s.endpoint.URL
		}
		parts := strings.Split(s.path, "/")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"name": parts[len(parts)-1], "type": "protected", "healthRoute": "/health",
			"model": map[string]any{"repository": "a/b", "framework": "pytorch"}, "status": status,
		})
	}
}
