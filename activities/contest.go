package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// Why a prompt is not judged, and what it then counts.
const (
	outcomeMissing    = "missing_output" // the model has no output: a loss
	outcomeSame       = "same_output"    // a draw
	outcomeNoBaseline = "no_baseline"    // does not count
	outcomeUnjudged   = "unjudged"       // does not count
)

// PairInput names the outputs of two sides to the prompts of an evaluation.
type PairInput struct {
	Prompts  dataset.Ref `json:"prompts"`
	Model    dataset.Ref `json:"model"` // responses
	Baseline dataset.Ref `json:"baseline"`
	Output   string      `json:"output"`
	About
}

// PairOutputs puts the outputs of both sides to each prompt side by side. What needs no judge is rejected, with its reason.
func (e *Evals) PairOutputs(ctx context.Context, in PairInput) (dataset.Ref, error) {
	defer newHeart(ctx).keep()()
	if _, standing, err := dataset.Open(ctx, e.Store, in.Output); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	bytes := 0
	model, err := e.outputs(ctx, in.Model, &bytes)
	if err != nil {
		return dataset.Ref{}, err
	}
	baseline, err := e.outputs(ctx, in.Baseline, &bytes)
	if err != nil {
		return dataset.Ref{}, err
	}
	var rows []dataset.Comparison
	var rejects []dataset.Reject
	seen := map[string]bool{}
	for p, err := range dataset.Rows[dataset.Prompt](ctx, e.Store, in.Prompts) {
		if err != nil {
			return dataset.Ref{}, err
		}
		id := promptKey(p.Instruction)
		if seen[id] {
			continue // the same but for its spaces
		}
		seen[id] = true
		m, hasModel := model[id]
		b, hasBaseline := baseline[id]
		c := dataset.Comparison{
			ID: id, Instruction: p.Instruction, Output: m.Output, Baseline: b.Output, Generator: m.Generator, BaselineGenerator: b.Generator,
			Source: p.Source, Document: p.Document, Offset: p.Offset,
		}
		reason := ""
		switch {
		case !hasBaseline:
			reason = outcomeNoBaseline
		case !hasModel:
			reason = outcomeMissing
		case m.Output == b.Output:
			reason = outcomeSame
		}
		if reason == "" {
			rows = append(rows, c)
			continue
		}
		rejects = append(rejects, dataset.Reject{
			ID: id, Stage: "pair", Reason: reason, Instruction: c.Instruction, Text: c.Output, Source: c.Source, Document: c.Document, Offset: c.Offset,
		})
	}
	m := dataset.Manifest{Kind: dataset.KindComparisons, Parents: []dataset.Ref{in.Prompts, in.Model, in.Baseline}}
	return writeWhole(ctx, e.Store, in.Output, in.About, m, rows, rejects)
}

// outputs reads the first answers of a side, by prompt.
func (e *Evals) outputs(ctx context.Context, ref dataset.Ref, bytes *int) (map[string]dataset.Response, error) {
	out := make(map[string]dataset.Response, ref.Rows)
	for r, err := range dataset.Rows[dataset.Response](ctx, e.Store, ref) {
		if err != nil {
			return nil, err
		}
		if *bytes += len(r.Instruction) + len(r.Output); *bytes > evalMostText {
			return nil, blocked("source", fmt.Errorf("the outputs have more than %d bytes in all", evalMostText), "evaluate on fewer prompts, under another name")
		}
		if _, twice := out[promptKey(r.Instruction)]; !twice {
			out[promptKey(r.Instruction)] = r
		}
	}
	return out, nil
}

// ContestInput names what a judge said of a comparison.
type ContestInput struct {
	Comparisons dataset.Ref `json:"comparisons"`
	Judgements  dataset.Ref `json:"judgements"`
	Known       eval.Result `json:"known"` // names, and where the result goes
	About
}

// MeasureContest counts an evaluation, writes a row for each prompt, and the result last.
func (e *Evals) MeasureContest(ctx context.Context, in ContestInput) (eval.Result, error) {
	defer newHeart(ctx).keep()()
	m, _, err := dataset.Open(ctx, e.Store, in.Judgements.Dir)
	if err != nil {
		return eval.Result{}, err
	}
	judged := map[string]dataset.Judgement{}
	for j, err := range dataset.Rows[dataset.Judgement](ctx, e.Store, in.Judgements) {
		if err != nil {
			return eval.Result{}, err
		}
		judged[j.ID] = j
	}
	r := in.Known
	r.Format, r.ParseRate = 1, m.Answers.ParseRate()
	t := contestTally{result: &r}
	var rows []dataset.Judgement
	for c, err := range dataset.Rows[dataset.Comparison](ctx, e.Store, in.Comparisons) {
		if err != nil {
			return eval.Result{}, err
		}
		j, ok := judged[c.ID]
		if !ok {
			j = dataset.Judgement{
				ID: c.ID, Instruction: c.Instruction, Output: c.Output, Baseline: c.Baseline, Share: eval.Draw, Outcome: outcomeUnjudged,
				Generator: c.Generator, BaselineGenerator: c.BaselineGenerator, Source: c.Source, Document: c.Document, Offset: c.Offset,
			}
		}
		t.add(j)
		rows = append(rows, j)
	}
	for x, err := range dataset.RejectsOf(ctx, e.Store, in.Comparisons) {
		if err != nil {
			return eval.Result{}, err
		}
		j := dataset.Judgement{
			ID: x.ID, Instruction: x.Instruction, Output: x.Text, Share: eval.Draw, Outcome: x.Reason,
			Source: x.Source, Document: x.Document, Offset: x.Offset,
		}
		if x.Reason == outcomeMissing {
			j.Share = eval.Loss
		}
		t.add(j)
		rows = append(rows, j)
	}
	t.finish()
	about := dataset.Manifest{Kind: dataset.KindJudgements, Parents: []dataset.Ref{in.Comparisons, in.Judgements}}
	if _, err := writeWhole(ctx, e.Store, r.Outcomes, in.About, about, rows, nil); err != nil {
		return eval.Result{}, err
	}
	return r, putJSON(ctx, e.Store, r.Key, r)
}

// contestTally counts outcomes.
type contestTally struct {
	result            *eval.Result
	shares            []float64
	compared          []eval.Compared
	missing           int64
	forward, backward []string
	first, second     float64
}

func (t *contestTally) add(j dataset.Judgement) {
	t.result.Prompts++
	switch j.Outcome {
	case outcomeMissing:
		t.missing++
		return
	case outcomeNoBaseline:
		t.result.NoBaseline++
		return
	case outcomeUnjudged:
		t.result.Unjudged++
		return
	case outcomeSame:
		t.result.Same++
		t.shares = append(t.shares, eval.Draw)
		return
	}
	t.shares = append(t.shares, j.Share)
	t.compared = append(t.compared, eval.Compared{
		Share: j.Share, Chars: int64(utf8.RuneCountInString(j.Output)), BaselineChars: int64(utf8.RuneCountInString(j.Baseline)),
	})
	if j.Forward != "" && j.Backward != "" {
		t.forward, t.backward = append(t.forward, j.Forward), append(t.backward, j.Backward)
	}
	for chose, side := range map[string]*float64{"model": &t.first, "baseline": &t.second} {
		if j.Forward == chose {
			*side++
		}
	}
	for chose, side := range map[string]*float64{"baseline": &t.first, "model": &t.second} {
		if j.Backward == chose {
			*side++
		}
	}
}

func (t *contestTally) finish() {
	r := t.result
	r.WinRate = eval.Rate(t.shares, t.missing)
	r.Orders = eval.Agree(t.forward, t.backward)
	r.Consistent = r.Orders.Agreed
	r.FirstPlace = eval.Draw
	if t.first+t.second > 0 {
		r.FirstPlace = t.first / (t.first + t.second)
	}
	if l, ok := eval.ControlLength(t.compared); ok {
		r.LengthControlled = &l
	}
}

func putJSON(ctx context.Context, st *blob.Store, key string, value any) error {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return st.Put(ctx, key, body)
}
