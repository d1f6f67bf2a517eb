package screen

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// plainEvery is how often a running stage is told of in a pipe, where nothing else changes.
const plainEvery = 10 * time.Second

// plain remembers what was told.
type plain struct {
	phase  string
	stages map[string]told
	sets   int
	held   string
	note   string
	judges int // the last iteration whose judge was told of
	warned map[string]bool
}

type told struct {
	state string
	at    time.Time
	done  int64
}

// show prints what changed since the last look.
func (p *plain) show(out io.Writer, seen runs.Seen, r rates, now time.Time) {
	for _, s := range seen.Stages {
		key := stageKey(s)
		last, before := p.stages[key]
		moved := s.Done != last.done && now.Sub(last.at) >= plainEvery
		if before && last.state == s.State && !(moved && s.State == workflows.StageRunning) {
			continue
		}
		p.stages[key] = told{s.State, now, s.Done}
		fmt.Fprintln(out, line(s, r.of(s)))
	}
	for _, j := range judges(seen) {
		if j.iteration > p.judges {
			fmt.Fprintln(out, Clean(j.text))
			p.judges = j.iteration
		}
	}
	for _, fact := range facts(seen) {
		if !p.warned[fact] {
			fmt.Fprintln(out, Clean(fact))
			p.warned[fact] = true
		}
	}
	p.warn(out, seen.Warnings)
	sets := histograms(seen)
	for n, set := range sets {
		if n >= p.sets && set.ended {
			fmt.Fprintln(out, set)
			p.sets = n + 1
		}
	}
	if held := strings.Join(seen.Holdups, "; "); held != p.held {
		p.held = held
		fmt.Fprintln(out, Clean(cmp.Or(held, "nothing holds it up any more")))
	}
	phase := seen.Phase
	if seen.Message != "" {
		phase += ": " + Clean(strings.ReplaceAll(seen.Message, "\n", "; "))
	}
	if seen.Note != p.note {
		if p.note = seen.Note; p.note != "" {
			fmt.Fprintln(out, Clean(strings.ReplaceAll(p.note, "\n", "; ")))
		}
	}
	if phase != p.phase {
		p.phase = phase
		fmt.Fprintf(out, "%s %s · %s\n", seen.Run, phase, Spending(seen.Status))
	}
}

// warn prints each warning once. Its figures may move while a stage goes on, its words do not.
func (p *plain) warn(out io.Writer, warnings []string) {
	for _, w := range warnings {
		key := strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, strings.TrimPrefix(w, "iteration "))
		if number, _, ok := strings.Cut(strings.TrimPrefix(w, "iteration "), ":"); ok {
			key = number + key
		}
		if !p.warned[key] {
			p.warned[key] = true
			fmt.Fprintln(out, "warning: "+Clean(w))
		}
	}
}

// counted reports whether a stage counts what it does: the preflight is done or it is not.
func counted(s workflows.StageStatus) bool { return s.Unit != "checks" || s.Done > 0 || s.Total > 0 }

// line tells a stage in one line, as in: 1 rate: running 120/400 rows, 12/s, 23s left, $0.03, 4 rejected
func line(s workflows.StageStatus, rate float64) string {
	text := fmt.Sprintf("%d %s: %s", s.Iteration, s.Name, s.State)
	if counted(s) {
		text += " " + Count(s.Done)
		if s.Total > 0 {
			text += "/" + Count(s.Total)
		}
		text = strings.TrimSpace(text + " " + s.Unit)
	}
	parts := []string{text}
	if s.Loss > 0 {
		parts = append(parts, fmt.Sprintf("loss %.3g", s.Loss))
	}
	if rate > 0 {
		parts = append(parts, speed(rate))
		if s.State == workflows.StageRunning && s.Total > s.Done {
			parts = append(parts, Span(time.Duration(float64(s.Total-s.Done)/rate*float64(time.Second)))+" left")
		}
	}
	if s.Usage.Calls > 0 {
		parts = append(parts, Count(s.Usage.Calls)+" calls", Money(s.Usage))
	}
	if s.Reused > 0 {
		parts = append(parts, Count(s.Reused)+" reused")
	}
	if s.Rejected > 0 {
		parts = append(parts, Count(s.Rejected)+" rejected")
	}
	return Clean(strings.Join(parts, ", "))
}
