package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/contamination"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
)

// MapInput is one map task.
type MapInput struct {
	Kind     dataset.Kind    `json:"kind"`
	Dir      string          `json:"dir"`
	Task     int             `json:"task"`
	Set      string          `json:"set,omitempty"` // of the listing
	Segments config.Segments `json:"segments"`
	// Prompts says how prompts and responses are read.
	Prompts *corpus.PromptOptions `json:"prompts,omitempty"`

	Decontaminate bool `json:"decontaminate,omitempty"`
}

// MapSources reads the files of a task and spills rows and rejects, sorted by id. What was read is not read again.
func (s *Sources) MapSources(ctx context.Context, in MapInput) error {
	if _, err := s.Store.Stat(ctx, summaryKey(in.Dir, in.Task)); !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	switch in.Kind {
	case dataset.KindSeeds:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Seed { return item.Seed })
	case dataset.KindPrompts:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Prompt { return item.Prompt })
	case dataset.KindResponses:
		return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Response { return item.Response })
	}
	return mapInto(ctx, s, in, func(item corpus.Item) *dataset.Segment { return item.Segment })
}

func mapInto[T dataset.Row](ctx context.Context, s *Sources, in MapInput, take func(corpus.Item) *T) error {
	body, err := s.Store.Get(ctx, taskKey(in.Dir, in.Set, in.Task))
	if err != nil {
		return err
	}
	var files []file
	if err := json.Unmarshal(body, &files); err != nil {
		return fmt.Errorf("map task %d: %w", in.Task, err)
	}
	index, err := s.evaluationIndex(ctx, in)
	if err != nil {
		return err
	}
	told := mapSummary{Sources: map[string]*dataset.Tally{}, Examples: dataset.Examples{}}
	spiller := dataset.NewSpiller[T](s.Store, in.Dir+"/"+ingestFolder, spillName(in.Task), spillMemory)
	defer spiller.Discard()
	s.mapping.Add(1)
	defer s.mapping.Add(-1)
	beat := newHeart(ctx)
	defer beat.keep()() // a spill of half a gigabyte takes its time
	rest := in          // what may still be read of prompts
	for _, f := range files {
		if in.Prompts != nil && in.Prompts.Limit > 0 && rest.Prompts != nil && rest.Prompts.Limit <= 0 {
			break
		}
		read := int64(0)
		tally := told.of(f.Source.Path)
		tally.Looked(setNames(index))
		if err := s.mapFile(ctx, rest, f, index, func(item corpus.Item) error {
			beat.at(1)
			spiller.Hold(spillMemory / int(s.mapping.Load()))
			read++
			if in.Prompts == nil {
				item.Tally(tally, told.Examples)
			}
			if item.Reject != nil {
				return spiller.Reject(ctx, *item.Reject)
			}
			return spiller.Add(ctx, *take(item))
		}); err != nil {
			return err
		}
		if in.Prompts != nil && in.Prompts.Limit > 0 {
			left := *rest.Prompts
			left.Limit -= read
			rest.Prompts = &left
		}
	}
	if told.SpillSummary, err = spiller.Close(ctx); err != nil {
		return err
	}
	body, err = json.Marshal(told)
	if err != nil {
		return fmt.Errorf("map task %d: %w", in.Task, err)
	}
	return s.Store.Put(ctx, summaryKey(in.Dir, in.Task), body)
}

// mapSummary is what a map task tells of its rows.
type mapSummary struct {
	dataset.SpillSummary
	Sources  map[string]*dataset.Tally `json:"sources,omitempty"` // by the path of the source
	Examples dataset.Examples          `json:"examples,omitempty"`
}

func (m mapSummary) of(source string) *dataset.Tally {
	if m.Sources[source] == nil {
		m.Sources[source] = &dataset.Tally{}
	}
	return m.Sources[source]
}

// mapFile reads one file and hands over its rows. A table without the columns asked for needs a person, and so does a file
// that is gone or another one than was listed.
func (s *Sources) mapFile(ctx context.Context, in MapInput, f file, index *contamination.Index, take func(corpus.Item) error) error {
	for item, err := range itemsOf(ctx, in, f, s.places().Open(f.File), index) {
		if err != nil {
			return forPerson(err)
		}
		if err := take(item); err != nil {
			return fmt.Errorf("read %s: %w", f.Name, err)
		}
	}
	return nil
}

func seedOptions(s config.Source) corpus.SeedOptions {
	return corpus.SeedOptions{Format: s.Format, Instruction: s.Instruction, Output: s.Output, Language: s.Language}
}

func itemsOf(ctx context.Context, in MapInput, f file, from intake.File, index *contamination.Index) iter.Seq2[corpus.Item, error] {
	if in.Prompts != nil {
		opts := *in.Prompts
		opts.Format = f.Source.Format
		return intake.Prompts(ctx, from, opts)
	}
	if in.Kind == dataset.KindSeeds {
		return intake.Seeds(ctx, from, seedOptions(f.Source))
	}
	return intake.Documents(ctx, from, corpus.DocumentOptions{
		Format: formatOf(f), Text: f.Source.Text, Title: f.Source.Title, Language: f.Source.Language, Segments: corpus.SegmentRules(in.Segments),
		Contaminated: contaminated(index),
	})
}

// formatOf is the format of a file, which is not that of the list that named it.
func formatOf(f file) string {
	if f.Source.Format == corpus.FormatPaths {
		return corpus.FormatAuto
	}
	return f.Source.Format
}
