package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/term"

	"github.com/selfalign/selfalign/internal/devstack/gobuild"
)

// console prints lines, and one line that changes: in place on a terminal, now and then elsewhere.
type console struct {
	out   io.Writer
	tty   bool
	width func() int

	mu     sync.Mutex
	open   bool   // a changing line stands there
	phase  string // of the changing line
	last   time.Time
	silent bool // the run's table is on the screen
	held   []string
}

// between is the time between two looks at a changing line where it cannot change in place.
const between = 10 * time.Second

func newConsole(out io.Writer) *console {
	c := &console{out: out, width: func() int { return 80 }}
	if f, ok := out.(*os.File); ok && isatty.IsTerminal(f.Fd()) && os.Getenv("TERM") != "dumb" {
		c.tty = true
		c.width = func() int {
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil || w < 20 {
				return 80
			}
			return w
		}
	}
	return c
}

// say prints a line of its own.
func (c *console) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	if c.silent && c.tty {
		c.held = append(c.held, text)
		return
	}
	c.close()
	fmt.Fprintln(c.out, text)
}

// hold keeps lines back while somebody else paints the terminal, until release.
func (c *console) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
	c.silent = true
}

func (c *console) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = false
	for _, text := range c.held {
		fmt.Fprintln(c.out, text)
	}
	c.held = nil
}

// building shows how far a build is.
func (c *console) building(what string, p gobuild.Progress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	phase := what + string(p.Phase)
	text := fmt.Sprintf("building %s: %s", what, p)
	if !c.tty {
		if phase != c.phase || time.Since(c.last) >= between {
			fmt.Fprintln(c.out, text)
			c.phase, c.last = phase, time.Now()
		}
		return
	}
	if p.Total > 0 {
		text += " " + bar(p.Done, p.Total, 20)
	}
	if limit := c.width() - 1; len([]rune(text)) > limit {
		text = string([]rune(text)[:limit])
	}
	fmt.Fprintf(c.out, "\r%s\x1b[K", text)
	c.open = true
}

// end puts the cursor on a line of its own.
func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close()
}

func (c *console) close() {
	if c.open {
		fmt.Fprint(c.out, "\r\x1b[K")
		c.open = false
	}
}

func bar(done, total, width int) string {
	full := min(width, done*width/max(total, 1))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}
