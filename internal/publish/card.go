package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/hub"
)

// Step is a dataset on the way from input to output, for the card.
type Step struct {
	Name    string      `json:"name"`
	Dataset dataset.Ref `json:"dataset"`
}

// Facts are what the card says beyond what the datasets' manifests tell.
type Facts struct {
	Title     string            `json:"title"`
	About     string            `json:"about"` // Markdown of our own making
	Run       string            `json:"run"`
	License   string            `json:"license,omitempty"`
	Languages []string          `json:"languages,omitempty"`
	Sources   []string          `json:"sources,omitempty"`
	Distilled bool              `json:"distilled"`
	Method    []string          `json:"method,omitempty"`
	Models    []hub.CardModel   `json:"models,omitempty"`
	Steps     []Step            `json:"steps,omitempty"`
	Scores    dataset.Ref       `json:"scores"` // ratings, for the histogram
	Prompts   map[string]string `json:"prompts,omitempty"`
	SpecName  string            `json:"spec_name,omitempty"`
	Spec      string            `json:"spec,omitempty"`
	JSONL     bool              `json:"jsonl,omitempty"` // the card stands beside the JSONL files of the export, not the Parquet files
}

// Card writes the card of an export: what the manifests say of counts, reasons, scores and lineage, and the facts. Equal inputs
// give equal cards.
func Card(ctx context.Context, st *blob.Store, e Export, f Facts) (hub.Card, error) {
	card := hub.Card{
		Title: f.Title, Description: f.About, License: f.License, Languages: f.Languages, Distilled: f.Distilled, Method: f.Method,
		Models: f.Models, Prompts: map[string]string{}, Sources: f.Sources, Run: f.Run, SpecName: f.SpecName, Spec: f.Spec,
	}
	maps.Copy(card.Prompts, f.Prompts)
	for _, s := range e.Splits {
		if n := len(card.Configs); n == 0 || card.Configs[n-1].Name != s.Config {
			card.Configs = append(card.Configs, hub.CardConfig{Name: s.Config, Default: s.Default})
		}
		at := &card.Configs[len(card.Configs)-1]
		split := hub.CardSplit{Name: s.Name, Rows: s.Rows}
		if f.JSONL {
			split.Path = jsonlPath(s.Config, s.Name)
		}
		at.Splits = append(at.Splits, split)
	}
	for _, s := range f.Steps {
		m, ref, err := dataset.Open(ctx, st, s.Dataset.Dir)
		if errors.Is(err, blob.ErrNotFound) {
			continue
		}
		if err != nil {
			return hub.Card{}, fmt.Errorf("card: %w", err)
		}
		for _, o := range m.Origins {
			card.Sources = append(card.Sources, pinned(s.Name, o))
		}
		card.Counts = append(card.Counts, hub.CardCount{Step: s.Name, In: m.Input, Out: m.Rows, Rejected: m.Rejected, MostCommon: common(m.Reasons)})
		card.Lineage = append(card.Lineage, hub.CardLink{What: s.Name, Name: string(ref.Kind), Digest: ref.Digest})
		if s.Dataset.Dir == f.Scores.Dir {
			card.Scores = m.Histogram
		}
	}
	for _, row := range e.Sample {
		var sample hub.CardSample
		for _, name := range e.Order {
			sample.Fields = append(sample.Fields, [2]string{name, row[name]})
		}
		card.Samples = append(card.Samples, sample)
	}
	return card, nil
}

// pinned says what a source of the Hub was when it was read; of others the digest of its files' names and sizes.
func pinned(step string, o dataset.Origin) string {
	var parts []string
	for _, p := range []struct{ name, value string }{{"config", o.Config}, {"split", o.Split}, {"commit", o.Commit}, {"licence", o.License}} {
		if p.value != "" {
			parts = append(parts, p.name+" "+p.value)
		}
	}
	if o.Commit == "" {
		parts = append(parts, "files "+o.Digest)
	}
	if o.Partial {
		parts = append(parts, "the first gigabytes, as the Hub converted them")
	}
	return fmt.Sprintf("Read at step %s: %s (%s)", step, o.Path, strings.Join(parts, ", "))
}

// CommitOf returns the commit of the Hub at which the first of the steps was read; "" where its sources were elsewhere.
func CommitOf(ctx context.Context, st *blob.Store, steps []Step) (string, error) {
	if len(steps) == 0 {
		return "", nil
	}
	m, _, err := dataset.Open(ctx, st, steps[0].Dataset.Dir)
	if errors.Is(err, blob.ErrNotFound) || err == nil && len(m.Origins) != 1 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("card: %w", err)
	}
	return m.Origins[0].Commit, nil
}

// common names the most common reasons, the commonest first.
func common(reasons map[string]int64) string {
	words := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		if d := reasons[b] - reasons[a]; d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, w := range words[:min(len(words), 4)] {
		parts = append(parts, fmt.Sprintf("%s %d", w, reasons[w]))
	}
	return strings.Join(parts, ", ")
}

// Complete adds what the datasets and the spec tell: the spec as YAML under its name, and the templates by task, of the first rating.
func (f *Facts) Complete(ctx context.Context, st *blob.Store, name string, spec any) error {
	text, err := yaml.Marshal(spec)
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	f.SpecName, f.Spec = name, string(text)
	if f.Scores.IsZero() {
		return nil
	}
	for r, err := range dataset.Rows[dataset.Rating](ctx, st, f.Scores) {
		if err != nil {
			return fmt.Errorf("card: %w", err)
		}
		f.Prompts = map[string]string{"score": r.JudgePrompt}
		if r.Prompt != "" {
			f.Prompts["generate"] = r.Prompt
		}
		break
	}
	return nil
}
