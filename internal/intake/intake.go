// Package intake reads a file in any of the supported formats, as a stream or at random, into the rows of package corpus.
package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/hub"
)

// ReaderAt reads any part of a file of known size. What is an io.Closer too is closed after use.
type ReaderAt interface {
	io.ReaderAt
	Size() int64
}

// File is a file or object that can be opened both ways. Only the way that its format needs is taken.
type File struct {
	Name   string // what rows carry as their source; its ending tells the format
	Stream func(context.Context) (io.ReadCloser, error)
	At     func(context.Context) (ReaderAt, error)

	Part, Parts int    // of a table of documents only the Part-th of Parts runs of row groups is read; Parts 0: all
	Wrong       string // why the file cannot be read at all; it becomes a reject
	Reason      string // of that reject; "": corpus.ReasonNoFile
	// Explain says more of an error of reading, perhaps that it is a *TurnedError; nil: nothing more is known.
	Explain func(context.Context, error) error
}

// TurnedError is an error that turns a file away: it becomes a reject with the reason, and the rest of the source goes on.
type TurnedError struct{ Reason, Detail string }

// Error implements error.
func (t *TurnedError) Error() string { return t.Reason + ": " + t.Detail }

// Local is a file on this machine.
func Local(name, path string) File {
	return File{
		Name:   name,
		Stream: func(context.Context) (io.ReadCloser, error) { return os.Open(path) },
		At: func(context.Context) (ReaderAt, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			info, err := f.Stat()
			if err != nil {
				f.Close()
				return nil, err
			}
			return localFile{f, info.Size()}, nil
		},
	}
}

type localFile struct {
	*os.File
	size int64
}

func (f localFile) Size() int64 { return f.size }

// Documents yields the segments and rejects of a file of documents. Errors are those of opening and reading, of ctx, and a
// *corpus.ColumnError where a table lacks the columns asked for; nothing follows an error.
func Documents(ctx context.Context, f File, opts corpus.DocumentOptions) iter.Seq2[corpus.Item, error] {
	stream := func(r io.Reader) iter.Seq2[corpus.Item, error] { return corpus.Documents(ctx, f.Name, r, opts) }
	random := func(r ReaderAt) iter.Seq2[corpus.Item, error] {
		if isArchive(f.Name, r, opts.Format) {
			if f.Part > 0 {
				return func(func(corpus.Item, error) bool) {} // whatever it is called, it has no parts
			}
			return corpus.ZipDocuments(ctx, f.Name, r, r.Size(), opts)
		}
		choose := func(have []string) (map[string]string, error) { return corpus.DocumentColumns(have, opts) }
		return table(f, r, choose, func(rows iter.Seq2[corpus.Row, error]) iter.Seq2[corpus.Item, error] {
			return corpus.DocumentRows(ctx, f.Name, rows, opts)
		})
	}
	return read(ctx, f, opts.Format, stream, random)
}

// Seeds yields the seed pairs and rejects of a file of seeds, with errors as those of Documents.
func Seeds(ctx context.Context, f File, opts corpus.SeedOptions) iter.Seq2[corpus.Item, error] {
	stream := func(r io.Reader) iter.Seq2[corpus.Item, error] { return corpus.Seeds(ctx, f.Name, r, opts) }
	random := func(r ReaderAt) iter.Seq2[corpus.Item, error] {
		shape := opts
		if shape.Format == corpus.FormatParquet {
			shape.Format = corpus.FormatAuto
		}
		choose := func(have []string) (map[string]string, error) { return corpus.SeedColumns(have, shape) }
		if isArchive(f.Name, r, opts.Format) {
			return corpus.ZipSeeds(ctx, f.Name, r, r.Size(), opts)
		}
		whole := f
		whole.Part, whole.Parts = 0, 0 // a conversation may lie in several row groups
		return table(whole, r, choose, func(rows iter.Seq2[corpus.Row, error]) iter.Seq2[corpus.Item, error] {
			return corpus.SeedRows(ctx, f.Name, rows, shape)
		})
	}
	return read(ctx, f, opts.Format, stream, random)
}

// Prompts yields the prompts or responses and rejects of a file, with errors as those of Documents.
func Prompts(ctx context.Context, f File, opts corpus.PromptOptions) iter.Seq2[corpus.Item, error] {
	stream := func(r io.Reader) iter.Seq2[corpus.Item, error] { return corpus.Prompts(ctx, f.Name, r, opts) }
	random := func(r ReaderAt) iter.Seq2[corpus.Item, error] {
		if isArchive(f.Name, r, opts.Format) {
			return corpus.ZipPrompts(ctx, f.Name, r, r.Size(), opts)
		}
		choose := func(have []string) (map[string]string, error) { return corpus.PromptColumns(have, opts) }
		return table(f, r, choose, func(rows iter.Seq2[corpus.Row, error]) iter.Seq2[corpus.Item, error] {
			return corpus.PromptRows(ctx, f.Name, rows, opts)
		})
	}
	return read(ctx, f, opts.Format, stream, random)
}

type items = iter.Seq2[corpus.Item, error]

// read opens a file the way that its format needs: known beforehand, or found out from the first bytes.
func read(ctx context.Context, f File, format string, stream func(io.Reader) items, random func(ReaderAt) items) items {
	return func(yieldPlain func(corpus.Item, error) bool) {
		yield := func(item corpus.Item, err error) bool {
			if err != nil && f.Explain != nil {
				err = f.Explain(ctx, err)
			}
			var turned *TurnedError
			if errors.As(err, &turned) {
				if f.Part == 0 { // of the parts of a file one says it
					yieldPlain(corpus.RejectFile(f.Name, turned.Reason, turned.Detail), nil)
				}
				return false
			}
			return yieldPlain(item, err)
		}
		if f.Wrong != "" {
			yield(corpus.RejectFile(f.Name, cmp.Or(f.Reason, corpus.ReasonNoFile), f.Wrong), nil)
			return
		}
		if !corpus.RandomAccess(f.Name, format) {
			body, err := f.Stream(ctx)
			if err != nil {
				yield(corpus.Item{}, err)
				return
			}
			defer body.Close()
			again := false
			for item, err := range stream(body) {
				if again = errors.Is(err, corpus.ErrRandomAccess); again {
					break
				}
				if !yield(item, err) {
					return
				}
			}
			if !again {
				return
			}
		}
		r, err := f.At(ctx)
		if err != nil {
			yield(corpus.Item{}, err)
			return
		}
		if c, ok := r.(io.Closer); ok {
			defer c.Close()
		}
		random(r)(yield)
	}
}

// isArchive tells a zip from a table: by the format that was named, by the last bytes, which a reader has at hand, else by the name.
func isArchive(name string, r ReaderAt, format string) bool {
	if format == corpus.FormatParquet || format == corpus.FormatZip {
		return format == corpus.FormatZip
	}
	var end [4]byte
	n, _ := r.ReadAt(end[:], r.Size()-int64(len(end)))
	return (n < len(end) || string(end[:]) != "PAR1") && !strings.EqualFold(path.Ext(name), ".parquet")
}

// table reads a Parquet file: the columns are chosen before a row is read, and a broken file is a reject that says how
// far it was read.
func table(f File, file ReaderAt, choose func([]string) (map[string]string, error), cut func(iter.Seq2[corpus.Row, error]) items) items {
	return func(yield func(corpus.Item, error) bool) {
		name, part, parts := f.Name, f.Part, max(f.Parts, 1)
		r := &keeper{r: file}
		broken := func(err error) bool { // reports whether the reader is to blame
			if r.err != nil {
				yield(corpus.Item{}, fmt.Errorf("read %s: %w", name, r.err))
			}
			return r.err != nil || err == nil
		}
		have, err := hub.ParquetColumns(r, file.Size())
		if err != nil {
			if !broken(err) && part == 0 { // of the parts of a file one says it
				yield(corpus.RejectFile(name, corpus.ReasonBadParquet, err.Error()), nil)
			}
			return
		}
		columns, err := choose(have)
		if err != nil {
			yield(corpus.Item{}, fmt.Errorf("%s: %w", name, err))
			return
		}
		var damage error
		rows := func(yield func(corpus.Row, error) bool) {
			for row, err := range hub.ParquetPart(r, file.Size(), columns, part, parts) {
				if err != nil {
					damage = err
					return
				}
				if !yield(corpus.Row{Number: row.Index, Values: row.Values}, nil) {
					return
				}
			}
		}
		for item, err := range cut(rows) {
			if !yield(item, err) || err != nil {
				return
			}
		}
		if damage != nil && !broken(damage) {
			yield(corpus.RejectFile(name, corpus.ReasonBadParquet, damage.Error()), nil)
		}
	}
}

// keeper remembers the first error of a reader that is not the end.
type keeper struct {
	r   io.ReaderAt
	err error
}

func (k *keeper) ReadAt(p []byte, off int64) (int, error) {
	n, err := k.r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) && off >= 0 && k.err == nil {
		k.err = err
	}
	return n, err
}
