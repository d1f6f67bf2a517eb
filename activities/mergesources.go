package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
)

// PlanInput asks how many partitions the spilled rows need.
type PlanInput struct {
	Dir   string      `json:"dir"`
	Tasks int         `json:"tasks"`
	Data  config.Data `json:"data"`
}

// MergePlan fixes the number of partitions; the list of spills lies under Key.
type MergePlan struct {
	Bits  int    `json:"bits"`
	Rows  int64  `json:"rows"`  // duplicates among them included
	Input int64  `json:"input"` // rows, and what map tasks turned away
	Key   string `json:"key"`
}

// MergeWork makes one partition of rows that map tasks spilled.
type MergeWork struct {
	Kind      dataset.Kind `json:"kind"`
	Output    string       `json:"output"`
	Bits      int          `json:"bits"`
	Plan      string       `json:"plan"` // key of the list of spills
	Partition int          `json:"partition"`
}

// PlanPartitions fixes the number of partitions from what the map tasks spilled.
func (s *Sources) PlanPartitions(ctx context.Context, in PlanInput) (MergePlan, error) {
	defer newHeart(ctx).keep()()
	var spills []dataset.SpillRef
	var funnel dataset.Funnel
	out := MergePlan{Key: in.Dir + "/" + ingestFolder + "/plan.json"}
	for task := range in.Tasks {
		body, err := s.Store.Get(ctx, summaryKey(in.Dir, task))
		if err != nil {
			return out, err
		}
		var summary mapSummary
		if err := json.Unmarshal(body, &summary); err != nil {
			return out, fmt.Errorf("summary of map task %d: %w", task, err)
		}
		funnel.Add(summary.Sources, summary.Examples)
		out.Rows += summary.Rows
		out.Input += summary.Rows + summary.Rejected
		spills = append(spills, summary.Spills...)
	}
	if funnel.Total.Pieces > 0 || len(funnel.Total.Whole) > 0 {
		if err := dataset.WriteFunnel(ctx, s.Store, in.Dir, funnel); err != nil {
			return out, err
		}
	}
	minBits := 0
	if in.Data.MinPartitions > 1 {
		minBits = bits.Len(uint(in.Data.MinPartitions - 1))
	}
	out.Bits = dataset.BitsFor(out.Rows, in.Data.RowsPerPartition, minBits)
	body, err := json.Marshal(spills)
	if err != nil {
		return out, fmt.Errorf("plan partitions: %w", err)
	}
	return out, s.Store.Put(ctx, out.Key, body)
}

// MergePartition reads its part of every spill into one committed partition.
func (s *Sources) MergePartition(ctx context.Context, w MergeWork) (PartitionResult, error) {
	body, err := s.Store.Get(ctx, w.Plan)
	if errors.Is(err, blob.ErrNotFound) {
		// The spills are removed once the dataset stands: a late attempt finds its partition.
		receipt, err := dataset.ReadReceipt(ctx, s.Store, w.Output, w.Partition)
		return PartitionResult{Receipt: receipt, Done: err == nil}, err
	}
	if err != nil {
		return PartitionResult{}, err
	}
	var spills []dataset.SpillRef
	if err := json.Unmarshal(body, &spills); err != nil {
		return PartitionResult{}, fmt.Errorf("merge plan: %w", err)
	}
	beat := newHeart(ctx)
	defer beat.keep()()
	var receipt dataset.Receipt
	switch w.Kind {
	case dataset.KindSeeds:
		receipt, err = dataset.MergePartition[dataset.Seed](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	case dataset.KindPrompts:
		receipt, err = dataset.MergePartition[dataset.Prompt](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	case dataset.KindResponses:
		receipt, err = dataset.MergePartition[dataset.Response](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	default:
		receipt, err = dataset.MergePartition[dataset.Segment](ctx, s.Store, spills, w.Output, w.Bits, w.Partition)
	}
	return PartitionResult{Receipt: receipt, Done: err == nil}, err
}

// RemoveSpills deletes what the shuffle of a committed dataset left.
func (s *Sources) RemoveSpills(ctx context.Context, dir string) error {
	defer newHeart(ctx).keep()()
	var keys []string
	err := s.Store.List(ctx, dir+"/"+ingestFolder+"/", func(info blob.Info) error {
		keys = append(keys, info.Key)
		return nil
	})
	if err != nil {
		return err
	}
	return s.Store.Delete(ctx, keys...)
}
