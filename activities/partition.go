// Package activities holds the side effects of a run: it adapts Temporal's calls to what internal/ does.
package activities

import (
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/ledger"
	"github.com/selfalign/selfalign/internal/stage"
)

// Work is what is done to every partition of a dataset. Exactly one field is set.
type Work struct {
	Ask    *stage.Work `json:"ask,omitempty"`    // ask a model about every row
	Select *SelectWork `json:"select,omitempty"` // D ∪ A_k from ratings
	Merge  *MergeWork  `json:"merge,omitempty"`  // rows of ingest spills
	Drop   *DropWork   `json:"drop,omitempty"`   // segments without near-duplicates
	Keep   *KeepWork   `json:"keep,omitempty"`   // scored responses
}

// Output returns the folder of the dataset that the work makes.
func (w Work) Output() string {
	switch {
	case w.Ask != nil:
		return w.Ask.Output
	case w.Select != nil:
		return w.Select.Output
	case w.Merge != nil:
		return w.Merge.Output
	case w.Drop != nil:
		return w.Drop.Output
	case w.Keep != nil:
		return w.Keep.Output
	}
	return ""
}

// Reasons for which a partition is handed back unfinished.
const (
	StopBudget    = stage.StopBudget
	StopCancelled = stage.StopCancelled
	StopBlocked   = "blocked" // needs a person; a Trouble says why
)

// Spending is what a run paid, over all attempts, and what it may have paid when a worker died.
type Spending = ledger.Spending

// PartitionResult is what became of a partition in one attempt.
type PartitionResult struct {
	Receipt dataset.Receipt `json:"receipt"`
	Done    bool            `json:"done"`
	Stop    string          `json:"stop,omitempty"` // why it is not done: StopBudget or StopCancelled
	Spending
}

// PartialSpending is what was paid for a partition that is not finished.
type PartialSpending struct {
	Partition int `json:"partition"`
	Spending
}

// SummaryOf returns a receipt as the summary of a range of one partition.
func SummaryOf(r dataset.Receipt) dataset.RangeSummary {
	return dataset.RangeSummary{
		From: r.Partition, To: r.Partition + 1,
		Input: r.Input, Rows: r.Rows, Rejected: r.Rejected, Digest: r.Digest, Bytes: r.Bytes,
		Reasons: r.Reasons, Histogram: r.Histogram, Lengths: r.Lengths,
		Usage: r.Usage, InDoubt: r.InDoubt, Reused: r.Reused, Answers: r.Answers, Contaminated: r.Contaminated,
	}
}
