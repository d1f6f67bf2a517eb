package corpus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// promptNames are the names under which data sets keep prompts, in the order in which they are tried.
var promptNames = []string{"instruction", "prompt", "question", "query", "input"}

// PromptOptions say how prompts are read. A name may be a.b for a field inside another.
type PromptOptions struct {
	Format      string // auto, jsonl or parquet
	Instruction string // field of the prompt; empty: instruction, or what else of promptNames there is
	System      string // field of a system prompt; empty: none
	Default     string // system prompt of records that bring none
	Output      string // field of an answer; empty: none
	Model       string // field that says who wrote the answer; empty: none
	Pairs       bool   // records are responses: the answer is needed
	Limit       int64  // records that are read of a file; 0: all
	Bounds      Bounds
}

func (o PromptOptions) withDefaults() PromptOptions {
	if o.Instruction == "" {
		o.Instruction = promptNames[0]
	}
	if o.Limit <= 0 {
		o.Limit = 1 << 62
	}
	o.Bounds = o.Bounds.withDefaults()
	return o
}

// instruction returns the field that holds the prompt among those there are.
func (o PromptOptions) instruction(has func(string) bool) string {
	if o.Instruction == promptNames[0] {
		for _, name := range promptNames {
			if has(name) {
				return name
			}
		}
	}
	return o.Instruction
}

// prompter makes rows of records.
type prompter struct {
	opts  PromptOptions
	name  string
	left  int64 // records that may still be read
	yield func(Item) bool
}

// Prompts yields the prompts, or with Pairs the responses, and the rejects of one file or object: a record a line, or the
// elements of an array; of a tar archive as ZipPrompts. Errors are those of Seeds.
func Prompts(ctx context.Context, name string, r io.Reader, opts PromptOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		p := newPrompter(name, opts, yield)
		readRecords(ctx, name, r, records(opts.Bounds, p.yield, p.read), yield)
	}
}

// ZipPrompts yields those of the JSONL and CSV files in a zip archive, as ZipSeeds does. The limit is that of the archive.
func ZipPrompts(ctx context.Context, name string, r io.ReaderAt, size int64, opts PromptOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return readZip(ctx, name, r, size, func(yield func(Item, error) bool) reading {
		p := newPrompter(name, opts, yield)
		return records(opts.Bounds, p.yield, p.read)
	})
}

func newPrompter(name string, opts PromptOptions, yield func(Item, error) bool) *prompter {
	return &prompter{opts: opts, name: name, left: opts.Limit, yield: func(it Item) bool { return yield(it, nil) }}
}

// read makes the rows of one file. It reports whether more may be yielded.
func (p *prompter) read(s *source, from place, format string) bool {
	lines := newLineReader(s, p.opts.Bounds.MaxLineBytes, format)
	for ; p.left > 0 && lines.next(); p.left-- {
		if s.ctx.Err() != nil {
			return true // said by failure
		}
		at := from.at(strconv.FormatInt(lines.number, 10))
		at.offset = lines.number - 1
		if lines.tooLong {
			if !p.yield(at.reject(ReasonLineTooLong, fmt.Sprintf("more than %d bytes", p.opts.Bounds.MaxLineBytes), "")) {
				return false
			}
			continue
		}
		fields, bad := lines.fields()
		if bad.reason != "" {
			if more := p.yield(at.reject(bad.reason, bad.detail, bad.text)); !more || bad.stop {
				return more
			}
			continue
		}
		if !p.record(at, fields, lines.line) {
			return false
		}
	}
	return true
}

// record makes the row of one object.
func (p *prompter) record(at origin, fields map[string]json.RawMessage, line []byte) bool {
	o := p.opts
	instruction, err := stringField(fields, o.instruction(func(name string) bool { return isJSON(fields[name], '"') }))
	if err != nil {
		return p.yield(at.reject(fieldReason(err), err.Error(), printable(line)))
	}
	optional := func(name string) string {
		if name == "" {
			return ""
		}
		text, err := stringField(fields, name)
		if err != nil {
			return ""
		}
		return text
	}
	if o.Pairs {
		if _, err := stringField(fields, o.Output); err != nil {
			return p.yield(at.reject(fieldReason(err), err.Error(), printable(line)))
		}
	}
	return p.emit(at, optional(o.System), instruction, optional(o.Output), optional(o.Model))
}

// PromptColumns chooses the columns of a table that PromptRows needs. The error is a ColumnError.
func PromptColumns(have []string, opts PromptOptions) (map[string]string, error) {
	opts = opts.withDefaults()
	has := func(name string) bool { return slices.Contains(have, name) }
	columns := map[string]string{"instruction": opts.instruction(has)}
	for name, wanted := range map[string]string{"system": opts.System, "output": opts.Output, "model": opts.Model} {
		switch {
		case wanted == "":
		case has(wanted):
			columns[name] = wanted
		case name != "output" || opts.Pairs:
			return nil, &ColumnError{Wanted: wanted, Have: have, Under: "load", Write: SuggestPrompts(opts.Pairs)(have)}
		}
	}
	if !has(columns["instruction"]) {
		return nil, &ColumnError{Wanted: columns["instruction"], Have: have, Under: "load", Write: SuggestPrompts(opts.Pairs)(have)}
	}
	return columns, nil
}

// PromptRows yields the prompts or responses and rejects of a table, as Prompts does. An error of rows ends it.
func PromptRows(ctx context.Context, name string, rows iter.Seq2[Row, error], opts PromptOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		p := newPrompter(name, opts, yield)
		for row, err := range rows {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Item{}, fmt.Errorf("read %s: %w", name, err))
				return
			}
			if row.Number >= opts.Limit {
				return
			}
			at := origin{source: name, document: strconv.FormatInt(row.Number+1, 10), offset: row.Number}
			if !p.emit(at, row.Values["system"], row.Values["instruction"], row.Values["output"], row.Values["model"]) {
				return
			}
		}
	}
}

// emit yields a record whose texts can be used.
func (p *prompter) emit(at origin, system, instruction, output, model string) bool {
	clean := func(s string) string { return strings.TrimSpace(cleanText(s)) }
	system, instruction, output, model = clean(system), clean(instruction), clean(output), clip(clean(model), 300)
	if system == "" {
		system = p.opts.Default
	}
	id := dataset.PromptIDOf(system, instruction)
	limit := p.opts.Bounds.MaxFieldChars
	reason, detail := "", ""
	for _, field := range []struct{ name, text string }{{"instruction", instruction}, {"output", output}, {"system", system}} {
		switch {
		case field.text == "" && (field.name == "instruction" || (field.name == "output" && p.opts.Pairs)):
			reason, detail = ReasonEmptyField, field.name
		case utf8.RuneCountInString(field.text) > limit:
			reason, detail = ReasonTooLong, fmt.Sprintf("%s of more than %d characters", field.name, limit)
		case strings.ContainsRune(field.text, utf8.RuneError):
			reason, detail = ReasonInvalidUTF8, field.name+": characters were lost"
		}
		if reason != "" {
			break
		}
	}
	switch {
	case reason != "":
		it := at.reject(reason, detail, output)
		it.Reject.ID, it.Reject.Instruction = id, clip(instruction, RejectTextChars)
		return p.yield(it)
	case p.opts.Pairs:
		return p.yield(Item{Response: &dataset.Response{
			ID: dataset.GivenResponseID(id, output), PromptID: id, System: system, Instruction: instruction, Output: output, Generator: model,
			Source: at.source, Document: at.document, Offset: at.offset,
		}})
	}
	return p.yield(Item{Prompt: &dataset.Prompt{
		ID: id, System: system, Instruction: instruction, Output: output, Source: at.source, Document: at.document, Offset: at.offset,
	}})
}
