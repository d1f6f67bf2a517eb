package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
	"github.com/selfalign/selfalign/internal/flock"
)

// folder is the folder of one job. Everything that is known of the job lies there:
//
//	lock         held while a worker looks at the job or changes it
//	record.json  the job and how often it was started; written before the first start
//	job.json     what the program is given
//	train.jsonl  the training file
//	validation.jsonl  examples that are not trained on, where there are any
//	run.lock     held by the program, which inherits it: free means that none runs
//	pid, process.json  who runs: the process group, and when it started, so that a number used again is not mistaken
//	stdout.log, stderr.log  of all attempts
//	exit         the exit code of the last attempt
//	begun-N      made when attempt N began
//	cancel.json  since when the job is being stopped
//	result.json  the last status; once it is there nothing changes
//	artifacts/, checkpoints/
type folder string

const (
	fileLock    = "lock"
	fileRecord  = "record.json"
	fileJob     = "job.json"
	fileData    = "train.jsonl"
	fileHeld    = "validation.jsonl"
	fileRunLock = "run.lock"
	filePID     = "pid"
	fileProcess = "process.json"
	fileStdout  = "stdout.log"
	fileStderr  = "stderr.log"
	fileExit    = "exit"
	fileCancel  = "cancel.json"
	fileResult  = "result.json"
	dirResults  = "artifacts"
	dirPoints   = "checkpoints"
)

// record is what must not be forgotten.
type record struct {
	Job      finetune.Job `json:"job"`
	Attempts int          `json:"attempts"` // counted before a start, so that a crash in between costs an attempt and is no second start
	// Limit is how long machines may work on the job for what was left of the budget; 0: for ever. In nanoseconds.
	Limit time.Duration `json:"limit,omitempty"`
	// Worked is how long they did in all attempts before the last.
	Worked time.Duration `json:"worked,omitempty"`
	// Over says that the job is being stopped since its time was over.
	Over bool `json:"over,omitempty"`
}

// Spec is job.json: what the program is told.
type Spec struct {
	Format       int    `json:"format"` // 1
	Key          string `json:"key"`
	Name         string `json:"name"` // safe as a file name
	BaseModel    string `json:"base_model"`
	Suffix       string `json:"suffix"`
	TrainingFile string `json:"training_file"` // JSON lines {"messages": […]}; loss on assistant messages only
	Examples     int64  `json:"examples"`
	// ValidationFile has the same shape and is not trained on; "" for none.
	ValidationFile string         `json:"validation_file,omitempty"`
	Hyper          finetune.Hyper `json:"hyperparameters"`
	Seed           int64          `json:"seed"`
	Artifacts      string         `json:"artifacts"`   // folder for results, uploaded when the program exits with 0
	Checkpoints    string         `json:"checkpoints"` // folder that stays over attempts
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// lock waits for the job's lock. It is let go of by the function returned, and by the kernel when we die.
func (f folder) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(f.path(fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, local("open lock", err)
	}
	for {
		got, err := flock.Try(file)
		if err != nil {
			_ = file.Close()
			return nil, local("lock job", err)
		}
		if got {
			return func() { flock.Free(file); _ = file.Close() }, nil
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for the lock of the job: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// write puts v as JSON into a file that is either the old one or the new one, whenever the machine stops.
func (f folder) write(name string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return local("encode "+name, err)
	}
	if err := f.replace(name, func(w io.Writer) error { _, err := w.Write(append(raw, '\n')); return err }); err != nil {
		return local("write "+name, err)
	}
	return nil
}

func (f folder) replace(name string, fill func(io.Writer) error) (err error) {
	tmp, err := os.CreateTemp(string(f), "."+name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if err := fill(tmp); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path(name)); err != nil {
		return err
	}
	return syncDir(string(f))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

func (f folder) read(name string, v any) error {
	raw, err := os.ReadFile(f.path(name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w", f.path(name), err)
	}
	return nil
}

func (f folder) record() (record, error) {
	var r record
	err := f.read(fileRecord, &r)
	return r, err
}

func (f folder) result() (st finetune.Status, ended bool, err error) {
	err = f.read(fileResult, &st)
	if errors.Is(err, os.ErrNotExist) {
		return st, false, nil
	}
	if err != nil {
		return st, false, local("read result", err)
	}
	return st, true, nil
}

func (f folder) cancelled() (since time.Time, yes bool) {
	err := f.read(fileCancel, &since)
	return since, !errors.Is(err, os.ErrNotExist)
}

// exit returns the exit code of the attempt that ended last. A file without a number, as a machine that lost
// power leaves it, counts as none.
func (f folder) exit() (code int, exited bool) {
	raw, err := os.ReadFile(f.path(fileExit))
	if err != nil {
		return 0, false
	}
	code, err = strconv.Atoi(strings.TrimSpace(string(raw)))
	return code, err == nil
}

// claim is put into the store, so that of several machines that are handed the same key one trains.
type claim struct {
	Key  string `json:"key"`
	Dir  string `json:"dir"` // identity of the folder of jobs; it moves with a volume
	Host string `json:"host"`
}

// prepare brings everything a start needs and writes the record last.
func (b *Backend) prepare(ctx context.Context, f folder, job finetune.Job) (record, error) {
	limit, err := b.limit(ctx, job)
	if err != nil {
		return record{}, err
	}
	if err := b.claim(ctx, job); err != nil {
		return record{}, err
	}
	if err := b.download(ctx, f, fileData, job.Training); err != nil {
		return record{}, err
	}
	held := ""
	if job.Validation != "" {
		held = f.path(fileHeld)
		if err := b.download(ctx, f, fileHeld, job.Validation); err != nil {
			return record{}, err
		}
	}
	for _, dir := range []string{dirResults, dirPoints} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return record{}, local("make folder", err)
		}
	}
	err = f.write(fileJob, Spec{
		Format: 1, Key: job.Key, Name: job.Name(), BaseModel: job.BaseModel, Suffix: job.Suffix,
		TrainingFile: f.path(fileData), Examples: job.Examples, ValidationFile: held, Hyper: job.Hyper, Seed: job.Seed,
		Artifacts: f.path(dirResults), Checkpoints: f.path(dirPoints),
	})
	if err != nil {
		return record{}, err
	}
	rec := record{Job: job, Limit: limit}
	return rec, f.write(fileRecord, rec)
}

func (b *Backend) claim(ctx context.Context, job finetune.Job) error {
	dir, err := b.identity(ctx)
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	mine := claim{Key: job.Key, Dir: dir, Host: host}
	raw, err := json.Marshal(mine)
	if err != nil {
		return local("encode claim", err)
	}
	key := job.Artifacts + "/" + ClaimFile
	err = b.store.PutIfAbsent(ctx, key, raw)
	if err == nil {
		return nil
	}
	if !errors.Is(err, blob.ErrExists) {
		return trainfile.StoreError("claim job", err)
	}
	was, err := b.store.Get(ctx, key)
	if err != nil {
		return trainfile.StoreError("read claim", err)
	}
	var theirs claim
	if err := json.Unmarshal(was, &theirs); err != nil {
		return &finetune.Error{Class: finetune.ClassPermanent, Message: "read " + b.store.URI(key), Err: err}
	}
	if theirs.Key != job.Key {
		return &finetune.Error{Class: finetune.ClassPermanent, Code: "artifacts_taken", Message: fmt.Sprintf("%s belongs to job %.80q", b.store.URI(job.Artifacts), theirs.Key)}
	}
	if theirs.Dir != mine.Dir {
		return &finetune.Error{Class: finetune.ClassPassing, Code: "elsewhere", Message: fmt.Sprintf(
			"host %.80q trains this job (Try: start its worker; or, if it is lost for good, delete %s)", theirs.Host, b.store.URI(key))}
	}
	return nil
}

// identity returns a name for the folder of jobs, made once.
func (b *Backend) identity(ctx context.Context) (string, error) {
	root := folder(b.cfg.Dir)
	unlock, err := root.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	var id string
	err = root.read("identity.json", &id)
	if errors.Is(err, os.ErrNotExist) {
		id = randomName()
		return id, root.write("identity.json", id)
	}
	if err != nil {
		return "", local("read identity", err)
	}
	return id, nil
}

func (b *Backend) download(ctx context.Context, f folder, name, key string) error {
	src, err := b.store.Stream(ctx, key)
	if err != nil {
		return trainfile.StoreError("training file", err)
	}
	defer func() { _ = src.Close() }()
	var readErr error
	err = f.replace(name, func(w io.Writer) error {
		_, err := io.Copy(w, readerFunc(func(p []byte) (int, error) {
			n, err := src.Read(p)
			if err != nil && err != io.EOF {
				readErr = err
			}
			return n, err
		}))
		return err
	})
	if readErr != nil {
		return trainfile.StoreError("download training file", readErr)
	}
	if err != nil {
		return local("keep training file", err)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
