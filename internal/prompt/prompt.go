// Package prompt turns rows into messages and answers back into values, so that no text inside a row can steer either way.
//
// # Messages
//
// A rendered template is a system message that gives the role, left out where it would be empty, and a user message that
// holds the task and the row's texts. Template.Example adds the assistant's message, so a training example of the backward
// model is what inference will send, plus the answer.
//
// # Blocks
//
// In a template {{.Instruction}}, {{.Output}}, {{.System}}, {{.First}} and {{.Second}} are blocks. A block looks like this:
//
//	===== BEGIN OUTPUT 7f3a9c21 =====
//	the text, any number of lines
//	===== END OUTPUT 7f3a9c21 =====
//
// The eight hex digits are derived from the text and do not occur in it, so the text cannot close its block; lines in it
// that look like a delimiter are altered ("= = = BEGIN"), so it cannot imitate one; and markers of chat templates, such as
// those of ChatML or Llama, get a space after their first character, so that no tokenizer takes them for control tokens.
// Blocks depend on nothing but the text: the same row always renders to the same bytes.
//
// {{plain .Instruction}} puts the text without a block, markers defused: for templates in which the text is the message itself.
//
// # Templates
//
// A template file is a text/template. It may define "system", "user" and "version"; without any definition the whole file is
// the user message. Of the actions only these are allowed: the fields of Vars, plain, and if/else over a field; no loops and no
// calls of other templates, so rendering is bounded by what Parse has seen.
package prompt

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

// The system prompts that tag where a training example comes from (section 2 of the paper; at inference both are joined).
const (
	TagSeed      = "Answer in the style of an AI Assistant." // S_a: seed pairs
	TagAugmented = "Answer with knowledge from web search."  // S_w: augmented pairs
)

// InferenceSystem returns the system prompt at inference: both tags, S_a first.
func InferenceSystem() string { return TagSeed + " " + TagAugmented }

// Names of the embedded templates.
const (
	Backtranslate = "backtranslate"      // Output → the instruction that it answers
	Rate          = "rate"               // Instruction, Output → reasoning and a score from 1 to 5
	RateAdditive  = "rate-additive"      // the same, one point per criterion met
	RateJSON      = "rate-json"          // as Rate, answered with an object of reason and score
	RateAddJSON   = "rate-additive-json" // as RateAdditive, answered likewise
	Respond       = "respond"            // System, Instruction → an answer
	Compare       = "compare"            // Instruction, First, Second → reasoning and which of both is better
)

// Bounds of templates.
const (
	MaxTemplate = 64 << 10 // bytes of a template file
	MaxRendered = 8 << 20  // bytes of a rendered message
)

// Message is one turn. Role is system, user or assistant.
type Message struct{ Role, Content string }

// Vars are the texts of a row that a template may use. First and Second are two answers to be compared.
type Vars struct{ Instruction, Output, System, First, Second string }

// Template renders rows to messages. The zero value renders nothing; use Embedded or Parse.
type Template struct {
	Name    string
	Version string // of an embedded template; for others the first eight digits of Digest
	Digest  string // SHA-256 of the file, hex
	t       *template.Template
}

//go:embed templates/*.tmpl
var files embed.FS

// ErrUnknown means that there is no embedded template of that name.
var ErrUnknown = errors.New("unknown template")

// Embedded returns a template that comes with the program.
func Embedded(name string) (Template, error) {
	text, err := files.ReadFile("templates/" + name + ".tmpl")
	if err != nil {
		return Template{}, fmt.Errorf("%w %q (known: %s)", ErrUnknown, name, strings.Join(Names(), ", "))
	}
	return Parse(name, string(text))
}

// Names returns the names of the embedded templates in order.
func Names() []string {
	return []string{Backtranslate, Rate, RateAdditive, RateJSON, RateAddJSON, Respond, Compare}
}

// Parse reads a template. Unknown fields, functions and actions are errors that name the line.
func Parse(name, text string) (Template, error) {
	if len(text) > MaxTemplate {
		return Template{}, fmt.Errorf("template %s: %d bytes, at most %d are allowed", name, len(text), MaxTemplate)
	}
	main := name
	if slices.Contains(definitions, name) {
		main += " file" // so that a definition does not take its place
	}
	t, err := template.New(main).Funcs(template.FuncMap{"plain": plain}).Parse(text)
	if err != nil {
		return Template{}, fmt.Errorf("parse template: %w", err)
	}
	if err := check(t); err != nil {
		return Template{}, fmt.Errorf("template %s: %w", name, err)
	}
	sum := sha256.Sum256([]byte(text))
	out := Template{Name: name, Digest: hex.EncodeToString(sum[:]), t: t}
	out.Version = out.Digest[:8]
	if v := t.Lookup("version"); v != nil {
		if out.Version, err = execute(v, fields{}); err != nil {
			return Template{}, fmt.Errorf("template %s: version: %w", name, err)
		}
	}
	if _, err := out.Render(Vars{Instruction: "x", Output: "x", System: "x", First: "x", Second: "x"}); err != nil {
		return Template{}, err
	}
	return out, nil
}

// ID names the template and its text, such as rate@1-3fa2b1c4.
func (t Template) ID() string {
	short := t.Digest[:min(8, len(t.Digest))]
	if t.Version == short {
		return t.Name + "@" + short
	}
	return t.Name + "@" + t.Version + "-" + short
}

// fields are what a template sees: strings that are empty when the row has no such text, and blocks when printed.
type fields struct {
	Instruction instructionText
	Output      outputText
	System      systemText
	First       firstText
	Second      secondText
}

type (
	instructionText string
	outputText      string
	systemText      string
	firstText       string
	secondText      string
)

func (t instructionText) String() string { return Block("INSTRUCTION", string(t)) }
func (t outputText) String() string      { return Block("OUTPUT", string(t)) }
func (t systemText) String() string      { return Block("SYSTEM", string(t)) }
func (t firstText) String() string       { return Block("FIRST", string(t)) }
func (t secondText) String() string      { return Block("SECOND", string(t)) }

func plain(v any) (string, error) {
	switch t := v.(type) {
	case instructionText:
		return Defuse(string(t)), nil
	case outputText:
		return Defuse(string(t)), nil
	case systemText:
		return Defuse(string(t)), nil
	case firstText:
		return Defuse(string(t)), nil
	case secondText:
		return Defuse(string(t)), nil
	}
	return "", fmt.Errorf("plain: %T is not a field", v)
}

// Render returns the messages that ask about a row. Errors: a template that renders an empty user message, or one over MaxRendered.
func (t Template) Render(v Vars) ([]Message, error) {
	if t.t == nil {
		return nil, errors.New("render: empty template")
	}
	f := fields{
		instructionText(v.Instruction), outputText(v.Output), systemText(v.System), firstText(v.First), secondText(v.Second),
	}
	var out []Message
	user := t.t.Lookup("user")
	if user == nil {
		user = t.t
	}
	if s := t.t.Lookup("system"); s != nil {
		content, err := execute(s, f)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", t.ID(), err)
		}
		if content != "" {
			out = append(out, Message{"system", content})
		}
	}
	content, err := execute(user, f)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", t.ID(), err)
	}
	if content == "" {
		return nil, fmt.Errorf("render %s: the user message is empty", t.ID())
	}
	return append(out, Message{"user", content}), nil
}

// Example returns a training example: the messages that ask about a row and the assistant's answer.
func (t Template) Example(v Vars, answer string) ([]Message, error) {
	m, err := t.Render(v)
	if err != nil {
		return nil, err
	}
	return append(m, Message{"assistant", Defuse(answer)}), nil
}

// execute renders one definition, trimmed.
func execute(t *template.Template, f fields) (string, error) {
	var b bounded
	if err := t.Execute(&b, f); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// bounded collects at most MaxRendered bytes.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > MaxRendered {
		return 0, fmt.Errorf("more than %d bytes", MaxRendered)
	}
	return b.Builder.Write(p)
}
