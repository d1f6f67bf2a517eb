package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/hub"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
	"github.com/selfalign/selfalign/starter/runs"
)

// listing is how long the files of one source may take to be found.
const listing = 5 * time.Minute

// found is a file of a source, local or elsewhere.
type found struct {
	intake.File
	size int64
}

// placesOf returns what sources may lead to by the worker's settings, with this machine's own keys.
func placesOf(w config.Worker) (*origin.Places, error) {
	client, err := hub.Connect(w.Hub.Endpoint, w.Hub.TokenEnv, nil)
	if err != nil {
		return nil, usage(err.Error())
	}
	return &origin.Places{
		Hub: client, Web: origin.NewWeb(origin.WebOptions{Allowed: w.Sources.Allows}), PathsBase: w.Sources.PathsBase,
		Bucket: func(ctx context.Context, bucket string) (*blob.Store, error) {
			c := blob.Config(w.Store)
			c.Bucket, c.Prefix = bucket, ""
			return blob.Open(ctx, c)
		},
	}, nil
}

// filesOf finds the files of a source as a worker would, and says of what format they are.
func filesOf(ctx context.Context, s config.Source, dir string, w config.Worker) ([]found, string, error) {
	ctx, cancel := context.WithTimeout(ctx, listing)
	defer cancel()
	format := s.Format
	if format == corpus.FormatPaths {
		format = corpus.FormatAuto
	}
	places, err := placesOf(w)
	if err != nil {
		return nil, format, err
	}
	want := origin.Want{Path: s.Path, Format: s.Format, Revision: s.Revision, Config: s.Config, Split: s.Split, Limit: s.Limit, Whole: true}
	var out []found
	var listed []origin.File
	if s.Local() {
		files, err := runs.LocalFiles(runs.Local(dir, s.Path))
		if err != nil {
			return nil, format, usage(err.Error())
		}
		for _, f := range files {
			local := intake.Local(filepath.ToSlash(f.Name), f.Path)
			if !origin.IsPathsList(f.Name, s.Format) {
				out = append(out, found{local, f.Size})
				continue
			}
			more, err := places.Listed(ctx, local, want)
			if err != nil {
				return nil, format, trouble(s.Path, err)
			}
			listed = append(listed, more...)
		}
		if s.Limit > 0 {
			out = out[:min(len(out), s.Limit)]
		}
	} else if listed, _, err = places.List(ctx, want); err != nil {
		return nil, format, trouble(s.Path, err)
	}
	for _, f := range listed {
		out = append(out, found{places.Open(f), f.Size})
	}
	return out, format, nil
}

// trouble sorts an error by what the caller can do about it.
func trouble(path string, err error) error {
	var ours *origin.Error
	if errors.As(err, &ours) {
		return usage(err.Error())
	}
	return &runs.UnreachableError{What: path, Err: err, Try: "check store, hub and sources in the worker's settings, and that the keys are exported"}
}
