package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/neardup"
)

// NearDuplicates finds segments that say almost the same, and drops them. Everything that it writes on the way lies beside
// the spills of ingest and goes with them.
type NearDuplicates struct {
	Store *blob.Store
}

// MergedDir returns the folder of the dataset that is merged from spills before near-duplicates are dropped from it.
func MergedDir(dir string) string { return dir + "/" + ingestFolder + "/merged" }

func nearDuplicatesDir(dir string) string { return dir + "/" + ingestFolder + "/near-duplicates" }

// NearDuplicatesInput asks for the search in a dataset.
type NearDuplicatesInput struct {
	Input dataset.Ref           `json:"input"`
	Dir   string                `json:"dir"` // of the dataset to be made
	Rules config.NearDuplicates `json:"rules"`
}

// PlannedSearch is a search, and how many of its steps are done.
type PlannedSearch struct {
	Job  neardup.Job `json:"job"`
	Done int         `json:"done"`
}

// PlanNearDuplicates fixes how the search is split into tasks. A plan that was made stands: a search that stopped goes on as
// it began, whatever program does.
func (n *NearDuplicates) PlanNearDuplicates(ctx context.Context, in NearDuplicatesInput) (PlannedSearch, error) {
	defer newHeart(ctx).keep()()
	dir := nearDuplicatesDir(in.Dir)
	rules := neardup.Rules{Threshold: in.Rules.Threshold, Shingle: in.Rules.NGram, Permutations: in.Rules.Permutations}
	out := PlannedSearch{Job: neardup.NewJob(rules, in.Input, dir)}
	if err := out.Job.Validate(); err != nil {
		return out, blocked("setting", err, "mend near_duplicates in the spec and start a new run")
	}
	body, err := json.Marshal(out.Job)
	if err != nil {
		return out, fmt.Errorf("plan near-duplicates: %w", err)
	}
	err = n.Store.PutIfAbsent(ctx, dir+"/job.json", body)
	if errors.Is(err, blob.ErrExists) {
		if body, err = n.Store.Get(ctx, dir+"/job.json"); err != nil {
			return out, err
		}
		if err := json.Unmarshal(body, &out.Job); err != nil {
			return out, fmt.Errorf("plan of near-duplicates: %w", err)
		}
	} else if err != nil {
		return out, err
	}
	out.Done, err = neardup.Standing(ctx, n.Store, out.Job)
	return out, err
}

// SearchTask is one task of a step of a search.
type SearchTask struct {
	Job  neardup.Job  `json:"job"`
	Step neardup.Step `json:"step"`
	Task int          `json:"task"`
}

// SearchNearDuplicates does one task. What was done is not done again.
func (n *NearDuplicates) SearchNearDuplicates(ctx context.Context, in SearchTask) error {
	beat := newHeart(ctx)
	defer beat.keep()()
	return neardup.Run(ctx, n.Store, in.Job, in.Step, in.Task, func(done int64) { beat.n.Add(done) })
}

// GatherRuns collects what the tasks of a step wrote.
func (n *NearDuplicates) GatherRuns(ctx context.Context, in SearchTask) (neardup.Counts, error) {
	defer newHeart(ctx).keep()()
	return neardup.Gather(ctx, n.Store, in.Job, in.Step)
}

// DropWork makes one partition of a dataset without near-duplicates.
type DropWork struct {
	Job       neardup.Job `json:"job"`
	Output    string      `json:"output"`
	Partition int         `json:"partition"`
}

// DropPartition copies a partition but for its near-duplicates, which are rejected.
func (n *NearDuplicates) DropPartition(ctx context.Context, w DropWork) (PartitionResult, error) {
	defer newHeart(ctx).keep()()
	receipt, err := neardup.DropPartition(ctx, n.Store, w.Job, w.Output, w.Partition)
	return PartitionResult{Receipt: receipt, Done: err == nil}, err
}
