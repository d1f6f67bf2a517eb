package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
)

// Line is one JSON line of progress on the program's standard output. Every field may be left out; the newest
// value of each counts.
type Line struct {
	Step    int     `json:"step"`
	Steps   int     `json:"steps"`
	Loss    float64 `json:"loss"`
	Message string  `json:"message"`
	// Model is the name under which the result will answer requests; default the job's name.
	Model        string   `json:"model"`
	Tokens       int64    `json:"tokens"`        // trained on
	CostUSD      *float64 `json:"cost_usd"`      // of the whole job
	NotExpressed []string `json:"not_expressed"` // what of the recipe this program does not do
	Error        string   `json:"error"`         // why it is about to fail
}

const (
	tailBytes = 64 << 10 // of standard output that a look at a running job reads
	lineBytes = 1 << 20  // longer lines are log
	lastLines = 20       // of standard error that a failure tells
)

// progress reads what the program says: the end of its output, or the whole of it.
func (f folder) progress(whole bool) finetune.Status {
	st := finetune.Status{State: finetune.StateRunning}
	file, err := os.Open(f.path(fileStdout))
	if err != nil {
		return st // it has said nothing yet
	}
	defer func() { _ = file.Close() }()
	if !whole {
		_ = seekTail(file, tailBytes)
	}
	readLines(file, func(l Line) { l.addTo(&st) })
	return st
}

func (l Line) addTo(st *finetune.Status) {
	if l.Step > 0 {
		st.Step = l.Step
	}
	if l.Steps > 0 {
		st.Steps = l.Steps
	}
	if l.Loss > 0 {
		st.Loss = l.Loss
	}
	if l.Message != "" {
		st.Message = finetune.Clip(l.Message)
	}
	if name := finetune.Clip(l.Model); name != "" && len(name) <= 512 {
		st.Model = name
	}
	if l.Tokens > 0 {
		st.TrainedTokens = l.Tokens
	}
	if c := l.CostUSD; c != nil && *c >= 0 && *c < 1e9 {
		st.CostMicroUSD, st.CostKnown = int64(math.Round(*c*1e6)), true
	}
	if n := len(l.NotExpressed); n > 0 && n <= 50 {
		st.NotExpressed = nil
		for _, s := range l.NotExpressed {
			s = finetune.Clip(s)
			st.NotExpressed = append(st.NotExpressed, s[:min(len(s), 512)])
		}
	}
}

// readLines calls fn with every line that is a JSON object of progress. Others, half ones and endless ones are log.
func readLines(r io.Reader, fn func(Line)) {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	tooLong := false
	for {
		part, err := in.ReadSlice('\n')
		if tooLong = tooLong || len(line)+len(part) > lineBytes; tooLong {
			line = line[:0]
		} else {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if text := bytes.TrimSpace(line); len(text) > 1 && text[0] == '{' && !tooLong {
			var l Line
			if json.Unmarshal(text, &l) == nil {
				fn(l)
			}
		}
		if err != nil {
			return
		}
		line, tooLong = line[:0], false
	}
}

func seekTail(file *os.File, n int64) error {
	info, err := file.Stat()
	if err != nil || info.Size() <= n {
		return err
	}
	_, err = file.Seek(-n, io.SeekEnd)
	return err
}

// lastWords tells why the program failed: its exit code, the error it named, and the end of its standard error,
// or of its output where it wrote no errors.
func (f folder) lastWords(why string) string {
	var named string
	if file, err := os.Open(f.path(fileStdout)); err == nil {
		_ = seekTail(file, tailBytes)
		readLines(file, func(l Line) {
			if l.Error != "" {
				named = l.Error
			}
		})
		_ = file.Close()
	}
	tail := f.tail(fileStderr)
	if tail == "" {
		tail = f.tail(fileStdout)
	}
	for _, more := range []string{tail, named} {
		if more != "" {
			why += "\n" + finetune.Clip(more)
		}
	}
	return why
}

func (f folder) tail(name string) string {
	file, err := os.Open(f.path(name))
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if seekTail(file, finetune.MaxMessage) != nil {
		return ""
	}
	raw, err := io.ReadAll(io.LimitReader(file, finetune.MaxMessage))
	if err != nil {
		return ""
	}
	// Progress bars repaint a line; what counts is its last state.
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(raw), "\r\n", "\n")), "\n")
	for i, l := range lines {
		l = strings.TrimRight(l, "\r")
		lines[i] = l[strings.LastIndexByte(l, '\r')+1:]
	}
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}
