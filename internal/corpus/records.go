package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
)

// Record is a record of a file whose texts matter rather than its shape, such as an evaluation set's.
type Record struct {
	Number int64 // from 1
	Texts  []string
	Fields map[string]string // of NamedFields: what it has of the names asked for
}

// maxTextDepth is how deep in a record texts are looked for.
const maxTextDepth = 32

// Records yields the texts of the records of a file: for JSONL, arrays of JSON and CSV those of the named fields (a.b for one inside
// another), or all of a record where none is named; for any other text its paragraphs, each a record. What cannot be read is an
// error: a set that is known in part would let through what it was named to keep out. ErrRandomAccess means that it is a table.
func Records(ctx context.Context, name string, r io.Reader, format string, fields []string, bounds Bounds) iter.Seq2[Record, error] {
	return eachRecord(ctx, name, r, format, bounds, true, func(values map[string]json.RawMessage) (Record, error) {
		texts, err := textsOf(values, fields)
		if err != nil {
			err = fmt.Errorf("%w. Try: name the fields that hold its texts", err)
		}
		return Record{Texts: texts}, err
	})
}

// NamedFields yields of each record of JSONL, an array of JSON or CSV what it has of the fields named (a.b for one inside another): texts as they
// are, anything else but null as it is written. Errors are those of Records; a text file is one.
func NamedFields(ctx context.Context, name string, r io.Reader, format string, fields []string, bounds Bounds) iter.Seq2[Record, error] {
	return eachRecord(ctx, name, r, format, bounds, false, func(values map[string]json.RawMessage) (Record, error) {
		out := Record{Fields: map[string]string{}}
		for _, field := range fields {
			raw, ok := rawField(values, field)
			if !ok || len(raw) == 0 || string(raw) == "null" {
				continue
			}
			text := string(raw)
			if raw[0] == '"' {
				if err := json.Unmarshal(raw, &text); err != nil {
					return out, fmt.Errorf("field %q: %w", field, err)
				}
			}
			out.Fields[field] = text
		}
		return out, nil
	})
}

// eachRecord reads a file as Records says; texts allows one without fields.
func eachRecord(
	ctx context.Context, name string, r io.Reader, format string, bounds Bounds, texts bool, take func(map[string]json.RawMessage) (Record, error),
) iter.Seq2[Record, error] {
	bounds = bounds.withDefaults()
	return func(yield func(Record, error) bool) {
		s := newSource(ctx, r, bounds)
		defer s.close()
		fail := func(err error) { yield(Record{}, fmt.Errorf("read %s: %w", name, err)) }
		if format == "" || format == FormatAuto {
			format = sniff(name, s.peek())
		}
		switch format {
		case FormatParquet, FormatZip:
			yield(Record{}, ErrRandomAccess)
			return
		case FormatWARC, FormatTar, FormatHTML:
			fail(fmt.Errorf("a file in the format %s is no evaluation set. Try: JSONL, CSV, Parquet or text", format))
			return
		}
		if format == FormatText && !texts {
			fail(errors.New("a text has no fields. Try: JSON, JSONL, CSV or Parquet"))
			return
		}
		if format == FormatText {
			paragraphRecords(s, bounds, yield, fail)
			return
		}
		lines := newLineReader(s, bounds.MaxLineBytes, format)
		for lines.next() {
			if lines.tooLong {
				fail(fmt.Errorf("line %d has more than %d bytes", lines.number, bounds.MaxLineBytes))
				return
			}
			values, bad := lines.fields()
			if bad.reason != "" {
				fail(fmt.Errorf("line %d: %s: %s", lines.number, bad.reason, bad.detail))
				return
			}
			record, err := take(values)
			if err != nil {
				fail(fmt.Errorf("line %d: %w", lines.number, err))
				return
			}
			record.Number = lines.number
			if !yield(record, nil) {
				return
			}
		}
		if err := s.failure(); err != nil {
			fail(err)
		} else if reason, detail := s.damage(); reason != "" {
			fail(fmt.Errorf("%s: %s", reason, detail))
		}
	}
}

// paragraphRecords yields the paragraphs of a text.
func paragraphRecords(s *source, bounds Bounds, yield func(Record, error) bool, fail func(error)) {
	body, err := io.ReadAll(io.LimitReader(s, bounds.MaxDocumentBytes+1))
	if failed := s.failure(); failed != nil {
		err = failed
	}
	if err == nil && int64(len(body)) > bounds.MaxDocumentBytes {
		err = fmt.Errorf("a text of more than %d bytes. Try: JSONL or Parquet", bounds.MaxDocumentBytes)
	}
	if err != nil {
		fail(err)
		return
	}
	text, reason := decode(body, false, "")
	if reason != "" {
		fail(errors.New(reason))
		return
	}
	number := int64(0)
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if strings.TrimSpace(paragraph) == "" {
			continue
		}
		if number++; !yield(Record{Number: number, Texts: []string{paragraph}}, nil) {
			return
		}
	}
}

// textsOf returns the texts of the fields named, or all there are in order of their names.
func textsOf(values map[string]json.RawMessage, fields []string) ([]string, error) {
	var texts []string
	if len(fields) == 0 {
		names := make([]string, 0, len(values))
		for name := range values {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			texts = leaves(texts, values[name], 0)
		}
		return texts, nil
	}
	for _, field := range fields {
		raw, ok := rawField(values, field)
		if !ok {
			return nil, fmt.Errorf("no field %q", field)
		}
		texts = leaves(texts, raw, 0)
	}
	return texts, nil
}

// rawField returns the value of a field, named as a.b when it stands inside another.
func rawField(values map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	if raw, ok := values[name]; ok {
		return raw, true
	}
	head, tail, dotted := strings.Cut(name, ".")
	var inner map[string]json.RawMessage
	if !dotted || json.Unmarshal(values[head], &inner) != nil {
		return nil, false
	}
	return rawField(inner, tail)
}

// leaves adds the texts in a JSON value.
func leaves(texts []string, raw json.RawMessage, depth int) []string {
	if len(raw) == 0 || depth > maxTextDepth {
		return texts
	}
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			texts = append(texts, s)
		}
	case '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) == nil {
			for _, v := range list {
				texts = leaves(texts, v, depth+1)
			}
		}
	case '{':
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) == nil {
			names := make([]string, 0, len(fields))
			for name := range fields {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				texts = leaves(texts, fields[name], depth+1)
			}
		}
	}
	return texts
}
