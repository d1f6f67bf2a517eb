package corpus

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strconv"
	"strings"
	"sync"
)

// Formats of documents.
const (
	FormatAuto  = "auto" // by name, then by content
	FormatHTML  = "html"
	FormatText  = "text"  // plain text or markdown
	FormatJSONL = "jsonl" // one document a line; see FormatCSV too
	FormatWARC  = "warc"  // a crawl: pages (WARC) or their texts (WET), each named by its address
	FormatWET   = "wet"   // the same
	FormatTar   = "tar"   // an archive of files in the formats above

	FormatZip     = "zip"     // the same, read by ZipDocuments
	FormatParquet = "parquet" // a table, read by DocumentRows and SeedRows
	FormatPaths   = "paths"   // a list of files, which package origin reads
)

// DocumentOptions say how documents are read and cut.
type DocumentOptions struct {
	Format   string // auto, html, text, jsonl, warc, wet or tar; empty means auto
	Text     string // jsonl: field that holds the text, a.b for one inside another; empty means text
	Title    string // jsonl: field that holds the title; empty means title
	Language string // ISO 639-1 code kept, any for all; empty means en
	Segments SegmentRules
	Bounds   Bounds
	// Contaminated tells in which evaluation sets a text is found; nil: it is not asked.
	Contaminated func(text string) []Hit
}

func (o DocumentOptions) withDefaults() DocumentOptions {
	if o.Format == "" {
		o.Format = FormatAuto
	}
	if o.Text == "" {
		o.Text = "text"
	}
	if o.Title == "" {
		o.Title = "title"
	}
	if o.Language == "" {
		o.Language = "en"
	}
	o.Segments = o.Segments.withDefaults(o.Language)
	o.Bounds = o.Bounds.withDefaults()
	return o
}

// Documents yields the segments and rejects of one file or object, document by document; within one, what falls with
// its header comes first, then all else in the order of the text. The name is
// what rows carry as their source; its ending decides the format where the options leave it open, else the first bytes.
// Gzip and Zstandard are recognised by theirs. The error is that of r or of ctx, or ErrRandomAccess before any item, and nothing
// follows it.
func Documents(ctx context.Context, name string, r io.Reader, opts DocumentOptions) iter.Seq2[Item, error] {
	opts = opts.withDefaults()
	return func(yield func(Item, error) bool) {
		s := newSource(ctx, r, opts.Bounds)
		defer s.close()
		c := newCutter(opts, yield)
		format := opts.Format
		if format == FormatAuto {
			format = sniff(name, s.peek())
		} else if named(name) == FormatTar {
			format = FormatTar // the format is that of what is inside
		}
		if !readDocuments(s, place{source: name}, format, c) {
			return
		}
		if err := s.failure(); err != nil {
			yield(Item{}, fmt.Errorf("read %s: %w", name, err))
			return
		}
		if reason, detail := s.damage(); reason != "" {
			c.yield(origin{source: name, document: documentName(name)}.reject(reason, detail, ""))
		}
	}
}

// place is a file, or a file inside an archive.
type place struct{ source, member string }

// whole is the origin of the file as one document.
func (p place) whole() origin {
	if p.member == "" {
		return origin{source: p.source, document: documentName(p.source)}
	}
	return origin{source: p.source, document: p.member}
}

// at is the origin of one of its documents.
func (p place) at(document string) origin {
	if p.member != "" {
		document = p.member + "#" + document
	}
	return origin{source: p.source, document: document}
}

// name is what tells the format.
func (p place) name() string { return cmp.Or(p.member, p.source) }

// readDocuments reports whether more may be yielded.
func readDocuments(s *source, p place, format string, c *cutter) bool {
	switch format {
	case FormatJSONL, FormatCSV, FormatTSV:
		return readJSONL(s, p, format, c)
	case FormatWARC, FormatWET:
		return readWARC(s, p, c)
	case FormatTar:
		return readTar(s, p.source, c.reading())
	case FormatZip, FormatParquet:
		s.raw.err = ErrRandomAccess
		return true
	}
	at := p.whole()
	body, _ := bodies.Get().(*bytes.Buffer)
	defer func() {
		if body.Cap() <= maxPooledBody {
			body.Reset()
			bodies.Put(body)
		}
	}()
	if _, err := body.ReadFrom(io.LimitReader(s, c.opts.Bounds.MaxDocumentBytes+1)); err != nil {
		return true // said by failure or damage
	}
	if int64(body.Len()) > c.opts.Bounds.MaxDocumentBytes {
		return c.yield(at.reject(ReasonTooLarge, fmt.Sprintf("more than %d bytes", c.opts.Bounds.MaxDocumentBytes), ""))
	}
	return c.document(at, format, body.Bytes(), "")
}

// bodies of small files are read into the same memory. Rows hold none of it: decode copies.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooledBody = 1 << 20

// document cuts one file's bytes. The content type is what a server said of them, if one did.
func (c *cutter) document(at origin, format string, body []byte, contentType string) bool {
	if len(bytes.TrimSpace(body)) == 0 {
		return c.yield(at.reject(ReasonNoContent, "empty file", ""))
	}
	if format == FormatHTML {
		text, reason := decode(body, true, contentType)
		if reason != "" {
			return c.yield(at.reject(reason, "", ""))
		}
		page, reason, detail := extract(text)
		if reason != "" {
			return c.yield(at.reject(reason, detail, ""))
		}
		return c.cut(at, page, true)
	}
	text, reason := decode(body, false, contentType)
	if reason != "" {
		return c.yield(at.reject(reason, "", ""))
	}
	if detail := tooManyLines(text); detail != "" {
		return c.yield(at.reject(ReasonTooLarge, detail, ""))
	}
	return c.cut(at, parseText("", text), false)
}

// readJSONL cuts the text of each line, or of each record of CSV.
func readJSONL(s *source, p place, format string, c *cutter) bool {
	lines := newLineReader(s, c.opts.Bounds.MaxLineBytes, format)
	for lines.next() {
		at := p.at(strconv.FormatInt(lines.number, 10))
		if s.ctx.Err() != nil {
			return true // said by failure
		}
		if lines.tooLong {
			if !c.yield(at.reject(ReasonLineTooLong, fmt.Sprintf("more than %d bytes", c.opts.Bounds.MaxLineBytes), "")) {
				return false
			}
			continue
		}
		text, title, bad := documentRecord(lines, c.opts)
		var more bool
		if bad.reason != "" {
			more = c.yield(at.reject(bad.reason, bad.detail, bad.text))
		} else {
			more = c.text(at, text, title)
		}
		if !more || bad.stop {
			return more
		}
	}
	return true
}

// badRecord says what is wrong with a line. Stop means that no line after it can be right.
type badRecord struct {
	reason, detail, text string
	stop                 bool
}

func documentRecord(lines *lineReader, opts DocumentOptions) (text, title string, bad badRecord) {
	line := lines.line
	fields, bad := lines.fields()
	if bad.reason != "" {
		return "", "", bad
	}
	text, err := stringField(fields, opts.Text)
	if err != nil {
		return "", "", badRecord{reason: fieldReason(err), detail: err.Error(), text: printable(line)}
	}
	if strings.TrimSpace(text) == "" {
		return "", "", badRecord{reason: ReasonNoContent, detail: fmt.Sprintf("field %q is empty", opts.Text), text: printable(line)}
	}
	title, _ = stringField(fields, opts.Title) // a title is welcome, not required
	return text, cleanLine(title), badRecord{}
}

// decodeFields reads one line as a JSON object.
func decodeFields(line []byte) (map[string]json.RawMessage, badRecord) {
	if bad := checkLine(line); bad.reason != "" {
		return nil, bad
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return nil, badRecord{reason: ReasonBadRecord, detail: jsonDetail(err), text: printable(line)}
	}
	if fields == nil {
		return nil, badRecord{reason: ReasonBadRecord, detail: "not a JSON object", text: printable(line)}
	}
	return fields, badRecord{}
}

// jsonDetail says what is wrong with JSON, without the names of our types.
func jsonDetail(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field == "" {
		return "a JSON " + wrong.Value + " where an object is expected"
	}
	if errors.As(err, &wrong) {
		return fmt.Sprintf("field %q is a JSON %s", clip(wrong.Field, 100), wrong.Value)
	}
	return clip(err.Error(), 200)
}

// stringField returns the text of a field, named as a.b when it stands inside another.
func stringField(fields map[string]json.RawMessage, name string) (string, error) {
	raw, ok := fields[name]
	for rest := name; !ok; {
		head, tail, dotted := strings.Cut(rest, ".")
		if !dotted {
			return "", fmt.Errorf("%w %q", errNoField, name)
		}
		var inner map[string]json.RawMessage
		if err := json.Unmarshal(fields[head], &inner); err != nil {
			return "", fmt.Errorf("%w %q", errNoField, name)
		}
		fields, rest = inner, tail
		raw, ok = fields[rest]
	}
	if len(raw) == 0 || raw[0] != '"' {
		return "", fmt.Errorf("field %q is not a text", name)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("field %q: %w", name, err)
	}
	return s, nil
}

// documentName returns the last element of a path, object key or URL.
func documentName(name string) string { return path.Base(strings.TrimSuffix(name, "/")) }
