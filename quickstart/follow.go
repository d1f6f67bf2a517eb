package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/starter/runs"
	"github.com/selfalign/selfalign/starter/screen"
	"github.com/selfalign/selfalign/workflows"
)

// lookEvery is the time between two looks at the run.
const lookEvery = 500 * time.Millisecond

// patience is how long nothing may be learnt about the run before following it ends.
const patience = 3 * time.Minute

// follow starts the run as starter does, shows it until it ends, and tells where everything is. A run that is going on the
// data folder already is found and followed.
func (q *quickstart) follow(ctx context.Context, specDir string) (int, error) {
	if _, err := q.client.Preflight(ctx); err != nil {
		return exitFailure, err
	}
	spec, err := q.client.Prepare(ctx, q.spec, specDir, func(runs.UploadProgress) {})
	if err != nil {
		return exitFailure, err
	}
	q.spec = spec
	started, err := q.client.Start(ctx, spec, nil)
	var conflict *runs.ConflictError
	if errors.As(err, &conflict) {
		return exitFailure, fmt.Errorf("%s. Try: -run-name another-name, or -fresh for a new data folder", conflict.What)
	}
	if err != nil {
		return exitFailure, err
	}
	switch ended := (runs.Seen{Status: workflows.Status{Phase: started.Phase}}).Ended(); {
	case ended:
		q.console.say("run %s ended before (%s); -run-name NAME starts another, -fresh begins from nothing", started.Run, started.Phase)
	case started.New:
		q.console.say("run %s is started", started.Run)
	default:
		q.console.say("run %s goes on (%s)", started.Run, started.Phase)
	}
	crash, err := q.newCrash(ctx)
	if err != nil {
		return exitFailure, err
	}
	seen, err := q.watch(ctx, crash)
	if err != nil {
		return exitFailure, err
	}
	code := codeOf(seen.Phase)
	q.tell(ctx, seen)
	if crash != nil {
		if err := crash.verdict(seen); err != nil {
			return exitFailure, err
		}
	} else if err := q.remember(seen, false); err != nil {
		q.console.say("the result was not noted for a later -crash: %v", err)
	}
	if q.options.once {
		return code, nil
	}
	return q.stay(ctx, code)
}

// watch shows the run until it ends or waits for a person.
func (q *quickstart) watch(ctx context.Context, crash *crash) (runs.Seen, error) {
	show := screen.New(q.console.out)
	q.console.hold()
	defer q.console.release()
	defer show.Close()
	failed := q.stack.Failed(ctx)
	heard, waiting := time.Now(), 0
	for {
		seen, err := q.client.Watch(ctx, q.spec.Name)
		switch {
		case ctx.Err() != nil:
			return seen, ctx.Err()
		case err == nil:
			heard = time.Now()
			show.Show(seen, heard)
			if crash != nil {
				crash.look(ctx, seen)
			}
			if seen.Ended() {
				return seen, nil
			}
			if waiting++; !seen.Waiting() {
				waiting = 0
			}
			if waiting > 2 { // no moment between two steps
				return seen, nil
			}
		case time.Since(heard) > patience:
			return seen, fmt.Errorf("nothing was heard of run %s for %s: %w", q.spec.Name, patience, err)
		}
		select {
		case <-ctx.Done():
			return seen, ctx.Err()
		case err := <-failed:
			return seen, err
		case <-q.keeper.Done():
			return seen, fmt.Errorf("the worker is gone: %w", q.keeper.Err())
		case <-time.After(lookEvery):
		}
	}
}

func codeOf(phase string) int {
	switch phase {
	case workflows.PhaseCompleted, workflows.PhaseConverged:
		return exitOK
	case workflows.PhaseBlocked, workflows.PhaseApproval:
		return exitWaiting
	case workflows.PhaseCancelled:
		return exitCancelled
	default:
		return exitFailure
	}
}

// tell says what came out and where it is.
func (q *quickstart) tell(ctx context.Context, seen runs.Seen) {
	run := seen.Run
	q.console.release()
	q.console.say("")
	q.console.say("run %s: %s after %s", run, seen.Phase, time.Since(q.began).Round(time.Second))
	if seen.Message != "" && seen.Waiting() {
		q.console.say("  %s", screen.Clean(seen.Message))
	}
	report := filepath.Join(q.dir, run+".html")
	if err := q.client.Report(ctx, run, report); err == nil {
		q.console.say("report    file://%s", report)
	}
	if q.stack.UIURL != "" {
		q.console.say("Web UI    %s/namespaces/%s/workflows/%s", q.stack.UIURL, q.stack.Namespace, run)
	}
	if ref := final(seen); !ref.IsZero() {
		files := filepath.Join(q.stack.S3Dir, filepath.FromSlash(ref.Dir))
		q.console.say("dataset   %s rows in s3://%s/%s at %s", screen.Count(ref.Rows), q.stack.S3.Bucket, ref.Dir, q.stack.S3.Endpoint)
		q.console.say("          the same as local files: %s", files)
		q.console.say("  DuckDB  duckdb -c \"SELECT * FROM '%s/part-*.parquet' LIMIT 5\"", files)
		q.console.say("  Python  python3 -c \"import glob, pyarrow.parquet as pq; print(pq.ParquetDataset(sorted(glob.glob('%s/part-*.parquet'))).read().to_pandas())\"", files)
	}
	q.console.say("more      . %s", filepath.Join(q.dir, "keys.env"))
	q.console.say("          go run ./starter pull %s -w %s", run, shown(q.settingsPath))
	q.console.say("          go run ./starter list -w %s", shown(q.settingsPath))
}

// final is the newest training set of a run.
func final(seen runs.Seen) (ref dataset.Ref) {
	for _, set := range seen.Sets {
		if !set.Training.IsZero() {
			ref = set.Training
		}
	}
	return ref
}

// stay keeps everything up until the user ends it.
func (q *quickstart) stay(ctx context.Context, code int) (int, error) {
	q.console.say("")
	q.console.say("everything stays up; Ctrl-C ends it, and the same command brings it back")
	select {
	case <-ctx.Done():
		q.console.say("ending")
		return code, nil
	case err := <-q.stack.Failed(ctx):
		return exitFailure, err
	case <-q.keeper.Done():
		return exitFailure, fmt.Errorf("the worker is gone: %w", q.keeper.Err())
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}
