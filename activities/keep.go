package activities

import (
	"context"
	"fmt"
	"slices"

	"go.temporal.io/sdk/activity"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// KeepWork makes one partition of a result of the generate-and-score recipe from responses and their ratings.
type KeepWork struct {
	Kind      dataset.Kind `json:"kind"` // curated, or preferences
	Responses dataset.Ref  `json:"responses"`
	Ratings   dataset.Ref  `json:"ratings"` // of them, with the same ids
	Scorer    string       `json:"scorer"`  // name of the model that scored
	Author    string       `json:"author"`  // name of the model that answered; "": what the rows say
	Best      bool         `json:"best"`    // of several answers to a prompt the best
	MinScore  float64      `json:"min_score"`
	MinGap    float64      `json:"min_gap"`
	Output    string       `json:"output"`
	Bits      int          `json:"bits"`
	Partition int          `json:"partition"`
}

// KeepPartition joins responses with their ratings and keeps those that are wanted, each other with a reason; or makes
// preferences of the best and the worst answer to each prompt. Answers to a prompt are in one partition.
func (s *Sets) KeepPartition(ctx context.Context, w KeepWork) (PartitionResult, error) {
	rated := map[string]dataset.Rating{}
	for r, err := range dataset.RowsOf[dataset.Rating](ctx, s.Store, w.Ratings, w.Bits, w.Partition) {
		if err != nil {
			return PartitionResult{}, err
		}
		rated[r.ID] = r
	}
	activity.RecordHeartbeat(ctx, len(rated))
	var prompts []string // in order of their first answer
	answers := map[string][]dataset.Scored{}
	for r, err := range dataset.RowsOf[dataset.Response](ctx, s.Store, w.Responses, w.Bits, w.Partition) {
		if err != nil {
			return PartitionResult{}, err
		}
		rating, ok := rated[r.ID]
		if !ok {
			continue // rejected when it was rated, where its reason stands
		}
		if _, ok := answers[r.PromptID]; !ok {
			prompts = append(prompts, r.PromptID)
		}
		answers[r.PromptID] = append(answers[r.PromptID], scoredOf(r, rating, w))
	}
	for _, list := range answers {
		slices.SortStableFunc(list, better)
	}
	if w.Kind == dataset.KindPreferences {
		return commitKept(ctx, s, w, preferences(prompts, answers, w))
	}
	return commitKept(ctx, s, w, kept(prompts, answers, w))
}

// selection is what becomes of a partition's rows.
type selection[T dataset.Row] struct {
	rows    []T
	rejects []dataset.Reject
}

func commitKept[T dataset.Row](ctx context.Context, s *Sets, w KeepWork, made selection[T]) (PartitionResult, error) {
	activity.RecordHeartbeat(ctx, len(made.rows))
	receipt := dataset.Receipt{Partition: w.Partition, Input: int64(len(made.rows) + len(made.rejects))}
	receipt, err := dataset.WritePartition(ctx, s.Store, w.Output, w.Bits, w.Partition, made.rows, made.rejects, receipt)
	if err != nil {
		return PartitionResult{}, err
	}
	return PartitionResult{Receipt: receipt, Done: true}, nil
}

func scoredOf(r dataset.Response, rating dataset.Rating, w KeepWork) dataset.Scored {
	author := r.Generator
	if w.Author != "" {
		author = w.Author
	}
	return dataset.Scored{
		ID: r.ID, PromptID: r.PromptID, Sample: r.Sample, System: r.System, Instruction: r.Instruction, Generation: r.Output,
		GenerationModel: author, GenerationPrompt: r.Prompt, Score: rating.Score, Reason: rating.Reason,
		ScoringModel: w.Scorer, ScoringPrompt: rating.JudgePrompt, Source: r.Source, Document: r.Document, Offset: r.Offset,
	}
}

// better orders answers to a prompt: the highest score first, of equals the earliest.
func better(a, b dataset.Scored) int {
	switch {
	case a.Score > b.Score:
		return -1
	case a.Score < b.Score:
		return 1
	case a.Sample != b.Sample:
		return int(a.Sample - b.Sample)
	case a.ID < b.ID:
		return -1
	}
	return 1
}

// kept chooses rows. Lists of answers are in order of better.
func kept(prompts []string, answers map[string][]dataset.Scored, w KeepWork) selection[dataset.Scored] {
	var out selection[dataset.Scored]
	for _, prompt := range prompts {
		for i, row := range answers[prompt] {
			reason, detail := "", ""
			switch {
			case row.Score < w.MinScore:
				reason, detail = "below_threshold", fmt.Sprintf("score %g of %g", row.Score, w.MinScore)
			case w.Best && i > 0:
				reason, detail = "not_best", fmt.Sprintf("score %g, the best has %g", row.Score, answers[prompt][0].Score)
			}
			if reason == "" {
				out.rows = append(out.rows, row)
				continue
			}
			out.rejects = append(out.rejects, dataset.Reject{
				ID: row.ID, Stage: "keep", Reason: reason, Detail: detail, Instruction: row.Instruction, Text: row.Generation,
				Source: row.Source, Document: row.Document, Offset: row.Offset,
			})
		}
	}
	return out
}

// preferences makes a pair of each prompt that has two answers of different scores.
func preferences(prompts []string, answers map[string][]dataset.Scored, w KeepWork) selection[dataset.Preference] {
	var out selection[dataset.Preference]
	for _, prompt := range prompts {
		list := answers[prompt]
		best, worst := list[0], list[len(list)-1]
		gap := best.Score - worst.Score
		reason, detail := "", ""
		switch {
		case len(list) == 1:
			reason, detail = "one_answer", "a pair needs two"
		case gap <= 0 || gap < w.MinGap:
			reason, detail = "no_preference", fmt.Sprintf("the scores differ by %g", gap)
		case best.Generation == worst.Generation:
			reason, detail = "no_preference", "both answers are the same"
		}
		if reason != "" {
			out.rejects = append(out.rejects, dataset.Reject{
				ID: prompt, Stage: "keep", Reason: reason, Detail: detail, Instruction: best.Instruction,
				Source: best.Source, Document: best.Document, Offset: best.Offset,
			})
			continue
		}
		out.rows = append(out.rows, dataset.Preference{
			ID: prompt, System: best.System, Prompt: best.Instruction, Chosen: best.Generation, Rejected: worst.Generation,
			ChosenScore: best.Score, RejectedScore: worst.Score, ChosenReason: best.Reason, RejectedReason: worst.Reason,
			Model: best.GenerationModel, ScoringModel: best.ScoringModel, Source: best.Source, Document: best.Document, Offset: best.Offset,
		})
	}
	return out
}

// KeepBest tells whether a spec wants the best answer to each prompt alone.
func KeepBest(k config.Keep) bool { return k.Generations != config.GenerationsAll }
