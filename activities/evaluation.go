package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/contamination"
	"github.com/selfalign/selfalign/internal/corpus"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/intake"
	"github.com/selfalign/selfalign/internal/origin"
	"github.com/selfalign/selfalign/internal/stage"
)

// maxIndexes is how many runs' evaluation sets a process holds at a time.
const maxIndexes = 2

// indexIdle is after how long an index that nobody asked for is let go: what is rated for days does not need it. Who works with it
// still has it; who asks again builds it again.
const indexIdle = 10 * time.Minute

// evaluation is what segments are kept clean of: it is listed once, beside the sources, and every map task reads it.
type evaluation struct {
	NGram int             `json:"ngram"`
	Sets  []evaluationSet `json:"sets"`
}

type evaluationSet struct {
	Name   string   `json:"name"`
	Fields []string `json:"fields,omitempty"`
	Seeds  bool     `json:"seeds,omitempty"` // the files hold seeds: both sides of each pair count
	Files  []file   `json:"files"`
}

func evaluationKey(dir string) string { return dir + "/" + ingestFolder + "/evaluation.json" }

// listEvaluation finds the files of the evaluation sets and writes down which they are.
func (s *Sources) listEvaluation(ctx context.Context, in ListInput) error {
	if !in.Decontaminate.On() {
		return nil
	}
	body, err := s.evaluationOf(ctx, in.Decontaminate, in.Seeds)
	if err != nil {
		return err
	}
	return s.Store.Put(ctx, evaluationKey(in.Dir), body)
}

// EvaluationInput names the evaluation sets of a run.
type EvaluationInput struct {
	Key           string               `json:"key"` // where the list of their files is to lie
	Decontaminate config.Decontaminate `json:"decontaminate"`
	Seeds         []config.Source      `json:"seeds,omitempty"`
}

// PinEvaluation writes down once which files the evaluation sets are, for a selection to keep out what they hold. What was
// written stands.
func (s *Sources) PinEvaluation(ctx context.Context, in EvaluationInput) error {
	defer newHeart(ctx).keep()()
	if _, err := s.Store.Stat(ctx, in.Key); !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	body, err := s.evaluationOf(ctx, in.Decontaminate, in.Seeds)
	if err != nil {
		return err
	}
	if err := s.Store.PutIfAbsent(ctx, in.Key, body); !errors.Is(err, blob.ErrExists) {
		return err
	}
	return nil
}

func (s *Sources) evaluationOf(ctx context.Context, d config.Decontaminate, seeds []config.Source) ([]byte, error) {
	listed := evaluation{NGram: d.NGram}
	for _, set := range d.Sets {
		files, _, err := s.list(ctx, set.Source(), dataset.KindSeeds)
		if err != nil {
			return nil, err
		}
		listed.Sets = append(listed.Sets, evaluationSet{Name: set.Name, Fields: set.Fields, Files: files})
	}
	if d.Seeds {
		set := evaluationSet{Name: config.SeedSet, Seeds: true}
		for _, source := range seeds {
			files, _, err := s.list(ctx, source, dataset.KindSeeds)
			if err != nil {
				return nil, err
			}
			set.Files = append(set.Files, files...)
		}
		listed.Sets = append(listed.Sets, set)
	}
	body, err := json.Marshal(listed)
	if err != nil {
		return nil, fmt.Errorf("list evaluation sets: %w", err)
	}
	return body, nil
}

// indexes holds the newest indexes of evaluation sets of this process, so that its map tasks share them.
type indexes struct {
	mu  sync.Mutex
	all []*sharedIndex // the newest last
}

type sharedIndex struct {
	key   string
	done  chan struct{} // closed when the index stands, or did not come to be
	index *contamination.Index
	err   error
	idle  *time.Timer // drops it
}

// evaluationIndex returns the index for a dataset's map tasks; nil where nothing is to be kept out. One task builds it, the
// others wait.
func (s *Sources) evaluationIndex(ctx context.Context, in MapInput) (*contamination.Index, error) {
	if !in.Decontaminate {
		return nil, nil
	}
	defer newHeart(ctx).keep()()
	return s.indexAt(ctx, evaluationKey(in.Dir))
}

// EvaluationSets is what stage.Deps wants of the sources.
func EvaluationSets(s *Sources) func(ctx context.Context, key string) (stage.EvaluationSets, error) {
	return s.evaluationSets
}

func (s *Sources) evaluationSets(ctx context.Context, key string) (stage.EvaluationSets, error) {
	index, err := s.indexAt(ctx, key)
	if err != nil {
		return stage.EvaluationSets{}, err
	}
	return stage.EvaluationSets{Names: setNames(index), Find: func(text string) (sets []string, detail string) {
		hits := index.Find(text)
		if len(hits) == 0 {
			return nil, ""
		}
		for _, hit := range hits {
			sets = append(sets, hit.Set)
		}
		return sets, corpus.Named(hits)
	}}, nil
}

func setNames(index *contamination.Index) (names []string) {
	if index == nil {
		return nil
	}
	for _, set := range index.Sets() {
		names = append(names, set.Name)
	}
	return names
}

// indexAt returns the index of the evaluation sets that are listed under a key.
func (s *Sources) indexAt(ctx context.Context, at string) (*contamination.Index, error) {
	body, err := s.Store.Get(ctx, at)
	if err != nil {
		return nil, err
	}
	var listed evaluation
	if err := json.Unmarshal(body, &listed); err != nil {
		return nil, fmt.Errorf("evaluation sets: %w", err)
	}
	sum := sha256.Sum256(body)
	key := hex.EncodeToString(sum[:])
	for {
		shared, mine := s.evaluation.take(key)
		if mine {
			shared.index, shared.err = s.buildIndex(ctx, listed)
			if shared.err != nil {
				s.evaluation.drop(shared)
			}
			close(shared.done)
			return shared.index, shared.err
		}
		select {
		case <-shared.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if shared.err == nil {
			return shared.index, nil
		}
	}
}

// take returns the index under a key, or a new one that the caller is to build.
func (x *indexes) take(key string) (shared *sharedIndex, mine bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := slices.IndexFunc(x.all, func(s *sharedIndex) bool { return s.key == key }); i >= 0 {
		x.all[i].idle.Reset(indexIdle)
		return x.all[i], false
	}
	shared = &sharedIndex{key: key, done: make(chan struct{})}
	shared.idle = time.AfterFunc(indexIdle, func() { x.drop(shared) })
	if x.all = append(x.all, shared); len(x.all) > maxIndexes {
		x.all[0].idle.Stop()
		x.all = slices.Delete(x.all, 0, 1)
	}
	return shared, true
}

func (x *indexes) drop(shared *sharedIndex) {
	x.mu.Lock()
	defer x.mu.Unlock()
	shared.idle.Stop()
	x.all = slices.DeleteFunc(x.all, func(s *sharedIndex) bool { return s == shared })
}

// buildIndex reads the sets. What cannot be read of one needs a person: a set that is known in part lets through what it was
// named to keep out.
func (s *Sources) buildIndex(ctx context.Context, listed evaluation) (*contamination.Index, error) {
	index := contamination.New(listed.NGram)
	for _, set := range listed.Sets {
		for _, f := range set.Files {
			if err := fillIndex(ctx, index, set, f, s.places().Open(f.File)); err != nil {
				return nil, evaluationTrouble(ctx, set.Name, f.Name, err)
			}
		}
	}
	index.Seal()
	return index, nil
}

func fillIndex(ctx context.Context, index *contamination.Index, set evaluationSet, f file, from intake.File) error {
	if set.Seeds {
		n := int64(0)
		for item, err := range intake.Seeds(ctx, from, seedOptions(f.Source)) {
			if err != nil {
				return err
			}
			if n++; item.Seed == nil {
				continue // it is no seed either
			}
			if err := index.Add(set.Name, n, []string{item.Seed.Instruction, item.Seed.Output}); err != nil {
				return err
			}
		}
		return nil
	}
	for record, err := range intake.Records(ctx, from, f.Source.Format, set.Fields) {
		if err != nil {
			return err
		}
		if err := index.Add(set.Name, record.Number, record.Texts); err != nil {
			return err
		}
	}
	return nil
}

func evaluationTrouble(ctx context.Context, set, name string, err error) error {
	var answer interface{ HTTPStatusCode() int }
	var ours *origin.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &ours):
		return forPerson(err)
	case errors.Is(err, contamination.ErrTooLarge):
		return blocked("source", fmt.Errorf("evaluation set %s: %w", set, err), "name fewer sets, or fewer fields of them, then start a new run")
	case errors.As(err, &answer), errors.Is(err, blob.ErrNotFound):
		return unreadable(name, err)
	default:
		return blocked("source", fmt.Errorf("evaluation set %s: %w", set, err), "mend the set or name its fields, then start a new run")
	}
}

// contaminated is how the rules ask an index.
func contaminated(index *contamination.Index) func(string) []corpus.Hit {
	if index == nil {
		return nil
	}
	return index.Find
}
