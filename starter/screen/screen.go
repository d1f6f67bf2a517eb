// Package screen shows a run to a person at a terminal, and to a pipe line by line.
package screen

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/term"

	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/workflows"
)

// Screen shows successive looks at one run. On a terminal it repaints a table in place, elsewhere it prints a line for each
// change.
type Screen struct {
	out   io.Writer
	tty   bool
	color bool
	size  func() (width, height int)
	rates rates
	lines int // painted last
	plain plain
}

// New returns a screen on out. It is a terminal's when out is one.
func New(out io.Writer) *Screen {
	s := &Screen{out: out, rates: rates{}, plain: plain{stages: map[string]told{}, warned: map[string]bool{}}}
	f, ok := out.(*os.File)
	if ok && isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" {
		s.tty, s.color = true, os.Getenv("NO_COLOR") == ""
		s.size = func() (int, int) {
			w, h, err := term.GetSize(int(f.Fd())) //nolint:gosec // a file descriptor fits
			if err != nil || w < 20 || h < 5 {
				return 80, 24
			}
			return w, h
		}
	}
	return s
}

// Show shows the run as seen at a time.
func (s *Screen) Show(seen runs.Seen, now time.Time) {
	s.rates.add(seen.Stages, now)
	if !s.tty {
		s.plain.show(s.out, seen, s.rates, now)
		return
	}
	width, height := s.size()
	s.repaint(Table(seen, s.rates.of, now, width, height-1, s.color))
}

// Close leaves the last table standing and the cursor under it.
func (s *Screen) Close() { s.lines = 0 }

// repaint draws lines over those drawn before, in one write so that nothing flickers.
func (s *Screen) repaint(lines []string) {
	var b strings.Builder
	if s.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.lines)
	}
	for _, l := range lines {
		b.WriteString("\r" + l + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	s.lines = len(lines)
	_, _ = io.WriteString(s.out, b.String()) // a terminal that is gone ends the program by a signal
}

// rates measures how fast stages go, over the last half minute.
type rates map[string][]sample

type sample struct {
	at   time.Time
	done int64
}

const rateWindow = 30 * time.Second

func stageKey(s workflows.StageStatus) string {
	return fmt.Sprintf("%d/%s/%s", s.Iteration, s.Key, s.Name)
}

func (r rates) add(stages []workflows.StageStatus, now time.Time) {
	for _, s := range stages {
		key := stageKey(s)
		if s.State != workflows.StageRunning {
			delete(r, key)
			continue
		}
		kept := r[key]
		for len(kept) > 2 && now.Sub(kept[0].at) > rateWindow {
			kept = kept[1:]
		}
		r[key] = append(kept, sample{now, s.Done})
	}
}

// of returns what is done in a second: of a running stage lately, of an ended one on average; 0 where it cannot be told.
func (r rates) of(s workflows.StageStatus) float64 {
	if samples := r[stageKey(s)]; len(samples) > 1 {
		first, last := samples[0], samples[len(samples)-1]
		if d := last.at.Sub(first.at).Seconds(); d > 0.5 && last.done > first.done {
			return float64(last.done-first.done) / d
		}
	}
	if s.State != workflows.StageRunning && !s.StartedAt.IsZero() && s.EndedAt.After(s.StartedAt) {
		return float64(s.Done) / s.EndedAt.Sub(s.StartedAt).Seconds()
	}
	return 0
}
