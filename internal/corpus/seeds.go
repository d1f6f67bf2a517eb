package corpus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/dataset"
)

// Formats of seeds. Each is JSON, one object a line or an array of objects; or CSV or a Parquet file with the same columns.
const (
	FormatPairs  = "pairs"  // two text fields
	FormatAlpaca = "alpaca" // instruction, input and output; an input continues the instruction
	FormatChat   = "chat"   // messages: the first question and its answer
	FormatOASST  = "oasst"  // Open Assistant: a tree a line, or a message a line
)

// SeedOptions say how seed pairs are read.
type SeedOptions struct {
	Format      string // auto, pairs, alpaca, chat or oasst; empty means auto: each record is what its fields say
	Instruction string // pairs: field of the instruction, a.b for one inside another; empty: instruction, or in auto what else names it
	Output      string // pairs: field of the output; empty: output, or in auto what else names it
	Language    string // oasst: language kept; empty means en, any for all
	Bounds      Bounds

	named bool // the caller named the fields otherwise
}

func (o SeedOptions) withDefaults() SeedOptions {
	if o.Format == "" {
		o.Format = FormatAuto
	}
	o.named = o.Instruction != "" && o.Instruction != "instruction" || o.Output != "" && o.Output != "output"
	if o.Instruction == "" {
		o.Instruction = "instruction"
	}
	if o.Output == "" {
		o.Output = "output"
	}
	if o.Language == "" {
		o.Language = "en"
	}
	o.Bounds = o.Bounds.withDefaults()
	return o
}

// seeder makes rows of records.
type seeder struct {
	opts  SeedOptions
	name  string
	yield func(Item) bool
	roots pendingRoots
}

// Seeds yields the seed pairs and rejects of one file or object: for pairs one row a line, for Open Assistant one row
// a conversation, made of its first question and the reply of rank 0. Gzip and Zstandard are recognised by their first
// bytes; a tar archive is read as ZipSeeds reads a zip. The error is that of r or of ctx, or ErrRandomAccess before any
// item, and nothing follows it.
func Seeds(ctx context.Context, name string, r io.Reader, opts SeedOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		sd := newSeeder(name, opts, yield)
		readRecords(ctx, name, r, records(opts.Bounds, sd.yield, sd.read), yield)
	}
}

// ZipSeeds yields the seed pairs and rejects of the JSONL and CSV files in a zip archive, compressed once more or not, each as Seeds
// does; the document of a row is its file's name, # and the line.
func ZipSeeds(ctx context.Context, name string, r io.ReaderAt, size int64, opts SeedOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return readZip(ctx, name, r, size, func(yield func(Item, error) bool) reading {
		sd := newSeeder(name, opts, yield)
		return records(opts.Bounds, sd.yield, sd.read)
	})
}

func newSeeder(name string, opts SeedOptions, yield func(Item, error) bool) *seeder {
	return &seeder{opts: opts, name: name, yield: func(it Item) bool {
		it.First = true // a record is a document
		return yield(it, nil)
	}}
}

// readRecords reads a file of records, or the tar archive of such files that it turns out to be.
func readRecords(ctx context.Context, name string, r io.Reader, c reading, yield func(Item, error) bool) {
	s := newSource(ctx, r, c.bounds)
	defer s.close()
	more := true
	switch format := sniff(name, s.peek()); {
	case format == FormatZip || bytes.HasPrefix(s.peek(), []byte("PAR1")):
		s.raw.err = ErrRandomAccess
	case format == FormatTar:
		more = readTar(s, name, c)
	default:
		if format != FormatCSV && format != FormatTSV {
			format = FormatJSONL
		}
		more = c.read(s, place{source: name}, format)
	}
	if !more {
		return
	}
	if err := s.failure(); err != nil {
		yield(Item{}, fmt.Errorf("read %s: %w", name, err))
		return
	}
	if reason, detail := s.damage(); reason != "" {
		c.yield(origin{source: name}.reject(reason, detail, ""))
	}
}

// read makes the rows of one file. It reports whether more may be yielded.
func (sd *seeder) read(s *source, p place, format string) bool {
	return sd.lines(s, p, format) && sd.leftovers()
}

func (sd *seeder) lines(s *source, p place, format string) bool {
	lines := newLineReader(s, sd.opts.Bounds.MaxLineBytes, format)
	for lines.next() {
		if s.ctx.Err() != nil {
			return true // said by failure
		}
		at := p.at(strconv.FormatInt(lines.number, 10))
		at.offset = lines.number - 1
		if lines.tooLong {
			if !sd.yield(at.reject(ReasonLineTooLong, fmt.Sprintf("more than %d bytes", sd.opts.Bounds.MaxLineBytes), "")) {
				return false
			}
			continue
		}
		fields, bad := lines.fields()
		if bad.reason != "" {
			if more := sd.yield(at.reject(bad.reason, bad.detail, bad.text)); !more || bad.stop {
				return more
			}
			continue
		}
		if !sd.record(at, fields, lines.line) {
			return false
		}
	}
	return true
}

// record makes the row of one line, if it makes one.
func (sd *seeder) record(at origin, fields map[string]json.RawMessage, line []byte) bool {
	_, isTree := fields["prompt"]
	_, hasTreeID := fields["message_tree_id"]
	_, hasParent := fields["parent_id"]
	_, hasMessageID := fields["message_id"]
	_, hasRole := fields["role"]
	switch {
	case sd.opts.Format == FormatPairs:
		return sd.pair(at, fields, line, sd.opts.Instruction, sd.opts.Output)
	case sd.opts.Format == FormatAlpaca:
		return sd.continued(at, fields, line, "instruction", "input", "output")
	case sd.opts.Format == FormatChat:
		return sd.anyChat(at, fields, line)
	case isTree && (hasTreeID || sd.opts.Format == FormatOASST):
		return sd.tree(at, line)
	case hasMessageID && hasRole && (hasParent || hasTreeID || sd.opts.Format == FormatOASST):
		return sd.message(at, line)
	case sd.opts.Format == FormatOASST:
		return sd.yield(at.reject(ReasonBadRecord, "neither a conversation tree nor a message", printable(line)))
	}
	if sd.opts.named {
		return sd.pair(at, fields, line, sd.opts.Instruction, sd.opts.Output)
	}
	return sd.shape(at, fields, line)
}

// pair reads two named fields.
func (sd *seeder) pair(at origin, fields map[string]json.RawMessage, line []byte, instruction, output string) bool {
	question, err := stringField(fields, instruction)
	if err != nil {
		return sd.yield(at.reject(fieldReason(err), err.Error(), printable(line)))
	}
	answer, err := stringField(fields, output)
	if err != nil {
		return sd.yield(at.reject(fieldReason(err), err.Error(), printable(line)))
	}
	return sd.emit(at, question, answer)
}

// emit yields a pair whose two sides can be used.
func (sd *seeder) emit(at origin, instruction, output string) bool {
	instruction, output = strings.TrimSpace(cleanText(instruction)), strings.TrimSpace(cleanText(output))
	reason, detail := "", ""
	limit := sd.opts.Bounds.MaxFieldChars
	switch {
	case instruction == "" || output == "":
		reason, detail = ReasonEmptyField, "instruction"
		if output == "" {
			detail = "output"
		}
	case utf8.RuneCountInString(instruction) > limit || utf8.RuneCountInString(output) > limit:
		reason, detail = ReasonTooLong, fmt.Sprintf("more than %d characters", limit)
	case strings.ContainsRune(instruction, utf8.RuneError) || strings.ContainsRune(output, utf8.RuneError):
		reason, detail = ReasonInvalidUTF8, "characters were lost"
	}
	if reason != "" {
		it := at.reject(reason, detail, output)
		it.Reject.ID = dataset.PairID(instruction, output)
		it.Reject.Instruction = clip(instruction, RejectTextChars)
		return sd.yield(it)
	}
	return sd.yield(Item{Seed: &dataset.Seed{
		ID: dataset.PairID(instruction, output), Instruction: instruction, Output: output,
		Source: at.source, Document: at.document, Offset: at.offset,
	}})
}
