package estimate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
)

// Limits on what is read for a plan.
const (
	readBytes   = 128 << 20
	readTime    = 20 * time.Second
	lookTime    = 3 * time.Second // to see whether there is anything
	tokenSample = 200             // texts that are tokenized; the others count by their characters
)

// File is one input file, local or in S3.
type File struct {
	Name string
	Size int64
	Open func(context.Context) (io.ReadCloser, error)
	At   func(context.Context) (intake.ReaderAt, error) // for formats that are read at random

	Explain func(context.Context, error) error // as of intake.File
}

// Input is one source of a spec with its files.
type Input struct {
	Source config.Source
	Files  []File
}

// Counted is what was found in the inputs, and how much of them was read to find it.
type Counted struct {
	Texts
	Rejected  int64   `json:"rejected"`
	Files     int     `json:"files"`
	Bytes     int64   `json:"bytes"`
	ReadShare float64 `json:"read_share"` // 1: all; else rows are extrapolated by bytes

	Empty []*EmptyError `json:"-"` // sources that gave nothing, where others gave something
}

// counter adds up texts and tokenizes the first of them.
type counter struct {
	codec                       tokenizer.Codec
	rows, rejected              int64
	chars                       [2]float64 // of instructions and outputs
	sampledChars, sampledTokens float64
	samples                     int
	missing                     *dataset.Reject // a record without the field asked for
	reasons                     map[string]int64
	first                       *dataset.Reject
	until                       int64 // rows after which reading ends; 0: all
}

// Seeds counts seed pairs. Errors: FieldsError, EmptyError.
func Seeds(ctx context.Context, inputs []Input) (Counted, error) {
	return counted(ctx, "seed pair", inputs, readSeeds, corpus.SuggestPairs, 0)
}

// HaveSeeds reads until each source has shown a seed pair. Errors: FieldsError, EmptyError.
func HaveSeeds(ctx context.Context, inputs []Input) (Counted, error) {
	return counted(ctx, "seed pair", inputs, readSeeds, corpus.SuggestPairs, 1)
}

func readSeeds(ctx context.Context, c *counter, s config.Source, f intake.File) error {
	options := corpus.SeedOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Language: s.Language}
	for item, err := range intake.Seeds(ctx, f, options) {
		if err != nil {
			return err
		}
		if item.Seed == nil {
			c.reject(item.Reject)
			continue
		}
		if c.add(item.Seed.Instruction, item.Seed.Output); c.enough() {
			return errEnough
		}
	}
	return nil
}

// Documents counts the segments that documents are cut into. Errors: FieldsError, EmptyError.
func Documents(ctx context.Context, inputs []Input, rules config.Segments) (Counted, error) {
	return counted(ctx, "segment", inputs, readDocuments(rules), corpus.SuggestText, 0)
}

// HaveDocuments reads until each source has shown a segment. Errors: FieldsError, EmptyError.
func HaveDocuments(ctx context.Context, inputs []Input, rules config.Segments) (Counted, error) {
	return counted(ctx, "segment", inputs, readDocuments(rules), corpus.SuggestText, 1)
}

func readDocuments(rules config.Segments) reader {
	return func(ctx context.Context, c *counter, s config.Source, f intake.File) error {
		options := corpus.DocumentOptions{Format: s.Format, Text: s.Text, Language: s.Language, Segments: corpus.SegmentRules(rules)}
		for item, err := range intake.Documents(ctx, f, options) {
			if err != nil {
				return err
			}
			if item.Segment == nil {
				c.reject(item.Reject)
				continue
			}
			if c.add("", item.Segment.Text); c.enough() {
				return errEnough
			}
		}
		return nil
	}
}

// EmptyError says that nothing in a source, or in all of them, can be used, and why.
type EmptyError struct {
	What    string // seed pair, segment
	Paths   []string
	Reasons map[string]int64
	First   *dataset.Reject // an example; nil where there is not even that
}

// Error returns one line with the counts, an example and the way out.
func (e *EmptyError) Error() string {
	text := fmt.Sprintf("no %s in %s: ", e.What, strings.Join(e.Paths, ", "))
	if e.First == nil {
		return text + "there is nothing in it. Try: check the path"
	}
	reasons := slices.Sorted(maps.Keys(e.Reasons))
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", e.Reasons[r], r)
	}
	return text + fmt.Sprintf("all that was read is turned away (%s), such as %s (%s). Try: starter explain %s",
		strings.Join(reasons, ", "), strings.TrimSuffix(e.First.Source+": "+e.First.Document, ": "+path.Base(e.First.Source)),
		strings.TrimSuffix(e.First.Reason+": "+e.First.Detail, ": "), e.explain())
}

// explain returns the arguments with which starter explain shows more.
func (e *EmptyError) explain() string {
	if e.What == "segment" {
		return e.Paths[0]
	}
	return e.Paths[0] + " --seeds"
}

// FieldsError says that no record of a source has the field asked for.
type FieldsError struct {
	Path, Detail, Write string
	Under               string // the block of the spec that Write belongs to; "": the source
	Have                []string
}

func (e *FieldsError) Error() string {
	return fmt.Sprintf("source %s: no record has what is asked for (%s); there are the fields %s. Try: under %s, %s",
		e.Path, e.Detail, cmp.Or(strings.Join(e.Have, ", "), "of empty objects"), cmp.Or(e.Under, "the source"), e.Write)
}

type reader func(ctx context.Context, c *counter, s config.Source, f intake.File) error

// counted is count, and an error where all was read and nothing was found. With most above 0 it reads until each source has
// shown so many.
func counted(ctx context.Context, what string, inputs []Input, read reader, suggest func([]string) string, most int64) (Counted, error) {
	out, err := countSome(ctx, inputs, read, suggest, most)
	if err != nil {
		return out, err
	}
	whole := &EmptyError{What: what, Reasons: map[string]int64{}}
	for _, e := range out.Empty {
		e.What = what
		whole.Paths = append(whole.Paths, e.Paths...)
		for r, n := range e.Reasons {
			whole.Reasons[r] += n
		}
		whole.First = cmp.Or(whole.First, e.First)
	}
	if out.Rows == 0 && len(out.Empty) == len(inputs) {
		return out, whole
	}
	return out, nil
}

// countSome reads the files in a fixed random order until all are read, or enough bytes, or time is up; then it extrapolates by bytes.
func countSome(ctx context.Context, inputs []Input, read reader, suggest func([]string) string, most int64) (Counted, error) {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return Counted{}, fmt.Errorf("count tokens: %w", err)
	}
	c := &counter{codec: codec}
	type piece struct {
		source config.Source
		file   File
	}
	var pieces []piece
	byPath := map[string]*counter{}
	out := Counted{ReadShare: 1}
	for _, in := range inputs {
		for _, f := range in.Files {
			pieces = append(pieces, piece{in.Source, f})
			out.Bytes += f.Size
		}
	}
	out.Files = len(pieces)
	slices.SortFunc(pieces, func(a, b piece) int {
		if a.file.Name < b.file.Name {
			return -1
		}
		return 1
	})
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] }) //nolint:gosec // a fair sample, not a secret
	limited := &budget{left: readBytes, until: time.Now().Add(readTime)}
	if most > 0 {
		limited.until = time.Now().Add(lookTime)
	}
	for _, p := range pieces {
		if limited.spent() {
			break
		}
		of := byPath[p.source.Path]
		if of == nil {
			of = &counter{reasons: map[string]int64{}}
			byPath[p.source.Path] = of
		}
		if most > 0 && of.rows >= most {
			continue
		}
		before := *c
		c.missing, c.first, c.reasons, c.until = nil, nil, of.reasons, 0
		if most > 0 {
			c.until = c.rows + most - of.rows
		}
		if err := readOne(ctx, c, p.source, p.file, limited, read); err != nil {
			return out, fmt.Errorf("plan: read %s: %w", p.file.Name, err)
		}
		of.rows += c.rows - before.rows
		of.missing, of.first = cmp.Or(of.missing, c.missing), cmp.Or(of.first, c.first)
	}
	for _, in := range inputs {
		of := byPath[in.Source.Path]
		switch {
		case of == nil && limited.spent():
		case of == nil:
			out.Empty = append(out.Empty, &EmptyError{Paths: []string{in.Source.Path}})
		case of.rows > 0:
		case of.missing != nil:
			have := corpus.FieldsOf(of.missing.Text)
			return out, &FieldsError{Path: in.Source.Path, Detail: of.missing.Detail, Have: have, Write: suggest(have)}
		case !limited.spent():
			out.Empty = append(out.Empty, &EmptyError{Paths: []string{in.Source.Path}, Reasons: of.reasons, First: of.first})
		}
	}
	if limited.read < out.Bytes && limited.read > 0 {
		out.ReadShare = float64(limited.read) / float64(out.Bytes)
	}
	out.Rejected = int64(float64(c.rejected) / out.ReadShare)
	out.Texts = c.texts(out.ReadShare)
	return out, nil
}

func readOne(ctx context.Context, c *counter, s config.Source, f File, limited *budget, read reader) error {
	before := limited.read
	err := read(ctx, c, s, intake.File{
		Name: f.Name,
		Stream: func(ctx context.Context) (io.ReadCloser, error) {
			body, err := f.Open(ctx)
			if err != nil {
				return nil, err
			}
			limited.r = body
			return struct {
				io.Reader
				io.Closer
			}{limited, body}, nil
		},
		At: func(ctx context.Context) (intake.ReaderAt, error) {
			limited.read = before // what a stream showed of it
			body, err := f.At(ctx)
			if err != nil {
				return nil, err
			}
			return randomly{body, limited}, nil
		},
		Explain: f.Explain,
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil {
		limited.read = before + f.Size // of a table only some columns
	}
	return err
}

var errEnough = errors.New("enough was read")

// budget is a reader that ends when enough was read.
type budget struct {
	r          io.Reader
	left, read int64
	until      time.Time
}

func (b *budget) spent() bool { return b.left <= 0 || time.Now().After(b.until) }

func (b *budget) Read(p []byte) (int, error) {
	if b.spent() {
		return 0, errEnough
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left, b.read = b.left-int64(n), b.read+int64(n)
	return n, err
}

// randomly takes what is read at random from the same budget.
type randomly struct {
	intake.ReaderAt
	limited *budget
}

func (r randomly) ReadAt(p []byte, off int64) (int, error) {
	if r.limited.spent() {
		return 0, errEnough
	}
	n, err := r.ReaderAt.ReadAt(p, off)
	r.limited.left, r.limited.read = r.limited.left-int64(n), r.limited.read+int64(n)
	return n, err
}

func (r randomly) Close() error {
	if c, ok := r.ReaderAt.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// enough reports whether the source that is read has shown as many as wanted.
func (c *counter) enough() bool { return c.until > 0 && c.rows >= c.until }

func (c *counter) reject(r *dataset.Reject) {
	c.rejected++
	if r != nil && c.reasons != nil {
		c.reasons[r.Reason]++
		c.first = cmp.Or(c.first, r)
	}
	if r != nil && r.Reason == corpus.ReasonNoField {
		c.missing = r
	}
}

func (c *counter) add(instruction, output string) {
	c.rows++
	c.chars[0] += float64(utf8.RuneCountInString(instruction))
	c.chars[1] += float64(utf8.RuneCountInString(output))
	if c.samples < tokenSample {
		text := instruction + output
		if n, err := c.codec.Count(text); err == nil {
			c.samples++
			c.sampledTokens += float64(n)
			c.sampledChars += float64(utf8.RuneCountInString(text))
		}
	}
}

func (c *counter) texts(share float64) Texts {
	if c.rows == 0 || c.sampledChars == 0 {
		return Texts{}
	}
	perChar := c.sampledTokens / c.sampledChars / float64(c.rows)
	return Texts{Rows: int64(float64(c.rows)/share + 0.5), Instruction: c.chars[0] * perChar, Output: c.chars[1] * perChar}
}

// Tokens counts the tokens of a text.
func Tokens(text string) float64 {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return float64(len(text)) / 4
	}
	n, err := codec.Count(text)
	if err != nil {
		return float64(len(text)) / 4
	}
	return float64(n)
}
