package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
)

// manifestFile is what trainers write last beside their results: without it they are not known to be whole.
const manifestFile = "selfalign-manifest.json"

// maxFiles bounds what a trainer may leave.
const maxFiles = 10_000

// File is one file of a trained model, at its path under the artefact's prefix.
type File struct {
	Path   string `json:"path"` // slash-separated
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // 64 hexadecimal digits; "" where the trainer told none
}

// Artifact is the files that a trainer left in the store.
type Artifact struct {
	store  *blob.Store
	prefix string
	Files  []File // in order of path
}

// OpenArtifact lists the files of a trained model: those of the trainer's manifest, or, without one, all under the prefix.
func OpenArtifact(ctx context.Context, store *blob.Store, m Trained) (*Artifact, error) {
	if m.Artifact == "" {
		return nil, Wrong("use a trainer that brings its results to the bucket, or a server of backend openai or static",
			"the trainer left no files of model %s in the bucket", m.Model)
	}
	a := &Artifact{store: store, prefix: m.Artifact}
	raw, err := store.Get(ctx, a.key(manifestFile))
	switch {
	case err == nil:
		var told struct {
			Files []File `json:"files"`
		}
		if err := json.Unmarshal(raw, &told); err != nil {
			return nil, Wrong("train again", "read %s: %w", store.URI(a.key(manifestFile)), err)
		}
		a.Files = told.Files
	case errors.Is(err, blob.ErrNotFound):
		err := store.List(ctx, m.Artifact+"/", func(i blob.Info) error {
			p := strings.TrimPrefix(i.Key, m.Artifact+"/")
			if !strings.HasPrefix(path.Base(p), "selfalign-") {
				a.Files = append(a.Files, File{Path: p, Size: i.Size})
			}
			if len(a.Files) > maxFiles {
				return fmt.Errorf("more than %d files", maxFiles)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list files of model %s: %w", m.Model, err)
		}
	default:
		return nil, fmt.Errorf("read manifest of model %s: %w", m.Model, err)
	}
	slices.SortFunc(a.Files, func(x, y File) int { return strings.Compare(x.Path, y.Path) })
	if len(a.Files) == 0 || len(a.Files) > maxFiles {
		return nil, Wrong("look at what the trainer left there", "%s holds %d files", store.URI(m.Artifact), len(a.Files))
	}
	for _, f := range a.Files {
		if !fs.ValidPath(f.Path) || !filepath.IsLocal(filepath.FromSlash(f.Path)) || f.Size < 0 {
			return nil, Wrong("train again", "%s names the file %.80q", store.URI(m.Artifact), f.Path)
		}
	}
	return a, nil
}

func (a *Artifact) key(file string) string { return a.prefix + "/" + file }

// URI is where the files are, for messages.
func (a *Artifact) URI() string { return a.store.URI(a.prefix) }

// Open streams a file from its beginning. The caller closes it.
func (a *Artifact) Open(ctx context.Context, f File) (io.ReadCloser, error) {
	return a.store.Stream(ctx, a.key(f.Path))
}

// Folder returns the folder of the artefact that holds a file of this name: the outermost one, "." for the top.
func (a *Artifact) Folder(name string) (dir string, ok bool) {
	depth := 1 << 20
	for _, f := range a.Files {
		if n := strings.Count(f.Path, "/"); path.Base(f.Path) == name && n < depth {
			dir, depth, ok = path.Dir(f.Path), n, true
		}
	}
	return dir, ok
}

// In returns the files directly in a folder of the artefact, with paths relative to it.
func (a *Artifact) In(dir string) []File {
	var out []File
	for _, f := range a.Files {
		if path.Dir(f.Path) == dir {
			f.Path = path.Base(f.Path)
			out = append(out, f)
		}
	}
	return out
}

// staleCopy is when an unfinished copy is taken to be a dead one's.
const staleCopy = 24 * time.Hour

// CopyTo brings the files into a folder that is there wholly or not at all, and does nothing where it is there already: its
// name must stand for these very files. Parents are made. Whoever dies on the way leaves a hidden folder beside it, which a
// later copy removes.
func (a *Artifact) CopyTo(ctx context.Context, dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make folder for models: %w", err)
	}
	sweep(parent)
	tmp := filepath.Join(parent, ".copy-"+strings.ToLower(rand.Text()))
	defer func() { _ = os.RemoveAll(tmp) }()
	for _, f := range a.Files {
		if err := a.copyFile(ctx, f, filepath.Join(tmp, filepath.FromSlash(f.Path))); err != nil {
			return fmt.Errorf("copy %s: %w", a.store.URI(a.key(f.Path)), err)
		}
	}
	if err := os.Rename(tmp, dir); err != nil {
		if info, err2 := os.Stat(dir); err2 == nil && info.IsDir() {
			return nil // somebody else was faster
		}
		return fmt.Errorf("put model into place: %w", err)
	}
	return nil
}

// copyFile brings one file and checks it against what the trainer told of it. Its mode lets a server of another user read it.
func (a *Artifact) copyFile(ctx context.Context, f File, to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	src, err := a.Open(ctx, f)
	if err != nil {
		return err
	}
	defer src.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), src)
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != f.Size || f.SHA256 != "" && sum != f.SHA256 {
		return fmt.Errorf("it has %d bytes and digest %.12s…, the trainer wrote %d and %.12s…", n, sum, f.Size, f.SHA256)
	}
	return out.Sync()
}

// sweep removes copies that nobody can be at work on any more.
func sweep(parent string) {
	found, err := filepath.Glob(filepath.Join(parent, ".copy-*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > staleCopy {
			_ = os.RemoveAll(dir)
		}
	}
}
