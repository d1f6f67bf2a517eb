package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/starter/runs"
)

// result is what a run ended with. Runs of one spec by one build of the worker end with one result, whatever befell them.
type result struct {
	Spec    string    `json:"spec"`
	Worker  string    `json:"worker"`
	Digest  string    `json:"digest"`
	Crashed bool      `json:"crashed"`
	Data    string    `json:"data"`
	At      time.Time `json:"at"`
}

// maxResults are kept.
const maxResults = 100

// remember notes the result of a completed run for later comparison.
func (q *quickstart) remember(seen runs.Seen, crashed bool) error {
	if codeOf(seen.Phase) != exitOK || final(seen).IsZero() {
		return nil
	}
	r, err := q.result(seen, crashed)
	if err != nil {
		return err
	}
	all, path, err := results()
	if err != nil {
		return err
	}
	for _, old := range all {
		if old.Spec == r.Spec && old.Worker == r.Worker && old.Digest == r.Digest && old.Crashed == r.Crashed {
			return nil
		}
	}
	all = append(all, r)
	text, err := json.MarshalIndent(all[max(0, len(all)-maxResults):], "", "  ")
	if err != nil {
		return fmt.Errorf("note result: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("note result: %w", err)
	}
	aside := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		return fmt.Errorf("note result: %w", err)
	}
	if err := os.Rename(aside, path); err != nil {
		return fmt.Errorf("note result: %w", err)
	}
	return nil
}

// compare says whether an undisturbed run is known, and whether it ended as this one did.
func (q *quickstart) compare(seen runs.Seen) (same, known bool, err error) {
	r, err := q.result(seen, true)
	if err != nil {
		return false, false, err
	}
	all, _, err := results()
	if err != nil {
		return false, false, err
	}
	for _, old := range all {
		if !old.Crashed && old.Spec == r.Spec && old.Worker == r.Worker {
			return old.Digest == r.Digest, true, nil
		}
	}
	return false, false, nil
}

func (q *quickstart) result(seen runs.Seen, crashed bool) (result, error) {
	spec := q.spec
	spec.Name = "" // a run may be called anything
	worker, err := digestFile(q.worker)
	if err != nil {
		return result{}, err
	}
	sum := sha256.New()
	for _, set := range seen.Sets {
		fmt.Fprintln(sum, set.Iteration, set.Ratings.Digest, set.Training.Digest)
	}
	return result{
		Spec: config.Digest(spec), Worker: worker, Digest: hex.EncodeToString(sum.Sum(nil)),
		Crashed: crashed, Data: q.dir, At: time.Now().UTC().Truncate(time.Second),
	}, nil
}

func results() ([]result, string, error) {
	dir, err := stateDir()
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, "quickstart-results.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, path, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read earlier results: %w", err)
	}
	var all []result
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, path, nil //nolint:nilerr // a file that is broken is begun anew
	}
	return all, path, nil
}

func digestFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read worker: %w", err)
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("read worker: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
