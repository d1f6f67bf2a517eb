package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// Objects beside the results under a job's prefix.
const (
	// ManifestFile lists the results and is written last: without it they are not complete.
	ManifestFile = "selfalign-manifest.json"
	// ClaimFile says which machine trains. Without it another one may.
	ClaimFile = "selfalign-claim.json"
)

// Manifest is ManifestFile: what the job left. It is the same however often it is written.
type Manifest struct {
	Format   int          `json:"format"` // 1
	Job      finetune.Job `json:"job"`
	Model    string       `json:"model"`
	Files    []File       `json:"files"`              // in order of path
	LeftOut  []string     `json:"left_out,omitempty"` // what is no plain file
	Recipe   []string     `json:"not_expressed,omitempty"`
	Attempts int          `json:"attempts"`
}

// File is one result, at its path under the job's prefix.
type File struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// upload is one bringing of results that goes on in the background while polls come and go.
type upload struct {
	done  chan struct{}
	err   error
	files atomic.Int64
	total atomic.Int64
}

// uploadPatience is how long a poll waits for results to be brought, which small ones are at once.
const uploadPatience = 2 * time.Second

// bring has the results uploaded and the job ended. A failure is told once; the next poll tries again.
func (b *Backend) bring(ctx context.Context, f folder, st finetune.Status) (finetune.Status, error) {
	id := filepath.Base(string(f))
	b.mu.Lock()
	up := b.uploads[id]
	if up == nil {
		if err := b.closing.Err(); err != nil {
			b.mu.Unlock()
			return st, fmt.Errorf("trainer is closed: %w", err)
		}
		up = &upload{done: make(chan struct{})}
		b.uploads[id] = up
		b.running.Go(func() {
			up.err = b.deliver(b.closing, f, st, up)
			close(up.done)
		})
	}
	b.mu.Unlock()
	timer := time.NewTimer(uploadPatience)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return st, ctx.Err()
	case <-timer.C:
		st.Message = fmt.Sprintf("trained; bringing results to the store, %d of %d files", up.files.Load(), up.total.Load())
		return st, nil
	case <-up.done:
	}
	b.mu.Lock()
	delete(b.uploads, id)
	b.mu.Unlock()
	if up.err != nil {
		return st, up.err
	}
	now, ended, err := f.result()
	if err == nil && !ended {
		err = local("read result", errors.New("it vanished"))
	}
	return now, err
}

// deliver uploads the results, writes their manifest, and notes that the job has succeeded.
func (b *Backend) deliver(ctx context.Context, f folder, st finetune.Status, up *upload) error {
	rec, err := f.record()
	if err != nil {
		return local("read record", err)
	}
	m := Manifest{Format: 1, Job: rec.Job, Model: st.Model, Recipe: st.NotExpressed, Attempts: rec.Attempts}
	if m.Model == "" {
		m.Model = rec.Job.Name()
	}
	files, leftOut, err := f.results()
	if err != nil {
		return local("list results", err)
	}
	m.LeftOut = leftOut
	if len(files) == 0 && st.Model == "" {
		return b.finish(ctx, f, finetune.Status{State: finetune.StateFailed, Message: "the program ended well but left no results"})
	}
	up.total.Store(int64(len(files)))
	for _, path := range files {
		file, err := b.deliverFile(ctx, f, rec.Job.Artifacts, path)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, file)
		up.files.Add(1)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return local("encode manifest", err)
	}
	if err := b.store.PutIfAbsent(ctx, rec.Job.Artifacts+"/"+ManifestFile, raw); err != nil && !errors.Is(err, blob.ErrExists) {
		return trainfile.StoreError("write manifest of results", err)
	}
	st = b.priced(f, rec, false, st)
	st.State, st.Model, st.Artifact = finetune.StateSucceeded, m.Model, rec.Job.Artifacts
	return b.finish(ctx, f, st)
}

// finish notes the last status, unless the job was cancelled meanwhile.
func (b *Backend) finish(ctx context.Context, f folder, st finetune.Status) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, ended, err := f.result(); err != nil || ended {
		return err
	}
	if st.State == finetune.StateFailed {
		_, err := b.end(f, st.State, st.Message)
		return err
	}
	return f.write(fileResult, st)
}

// results lists the plain files that the program left, as slash-separated paths in order.
func (f folder) results() (files, leftOut []string, err error) {
	root := f.path(dirResults)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if !d.Type().IsRegular() || rel == ManifestFile || rel == ClaimFile {
			leftOut = append(leftOut, rel)
			return nil
		}
		files = append(files, rel)
		return nil
	})
	return files, leftOut, err
}

// deliverFile uploads one result unless an earlier attempt did, which a note beside the results tells.
func (b *Backend) deliverFile(ctx context.Context, f folder, prefix, path string) (File, error) {
	if err := ctx.Err(); err != nil {
		return File{}, fmt.Errorf("upload %s: %w", path, err)
	}
	at := filepath.Join(f.path(dirResults), filepath.FromSlash(path))
	file := File{Path: path}
	var err error
	if file.SHA256, file.Size, err = digest(at); err != nil {
		return file, local("read result "+path, err)
	}
	key := prefix + "/" + path
	note := "uploaded-" + finetune.NameOf(path) + ".json"
	var was File
	if f.read(note, &was) == nil && was == file {
		if info, err := b.store.Stat(ctx, key); err == nil && info.Size == file.Size {
			return file, nil
		}
	}
	if err := b.store.PutFile(ctx, key, at); err != nil {
		return file, trainfile.StoreError("upload result "+path, err)
	}
	return file, f.write(note, file)
}

func digest(path string) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if size, err = io.Copy(h, file); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
