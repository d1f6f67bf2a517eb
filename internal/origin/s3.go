package origin

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/intake"
)

// IsPattern reports whether a path holds characters that stand for others.
func IsPattern(path string) bool { return strings.ContainsAny(path, "*?[{") }

// Match reports whether a path fits a pattern: * and ? within a folder, ** over folders, [a-z], {a,b}.
func Match(pattern, path string) bool {
	ok, err := doublestar.Match(pattern, path)
	return err == nil && ok
}

// CheckPattern returns an error when a pattern cannot be read.
func CheckPattern(pattern string) error {
	if !doublestar.ValidatePattern(pattern) {
		return &Error{Source: pattern, Problem: "the pattern cannot be read", Try: "* and ? within a folder, ** over folders, [a-z], {a,b}; a backslash before what stands for itself"}
	}
	return nil
}

// Before returns the folder of a pattern that holds no such characters, with its slash.
func Before(pattern string) string {
	at := strings.IndexAny(pattern, `*?[{\`)
	if at < 0 {
		at = len(pattern)
	}
	return pattern[:strings.LastIndexByte(pattern[:at], '/')+1]
}

// listS3 finds an object, all that lies under it as a folder, or what fits it as a pattern: the first of them that is there.
func (p *Places) listS3(ctx context.Context, w Want) ([]File, error) {
	bucket, key, ok := splitS3(w.Path)
	if !ok {
		return nil, &Error{Source: w.Path, Problem: "is not in S3: it names no bucket", Try: "s3://bucket/folder/"}
	}
	own := false
	if p.Store != nil {
		if inside, ok := strings.CutPrefix(w.Path, p.Store.URI("")); ok {
			own, key = true, inside
		}
	}
	store, err := p.bucket(ctx, bucket, own)
	if err != nil {
		return nil, err
	}
	one := func(info blob.Info) File {
		return File{Bucket: bucket, Own: own, Key: info.Key, Name: store.URI(info.Key), Size: info.Size, ETag: info.ETag}
	}
	nothing := &Error{Source: w.Path, Problem: "there is nothing at " + w.Path, Try: "put the files there, then retry"}
	prefix, fits := key, func(string) bool { return true }
	switch {
	case key == "" || strings.HasSuffix(key, "/"):
	default:
		info, err := store.Stat(ctx, key)
		if err == nil {
			return []File{one(info)}, nil
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return nil, s3Error(w.Path, err)
		}
		prefix = key + "/"
		if IsPattern(key) {
			if err := CheckPattern(key); err != nil {
				return nil, err
			}
			prefix, fits = Before(key), func(k string) bool { return Match(key, k) }
		}
	}
	var out []File
	err = store.List(ctx, prefix, func(info blob.Info) error {
		if info.Size > 0 && !hidden(strings.TrimPrefix(info.Key, prefix)) && fits(info.Key) {
			out = append(out, one(info))
		}
		if len(out) > MaxFiles {
			return tooMany(w.Path)
		}
		return nil
	})
	if err != nil {
		return nil, s3Error(w.Path, err)
	}
	if len(out) == 0 {
		return nil, nothing
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Key, b.Key) })
	return out, nil
}

// bucket returns the run's own store, or one over another bucket.
func (p *Places) bucket(ctx context.Context, bucket string, own bool) (*blob.Store, error) {
	if own {
		return p.Store, nil
	}
	return p.Bucket(ctx, bucket)
}

func (p *Places) openS3(f File, out *intake.File) {
	out.Stream = func(ctx context.Context) (io.ReadCloser, error) {
		store, err := p.bucket(ctx, f.Bucket, f.Own)
		if err != nil {
			return nil, err
		}
		body, err := store.StreamOf(ctx, f.Key, f.ETag)
		return body, s3Error(f.Name, err)
	}
	out.At = func(ctx context.Context) (intake.ReaderAt, error) {
		store, err := p.bucket(ctx, f.Bucket, f.Own)
		if err != nil {
			return nil, err
		}
		r, err := store.Reader(ctx, f.Key)
		switch {
		case err != nil:
			return nil, s3Error(f.Name, err)
		case f.ETag != "" && r.Info().ETag != f.ETag:
			return nil, changed(f.Name)
		}
		return r, nil
	}
	out.Explain = func(_ context.Context, err error) error { return s3Error(f.Name, err) }
}

// s3Error turns an answer of S3 that will not change by itself into one for a person.
func s3Error(name string, err error) error {
	var ours *Error
	var answer interface{ HTTPStatusCode() int }
	switch {
	case err == nil || errors.As(err, &ours):
		return err
	case errors.Is(err, blob.ErrChanged):
		return changed(name)
	case errors.Is(err, blob.ErrNotFound):
		return gone(name, err)
	case strings.Contains(err.Error(), "NoSuchBucket"):
		return &Error{Source: name, Problem: "cannot be read: there is no such bucket", Try: "correct its name; a run that was started with it needs a new one", missing: true}
	case errors.As(err, &answer):
		return refused(name, answer.HTTPStatusCode(), err)
	}
	return err
}

func splitS3(uri string) (bucket, key string, ok bool) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	if !ok {
		return "", "", false
	}
	bucket, key, _ = strings.Cut(rest, "/")
	return bucket, key, bucket != ""
}
