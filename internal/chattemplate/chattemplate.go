// Package chattemplate renders conversations as a model's own tokenizer does: by the chat template (Jinja2) and the special tokens of a
// tokenizer_config.json. A template is foreign code: it opens no file, and its time and what it writes are bounded.
//
// gonja, which renders, is no Jinja2 to the letter. Inline ifs that it does not take are rewritten (conditionals). What is known to be
// amiss: tojson escapes as Go does, and the last character of a text of one is not found by -1.
//
// Source: transformers' apply_chat_template (trim_blocks, lstrip_blocks, raise_exception, add_generation_prompt).
package chattemplate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// Bounds.
const (
	MaxConfig  = 4 << 20         // bytes of a tokenizer_config.json
	maxSource  = 256 << 10       // of a template
	maxPrompt  = 16 << 20        // written by one render
	maxTime    = 5 * time.Second // of one render
	maxRange   = 10_000          // numbers that range gives
	maxNesting = 200             // of brackets and blocks in a template
)

// Message is one turn. Role is system, user or assistant.
type Message struct{ Role, Content string }

// Turns makes messages of turns of another package.
func Turns[T ~struct{ Role, Content string }](turns []T) []Message {
	out := make([]Message, len(turns))
	for i, t := range turns {
		out[i] = Message(t)
	}
	return out
}

// Source is what a Template is made of.
type Source struct {
	From     string `json:"from,omitempty"` // hf://owner/name@commit, or the path that it was read at; for people
	Template string `json:"chat_template"`
	BOS      string `json:"bos_token"` // the tokens that begin and end a text; "" where there are none
	EOS      string `json:"eos_token"`
}

// Digest names the template with its tokens; "" is no template.
func (s Source) Digest() string {
	if s.Template == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s.Template + "\x00" + s.BOS + "\x00" + s.EOS))
	return hex.EncodeToString(sum[:])
}

// Template is the chat template of one tokenizer. It is safe for concurrent use.
type Template struct {
	Source

	template *exec.Template
	runaway  atomic.Bool // one render did not end in time: no other is begun
}

// ErrTime is a template that did not end in time. It is not used again.
var ErrTime = errors.New("the chat template did not end in time")

// ErrUnread is a template that is not read here, though its own tokenizer may.
var ErrUnread = errors.New("the chat template uses Jinja that is not read here")

// errDated is a template that cannot do without the clock.
var errDated = errors.New("the chat template puts today's date into every prompt (strftime_now), so that no answer would be found again. Try: an endpoint with api: chat, or a copy of the template with a date of your own")

// Open reads a tokenizer_config.json, or the one in a folder, where a chat_template.jinja beside it goes first.
func Open(path string) (*Template, error) {
	separate := ""
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		body, err := readFile(filepath.Join(path, "chat_template.jinja"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		separate, path = string(body), filepath.Join(path, "tokenizer_config.json")
	}
	body, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return compileFile(body, separate)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxConfig+1))
}

// Parse reads a tokenizer_config.json, and tries its template on a conversation.
func Parse(tokenizerConfig []byte) (*Template, error) { return compileFile(tokenizerConfig, "") }

func compileFile(tokenizerConfig []byte, separate string) (*Template, error) {
	s, err := Read(tokenizerConfig, separate)
	if err != nil {
		return nil, err
	}
	return New(s)
}

// Read takes the chat template and the tokens out of a tokenizer_config.json. separate is the text of the chat_template.jinja beside
// it, which goes first; "" where there is none.
func Read(tokenizerConfig []byte, separate string) (Source, error) {
	if len(tokenizerConfig) > MaxConfig {
		return Source{}, fmt.Errorf("tokenizer_config.json: more than %d bytes", MaxConfig)
	}
	var file struct {
		Template json.RawMessage `json:"chat_template"`
		BOS      token           `json:"bos_token"`
		EOS      token           `json:"eos_token"`
	}
	if err := json.Unmarshal(tokenizerConfig, &file); err != nil {
		return Source{}, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	s := Source{Template: separate, BOS: string(file.BOS), EOS: string(file.EOS)}
	var err error
	if s.Template == "" {
		s.Template, err = sourceOf(file.Template)
	}
	return s, err
}

// New compiles a template, and tries it on a conversation.
func New(s Source) (*Template, error) {
	t := &Template{Source: s}
	var err error
	if t.template, err = compile(s.Template); err != nil {
		return nil, err
	}
	if _, err := t.Render([]Message{{Role: "user", Content: "Hello"}}, true); err != nil {
		return nil, err
	}
	return t, nil
}

// token is written as text, as an object with its content, or null.
type token string

func (t *token) UnmarshalJSON(b []byte) error {
	var plain *string
	if json.Unmarshal(b, &plain) == nil {
		if plain != nil {
			*t = token(*plain)
		}
		return nil
	}
	var object struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	*t = token(object.Content)
	return nil
}

// sourceOf takes the template: the only one, or of several the one called default.
func sourceOf(raw json.RawMessage) (string, error) {
	var source string
	if len(raw) > 0 && json.Unmarshal(raw, &source) == nil && source != "" {
		return source, nil
	}
	var named []struct{ Name, Template string }
	if len(raw) > 0 && json.Unmarshal(raw, &named) == nil {
		for _, n := range named {
			if n.Name == "default" {
				return n.Template, nil
			}
		}
	}
	return "", errors.New("tokenizer_config.json: no chat_template. Try: the tokenizer of the model's chat or instruct variant; a base model needs none, leave tokenizer out")
}

// generationTag marks what an assistant wrote, for trainers; it renders nothing.
var generationTag = regexp.MustCompile(`\{%(-?)\s*(end)?generation\s*(-?)%\}`)

func compile(source string) (t *exec.Template, err error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("chat template: more than %d bytes", maxSource)
	}
	if depth(source) > maxNesting {
		return nil, fmt.Errorf("chat template: nested deeper than %d", maxNesting)
	}
	source = generationTag.ReplaceAllStringFunc(source, func(tag string) string {
		m := generationTag.FindStringSubmatch(tag)
		word := "if true"
		if m[2] != "" {
			word = "endif"
		}
		return "{%" + m[1] + " " + word + " " + m[3] + "%}"
	})
	given := source
	source = conditionals(source)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrUnread, r)
		}
	}()
	rules := config.New()
	rules.TrimBlocks, rules.LeftStripBlocks = true, true
	t, err = exec.NewTemplate("chat_template", rules, &only{name: "chat_template", source: source}, &exec.Environment{
		Context: exec.EmptyContext().Update(builtins.GlobalVariables).Update(exec.NewContext(map[string]any{
			"namespace": namespaceOf(), "range": boundedRange,
		})),
		Filters: builtins.Filters, Tests: builtins.Tests, ControlStructures: structures, Methods: methods,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %.300s", ErrUnread, strings.NewReplacer(source, "…", given, "…").Replace(err.Error()))
	}
	return t, nil
}

// depth is the deepest nesting of brackets and of block tags.
func depth(s string) int {
	now, most := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[', '{':
			now++
			most = max(most, now)
		case ')', ']', '}':
			now = max(0, now-1)
		}
	}
	return max(most, strings.Count(s, "{%")/8)
}

func namespaceOf() any {
	f, _ := builtins.GlobalFunctions.Get("namespace")
	return f
}

// RaisedError is what a template raised: it does not take this conversation.
type RaisedError struct{ Message string }

// Error says what the template said.
func (e *RaisedError) Error() string {
	return fmt.Sprintf("the chat template refuses the conversation: %.300s", e.Message)
}

func boundedRange(_ *exec.Evaluator, params *exec.VarArgs) *exec.Value {
	bounds := [3]int{0, 0, 1}
	n := len(params.Args)
	if n == 0 || n > 3 {
		return exec.AsValue(errors.New("range: 1 to 3 numbers are expected"))
	}
	for i, a := range params.Args {
		if !a.IsInteger() {
			return exec.AsValue(errors.New("range: numbers are expected"))
		}
		bounds[i] = a.Integer()
	}
	if n == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return exec.AsValue(errors.New("range: step 0"))
	}
	out := []int{}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(out) >= maxRange {
			return exec.AsValue(fmt.Errorf("range: more than %d numbers", maxRange))
		}
		out = append(out, i)
	}
	return exec.AsValue(out)
}

// only is a loader that knows one template: nothing can be included, imported or extended.
type only struct{ name, source string }

var errNoFiles = errors.New("a chat template opens no files")

func (o *only) Read(name string) (io.Reader, error) {
	if name != o.name {
		return nil, errNoFiles
	}
	return strings.NewReader(o.source), nil
}

func (o *only) Resolve(name string) (string, error) {
	if name != o.name {
		return "", errNoFiles
	}
	return name, nil
}

func (o *only) Inherit(string) (loaders.Loader, error) { return &only{}, nil }

// Render renders a conversation. ask: the header of the assistant's turn follows, as inference wants it; without it a conversation
// that ends with the assistant's answer is a training example. Errors: *RaisedError, ErrTime.
func (t *Template) Render(messages []Message, ask bool) (string, error) {
	if t.runaway.Load() {
		return "", ErrTime
	}
	list := make(turns, len(messages))
	for i, m := range messages {
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	var raised atomic.Pointer[RaisedError]
	raise := func(_ *exec.Evaluator, params *exec.VarArgs) *exec.Value {
		e := &RaisedError{Message: "no reason given"}
		if len(params.Args) > 0 {
			e.Message = params.Args[0].String()
		}
		raised.CompareAndSwap(nil, e) // gonja keeps an error's text alone
		return exec.AsValue(e)
	}
	until := time.Now().Add(maxTime)
	values := (&guard{until: until}).values()
	maps.Copy(values, map[string]any{
		"raise_exception": raise, "messages": list, "add_generation_prompt": ask, "bos_token": t.BOS, "eos_token": t.EOS, "tools": nil, "documents": nil,
	})
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	out := &bounded{until: until}
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("%.300v", p)
			}
			done <- r
		}()
		r.err = t.template.Execute(out, exec.NewContext(values))
		r.text = out.b.String()
	}()
	timer := time.NewTimer(maxTime)
	defer timer.Stop()
	select {
	case r := <-done:
		switch e := raised.Load(); {
		case e != nil:
			return "", e
		case r.err != nil && strings.Contains(r.err.Error(), "strftime_now is not callable"):
			return "", errDated
		case r.err != nil:
			return "", fmt.Errorf("%w: %.300s", ErrUnread, r.err.Error())
		}
		return r.text, nil
	case <-timer.C:
		t.runaway.Store(true)
		return "", ErrTime
	}
}

// Prompt is what inference sends to a server that puts the BOS token before every text by itself: Render with ask, without that token.
func (t *Template) Prompt(messages []Message) (string, error) {
	text, err := t.Render(messages, true)
	if t.BOS != "" {
		text = strings.TrimPrefix(text, t.BOS)
	}
	return text, err
}

// turns are the messages as a template sees them. An index may count from the end, also of one message, where gonja's own slices
// have nothing.
type turns []map[string]any

// GetItem returns an entry.
func (t turns) GetItem(key any) (*exec.Value, bool) {
	i, ok := at(key, len(t))
	if !ok {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(t[i]), true
}

// bounded stops a render that writes too much or for too long.
type bounded struct {
	b     bytes.Buffer
	until time.Time
}

func (w *bounded) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxPrompt {
		return 0, fmt.Errorf("more than %d bytes were written", maxPrompt)
	}
	if time.Now().After(w.until) {
		return 0, ErrTime
	}
	return w.b.Write(p)
}
