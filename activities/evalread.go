package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
)

// read reads the records of all files of sources, from wherever ingest reads, numbered from 1 in each file.
func read(ctx context.Context, s *Sources, sources []config.Source, take func(name string, x intake.Exercise)) error {
	left := int64(evalMostText)
	for _, source := range sources {
		options := intake.ExerciseOptions{Format: source.Format, Instruction: source.Instruction, Output: source.Output, Label: source.Label}
		files, _, err := s.list(ctx, source, dataset.KindPrompts)
		if err != nil {
			return err
		}
		said := false
		for _, f := range files {
			from := s.places().Open(f.File)
			if from.Wrong != "" {
				return blocked("source", fmt.Errorf("%s: %s", f.Name, from.Wrong), "mend the list, then start again under another name")
			}
			var broken error // of reading, not of what was read: another attempt may go well
			for x, err := range intake.Exercises(ctx, watched(from, &broken), options) {
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case broken != nil:
					return forPerson(broken)
				case err != nil:
					if person := forPerson(err); !errors.Is(person, err) {
						return person
					}
					return blocked("source", err, "give JSON, JSON lines or Parquet, then start again under another name")
				}
				if left -= int64(len(x.Instruction) + len(x.Output)); left < 0 {
					return blocked("source", fmt.Errorf("the texts of an evaluation have more than %d bytes in all, with %s", evalMostText, f.Name), "evaluate on fewer prompts, under another name")
				}
				said = said || x.Instruction != ""
				take(f.Name, x)
			}
		}
		if !said && len(files) > 0 {
			return blocked("source", fmt.Errorf("no record of %s has a field %s", source.Path, strings.Join(options.InstructionNames(), " or ")),
				"name it as instruction under the source in the spec, then start again under another name")
		}
	}
	return nil
}

// watched remembers the first error of opening or reading a file.
func watched(f intake.File, broken *error) intake.File {
	stream, at, explain := f.Stream, f.At, f.Explain
	note := func(ctx context.Context, err error) {
		if err != nil && !errors.Is(err, io.EOF) && *broken == nil {
			if explain != nil {
				err = explain(ctx, err)
			}
			*broken = err
		}
	}
	f.Stream = func(ctx context.Context) (io.ReadCloser, error) {
		body, err := stream(ctx)
		if note(ctx, err); err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{readerFunc(func(p []byte) (int, error) {
			n, err := body.Read(p)
			note(ctx, err)
			return n, err
		}), body}, nil
	}
	f.At = func(ctx context.Context) (intake.ReaderAt, error) {
		r, err := at(ctx)
		if note(ctx, err); err != nil {
			return nil, err
		}
		return &watchedAt{r, func(err error) { note(ctx, err) }}, nil
	}
	return f
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type watchedAt struct {
	intake.ReaderAt
	note func(error)
}

func (w *watchedAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(p, off)
	w.note(err)
	return n, err
}

func (w *watchedAt) Close() error {
	if c, ok := w.ReaderAt.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
