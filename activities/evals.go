package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/prompt"
)

// Bounds of an evaluation. Prompt sets in use have some hundred prompts; one is read as a whole.
const (
	evalRowsPerPartition = 512
	evalMostText         = 64 << 20  // bytes of texts that an evaluation holds: of its files, or the outputs of both sides
	evalMostPrompt       = 256 << 10 // bytes of one prompt or output
)

// Evals prepares evaluations and measures what came of them. Everything it writes follows from its input, so that whatever stands is
// adopted.
type Evals struct {
	Store   *blob.Store
	Sources *Sources
}

// About says for whom a dataset of an evaluation is made.
type About struct {
	Run       string `json:"run"`
	Spec      string `json:"spec"` // digest
	Iteration int    `json:"iteration"`
}

// PromptsInput says which prompts a model is asked. One of Sources, Seeds and Outputs is set.
type PromptsInput struct {
	Sources []config.Source `json:"sources,omitempty"`
	Seeds   dataset.Ref     `json:"seeds,omitzero"`   // their instructions
	Outputs dataset.Ref     `json:"outputs,omitzero"` // the instructions of responses
	Limit   int             `json:"limit"`            // prompts at most: the first by id; of seeds the first seeds by id
	Tags    string          `json:"tags"`             // of the system prompt: config.TagsBoth …
	Output  string          `json:"output"`
	About
}

// WritePrompts writes the prompts of an evaluation. Those that are empty, repeated or beyond the limit are rejected.
func (e *Evals) WritePrompts(ctx context.Context, in PromptsInput) (dataset.Ref, error) {
	defer newHeart(ctx).keep()()
	if _, standing, err := dataset.Open(ctx, e.Store, in.Output); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	system := systemOf(in.Tags)
	var found []dataset.Prompt
	var parents []dataset.Ref
	take := func(instruction, source, document string, offset int64) {
		found = append(found, dataset.Prompt{
			ID: dataset.PromptIDOf(system, instruction), System: system, Instruction: instruction,
			Source: source, Document: document, Offset: offset,
		})
	}
	switch {
	case !in.Seeds.IsZero():
		parents = []dataset.Ref{in.Seeds}
		for s, err := range dataset.Rows[dataset.Seed](ctx, e.Store, in.Seeds) {
			if err != nil {
				return dataset.Ref{}, err
			}
			if len(found) == in.Limit {
				break
			}
			take(s.Instruction, s.Source, s.Document, s.Offset)
		}
	case !in.Outputs.IsZero():
		parents = []dataset.Ref{in.Outputs}
		for r, err := range dataset.Rows[dataset.Response](ctx, e.Store, in.Outputs) {
			if err != nil {
				return dataset.Ref{}, err
			}
			take(r.Instruction, r.Source, r.Document, r.Offset)
		}
	default:
		err := read(ctx, e.Sources, in.Sources, func(name string, x intake.Exercise) {
			take(x.Instruction, name, fmt.Sprint(x.Number), x.Number-1)
		})
		if err != nil {
			return dataset.Ref{}, err
		}
	}
	slices.SortStableFunc(found, func(a, b dataset.Prompt) int { return cmp.Compare(a.ID, b.ID) })
	var rows []dataset.Prompt
	var rejects []dataset.Reject
	for i, p := range found {
		reason := ""
		switch {
		case strings.TrimSpace(p.Instruction) == "":
			reason = "empty_field"
		case len(p.Instruction) > evalMostPrompt:
			reason = "too_long"
		case i > 0 && found[i-1].ID == p.ID:
			reason = "duplicate"
		case len(rows) == in.Limit:
			reason = "over_limit"
		}
		if reason == "" {
			rows = append(rows, p)
			continue
		}
		rejects = append(rejects, dataset.Reject{
			ID: p.ID, Stage: "prompts", Reason: reason, Instruction: p.Instruction, Source: p.Source, Document: p.Document, Offset: p.Offset,
		})
	}
	if len(rows) == 0 {
		return dataset.Ref{}, blocked("source", errors.New("there are no prompts to evaluate on"), "give prompts in the spec, then start again under another name")
	}
	m := dataset.Manifest{Kind: dataset.KindPrompts, Parents: parents}
	return writeWhole(ctx, e.Store, in.Output, in.About, m, rows, rejects)
}

// systemOf returns the system prompt that tags stand for.
func systemOf(tags string) string {
	switch tags {
	case config.TagsNone:
		return ""
	case config.TagsSeed:
		return prompt.TagSeed
	case config.TagsAugmented:
		return prompt.TagAugmented
	}
	return prompt.InferenceSystem()
}

// OutputsInput names files of outputs, such as AlpacaEval's model_outputs.json.
type OutputsInput struct {
	Sources []config.Source `json:"sources"`
	Output  string          `json:"output"`
	About
}

// ImportOutputs writes the outputs of files as responses. An empty output is rejected, and so is missing.
func (e *Evals) ImportOutputs(ctx context.Context, in OutputsInput) (dataset.Ref, error) {
	defer newHeart(ctx).keep()()
	if _, standing, err := dataset.Open(ctx, e.Store, in.Output); !errors.Is(err, blob.ErrNotFound) {
		return standing, err
	}
	var rows []dataset.Response
	var rejects []dataset.Reject
	seen := map[string]bool{}
	err := read(ctx, e.Sources, in.Sources, func(name string, x intake.Exercise) {
		text := x.Instruction
		r := dataset.Response{
			ID: promptKey(text), PromptID: promptKey(text), Sample: 1, Instruction: text, Output: x.Output,
			Generator: cmp.Or(x.Generator, name), Source: name, Document: fmt.Sprint(x.Number), Offset: x.Number - 1,
		}
		reason := ""
		switch {
		case text == "" || r.Output == "":
			reason = "empty_field"
		case len(text) > evalMostPrompt || len(r.Output) > evalMostPrompt:
			reason = "too_long"
		case seen[r.ID]:
			reason = "duplicate"
		}
		if reason == "" {
			seen[r.ID] = true
			rows = append(rows, r)
			return
		}
		rejects = append(rejects, dataset.Reject{
			ID: r.ID, Stage: "outputs", Reason: reason, Instruction: text, Text: r.Output, Source: r.Source, Document: r.Document, Offset: r.Offset,
		})
	})
	if err != nil {
		return dataset.Ref{}, err
	}
	if len(rows) == 0 {
		return dataset.Ref{}, blocked("source", errors.New("the files hold no outputs"), "give files with instruction and output, then start again under another name")
	}
	return writeWhole(ctx, e.Store, in.Output, in.About, dataset.Manifest{Kind: dataset.KindResponses}, rows, rejects)
}

// promptKey names an instruction whatever its spaces, so that outputs of different origin meet.
func promptKey(instruction string) string {
	return dataset.PromptID(strings.Join(strings.Fields(instruction), " "))
}

// writeWhole writes a dataset that fits into memory.
func writeWhole[T dataset.Row](
	ctx context.Context, st *blob.Store, dir string, about About, m dataset.Manifest, rows []T, rejects []dataset.Reject,
) (dataset.Ref, error) {
	bits := dataset.BitsFor(int64(len(rows)+len(rejects)), evalRowsPerPartition, 0)
	parts, turned := make([][]T, 1<<bits), make([][]dataset.Reject, 1<<bits)
	for _, r := range rows {
		p := dataset.PartitionOf(r.RowID(), bits)
		parts[p] = append(parts[p], r)
	}
	for _, r := range rejects {
		p := dataset.PartitionOf(r.ID, bits)
		turned[p] = append(turned[p], r)
	}
	for p := range parts {
		receipt := dataset.Receipt{Partition: p, Input: int64(len(parts[p]) + len(turned[p]))}
		if _, err := dataset.WritePartition(ctx, st, dir, bits, p, parts[p], turned[p], receipt); err != nil {
			return dataset.Ref{}, err
		}
	}
	all, err := dataset.CommitRange(ctx, st, dir, 0, len(parts))
	if err != nil {
		return dataset.Ref{}, err
	}
	m.Bits, m.Run, m.Spec, m.Iteration, m.Input = bits, about.Run, about.Spec, about.Iteration, int64(len(rows)+len(rejects))
	return dataset.Commit(ctx, st, dir, m, []dataset.RangeSummary{all})
}
