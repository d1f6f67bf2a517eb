package runs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/workflows"
)

// Datasets returns the datasets that a run has made so far. Those that each iteration makes, ratings and training, are of the
// given iteration, or of the newest one when iteration is negative. Iteration 0 has the seeds as its training set.
func (c *Client) Datasets(ctx context.Context, run string, iteration int) (map[dataset.Kind]dataset.Ref, error) {
	out := map[dataset.Kind]dataset.Ref{}
	var sets []workflows.IterationSummary
	states, err := c.states(ctx, run)
	if err != nil {
		return nil, err
	}
	seen, err := c.Status(ctx, run) // it knows iterations that ended after the newest state was saved
	if err != nil {
		return nil, err
	}
	for _, ref := range seen.Results {
		if _, twice := out[ref.Kind]; !twice { // of two curated sets the first is what was kept
			out[ref.Kind] = ref
		}
	}
	newest := -1
	for n := range states {
		newest = max(newest, n)
	}
	if newest >= 0 {
		var state workflows.State
		if err := c.getJSON(ctx, states[newest], &state); err != nil {
			return nil, err
		}
		out[dataset.KindSeeds], out[dataset.KindSegments], out[dataset.KindCandidates] = state.Seeds, state.Segments, state.Candidates
		sets = state.Sets
	}
	if len(seen.Sets) > len(sets) {
		sets = seen.Sets
	}
	if iteration == 0 {
		if first, ok := states[1]; ok {
			var state workflows.State
			if err := c.getJSON(ctx, first, &state); err != nil {
				return nil, err
			}
			out[dataset.KindTraining] = state.Training
		}
	}
	for _, s := range sets {
		if iteration < 0 || s.Iteration == iteration {
			out[dataset.KindRatings], out[dataset.KindTraining] = s.Ratings, s.Training
		}
	}
	for kind, ref := range out {
		if ref.IsZero() {
			delete(out, kind)
		}
	}
	return out, nil
}

// Dataset returns one dataset of a run; see Datasets. Errors: ErrNotFound, which says what there is.
func (c *Client) Dataset(ctx context.Context, run string, kind dataset.Kind, iteration int) (dataset.Ref, error) {
	have, err := c.Datasets(ctx, run, iteration)
	if err != nil {
		return dataset.Ref{}, err
	}
	if ref, ok := have[kind]; ok {
		return ref, nil
	}
	var names []string
	for k := range have {
		names = append(names, string(k))
	}
	slices.Sort(names)
	there := "nothing yet. Try: starter watch " + run
	if len(names) > 0 {
		there = strings.Join(names, ", ")
	}
	which := string(kind)
	if iteration >= 0 {
		which += fmt.Sprintf(" of iteration %d", iteration)
		newest, err := c.Status(ctx, run)
		if err != nil {
			return dataset.Ref{}, err
		}
		if made := iterationsOf(newest.Sets); made != "" {
			there += "; " + made
		}
	}
	return dataset.Ref{}, fmt.Errorf("run %s: %s %w; it has %s", run, which, ErrNotFound, there)
}

// iterationsOf says which iterations made sets of their own, as in: iterations 1 to 3.
func iterationsOf(sets []workflows.IterationSummary) string {
	switch n := len(sets); n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("of iterations it has made %d", sets[0].Iteration)
	default:
		return fmt.Sprintf("of iterations it has made %d to %d", sets[0].Iteration, sets[n-1].Iteration)
	}
}

// PullProgress tells how far a download is.
type PullProgress struct {
	Files, Of  int
	Bytes, OfB int64
	Skipped    int // files that were there already
}

// Pull downloads the files of a dataset as they are, Parquet, manifest and rejected rows, to folder. Each file appears whole or
// not at all, and those that are there are not downloaded again: datasets never change.
func (c *Client) Pull(ctx context.Context, ref dataset.Ref, folder string, progress func(PullProgress)) error {
	var objects []blob.Info
	list, cancel := context.WithTimeout(ctx, objectCall)
	defer cancel()
	if err := c.Store.List(list, ref.Dir+"/", func(i blob.Info) error { objects = append(objects, i); return nil }); err != nil {
		return c.storeError(err)
	}
	told := PullProgress{Of: len(objects)}
	for _, o := range objects {
		told.OfB += o.Size
	}
	for _, o := range objects {
		rel := strings.TrimPrefix(o.Key, ref.Dir+"/")
		if !filepath.IsLocal(filepath.FromSlash(rel)) {
			return fmt.Errorf("pull %s: the key does not name a file below the folder", c.Store.URI(o.Key))
		}
		target := filepath.Join(folder, filepath.FromSlash(rel))
		if info, err := os.Stat(target); err == nil && info.Mode().IsRegular() && info.Size() == o.Size {
			told.Skipped++
		} else if err := c.Download(ctx, o.Key, target); err != nil {
			return err
		}
		told.Files, told.Bytes = told.Files+1, told.Bytes+o.Size
		progress(told)
	}
	return nil
}

// Report downloads the newest report of a run. Errors: ErrNotFound.
func (c *Client) Report(ctx context.Context, run, target string) error {
	err := c.Download(ctx, reportKey(run), target)
	if errors.Is(err, ErrNotFound) {
		if _, statusErr := c.Status(ctx, run); statusErr != nil {
			return statusErr
		}
		return fmt.Errorf("run %s: report %w; the first comes with the end of iteration 1. Try: starter watch %s", run, ErrNotFound, run)
	}
	return err
}

// Download writes an object to a file, which appears whole or not at all.
func (c *Client) Download(ctx context.Context, key, target string) error {
	ctx, cancel := context.WithTimeout(ctx, fileDeadline)
	defer cancel()
	from, err := c.Store.Stream(ctx, key)
	if err != nil {
		return c.storeError(err)
	}
	defer from.Close() //nolint:errcheck // only read
	return WriteFile(target, func(w io.Writer) error {
		if _, err := io.Copy(w, from); err != nil {
			return c.storeError(err)
		}
		return nil
	})
}

// WriteFile has write fill a file beside target and moves it there once it is whole and on disk.
func WriteFile(target string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	f, err := os.CreateTemp(filepath.Dir(target), "."+filepath.Base(target)+".part-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone where the rename succeeded
	buffered := bufio.NewWriterSize(f, 1<<20)
	err = write(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), target)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return nil
}

// WriteJSONL writes the rows of a dataset as one JSON object a line, with the names that the Parquet columns have, and returns
// how many there were. Memory does not grow with the dataset.
func (c *Client) WriteJSONL(ctx context.Context, ref dataset.Ref, w io.Writer) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 24*time.Hour)
	defer cancel()
	switch ref.Kind {
	case dataset.KindSeeds:
		return writeRows(dataset.Rows[dataset.Seed](ctx, c.Store, ref), w)
	case dataset.KindSegments:
		return writeRows(dataset.Rows[dataset.Segment](ctx, c.Store, ref), w)
	case dataset.KindCandidates:
		return writeRows(dataset.Rows[dataset.Candidate](ctx, c.Store, ref), w)
	case dataset.KindRatings:
		return writeRows(dataset.Rows[dataset.Rating](ctx, c.Store, ref), w)
	case dataset.KindTraining:
		return writeRows(dataset.Rows[dataset.Example](ctx, c.Store, ref), w)
	case dataset.KindPrompts:
		return writeRows(dataset.Rows[dataset.Prompt](ctx, c.Store, ref), w)
	case dataset.KindResponses:
		return writeRows(dataset.Rows[dataset.Response](ctx, c.Store, ref), w)
	case dataset.KindCurated:
		return writeRows(dataset.Rows[dataset.Scored](ctx, c.Store, ref), w)
	case dataset.KindPreferences:
		return writeRows(dataset.Rows[dataset.Preference](ctx, c.Store, ref), w)
	default:
		return 0, fmt.Errorf("pull: rows of kind %q are not known here", ref.Kind)
	}
}

func writeRows[T dataset.Row](rows iter.Seq2[T, error], w io.Writer) (int64, error) {
	var line rowEncoder
	var n int64
	for row, err := range rows {
		if err != nil {
			return n, fmt.Errorf("pull: %w", err)
		}
		body, err := line.encode(reflect.ValueOf(row))
		if err != nil {
			return n, fmt.Errorf("pull row %s: %w", row.RowID(), err)
		}
		if _, err := w.Write(body); err != nil {
			return n, fmt.Errorf("pull: %w", err)
		}
		n++
	}
	return n, nil
}

// rowEncoder writes a row as JSON, its fields in the order and under the names of the Parquet columns.
type rowEncoder struct{ buf []byte }

func (e *rowEncoder) encode(row reflect.Value) ([]byte, error) {
	e.buf = append(e.buf[:0], '{')
	for i := range row.NumField() {
		name, _, _ := strings.Cut(row.Type().Field(i).Tag.Get("parquet"), ",")
		var value strings.Builder
		enc := json.NewEncoder(&value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(row.Field(i).Interface()); err != nil {
			return nil, err
		}
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.buf = append(e.buf, '"')
		e.buf = append(e.buf, name...)
		e.buf = append(e.buf, '"', ':')
		e.buf = append(e.buf, strings.TrimSuffix(value.String(), "\n")...)
	}
	e.buf = append(e.buf, '}', '\n')
	return e.buf, nil
}
