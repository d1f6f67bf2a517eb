package activities

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/activity"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/prompt"
	"github.com/selfalign/selfalign/internal/stage"
)

// Sets makes, finds and commits datasets.
type Sets struct {
	Store   *blob.Store
	Sources *Sources // whose indexes of evaluation sets selections share
}

// FoundDataset is a committed dataset, if there is one.
type FoundDataset struct {
	Found   bool                 `json:"found"`
	Dataset dataset.Ref          `json:"dataset"`
	Totals  dataset.RangeSummary `json:"totals"`
}

// FindDataset looks for a committed dataset in a folder.
func (s *Sets) FindDataset(ctx context.Context, dir string) (FoundDataset, error) {
	defer newHeart(ctx).keep()()
	m, ref, err := dataset.Open(ctx, s.Store, dir)
	if errors.Is(err, blob.ErrNotFound) {
		return FoundDataset{}, nil
	}
	if err != nil {
		return FoundDataset{}, err
	}
	totals := dataset.RangeSummary{
		To: ref.Partitions(), Input: m.Input, Rows: m.Rows, Rejected: m.Rejected, Digest: m.Digest, Bytes: m.Bytes,
		Histogram: m.Histogram, Answers: m.Answers,
	}
	for _, r := range m.Ranges {
		totals.Usage = totals.Usage.Add(r.Usage)
		totals.InDoubt = totals.InDoubt.Add(r.InDoubt)
		totals.Reused += r.Reused
	}
	return FoundDataset{Found: true, Dataset: ref, Totals: totals}, nil
}

// SurveyInput asks what stands of a range of partitions.
type SurveyInput struct {
	Work Work `json:"work"`
	From int  `json:"from"`
	To   int  `json:"to"`
}

// RangeSurvey is what stands of a range: the partitions that are committed, and what was paid for the others.
type RangeSurvey struct {
	Committed  bool                 `json:"committed"` // the range manifest is there
	Standing   dataset.RangeSummary `json:"standing"`
	Partitions []int                `json:"partitions"`
	Partial    []PartialSpending    `json:"partial,omitempty"`
}

// SurveyRange looks what an earlier beginning of a range left.
func (s *Sets) SurveyRange(ctx context.Context, in SurveyInput) (RangeSurvey, error) {
	defer newHeart(ctx).keep()()
	stands, err := dataset.Survey(ctx, s.Store, in.Work.Output(), in.From, in.To)
	if err != nil {
		return RangeSurvey{}, err
	}
	found := RangeSurvey{Committed: stands.Committed, Standing: stands.Summary, Partitions: stands.Partitions}
	standing := map[int]bool{}
	for _, p := range stands.Partitions {
		standing[p] = true
	}
	if in.Work.Ask == nil || found.Committed {
		return found, nil
	}
	asked, _, err := stage.Settled(ctx, s.Store, *in.Work.Ask)
	if err != nil {
		return RangeSurvey{}, err
	}
	for p := in.From; p < in.To; p++ {
		if standing[p] {
			continue
		}
		work := asked
		work.Partition = p
		paid, err := stage.Paid(ctx, s.Store, work)
		if err != nil {
			return RangeSurvey{}, err
		}
		if paid != (Spending{}) {
			found.Partial = append(found.Partial, PartialSpending{Partition: p, Spending: paid})
		}
	}
	return found, nil
}

// CommitRangeInput names a range whose partitions all stand.
type CommitRangeInput struct {
	Dir  string `json:"dir"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// CommitRange writes the manifest of a range.
func (s *Sets) CommitRange(ctx context.Context, in CommitRangeInput) (dataset.RangeSummary, error) {
	defer newHeart(ctx).keep()()
	return dataset.CommitRange(ctx, s.Store, in.Dir, in.From, in.To)
}

// CommitDatasetInput names a dataset whose ranges all stand.
type CommitDatasetInput struct {
	Work     Work                   `json:"work"` // what made it
	Manifest dataset.Manifest       `json:"manifest"`
	Ranges   []dataset.RangeSummary `json:"ranges"`
}

// CommitDataset writes the manifest of a dataset; from then on it exists.
func (s *Sets) CommitDataset(ctx context.Context, in CommitDatasetInput) (dataset.Ref, error) {
	defer newHeart(ctx).keep()()
	if in.Work.Ask != nil {
		work, from, err := stage.Settled(ctx, s.Store, *in.Work.Ask)
		if err != nil {
			return dataset.Ref{}, err
		}
		in.Manifest.Fingerprint, in.Manifest.Tokenizer = stage.Fingerprint(work), from
	}
	return dataset.Commit(ctx, s.Store, in.Work.Output(), in.Manifest, in.Ranges)
}

// SelectWork makes one partition of a training set D ∪ A_k.
type SelectWork struct {
	Seeds     dataset.Ref `json:"seeds"`
	Ratings   dataset.Ref `json:"ratings"`   // zero: the seeds alone
	Threshold float64     `json:"threshold"` // rows with at least this score are kept
	Iteration int         `json:"iteration"`
	// MaxInstructionChars and InstructionWords turn instructions away as config.Curate says.
	MaxInstructionChars int      `json:"max_instruction_chars,omitempty"`
	InstructionWords    []string `json:"instruction_words,omitempty"`
	Evaluation          string   `json:"evaluation,omitempty"` // key of the evaluation sets that instructions share nothing with
	Output              string   `json:"output"`
	Bits                int      `json:"bits"`
	Partition           int      `json:"partition"`
	HeldTo              string   `json:"held_to,omitempty"` // seeds with ids up to this are held out of training
}

// SelectPartition puts seeds, tagged S_a, and the ratings that reach the threshold, tagged S_w, into one partition of a
// training set. Rows below the threshold are rejected with their score, and those whose instruction is unfit with the reason.
func (s *Sets) SelectPartition(ctx context.Context, w SelectWork) (PartitionResult, error) {
	var rows []dataset.Example
	var rejects []dataset.Reject
	var contaminated map[string]int64
	for seed, err := range dataset.RowsOf[dataset.Seed](ctx, s.Store, w.Seeds, w.Bits, w.Partition) {
		if err != nil {
			return PartitionResult{}, err
		}
		if seed.ID <= w.HeldTo {
			rejects = append(rejects, dataset.Reject{
				ID: seed.ID, Stage: "select", Reason: "held_out", Instruction: seed.Instruction,
				Source: seed.Source, Document: seed.Document, Offset: seed.Offset,
			})
			continue
		}
		rows = append(rows, dataset.Example{
			ID: seed.ID, Origin: dataset.OriginSeed, System: prompt.TagSeed, Instruction: seed.Instruction, Output: seed.Output,
			Source: seed.Source, Document: seed.Document, Offset: seed.Offset,
		})
	}
	if !w.Ratings.IsZero() {
		unfit, found, err := s.instructionRules(ctx, w)
		if err != nil {
			return PartitionResult{}, err
		}
		contaminated = found
		for r, err := range dataset.RowsOf[dataset.Rating](ctx, s.Store, w.Ratings, w.Bits, w.Partition) {
			if err != nil {
				return PartitionResult{}, err
			}
			reason, detail := "below_threshold", fmt.Sprintf("score %g of %g", r.Score, w.Threshold)
			if r.Score >= w.Threshold {
				reason, detail = unfit(r.Instruction)
			}
			if reason != "" {
				rejects = append(rejects, dataset.Reject{
					ID: r.ID, Stage: "select", Reason: reason, Detail: detail,
					Instruction: r.Instruction, Source: r.Source, Document: r.Document, Offset: r.Offset,
				})
				continue
			}
			rows = append(rows, exampleOf(r))
		}
	}
	activity.RecordHeartbeat(ctx, len(rows))
	receipt := dataset.Receipt{Partition: w.Partition, Input: int64(len(rows) + len(rejects)), Contaminated: contaminated}
	receipt, err := dataset.WritePartition(ctx, s.Store, w.Output, w.Bits, w.Partition, rows, rejects, receipt)
	if err != nil {
		return PartitionResult{}, err
	}
	return PartitionResult{Receipt: receipt, Done: true}, nil
}

func exampleOf(r dataset.Rating) dataset.Example {
	return dataset.Example{
		ID: r.ID, Origin: dataset.OriginAugmented, System: prompt.TagAugmented, Instruction: r.Instruction, Output: r.Output,
		Score: r.Score, Reason: r.Reason, Iteration: r.Iteration, Judge: r.Judge, JudgePrompt: r.JudgePrompt,
		Generator: r.Generator, Prompt: r.Prompt, Source: r.Source, Document: r.Document, Offset: r.Offset,
	}
}
