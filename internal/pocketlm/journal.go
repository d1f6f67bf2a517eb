package pocketlm

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const journalFile = "journal.tsv"

// Digest names a canonical request: route, model, messages, sampling and seed. Nothing of a row or a run is in it.
type Digest [12]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Kind says what an Entry notes.
type Kind byte

// A request is Received before anything is done for it. Answered is on disk before the first byte of a good reply leaves.
// Refused is a reply with an error status.
const (
	Received Kind = 'R'
	Answered Kind = 'A'
	Refused  Kind = 'E'
)

// Entry is one line of the journal.
type Entry struct {
	Kind             Kind
	At               time.Time // to the microsecond
	Route            string    // chat.completions, completions, batch:chat.completions, files, fine_tuning.jobs, batches …
	Model            string
	Digest           Digest
	Status           int // HTTP status; 0 when received
	PromptTokens     int
	CompletionTokens int
}

// Counts sums up a journal. Repeated counts every answer beyond the first to the same request; RepeatedRequests the
// requests that have such answers. Only the routes of models (chat, completions, batch items) count as repeated.
type Counts struct {
	Received, Answered, Refused    int64
	Repeated, RepeatedRequests     int64
	PromptTokens, CompletionTokens int64
	ByRoute                        map[string]RouteCounts
}

// RouteCounts are the Counts of one route.
type RouteCounts struct{ Received, Answered, Refused, Repeated int64 }

func (c *Counts) add(e Entry, before int) {
	if c.ByRoute == nil {
		c.ByRoute = map[string]RouteCounts{}
	}
	r := c.ByRoute[e.Route]
	switch e.Kind {
	case Received:
		c.Received++
		r.Received++
	case Refused:
		c.Refused++
		r.Refused++
	case Answered:
		c.Answered++
		r.Answered++
		c.PromptTokens += int64(e.PromptTokens)
		c.CompletionTokens += int64(e.CompletionTokens)
		if before > 0 {
			r.Repeated++
			if asksModel(e.Route) {
				c.Repeated++
				if before == 1 {
					c.RepeatedRequests++
				}
			}
		}
	}
	c.ByRoute[e.Route] = r
}

func asksModel(route string) bool { return strings.HasSuffix(route, "completions") }

// Journal yields the entries of the journal in dir (the server's Options.Dir), oldest first, also while a server writes
// it. A torn last line, which a kill may leave, is passed over; an absent journal is empty.
func Journal(dir string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f, err := os.Open(filepath.Join(dir, journalFile))
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(Entry{}, fmt.Errorf("read journal: %w", err))
			return
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 256<<10)
		for {
			line, err := r.ReadSlice('\n')
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("read journal: %w", err))
				return
			}
			if e, ok := parseEntry(line); ok && !yield(e, nil) {
				return
			}
		}
	}
}

// ReadJournal counts the journal in dir.
func ReadJournal(dir string) (Counts, error) {
	var c Counts
	answers := map[Digest]int{}
	for e, err := range Journal(dir) {
		if err != nil {
			return Counts{}, err
		}
		c.add(e, answers[e.Digest])
		if e.Kind == Answered {
			answers[e.Digest]++
		}
	}
	return c, nil
}

func appendEntry(b []byte, e Entry) []byte {
	b = append(b, byte(e.Kind), '\t')
	b = strconv.AppendInt(b, e.At.UnixMicro(), 10)
	b = append(append(append(b, '\t'), e.Route...), '\t')
	b = append(append(b, clean(e.Model)...), '\t')
	b = hex.AppendEncode(b, e.Digest[:])
	for _, n := range [...]int{e.Status, e.PromptTokens, e.CompletionTokens} {
		b = append(b, '\t')
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return append(b, '\n')
}

// clean keeps a foreign model name from breaking the line.
func clean(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	if strings.ContainsAny(s, "\t\n\r") {
		return strings.NewReplacer("\t", " ", "\n", " ", "\r", " ").Replace(s)
	}
	return s
}

func parseEntry(line []byte) (Entry, bool) {
	f := bytes.Split(bytes.TrimRight(line, "\n"), []byte{'\t'})
	if len(f) != 8 || len(f[0]) != 1 || len(f[4]) != 24 {
		return Entry{}, false
	}
	e := Entry{Kind: Kind(f[0][0]), Route: string(f[2]), Model: string(f[3])}
	at, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil || e.Kind != Received && e.Kind != Answered && e.Kind != Refused {
		return Entry{}, false
	}
	e.At = time.UnixMicro(at)
	if _, err := hex.Decode(e.Digest[:], f[4]); err != nil {
		return Entry{}, false
	}
	for i, p := range []*int{&e.Status, &e.PromptTokens, &e.CompletionTokens} {
		if *p, err = strconv.Atoi(string(f[5+i])); err != nil {
			return Entry{}, false
		}
	}
	return e, true
}

// tally is what the journal knows about one request.
type tally struct{ received, answered uint16 }

// group is the entries that one write puts on disk. err may be read once done is closed.
type group struct {
	done chan struct{}
	err  error
}

func newGroup() *group { return &group{done: make(chan struct{})} }

// journalWriter appends entries: many handlers fill a buffer, one goroutine writes it (group commit).
type journalWriter struct {
	f     *os.File
	fsync bool

	mu      sync.Mutex
	wake    *sync.Cond
	buf     []byte
	group   *group // of what is in buf
	closed  bool
	counts  Counts
	tallies map[Digest]tally

	stopped chan struct{}
}

func openJournal(dir string, fsync bool) (*journalWriter, error) {
	path := filepath.Join(dir, journalFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j := &journalWriter{f: f, fsync: fsync, group: newGroup(), tallies: map[Digest]tally{}, stopped: make(chan struct{})}
	j.wake = sync.NewCond(&j.mu)
	if err := cutTornLine(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for e, err := range Journal(dir) {
		if err != nil {
			f.Close()
			return nil, err
		}
		j.note(e)
	}
	go j.run()
	return j, nil
}

// cutTornLine ends the file after its last whole line and leaves the offset there.
func cutTornLine(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for end := size; ; {
		start := max(0, end-int64(len(buf)))
		n, err := f.ReadAt(buf[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 || start == 0 {
			keep := start + int64(i) + 1
			if err := f.Truncate(keep); err != nil {
				return err
			}
			_, err = f.Seek(keep, io.SeekStart)
			return err
		}
		end = start
	}
}

func (j *journalWriter) note(e Entry) tally {
	t := j.tallies[e.Digest]
	before := t
	j.counts.add(e, int(t.answered))
	switch e.Kind {
	case Received:
		t.received++
	case Answered:
		t.answered++
	}
	j.tallies[e.Digest] = t
	return before
}

// received notes a request and says how often it was received before. It does not wait for the disk.
func (j *journalWriter) received(e Entry) int {
	e.Kind, e.At = Received, time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.note(e)
	j.buf = appendEntry(j.buf, e)
	j.wake.Signal()
	return int(before.received)
}

// settled notes a reply and returns when the note is written.
func (j *journalWriter) settled(e Entry) error {
	e.At = time.Now()
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return errors.New("journal is closed")
	}
	j.note(e)
	j.buf = appendEntry(j.buf, e)
	g := j.group
	j.wake.Signal()
	j.mu.Unlock()
	<-g.done
	return g.err
}

func (j *journalWriter) run() {
	defer close(j.stopped)
	var spare []byte
	j.mu.Lock()
	for {
		for len(j.buf) == 0 && !j.closed {
			j.wake.Wait()
		}
		if len(j.buf) == 0 {
			j.mu.Unlock()
			return
		}
		batch, g := j.buf, j.group
		j.buf, j.group = spare[:0], newGroup()
		j.mu.Unlock()
		_, err := j.f.Write(batch)
		if err == nil && j.fsync {
			err = j.f.Sync()
		}
		if err != nil { // a full disk, perhaps: the next write starts a line of its own
			g.err = fmt.Errorf("write journal: %w", err)
			if cerr := cutTornLine(j.f); cerr != nil {
				g.err = errors.Join(g.err, cerr)
			}
		}
		close(g.done)
		spare = batch
		j.mu.Lock()
	}
}

func (j *journalWriter) snapshot() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.counts
	c.ByRoute = make(map[string]RouteCounts, len(c.ByRoute))
	for k, v := range j.counts.ByRoute {
		c.ByRoute[k] = v
	}
	return c
}

func (j *journalWriter) close() error {
	j.mu.Lock()
	j.closed = true
	j.wake.Signal()
	j.mu.Unlock()
	<-j.stopped
	return errors.Join(j.f.Sync(), j.f.Close())
}
