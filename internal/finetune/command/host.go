package command

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/flock"
)

// Host runs programs somewhere else than on this machine, which shares Config.Dir with it. Its methods are called
// under the job's lock, one at a time for a job.
type Host interface {
	// Start has an attempt begin. The attempt was counted before, so a death in between costs it; an attempt that is
	// started twice must be one program. An error of finetune.ClassPermanent means that nothing was started.
	Start(ctx context.Context, a Attempt) error
	// Look tells how the attempt is. What cannot be told is an error, never a Life.
	Look(ctx context.Context, a Attempt) (Life, error)
	// Stop asks the attempt to end, or ends it when hard. It does not wait.
	Stop(ctx context.Context, a Attempt, hard bool) error
}

// Attempt is one start of a job's program.
type Attempt struct {
	Name   string // of the job, safe as a file name
	Number int    // 1 and up
	Dir    string // the job's folder
	Args   []string
	Env    []string // all of the program's environment, NAME=value
	// The program's output is appended to the first two files, its exit code written into the third when it ends.
	Stdout, Stderr, Exit string
	// Submitting is held by whoever inherits it: a tool that outlives its worker is waited for.
	Submitting *os.File
}

// Life is how an attempt is.
type Life struct {
	Alive  bool // it runs or waits to
	Queued bool // it waits to run
	// For one that is not alive, beside its file Exit:
	Exit      *int // its exit code, where the host knows
	Cancelled bool // somebody ended it
	Final     bool // starting it again would end the same
	Words     string
}

// attempt returns the job's newest attempt.
func (b *Backend) attempt(f folder, rec record) Attempt {
	resume := "0"
	if rec.Attempts > 1 {
		resume = "1"
	}
	a := Attempt{
		Name: rec.Job.Name(), Number: rec.Attempts, Dir: string(f),
		Stdout: f.path(fileStdout), Stderr: f.path(fileStderr), Exit: f.path(fileExit),
		Env: append(b.environment(os.Environ()),
			"SELFALIGN_JOB="+f.path(fileJob), "SELFALIGN_RESUME="+resume,
			"SELFALIGN_ARTIFACTS="+f.path(dirResults), "SELFALIGN_CHECKPOINTS="+f.path(dirPoints)),
	}
	places := strings.NewReplacer("{job}", f.path(fileJob), "{artifacts}", f.path(dirResults), "{checkpoints}", f.path(dirPoints))
	for _, arg := range b.cfg.Command {
		a.Args = append(a.Args, places.Replace(arg))
	}
	return a
}

// startElsewhere has the host start the next attempt, counted before. While the host's own tools run they hold the
// run lock, so that one left behind by a dead worker is waited for.
func (b *Backend) startElsewhere(ctx context.Context, f folder, rec record) error {
	held, free, err := f.holdRunLock()
	if err != nil || !free {
		return err
	}
	defer func() { _ = held.Close() }()
	before := rec
	rec.Worked = f.worked(rec, false)
	if err := os.Remove(f.path(fileExit)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return local("clear the last attempt", err)
	}
	rec.Attempts++
	if err := f.write(fileRecord, rec); err != nil {
		return err
	}
	a := b.attempt(f, rec)
	a.Submitting = held
	err = b.cfg.Host.Start(ctx, a)
	if finetune.ClassOf(err) != finetune.ClassPermanent {
		return err
	}
	rec.Attempts, rec.Worked = before.Attempts, before.Worked
	return errors.Join(err, f.write(fileRecord, rec))
}

func (b *Backend) life(ctx context.Context, f folder, rec record) (Life, error) {
	switch {
	case rec.Attempts == 0:
		return Life{}, nil
	case b.cfg.Host != nil:
		held, free, err := f.holdRunLock()
		if err != nil {
			return Life{}, local("lock run", err)
		}
		if !free {
			return Life{Alive: true, Queued: true, Words: "being submitted"}, nil
		}
		flock.Free(held)
		_ = held.Close()
		return b.cfg.Host.Look(ctx, b.attempt(f, rec))
	}
	return Life{Alive: f.alive()}, nil
}

func (b *Backend) signal(ctx context.Context, f folder, rec record, hard bool) error {
	if b.cfg.Host != nil {
		return b.cfg.Host.Stop(ctx, b.attempt(f, rec), hard)
	}
	if hard {
		f.signal(killSignal)
	} else {
		f.signal(termSignal)
	}
	return nil
}

// Clean implements finetune.Cleaner: of a job that succeeded the training file and the checkpoints go, and the results
// stay in its folder as well, where a local server may have loaded them; of one that was cancelled the results go too.
func (b *Backend) Clean(ctx context.Context, id string) error {
	f, err := b.find(id)
	if err != nil || b.cfg.Keep {
		return err
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	st, ended, err := f.result()
	if err != nil || !ended || st.State == finetune.StateFailed {
		return err
	}
	going := []string{fileData, fileHeld, dirPoints}
	if st.State == finetune.StateCancelled {
		going = append(going, dirResults)
	}
	for _, name := range going {
		if err := os.RemoveAll(f.path(name)); err != nil {
			return local("clean up "+name, err)
		}
	}
	return nil
}

var _ finetune.Cleaner = (*Backend)(nil)
