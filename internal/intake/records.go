package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/hub"
)

// Records yields the texts of the records of a file in any format that holds records: see corpus.Records. Of a table they are
// those of the columns named, or of all. Whatever cannot be read is an error.
func Records(ctx context.Context, f File, format string, fields []string) iter.Seq2[corpus.Record, error] {
	stream := func(r io.Reader) iter.Seq2[corpus.Record, error] {
		return corpus.Records(ctx, f.Name, r, format, fields, corpus.Bounds{})
	}
	return records(ctx, f, format, stream, func(r ReaderAt) iter.Seq2[corpus.Record, error] { return tableRecords(ctx, r, fields) })
}

// NamedFields yields of each record of a file what it has of the fields or columns named: see corpus.NamedFields. A table that has none of them
// is a *corpus.ColumnError.
func NamedFields(ctx context.Context, f File, format string, fields []string) iter.Seq2[corpus.Record, error] {
	stream := func(r io.Reader) iter.Seq2[corpus.Record, error] {
		return corpus.NamedFields(ctx, f.Name, r, format, fields, corpus.Bounds{})
	}
	return records(ctx, f, format, stream, func(r ReaderAt) iter.Seq2[corpus.Record, error] { return namedColumns(ctx, r, fields) })
}

type recorded = iter.Seq2[corpus.Record, error]

// records opens a file the way that its format needs.
func records(ctx context.Context, f File, format string, stream func(io.Reader) recorded, table func(ReaderAt) recorded) recorded {
	return func(yield func(corpus.Record, error) bool) {
		if f.Wrong != "" {
			yield(corpus.Record{}, fmt.Errorf("read %s: %s", f.Name, f.Wrong))
			return
		}
		if !corpus.RandomAccess(f.Name, format) {
			body, err := f.Stream(ctx)
			if err != nil {
				yield(corpus.Record{}, err)
				return
			}
			defer body.Close()
			again := false
			for record, err := range stream(body) {
				if again = errors.Is(err, corpus.ErrRandomAccess); again {
					break
				}
				if !yield(record, err) {
					return
				}
			}
			if !again {
				return
			}
		}
		r, err := f.At(ctx)
		if err != nil {
			yield(corpus.Record{}, err)
			return
		}
		if c, ok := r.(io.Closer); ok {
			defer c.Close()
		}
		if isArchive(f.Name, r, format) {
			yield(corpus.Record{}, fmt.Errorf("read %s: a zip archive is no evaluation set. Try: JSONL, CSV, Parquet or text", f.Name))
			return
		}
		for record, err := range table(r) {
			if err != nil {
				err = fmt.Errorf("read %s: %w", f.Name, err)
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

// namedColumns reads the columns named, of those there are.
func namedColumns(ctx context.Context, r ReaderAt, fields []string) recorded {
	return func(yield func(corpus.Record, error) bool) {
		have, err := hub.ParquetColumns(r, r.Size())
		columns := map[string]string{}
		for _, name := range fields {
			if slices.Contains(have, name) {
				columns[name] = name
			}
		}
		if err == nil && len(columns) == 0 {
			err = &corpus.ColumnError{Wanted: strings.Join(fields, " or "), Have: have}
		}
		if err != nil {
			yield(corpus.Record{}, err)
			return
		}
		for row, err := range hub.Parquet(r, r.Size(), columns) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(corpus.Record{}, err)
				return
			}
			if !yield(corpus.Record{Number: row.Index + 1, Fields: row.Values}, nil) {
				return
			}
		}
	}
}

func tableRecords(ctx context.Context, r ReaderAt, fields []string) iter.Seq2[corpus.Record, error] {
	return func(yield func(corpus.Record, error) bool) {
		have, err := hub.ParquetColumns(r, r.Size())
		if err != nil {
			yield(corpus.Record{}, err)
			return
		}
		columns := map[string]string{}
		for _, name := range fields {
			if !slices.Contains(have, name) {
				yield(corpus.Record{}, &corpus.ColumnError{Wanted: name, Have: have})
				return
			}
			columns[name] = name
		}
		if len(fields) == 0 {
			for _, name := range have {
				if !slices.ContainsFunc(have, func(outer string) bool { return strings.HasPrefix(name, outer+".") }) {
					columns[name] = name
				}
			}
		}
		names := slices.Sorted(maps.Keys(columns))
		for row, err := range hub.Parquet(r, r.Size(), columns) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(corpus.Record{}, err)
				return
			}
			record := corpus.Record{Number: row.Index + 1}
			for _, name := range names {
				if text := row.Values[name]; text != "" {
					record.Texts = append(record.Texts, text)
				}
			}
			if !yield(record, nil) {
				return
			}
		}
	}
}
