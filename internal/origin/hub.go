package origin

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/intake"
)

const hubBuffer = 4 << 20 // bytes asked for at a time of a file that is streamed

// listHub finds the files of a dataset at the commit that its revision stands for now.
func (p *Places) listHub(ctx context.Context, w Want, found *dataset.Origin) ([]File, error) {
	if p.Hub == nil {
		return nil, &Error{Source: w.Path, Problem: "no Hub is known", Try: "name one in the worker's settings under hub"}
	}
	src, err := hub.ParseSource(w.Path)
	if err != nil {
		return nil, &Error{Source: w.Path, Problem: "is no dataset of the Hub", Err: err, Try: "hf://owner/name, with config, split and revision beside path"}
	}
	for to, from := range map[*string]string{&src.Revision: w.Revision, &src.Config: w.Config, &src.Split: w.Split} {
		if from != "" {
			*to = from
		}
	}
	table, err := p.Hub.Find(ctx, src)
	if err != nil {
		return nil, hubError(w.Path, err)
	}
	*found = dataset.Origin{
		Path: w.Path, Revision: table.Revision, Commit: table.Commit, Config: table.Config, Split: table.Split,
		Converted: table.Converted, Partial: table.Partial, License: table.License,
	}
	var out []File
	for _, f := range table.Files {
		if f.Size == 0 {
			continue
		}
		name := hub.Source{Repo: table.Repo, Revision: table.Commit, Path: f.Path}
		out = append(out, File{Name: name.String(), Size: f.Size, Hub: &HubFile{Repo: table.Repo.String(), Commit: table.Commit, File: f}})
	}
	if len(out) == 0 {
		return nil, &Error{Source: w.Path, Problem: "all of its files are empty", Try: "look at " + p.Hub.Page(table.Repo)}
	}
	return out, nil
}

func (p *Places) openHub(f File, out *intake.File) {
	open := func(ctx context.Context) (*hub.Reader, error) {
		if p.Hub == nil {
			return nil, &Error{Source: f.Name, Problem: "no Hub is known", Try: "name one in the worker's settings under hub"}
		}
		repo, err := hub.ParseRepo(f.Hub.Repo)
		if err != nil {
			return nil, err
		}
		return p.Hub.Open(ctx, repo, f.Hub.Commit, f.Hub.File), nil
	}
	out.At = func(ctx context.Context) (intake.ReaderAt, error) { return open(ctx) }
	out.Stream = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bufio.NewReaderSize(io.NewSectionReader(r, 0, r.Size()), hubBuffer)), nil
	}
	out.Explain = func(_ context.Context, err error) error { return readError(f.Name, err) }
}

// readError sorts an answer about one file of a commit that was found before. Who may not read it needs a person, and so does a
// commit or dataset that is gone; another answer that will not change is about this file alone.
func readError(name string, err error) error {
	var said *hub.Error
	if !errors.As(err, &said) || errors.Is(said.Kind, hub.ErrPassing) {
		return err
	}
	for _, kind := range []error{hub.ErrUnauthorized, hub.ErrForbidden, hub.ErrGated} {
		if errors.Is(said.Kind, kind) {
			return hubError(name, err)
		}
	}
	switch {
	case !errors.Is(said.Kind, hub.ErrNotFound):
		return &intake.TurnedError{Reason: corpus.ReasonUnreadable, Detail: withoutTry(said).Error()}
	case said.Code == "EntryNotFound":
		return &intake.TurnedError{Reason: corpus.ReasonNoFile, Detail: withoutTry(said).Error()}
	}
	return hubError(name, err)
}

func withoutTry(e *hub.Error) *hub.Error {
	plain := *e
	plain.Try = ""
	return &plain
}

// hubError turns an answer of the Hub that will not change by itself into one for a person.
func hubError(name string, err error) error {
	var said *hub.Error
	if !errors.As(err, &said) || errors.Is(said.Kind, hub.ErrPassing) {
		return err
	}
	try := said.Try
	if try == "" {
		try = "mend config, split or revision in the spec and start a new run"
	}
	return &Error{Source: name, Problem: "cannot be read", Err: withoutTry(said), Try: try}
}
