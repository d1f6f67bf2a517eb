package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// Bounds of what is shown of evaluations.
const (
	maxEvaluations = 100 // asked for by themselves
	maxDriftRows   = 8   // of each kind
	maxDriftText   = 500 // characters
)

// Evidence is what evaluations of the run say, as it lies beside the run in S3. What was not done is not there.
type Evidence struct {
	WinRates []eval.Result        `json:"win_rates,omitempty"` // those of iterations first, in their order, then those asked for by themselves
	Labelled []eval.Judged        `json:"labelled,omitempty"`  // judges on a labelled set, by iteration
	Scaling  []eval.Scaled        `json:"scaling,omitempty"`
	Drift    []eval.DriftExamples `json:"drift,omitempty"` // of the curated set, from one iteration to the next
}

// evidence reads the results of evaluations beside the run.
func (b *builder) evidence() error {
	e, dir := &b.d.Evidence, b.d.Dir
	if dir == "" {
		dir = "runs/" + b.d.Run
	}
	for _, r := range b.d.Rounds {
		at := fmt.Sprintf("%s/%02d/", dir, r.Iteration)
		for _, name := range []string{"gate", "eval"} {
			if err := addResult(b, &e.WinRates, at+name+"/result.json"); err != nil {
				return err
			}
		}
		if err := addResult(b, &e.Labelled, at+"labelled/result.json"); err != nil {
			return err
		}
		if err := addResult(b, &e.Drift, at+"drift.json"); err != nil {
			return err
		}
	}
	asked, err := b.st.Prefixes(b.ctx, dir+"/eval")
	if err != nil {
		return err
	}
	slices.Sort(asked)
	for _, name := range asked[:min(len(asked), maxEvaluations)] {
		name = path.Base(name)
		known := len(e.WinRates)
		if err := addResult(b, &e.WinRates, dir+"/eval/"+name+"/result.json"); err != nil {
			return err
		}
		for i := range e.WinRates[known:] {
			e.WinRates[known+i].Name = name // what people gave it
		}
		if err := addResult(b, &e.Scaling, dir+"/eval/"+name+"/scaling.json"); err != nil {
			return err
		}
	}
	for i := range e.Drift {
		d := &e.Drift[i]
		d.Entered, d.Left = cutDrift(d.Entered), cutDrift(d.Left)
	}
	return nil
}

func cutDrift(rows []eval.DriftRow) []eval.DriftRow {
	rows = slices.Clone(rows[:min(len(rows), maxDriftRows)])
	for i := range rows {
		rows[i].Instruction, rows[i].Output = clip(rows[i].Instruction, maxDriftText), clip(rows[i].Output, maxDriftText)
	}
	return rows
}

// addResult reads one result where there is one.
func addResult[T any](b *builder, to *[]T, key string) error {
	body, err := b.st.Get(b.ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var r T
	if err := json.Unmarshal(body, &r); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	*to = append(*to, r)
	return nil
}

// Funnel is what became of the sources of a dataset.
type Funnel struct {
	Set string `json:"set"` // Seed pairs or Segments
	dataset.Funnel
	Rows    int64            `json:"rows"`            // of the dataset: what is left without duplicates
	Later   map[string]int64 `json:"later,omitempty"` // reason → rows that the steps after extraction dropped, duplicates above all
	Omitted int              `json:"omitted"`         // sources beyond those listed
}

const maxSources = 40 // listed for one dataset, those with the most segments first

// funnels reads the funnels beside the ingested datasets. Datasets of earlier versions have none.
func (b *builder) funnels() error {
	for _, s := range b.made {
		if s.name != stepSeeds && s.name != stepSegments {
			continue
		}
		f, err := dataset.ReadFunnel(b.ctx, b.st, s.ref.Dir)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		out := Funnel{Set: s.name, Funnel: f, Rows: s.m.Rows, Later: map[string]int64{}}
		for reason, n := range s.m.Reasons {
			if n -= f.Total.Rejected[reason] + f.Total.Whole[reason]; n > 0 {
				out.Later[reason] = n
			}
		}
		out.Sources = slices.Clone(f.Sources)
		slices.SortStableFunc(out.Sources, func(x, y dataset.SourceTally) int {
			return int(max(min(y.Segments-x.Segments, 1), -1))
		})
		if n := len(out.Sources); n > maxSources {
			out.Sources, out.Omitted = out.Sources[:maxSources], n-maxSources
		}
		for i := range out.Sources {
			out.Sources[i].Source = clip(out.Sources[i].Source, 300)
		}
		b.foundExamples(f.Examples, s.name)
		out.Examples = nil // they stand with the reasons
		b.d.Funnels = append(b.d.Funnels, out)
	}
	return nil
}

// foundExamples gives reasons the funnel's examples where the rejected rows that were looked at had none.
func (b *builder) foundExamples(from dataset.Examples, step string) {
	for i := range b.d.Rejections {
		r := &b.d.Rejections[i]
		if r.Step != step || len(r.Examples) > 0 {
			continue
		}
		for _, x := range from[r.Reason][:min(len(from[r.Reason]), b.opt.PerReason)] {
			r.Examples = append(r.Examples, exampleOf(x))
		}
	}
}

func exampleOf(r dataset.Reject) Example {
	return Example{
		Detail: clip(r.Detail, 300), Instruction: clip(r.Instruction, 400), Text: clip(r.Text, 600), Source: place(r.Source, r.Document, r.Offset),
	}
}
