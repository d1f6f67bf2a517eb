package pocketlm

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// newID makes an id that no other object has: prefix and 24 random hex digits.
func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	return prefix + hex.EncodeToString(b[:])
}

// gauge measures how many calls are in flight, over time.
type gauge struct {
	mu       sync.Mutex
	since    time.Time
	last     time.Time
	inFlight int
	peak     int
	area     float64 // call-seconds
	calls    int64
	busy     float64 // seconds, summed over calls done
	answered int64
	planned  float64 // seconds that Faults gave to the answers, summed
	statuses map[int]int64
}

func (g *gauge) step(now time.Time) {
	if !g.last.IsZero() {
		g.area += now.Sub(g.last).Seconds() * float64(g.inFlight)
	}
	g.last = now
}

// enter counts a call in unless limit (if > 0) are in flight already.
func (g *gauge) enter(limit int) (time.Time, bool) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if limit > 0 && g.inFlight >= limit {
		g.count(http.StatusTooManyRequests)
		return now, false
	}
	g.step(now)
	g.inFlight++
	g.peak = max(g.peak, g.inFlight)
	return now, true
}

func (g *gauge) leave(entered time.Time, status int, answer *outcome) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.step(now)
	g.inFlight--
	if answer != nil {
		g.answered++
		g.planned += answer.latency.Seconds()
	}
	g.calls++
	g.busy += now.Sub(entered).Seconds()
	g.count(status)
}

func (g *gauge) count(status int) {
	if g.statuses == nil {
		g.statuses = map[int]int64{}
	}
	g.statuses[status]++
}

// Stats are the calls of models since the server was opened, or since the last reset. Times are in seconds.
type Stats struct {
	Seconds         float64       `json:"seconds"`
	Calls           int64         `json:"calls"`
	InFlight        int           `json:"in_flight"`
	PeakInFlight    int           `json:"peak_in_flight"`
	AverageInFlight float64       `json:"average_in_flight"`
	MeanLatency     float64       `json:"mean_latency_s"`
	Answered        int64         `json:"answered"`
	PlannedLatency  float64       `json:"planned_latency_s"` // mean of what Faults gave to the answers, whatever it came to
	Statuses        map[int]int64 `json:"statuses"`          // by HTTP status; 0: connection reset, hung up or left by the client
}

// Stats reads the counters; reset begins a new interval.
func (s *Server) Stats(reset bool) Stats {
	g := &s.stats
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.step(now)
	st := Stats{Seconds: now.Sub(g.since).Seconds(), Calls: g.calls, InFlight: g.inFlight, PeakInFlight: g.peak, Statuses: map[int]int64{}}
	if st.Seconds > 0 {
		st.AverageInFlight = g.area / st.Seconds
	}
	if g.calls > 0 {
		st.MeanLatency = g.busy / float64(g.calls)
	}
	if st.Answered = g.answered; g.answered > 0 {
		st.PlannedLatency = g.planned / float64(g.answered)
	}
	for k, v := range g.statuses {
		st.Statuses[k] = v
	}
	if reset {
		g.since, g.calls, g.busy, g.area, g.peak, g.statuses = now, 0, 0, 0, g.inFlight, nil
		g.answered, g.planned = 0, 0
	}
	return st
}

func (s *Server) getStats(w http.ResponseWriter, r *http.Request) *apiError {
	writeJSON(w, s.Stats(r.URL.Query().Get("reset") != ""))
	return nil
}

func (s *Server) getJournal(w http.ResponseWriter, _ *http.Request) *apiError {
	writeJSON(w, s.journal.snapshot())
	return nil
}

func (s *Server) getFaults(w http.ResponseWriter, _ *http.Request) *apiError {
	writeJSON(w, s.faults.Load())
	return nil
}

func (s *Server) postFaults(w http.ResponseWriter, r *http.Request) *apiError {
	var f Faults
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return badRequest("", "faults: %v", err)
	}
	if err := s.SetFaults(f); err != nil {
		return badRequest("", "%v", err)
	}
	return s.getFaults(w, r)
}
