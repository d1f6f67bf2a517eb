// Package command trains with any program on this machine: started once per key, watched, adopted after the death
// of the process that started it, resumed when it dies itself, and its results brought to the store.
//
// # What the program is given
//
// Its own session and process group, no standard input, the environment variables
//
//	SELFALIGN_JOB        path of job.json (a {job} in the command line is replaced by it too)
//	SELFALIGN_ARTIFACTS  folder for results ({artifacts})
//	SELFALIGN_CHECKPOINTS folder that is the same in every attempt and is not uploaded ({checkpoints})
//	SELFALIGN_RESUME     1 when an earlier attempt died: go on from the newest checkpoint, or from the start if
//	                     there is none; 0 in the first attempt
//
// and of the environment that the worker has only what Config.Env and baseEnv name, so that keys stay away.
// job.json has the fields of Spec.
//
// # What the program does
//
// It writes JSON lines of progress to standard output, each with any of the fields of Line; other lines are log.
// It leaves results in its folder and exits with 0. Exit code 75, death by a signal and death with the machine
// mean "again, please": it is started anew, a bounded number of times. Any other code is a failure for good, told
// with the "error" of its last lines and the end of its standard error. On TERM it has Config.Grace to end.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/finetune"
)

// ExitAgain is the exit code by which a program asks to be started again (EX_TEMPFAIL of sysexits.h).
const ExitAgain = 75

// Config says what to run and where.
type Config struct {
	// Name of the trainer, for messages.
	Name string
	// Command is the program and its arguments, with {job}, {artifacts} and {checkpoints} replaced.
	Command []string
	// Dir holds a folder for each job. It outlives the worker and belongs to one machine: only workers that see
	// it can poll its jobs. A relative path is taken from where the worker was started.
	Dir string
	// WorkDir is where the program runs; default where the worker runs.
	WorkDir string
	// Env names variables of the worker's environment that the program gets besides the usual ones; NAME=value
	// sets one.
	Env []string
	// Resumes is how often a program that died is started again; default 3, negative never.
	Resumes int
	// Grace between TERM and KILL; default 10 s.
	Grace time.Duration
	// Host runs the program; nil is this machine.
	Host Host
	// Rate is what the machine costs. With it a job is held to its budget, and its cost is known.
	Rate finetune.Rate
	// Keep leaves training files and checkpoints where they are when a job has ended; else Clean removes them.
	Keep bool
}

// Backend implements finetune.Backend.
type Backend struct {
	cfg   Config
	store *blob.Store

	closing context.Context // ends uploads in the background
	close   context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	uploads map[string]*upload // by job id
}

var _ finetune.Backend = (*Backend)(nil)

// New returns a backend over Config.Dir, which it makes. Close ends what it does in the background.
func New(cfg Config, store *blob.Store) (*Backend, error) {
	if cfg.Host == nil && (len(cfg.Command) == 0 || cfg.Command[0] == "") {
		return nil, fmt.Errorf("trainer %s: no command", cfg.Name)
	}
	if cfg.Dir == "" {
		return nil, fmt.Errorf("trainer %s: no folder for its jobs", cfg.Name)
	}
	if store == nil {
		return nil, fmt.Errorf("trainer %s: no store", cfg.Name)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("trainer %s: folder: %w", cfg.Name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("trainer %s: make folder: %w", cfg.Name, err)
	}
	cfg.Dir = dir
	if cfg.Resumes == 0 {
		cfg.Resumes = 3
	}
	cfg.Resumes = max(cfg.Resumes, 0)
	if cfg.Grace <= 0 {
		cfg.Grace = 10 * time.Second
	}
	b := &Backend{cfg: cfg, store: store, uploads: map[string]*upload{}}
	b.closing, b.close = context.WithCancel(context.Background())
	return b, nil
}

// Close stops uploads and waits for them; another backend over the same folder goes on with them. Programs run on.
func (b *Backend) Close() {
	b.close()
	b.running.Wait()
}

// Submit implements finetune.Backend: the record of the job is on disk before the program starts, and a lock that
// the program inherits says whether one runs, so there is no moment at which dying would start it twice.
func (b *Backend) Submit(ctx context.Context, job finetune.Job) (string, error) {
	id, err := b.submit(ctx, job)
	if err != nil {
		return "", fmt.Errorf("submit job %s to trainer %s: %w", job.Name(), b.cfg.Name, err)
	}
	return id, nil
}

func (b *Backend) submit(ctx context.Context, job finetune.Job) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := job.Validate(); err != nil {
		return "", err
	}
	if job.Artifacts == "" {
		return "", &finetune.Error{Class: finetune.ClassPermanent, Code: "invalid_job", Message: "no prefix for artefacts"}
	}
	id := job.Name()
	f := folder(filepath.Join(b.cfg.Dir, id))
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return "", local("make folder of job", err)
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	rec, err := f.record()
	if errors.Is(err, os.ErrNotExist) {
		rec, err = b.prepare(ctx, f, job)
	}
	if err != nil {
		return "", err
	}
	if rec.Job.Key != job.Key {
		return "", &finetune.Error{Class: finetune.ClassPermanent, Code: "key_taken", Message: "the folder " + id + " belongs to another job"}
	}
	if rec.Attempts == 0 {
		if _, ended, err := f.result(); err != nil || ended {
			return id, err
		}
		return id, b.start(ctx, f, rec)
	}
	return id, nil
}

// Poll implements finetune.Backend. It starts a program that died again and brings results to the store; both go
// on where an earlier Poll, of whatever process, left them.
func (b *Backend) Poll(ctx context.Context, id string) (finetune.Status, error) {
	st, err := b.poll(ctx, id)
	if err != nil {
		return finetune.Status{}, fmt.Errorf("poll job %.80q of trainer %s: %w", id, b.cfg.Name, err)
	}
	return st, nil
}

func (b *Backend) poll(ctx context.Context, id string) (finetune.Status, error) {
	f, err := b.find(id)
	if err != nil {
		return finetune.Status{}, err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return finetune.Status{}, err
	}
	st, then, err := b.look(ctx, f)
	unlock()
	if err != nil || !then {
		return st, err
	}
	return b.bring(ctx, f, st)
}

// look does what is to be done about the job now, under its lock. It reports whether results are to be uploaded.
func (b *Backend) look(ctx context.Context, f folder) (st finetune.Status, upload bool, err error) {
	if st, ended, err := f.result(); err != nil || ended {
		return st, false, err
	}
	rec, err := f.record()
	if err != nil {
		return st, false, local("read record", err)
	}
	if _, stopping := f.cancelled(); stopping {
		st, err = b.stop(ctx, f, rec)
		return st, false, err
	}
	if rec.Attempts == 0 { // whoever submitted it died, or found the run lock held
		err := b.start(ctx, f, rec)
		return finetune.Status{State: finetune.StateQueued, Message: "not started yet"}, false, err
	}
	code, exited := f.exit()
	var life Life
	if !exited || b.cfg.Host != nil { // elsewhere, a program that wrote its code may be about to begin again
		if life, err = b.life(ctx, f, rec); err != nil {
			return st, false, err
		}
	}
	if life.Alive && f.overrun(rec, !life.Queued) {
		rec.Over = true
		if err := f.write(fileRecord, rec); err != nil {
			return st, false, err
		}
		st, err = b.stop(ctx, f, rec)
		return st, false, err
	}
	if life.Alive {
		st = b.priced(f, rec, !life.Queued, f.progress(false))
		if life.Queued {
			st.State = finetune.StateQueued
		}
		if life.Words != "" {
			st.Message = finetune.Clip(life.Words)
		}
		return st, false, nil
	}
	if !exited { // it may have ended between the two looks
		code, exited = f.exit()
	}
	if !exited && life.Exit != nil {
		code, exited = *life.Exit, true
	}
	st = f.progress(true)
	switch {
	case life.Cancelled:
		st, err = b.end(f, finetune.StateCancelled, life.Words)
		return st, false, err
	case exited && code == 0:
		return st, true, nil
	case life.Final:
		st, err = b.end(f, finetune.StateFailed, life.Words)
		return st, false, err
	case exited && code != ExitAgain && code <= 128:
		st, err = b.end(f, finetune.StateFailed, fmt.Sprintf("exit code %d", code))
		return st, false, err
	}
	how := "it died without an exit code"
	if exited && code == ExitAgain {
		how = "it asked to be started again"
	} else if exited {
		how = fmt.Sprintf("it was ended by signal %d", code-128)
	}
	if life.Words != "" {
		how = life.Words
	}
	if f.overrun(rec, false) {
		st, err = b.end(f, finetune.StateFailed, how+"; "+b.cfg.Rate.Stopped(rec.Limit))
		return st, false, err
	}
	if rec.Attempts > b.cfg.Resumes {
		st, err = b.end(f, finetune.StateFailed, fmt.Sprintf("%s, after %d attempts", how, rec.Attempts))
		return st, false, err
	}
	if err := b.start(ctx, f, rec); err != nil {
		return st, false, err
	}
	st.Message = fmt.Sprintf("%s; attempt %d of %d goes on from its checkpoint", how, rec.Attempts+1, b.cfg.Resumes+1)
	return st, false, nil
}

// Cancel implements finetune.Backend: the process group gets TERM and, after the grace, KILL. Where the wait is
// cut short, the next Poll or Cancel goes on with it.
func (b *Backend) Cancel(ctx context.Context, id string) error {
	for {
		done, err := b.cancelStep(ctx, id)
		if err != nil {
			return fmt.Errorf("cancel job %.80q of trainer %s: %w", id, b.cfg.Name, err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cancel job %s of trainer %s: %w", id, b.cfg.Name, ctx.Err())
		case <-time.After(25 * time.Millisecond):
		}
	}
}

func (b *Backend) cancelStep(ctx context.Context, id string) (done bool, err error) {
	f, err := b.find(id)
	if err != nil {
		return false, err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if _, ended, err := f.result(); err != nil || ended {
		return ended, err
	}
	rec, err := f.record()
	if err != nil {
		return false, local("read record", err)
	}
	st, err := b.stop(ctx, f, rec)
	return err == nil && st.State.Terminal(), err
}

// stop takes the next step in ending the program, under the job's lock.
func (b *Backend) stop(ctx context.Context, f folder, rec record) (finetune.Status, error) {
	since, marked := f.cancelled()
	if !marked {
		since = time.Now()
		if err := f.write(fileCancel, since); err != nil {
			return finetune.Status{}, err
		}
	}
	life, err := b.life(ctx, f, rec)
	if err != nil {
		return finetune.Status{}, err
	}
	if !life.Alive && rec.Over {
		return b.end(f, finetune.StateFailed, b.cfg.Rate.Stopped(rec.Limit))
	}
	if !life.Alive {
		return b.end(f, finetune.StateCancelled, "cancelled")
	}
	hard := time.Since(since) > b.cfg.Grace
	if !marked || hard || life.Queued {
		if err := b.signal(ctx, f, rec, hard || life.Queued); err != nil {
			return finetune.Status{}, err
		}
	}
	st := f.progress(false)
	st.Message = "stopping"
	return st, nil
}

// end writes the job's last status, which nothing changes any more.
func (b *Backend) end(f folder, state finetune.State, why string) (finetune.Status, error) {
	rec, err := f.record()
	if err != nil {
		return finetune.Status{}, local("read record", err)
	}
	st := b.priced(f, rec, false, f.progress(true))
	st.State = state
	if state == finetune.StateFailed {
		why = b.hide(f.lastWords(why))
	}
	st.Message = finetune.Clip(why)
	return st, f.write(fileResult, st)
}

// find returns the folder of a job that was submitted here.
func (b *Backend) find(id string) (folder, error) {
	unknown := &finetune.Error{
		Class:   finetune.ClassNotFound,
		Message: "no such job in this machine's folder (Try: poll on the machine that it was submitted on)",
	}
	if id == "" || len(id) > 100 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", unknown
	}
	f := folder(filepath.Join(b.cfg.Dir, id))
	if _, err := os.Stat(f.path(fileRecord)); errors.Is(err, os.ErrNotExist) {
		return "", unknown
	} else if err != nil {
		return "", local("look for job", err)
	}
	return f, nil
}

// local is an error of this machine: its disk or its process table. It may pass.
func local(what string, err error) error {
	return &finetune.Error{Class: finetune.ClassPassing, Message: what, Err: err}
}
