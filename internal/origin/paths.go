package origin

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/intake"
)

// Bounds of paths lists.
const (
	maxListLine  = 2000     // bytes
	maxListBytes = 64 << 20 // unpacked; those of Common Crawl have 100,000 lines in 15 MB
	maxListLines = MaxFiles // empty ones too
	askedFiles   = 1000     // files of a list that are asked for their sizes, all of them; of longer lists a few are
	someFiles    = 8
	asksAtOnce   = 8
)

// IsPathsList reports whether a file is a Common Crawl paths list, by its format or else by its name: warc.paths.gz.
func IsPathsList(name, format string) bool {
	if format == corpus.FormatPaths {
		return true
	}
	name = strings.TrimSuffix(strings.ToLower(path.Base(name)), ".gz")
	return (format == "" || format == corpus.FormatAuto || format == corpus.FormatWARC || format == corpus.FormatWET) && strings.HasSuffix(name, ".paths")
}

// Listed reads a paths list and pins the files that its lines name below PathsBase. A line that is no path, or whose file is
// not there, gives a File that says what is wrong.
func (p *Places) Listed(ctx context.Context, list intake.File, w Want) ([]File, error) {
	if p.PathsBase == "" {
		return nil, &Error{
			Source: list.Name, Problem: "is a list of paths, and nothing is known that they lie under",
			Try: "sources.paths_base: https://data.commoncrawl.org/ in the worker's settings, restart the workers, then retry",
		}
	}
	body, err := list.Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	kept := &sampler{limit: w.Limit}
	err = readList(body, func(line int, name string, wrong string) error {
		f := p.listedFile(name)
		if wrong != "" {
			f = File{Name: fmt.Sprintf("%s line %d", list.Name, line), Wrong: wrong}
		}
		kept.offer(f)
		if kept.Len() > MaxFiles {
			return tooMany(list.Name)
		}
		return ctx.Err()
	})
	var bad listError
	if errors.As(err, &bad) {
		return nil, &Error{Source: list.Name, Problem: string(bad), Try: "a paths list as Common Crawl has them: a key a line, gzip or plain"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", list.Name, err)
	}
	files := kept.files()
	if len(files) == 0 {
		return nil, &Error{Source: list.Name, Problem: "the list is empty", Try: "put files on it, then retry"}
	}
	return files, p.measure(ctx, list.Name, files)
}

// listedFile is what a line stands for.
func (p *Places) listedFile(key string) File {
	address := strings.TrimSuffix(p.PathsBase, "/") + "/" + key
	if bucket, inBucket, ok := splitS3(address); ok {
		return File{Name: address, Bucket: bucket, Key: inBucket}
	}
	if u, err := url.Parse(strings.TrimSuffix(p.PathsBase, "/")); err == nil {
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/"+key, "" // a percent sign is one, and no escape
		return File{Name: address, URL: u.String()}
	}
	return File{Name: address, Wrong: "no address"}
}

type listError string

func (e listError) Error() string { return string(e) }

// readList hands over the lines of a list, those that are no paths with what is wrong.
func readList(r io.Reader, take func(line int, path, wrong string) error) error {
	buf := bufio.NewReaderSize(r, 64<<10)
	var src io.Reader = buf
	if magic, _ := buf.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		gz, err := gzip.NewReader(buf)
		if err != nil {
			return listError("broken compression")
		}
		src = gz
	}
	counted := &io.LimitedReader{R: src, N: maxListBytes}
	lines := bufio.NewReaderSize(counted, maxListLine)
	for n := 1; ; n++ {
		raw, err := lines.ReadSlice('\n')
		long := false
		for errors.Is(err, bufio.ErrBufferFull) {
			long = true
			_, err = lines.ReadSlice('\n')
		}
		switch {
		case n > maxListLines:
			return listError(fmt.Sprintf("more than %d lines", maxListLines))
		case errors.Is(err, io.EOF) && counted.N == 0:
			return listError(fmt.Sprintf("more than %d bytes", int64(maxListBytes)))
		case isDamage(err):
			return listError("broken compression: " + err.Error())
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		name := string(bytes.TrimSpace(raw))
		wrong := ""
		switch {
		case long:
			wrong = fmt.Sprintf("a line of more than %d bytes", maxListLine)
		case name != "":
			wrong = notPath(name)
		}
		if name != "" || long {
			if err := take(n, name, wrong); err != nil {
				return err
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the end
		}
	}
}

// isDamage tells broken bytes from a reader that failed.
func isDamage(err error) bool {
	return err != nil && (errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasPrefix(err.Error(), "flate:"))
}

// notPath says why a line is not the key of a file.
func notPath(s string) string {
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "not text"
	case strings.Contains(s, "://") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.ContainsAny(s, "\\?#"):
		return "not a path below the base"
	case path.Clean(s) != s || s == "." || s == ".." || strings.HasPrefix(s, "../"):
		return "a path that leads elsewhere"
	}
	return ""
}

// measure asks for sizes and tags: of all files of a short list, of some of a long one.
func (p *Places) measure(ctx context.Context, list string, files []File) error {
	asked := files
	if len(files) > askedFiles {
		asked = files[:someFiles]
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	for i := range asked {
		if asked[i].Wrong == "" {
			group.Go(func() error { return p.stat(gctx, &asked[i]) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	there, total := int64(0), int64(0)
	var witnesses []string
	for _, f := range asked {
		if f.Wrong == "" {
			there, total = there+1, total+f.Size
			witnesses = append(witnesses, f.Name)
		}
	}
	if there == 0 {
		return noneThere(p.PathsBase, list, asked)
	}
	for i := range files {
		f := &files[i]
		if f.Wrong != "" {
			continue
		}
		if i >= len(asked) {
			f.Size, f.Guess, f.Unseen = total/there, true, true
		}
		if f.Witness = witnesses[0]; f.Witness == f.Name { // its own witness where it is the only one
			f.Witness = witnesses[len(witnesses)-1]
		}
	}
	return nil
}

// noneThere says why nothing of a list can be read.
func noneThere(base, list string, asked []File) error {
	for _, f := range asked {
		if f.Reason == corpus.ReasonUnreadable {
			return &Error{
				Source: list, Problem: fmt.Sprintf("the server gives none of the files that were asked for (%s: %s)", f.Name, f.Wrong),
				Try: "open that address without logging in. If it is refused: sources.paths_base in the worker's settings with s3:// and credentials, or local copies. If it is not: the server turns this machine away, perhaps for a while; then retry later",
			}
		}
	}
	return &Error{
		Source: list, Problem: fmt.Sprintf("nothing of it is at %s (%s: %s)", base, asked[0].Name, asked[0].Wrong),
		Try: "sources.paths_base in the worker's settings, or another list",
	}
}

// stat pins a listed file, or notes why it cannot be read.
func (p *Places) stat(ctx context.Context, f *File) error {
	size, tag, err := p.look(ctx, *f)
	if reason, detail := alone(err); reason != "" {
		f.Wrong, f.Reason = detail, reason
		return nil
	}
	f.Size, f.Guess, f.ETag = max(size, 0), size < 0, tag
	return err
}

// look asks for the size (-1: not told) and the tag of a listed file.
func (p *Places) look(ctx context.Context, f File) (int64, string, error) {
	if f.URL != "" {
		if p.Web == nil {
			return 0, "", notAllowed(f.URL)
		}
		info, err := p.Web.Stat(ctx, f.URL)
		return info.Size, info.Tag, err
	}
	store, err := p.bucket(ctx, f.Bucket, false)
	if err != nil {
		return 0, "", err
	}
	info, err := store.Stat(ctx, f.Key)
	return info.Size, info.ETag, s3Error(f.Name, err)
}

// named is the file that a listed file's name stands for.
func named(name string) File {
	if bucket, key, ok := splitS3(name); ok {
		return File{Name: name, Bucket: bucket, Key: key}
	}
	host, key, _ := strings.Cut(strings.TrimPrefix(name, "https://"), "/")
	return File{Name: name, URL: (&url.URL{Scheme: "https", Host: host, Path: "/" + key}).String()}
}

// alone returns the reject for an error that says something of one file alone, if it does: it is gone, or refused.
func alone(err error) (reason, detail string) {
	var ours *Error
	var status *StatusError
	var answer interface{ HTTPStatusCode() int }
	switch {
	case !errors.As(err, &ours):
		return "", ""
	case ours.missing:
		return corpus.ReasonNoFile, "not there"
	case errors.As(err, &status):
		return corpus.ReasonUnreadable, status.Error()
	case errors.As(err, &answer):
		return corpus.ReasonUnreadable, fmt.Sprintf("HTTP %d", answer.HTTPStatusCode())
	}
	return "", ""
}

// turn makes a reject of an error about one file of a list. Before a refused file is given up, a file is asked for that could be
// read when the run began: where that is refused too, the server refuses us and not the file, which needs a person.
func (p *Places) turn(ctx context.Context, f File, err error) error {
	reason, detail := alone(err)
	if reason == "" {
		return err
	}
	if reason == corpus.ReasonUnreadable {
		if f.Witness == "" || f.Witness == f.Name {
			return err
		}
		_, _, now := p.look(ctx, named(f.Witness))
		if also, _ := alone(now); also == corpus.ReasonUnreadable {
			return &Error{
				Source: f.Name, Problem: fmt.Sprintf("cannot be read any more, nor can %s, which could when the run began: %s", f.Witness, detail),
				Try: "look whether the server turns this machine away, perhaps for a while, or whether credentials have ended; then retry",
			}
		} else if now != nil && also == "" {
			return now
		}
	}
	return &intake.TurnedError{Reason: reason, Detail: detail}
}
