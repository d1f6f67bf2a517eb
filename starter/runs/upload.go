package runs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/origin"
)

// Limits of uploads.
const (
	maxFiles      = 1_000_000 // in one folder; more belong in S3 to begin with
	wholeBytes    = 16 << 20  // files up to this size are sent from memory
	uploadsAtOnce = 4
	fileDeadline  = 6 * time.Hour // for one large file
	maxFolderName = 40            // bytes: with a file's name of 900 a key stays below 1,024
)

// UploadProgress tells how far the upload of one source is.
type UploadProgress struct {
	Source      string // as the spec has it
	Files, Of   int
	Bytes, OfB  int64
	Skipped     int // files that were in the bucket already
	HashingOnly bool
}

// localFile is one file to upload.
type localFile struct {
	rel   string // with slashes
	path  string
	size  int64
	mtime time.Time
	sum   string // SHA-256
}

// upload puts a local file or folder into the bucket under its content's digest and returns its s3:// address; a folder's ends
// in a slash. What is there already is not sent again, so it goes on where an interrupted upload stopped.
func (c *Client) upload(ctx context.Context, source string, progress func(UploadProgress)) (string, error) {
	files, folder, err := scan(source)
	if err != nil {
		return "", err
	}
	told := UploadProgress{Source: source, Of: len(files)}
	for _, f := range files {
		told.OfB += f.size
	}
	for i := range files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if files[i].sum, err = digestFile(files[i].path); err != nil {
			return "", fmt.Errorf("upload %s: %w", source, err)
		}
		told.Files, told.Bytes, told.HashingOnly = i+1, told.Bytes+files[i].size, true
		progress(told)
	}
	told.Files, told.Bytes, told.HashingOnly = 0, 0, false
	root := "uploads/" + files[0].sum
	if folder {
		root = "uploads/" + digestFolder(files) + "/" + folderName(source)
	}
	address := c.Store.URI(root + "/" + files[0].rel)
	if folder {
		address = c.Store.URI(root) + "/"
	}
	if c.unsent {
		return address, nil
	}
	present := map[string]int64{}
	list, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	if err := c.Store.List(list, root+"/", func(i blob.Info) error { present[i.Key] = i.Size; return nil }); err != nil {
		return "", c.storeError(err)
	}
	var mu sync.Mutex
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(uploadsAtOnce)
	for _, f := range files {
		group.Go(func() error {
			key := root + "/" + f.rel
			size, there := present[key]
			if there = there && size == f.size; !there {
				if err := c.send(gctx, key, f); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			told.Files, told.Bytes = told.Files+1, told.Bytes+f.size
			if there {
				told.Skipped++
			}
			progress(told)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return "", fmt.Errorf("upload %s: %w", source, err)
	}
	return address, nil
}

// folderName is what a folder, or the one that a pattern begins with, is called where it was uploaded.
func folderName(source string) string {
	if pattern := filepath.ToSlash(source); origin.IsPattern(pattern) {
		if _, err := os.Stat(source); err != nil {
			source = filepath.FromSlash(origin.Before(pattern))
		}
	}
	whole, err := filepath.Abs(source)
	if err != nil {
		return "folder"
	}
	name := strings.Map(func(r rune) rune { // an address must be no pattern and no query
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._- ", r) {
			return r
		}
		return '_'
	}, strings.ToValidUTF8(filepath.Base(whole), "_"))
	for len(name) > maxFolderName {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return name
}

// send writes one file. A file that changed since its digest was taken must not stand under that digest.
func (c *Client) send(ctx context.Context, key string, f localFile) error {
	changed := &ConflictError{What: f.path + " changed while it was read", Try: "start again when nothing writes to it"}
	if f.size <= wholeBytes {
		body, err := os.ReadFile(f.path)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		sum := sha256.Sum256(body)
		if hex.EncodeToString(sum[:]) != f.sum {
			return changed
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
		defer cancel()
		return c.storeError(c.Store.Put(ctx, key, body))
	}
	ctx, cancel := context.WithTimeout(ctx, fileDeadline)
	defer cancel()
	if err := c.Store.PutFile(ctx, key, f.path); err != nil {
		return c.storeError(err)
	}
	if info, err := os.Stat(f.path); err != nil || info.Size() != f.size || !info.ModTime().Equal(f.mtime) {
		return errors.Join(changed, c.storeError(c.Store.Delete(context.WithoutCancel(ctx), key)))
	}
	return nil
}

// scan lists what a source consists of: a file, all of a folder, or what fits a pattern. Names that begin with a dot are left out; a symbolic link that leads out of the
// folder is an error, since a spec must not upload what its folder does not hold.
func scan(source string) (files []localFile, folder bool, err error) {
	root, err := filepath.EvalSymlinks(source)
	fits := func(string) bool { return true }
	if pattern := filepath.ToSlash(source); errors.Is(err, fs.ErrNotExist) && origin.IsPattern(pattern) {
		if err := origin.CheckPattern(pattern); err != nil {
			return nil, true, err
		}
		before := origin.Before(pattern)
		root, err = filepath.EvalSymlinks(cmp.Or(filepath.FromSlash(before), "."))
		fits = func(rel string) bool { return origin.Match(pattern[len(before):], rel) }
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("source %s: %w", source, fs.ErrNotExist)
	}
	if err != nil {
		return nil, false, fmt.Errorf("source %s: %w", source, err)
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, false, fmt.Errorf("source %s: %w", source, err)
	}
	if !info.IsDir() {
		f, err := regular(root, filepath.Base(source), info)
		return []localFile{f}, false, err
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p == root:
			return nil
		case strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		case len(files) == maxFiles:
			return fmt.Errorf("more than %d files. Try: put them into S3 and name the prefix", maxFiles)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel = filepath.ToSlash(rel); !fits(rel) {
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := filepath.EvalSymlinks(p)
			if err != nil {
				return fmt.Errorf("symbolic link %s: %w", p, err)
			}
			if rel, err := filepath.Rel(root, target); err != nil || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
				return fmt.Errorf("symbolic link %s leads out of the folder. Try: put a copy of what it leads to in its place", p)
			}
		}
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.IsDir() { // a link to a folder inside, which is walked itself
			return nil
		}
		f, err := regular(p, rel, info)
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, true, fmt.Errorf("source %s: %w", source, err)
	}
	if len(files) == 0 {
		return nil, true, fmt.Errorf("source %s: the folder holds no files", source)
	}
	slices.SortFunc(files, func(a, b localFile) int { return cmp.Compare(a.rel, b.rel) })
	return files, true, nil
}

func regular(p, rel string, info fs.FileInfo) (localFile, error) {
	switch {
	case !info.Mode().IsRegular():
		return localFile{}, fmt.Errorf("%s is not a regular file", p)
	case !utf8.ValidString(rel) || strings.ContainsFunc(rel, unicode.IsControl) || len(rel) > 900:
		return localFile{}, fmt.Errorf("the name %q cannot be a key in S3. Try: rename the file", rel)
	case path.Clean(rel) != rel:
		return localFile{}, fmt.Errorf("the name %q cannot be a key in S3", rel)
	}
	return localFile{rel: rel, path: p, size: info.Size(), mtime: info.ModTime()}, nil
}

func digestFile(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestFolder names a folder by the names and digests of its files.
func digestFolder(files []localFile) string {
	var b bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&b, "%s %d %s\n", f.sum, len(f.rel), f.rel)
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}
