package dataset

// The datasets of an evaluation.
const (
	KindComparisons Kind = "comparisons" // Comparison
	KindJudgements  Kind = "judgements"  // Judgement
)

// Comparison is a prompt with the outputs of a model and of its baseline, to be judged. Its id is PromptID of the instruction.
type Comparison struct {
	ID                string `parquet:"id"`
	Instruction       string `parquet:"instruction"`
	Output            string `parquet:"output"`   // of the model that is evaluated
	Baseline          string `parquet:"baseline"` // output of what it is compared with
	Generator         string `parquet:"generator"`
	BaselineGenerator string `parquet:"baseline_generator"`
	Source            string `parquet:"source"`
	Document          string `parquet:"document"`
	Offset            int64  `parquet:"offset"`
}

// Judgement is what became of one prompt of an evaluation.
type Judgement struct {
	ID                string  `parquet:"id"`
	Instruction       string  `parquet:"instruction"`
	Output            string  `parquet:"output"`
	Baseline          string  `parquet:"baseline"`
	Share             float64 `parquet:"share"`    // 1: the model's output is preferred, 0: the baseline's, 0.5: neither
	Outcome           string  `parquet:"outcome"`  // win, draw, loss, or why nothing was asked: missing_output, same_output, no_baseline, unjudged
	Forward           string  `parquet:"forward"`  // what the judge chose with the model's output first: model, baseline or tie; "" not readable
	Backward          string  `parquet:"backward"` // the same with the baseline's first
	Reason            string  `parquet:"reason"`
	Judge             string  `parquet:"judge"` // revision
	JudgePrompt       string  `parquet:"judge_prompt"`
	Generator         string  `parquet:"generator"`
	BaselineGenerator string  `parquet:"baseline_generator"`
	Source            string  `parquet:"source"`
	Document          string  `parquet:"document"`
	Offset            int64   `parquet:"offset"`
}

// RowID returns the digest of the instruction.
func (r Comparison) RowID() string { return r.ID }

// RowID returns the digest of the instruction.
func (r Judgement) RowID() string { return r.ID }
