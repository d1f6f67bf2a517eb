package corpus

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// Row is one row of a table, its cells as text. A cell that is null is absent; lists and structs are JSON.
type Row struct {
	Number int64 // from 0
	Values map[string]string
}

// ColumnError says that a table lacks a column. It is a mistake in the settings rather than in the table.
type ColumnError struct {
	Wanted string   // what was looked for
	Have   []string // what there is
	Write  string   // settings of the source that would fit, perhaps
	Under  string   // the block of the spec that they belong to; "": the source
}

func (e *ColumnError) Error() string {
	const most = 20
	have := e.Have
	more := ""
	if len(have) > most {
		have, more = have[:most], ", …"
	}
	return fmt.Sprintf("no column %s; there are %s%s. Try: under %s, %s", e.Wanted, clip(strings.Join(have, ", "), 1000), more, cmp.Or(e.Under, "the source"), cmp.Or(e.Write, "name the columns"))
}

// DocumentColumns chooses the columns of a table that DocumentRows needs: names in its rows to names in the table. Have
// lists the table's columns, a.b for one inside another. The error is a ColumnError.
func DocumentColumns(have []string, opts DocumentOptions) (map[string]string, error) {
	opts = opts.withDefaults()
	if !slices.Contains(have, opts.Text) {
		return nil, &ColumnError{Wanted: opts.Text, Have: have, Write: SuggestText(have)}
	}
	columns := map[string]string{"text": opts.Text}
	if slices.Contains(have, opts.Title) {
		columns["title"] = opts.Title
	}
	return columns, nil
}

// DocumentRows yields the segments and rejects of a table with a document in each row, as Documents does. A row's
// document is its number, from 1. An error of rows ends it.
func DocumentRows(ctx context.Context, name string, rows iter.Seq2[Row, error], opts DocumentOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		c := newCutter(opts, yield)
		for row, err := range rows {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Item{}, fmt.Errorf("read %s: %w", name, err))
				return
			}
			at := origin{source: name, document: strconv.FormatInt(row.Number+1, 10)}
			if !c.text(at, row.Values["text"], cleanLine(row.Values["title"])) {
				return
			}
		}
	}
}

// text cuts a document that came as a text.
func (c *cutter) text(at origin, text, title string) bool {
	limit := c.opts.Bounds.MaxDocumentBytes
	switch {
	case strings.TrimSpace(text) == "":
		return c.yield(at.reject(ReasonNoContent, fmt.Sprintf("field %q is empty", c.opts.Text), ""))
	case strings.IndexByte(text, 0) >= 0:
		return c.yield(at.reject(ReasonBinary, fmt.Sprintf("field %q holds a zero byte", c.opts.Text), ""))
	case int64(len(text)) > limit:
		return c.yield(at.reject(ReasonTooLarge, fmt.Sprintf("more than %d bytes", limit), ""))
	}
	text = cleanText(text)
	if detail := tooManyLines(text); detail != "" {
		return c.yield(at.reject(ReasonTooLarge, detail, ""))
	}
	return c.cut(at, parseText(title, text), false)
}

// Columns of Open Assistant messages, and those of them that are no texts.
var (
	messageColumns  = []string{"message_id", "parent_id", "text", "role", "lang", "rank", "deleted"}
	messageRequired = []string{"message_id", "parent_id", "text", "role"}
	rawColumns      = append([]string{"rank", "deleted"}, chatNames...)
)

// SeedColumns chooses the columns of a table that SeedRows needs, by the format of the options or by what the table
// has. Have lists the table's columns, a.b for one inside another. The error is a ColumnError.
func SeedColumns(have []string, opts SeedOptions) (map[string]string, error) {
	opts = opts.withDefaults()
	has := func(names ...string) bool {
		for _, name := range names {
			if !slices.Contains(have, name) {
				return false
			}
		}
		return true
	}
	same := func(names ...string) map[string]string {
		columns := map[string]string{}
		for _, name := range names {
			if name != "" && has(name) {
				columns[name] = name
			}
		}
		return columns
	}
	auto := opts.Format == FormatAuto && !opts.named
	if (auto || opts.Format == FormatOASST) && has(messageRequired...) {
		return same(messageColumns...), nil
	}
	if auto || opts.Format == FormatChat {
		for _, name := range chatNames {
			if has(name) {
				return same(name), nil
			}
		}
	}
	if auto || opts.Format == FormatAlpaca {
		for i, p := range pairNames {
			if has(p.instruction, p.output) && (auto || i == 0) {
				return same(p.instruction, p.output, p.further), nil
			}
		}
	}
	switch {
	case opts.Format == FormatOASST:
		return nil, &ColumnError{Wanted: strings.Join(messageRequired, ", "), Have: have}
	case opts.Format == FormatChat:
		return nil, &ColumnError{Wanted: chatNames[0], Have: have}
	case opts.Format == FormatAlpaca:
		return nil, &ColumnError{Wanted: "instruction, output", Have: have}
	case !has(opts.Instruction):
		return nil, &ColumnError{Wanted: opts.Instruction, Have: have, Write: SuggestPairs(have)}
	case !has(opts.Output):
		return nil, &ColumnError{Wanted: opts.Output, Have: have, Write: SuggestPairs(have)}
	}
	return same(opts.Instruction, opts.Output), nil
}

// SeedRows yields the seed pairs and rejects of a table with a pair, a conversation or a message in each row, as Seeds
// does. A row's document is its number, from 1. An error of rows ends it.
func SeedRows(ctx context.Context, name string, rows iter.Seq2[Row, error], opts SeedOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		sd := newSeeder(name, opts, yield)
		for row, err := range rows {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Item{}, fmt.Errorf("read %s: %w", name, err))
				return
			}
			if !sd.row(row) {
				return
			}
		}
		sd.leftovers()
	}
}

// row makes a record of a row and then the record's row.
func (sd *seeder) row(row Row) bool {
	at := origin{source: sd.name, document: strconv.FormatInt(row.Number+1, 10), offset: row.Number}
	fields := make(map[string]json.RawMessage, len(row.Values))
	size := 0
	for name, value := range row.Values {
		size += len(value)
		if slices.Contains(rawColumns, name) && json.Valid([]byte(value)) {
			fields[name] = json.RawMessage(value)
			continue
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			return sd.yield(at.reject(ReasonBadRecord, err.Error(), ""))
		}
		fields[name] = quoted
	}
	if size > sd.opts.Bounds.MaxLineBytes {
		return sd.yield(at.reject(ReasonLineTooLong, fmt.Sprintf("more than %d bytes", sd.opts.Bounds.MaxLineBytes), ""))
	}
	line, err := json.Marshal(fields)
	if err != nil {
		return sd.yield(at.reject(ReasonBadRecord, err.Error(), ""))
	}
	if _, isMessage := fields["message_id"]; isMessage && fields["parent_id"] == nil {
		fields["parent_id"] = json.RawMessage("null") // a root: what is null in a table is absent from a row
	}
	return sd.record(at, fields, line)
}

// RejectFile returns the row for what could not be read of a file as a whole.
func RejectFile(name, reason, detail string) Item {
	item := origin{source: name, document: documentName(name)}.reject(reason, clip(cleanText(detail), 300), "")
	item.First, item.Whole = true, true
	return item
}
