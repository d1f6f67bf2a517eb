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
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
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
	for _, f := range asked {
		if f.Wrong == "" {
			there, total = there+1, total+f.Size
		}
	}
	if there == 0 {
		return &Error{
			Source: list, Problem: fmt.Sprintf("nothing of it is at %s (%s: %s)", p.PathsBase, asked[0].Name, asked[0].Wrong),
			Try: "sources.paths_base in the worker's settings, or another list",
		}
	}
	for i := range files[len(asked):] {
		f := &files[len(asked)+i]
		f.Size, f.Guess, f.Unseen = total/there, true, f.Wrong == ""
	}
	return nil
}

// stat pins a listed file, or notes that it is not there.
func (p *Places) stat(ctx context.Context, f *File) error {
	var err error
	if f.URL != "" {
		var info WebInfo
		if p.Web == nil {
			return notAllowed(f.URL)
		}
		info, err = p.Web.Stat(ctx, f.URL)
		f.Size, f.Guess, f.ETag = max(info.Size, 0), info.Size < 0, info.Tag
	} else {
		var store *blob.Store
		if store, err = p.bucket(ctx, f.Bucket, false); err != nil {
			return err
		}
		var info blob.Info
		if info, err = store.Stat(ctx, f.Key); errors.Is(err, blob.ErrNotFound) {
			f.Wrong = "not there"
			return nil
		}
		f.Size, f.ETag = info.Size, info.ETag
		err = s3Error(f.Name, err)
	}
	var status *StatusError
	if errors.As(err, &status) && slices.Contains([]int{404, 410}, status.Status) {
		f.Wrong = "not there"
		return nil
	}
	return err
}
