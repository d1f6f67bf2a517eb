package command

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/selfalign/selfalign/internal/finetune"
	"github.com/selfalign/selfalign/internal/finetune/trainfile"
)

// FileBegun and an attempt's number name the file that is made when the attempt's program begins.
const FileBegun = "begun-"

// limit returns how long machines may work on a job for what is left of the budget; 0: for ever.
func (b *Backend) limit(ctx context.Context, job finetune.Job) (time.Duration, error) {
	if job.MaxMicroUSD == nil || b.cfg.Rate.USDPerHour <= 0 {
		return 0, nil
	}
	training, _, err := trainfile.Inspect(ctx, b.store, job, 0)
	if err != nil {
		return 0, err
	}
	return b.cfg.Rate.Limit(job, training.TokensOf(job))
}

// worked tells for how long machines have worked on the job, all attempts together, by the times of its files. Of an attempt
// that died with its machine the last output tells.
func (f folder) worked(rec record, alive bool) time.Duration {
	modified := func(name string) time.Time {
		info, err := os.Stat(f.path(name))
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	sum := rec.Worked
	begun := modified(FileBegun + strconv.Itoa(rec.Attempts))
	if begun.IsZero() {
		return sum
	}
	end := modified(fileExit)
	switch {
	case alive:
		end = time.Now()
	case end.Before(begun):
		for _, name := range []string{fileStdout, fileStderr} {
			if at := modified(name); at.After(end) {
				end = at
			}
		}
	}
	return sum + max(0, end.Sub(begun))
}

// overrun reports whether the job has used up what the budget left for it.
func (f folder) overrun(rec record, alive bool) bool {
	return rec.Limit > 0 && f.worked(rec, alive) >= rec.Limit
}

// priced adds what the job has cost, where the settings say what machines cost and the program does not.
func (b *Backend) priced(f folder, rec record, alive bool, st finetune.Status) finetune.Status {
	b.cfg.Rate.Settle(&st, f.worked(rec, alive))
	return st
}
