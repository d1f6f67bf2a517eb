// Package dataset keeps rows in immutable, content-addressed Parquet datasets, so that equal inputs give equal objects.
package dataset

// Row is one row of a dataset. Its id names what the row is: 32 lower-case hexadecimal characters, the first
// half of a SHA-256 digest.
type Row interface {
	// RowID returns the content address that decides in which partition the row lives.
	RowID() string
}

// Segment is a cleaned piece of a document: a future output. Its id is the digest of its text.
type Segment struct {
	ID       string `parquet:"id"`
	Text     string `parquet:"text"`
	Title    string `parquet:"title"`
	Header   string `parquet:"header"`
	Source   string `parquet:"source"`   // the file, object or URL that the document came from
	Document string `parquet:"document"` // the document within the source: a path, a URL or a line number
	Offset   int64  `parquet:"offset"`   // where the segment starts in the document's text, in characters
}

// Seed is a human-written pair. Its id is the digest of both texts.
type Seed struct {
	ID          string `parquet:"id"`
	Instruction string `parquet:"instruction"`
	Output      string `parquet:"output"`
	Source      string `parquet:"source"`
	Document    string `parquet:"document"`
	Offset      int64  `parquet:"offset"` // the record's number in its source, from 0
}

// Candidate is a generated instruction together with the segment it was written for, whose id it keeps.
type Candidate struct {
	ID          string `parquet:"id"`
	Instruction string `parquet:"instruction"`
	Output      string `parquet:"output"`
	Source      string `parquet:"source"`
	Document    string `parquet:"document"`
	Offset      int64  `parquet:"offset"`
	Generator   string `parquet:"generator"` // revision of the backward model that wrote the instruction
	Prompt      string `parquet:"prompt"`    // template that asked for it, as name@version-digest
}

// Rating is a candidate with the score that a judge gave it in one iteration.
type Rating struct {
	ID          string    `parquet:"id"`
	Instruction string    `parquet:"instruction"`
	Output      string    `parquet:"output"`
	Score       float64   `parquet:"score"`  // mean of Scores, from 1 to 5
	Reason      string    `parquet:"reason"` // the judge's reasoning, of the sample nearest the mean
	Scores      []float64 `parquet:"scores,list"`
	Iteration   int32     `parquet:"iteration"`
	Judge       string    `parquet:"judge"` // revision of the judging model
	JudgePrompt string    `parquet:"judge_prompt"`
	Generator   string    `parquet:"generator"`
	Prompt      string    `parquet:"prompt"`
	Source      string    `parquet:"source"`
	Document    string    `parquet:"document"`
	Offset      int64     `parquet:"offset"`
}

// Origins of a training example.
const (
	OriginSeed      = "seed"
	OriginAugmented = "augmented"
)

// Example is one row of a training set D ∪ A_k: what a model is fine-tuned on, with where it came from.
type Example struct {
	ID          string  `parquet:"id"`
	Origin      string  `parquet:"origin"` // seed or augmented
	System      string  `parquet:"system"` // S_a on seeds, S_w on augmented rows (paper, section 2.1)
	Instruction string  `parquet:"instruction"`
	Output      string  `parquet:"output"`
	Score       float64 `parquet:"score"` // 0 on seeds, which nobody rated
	Reason      string  `parquet:"reason"`
	Iteration   int32   `parquet:"iteration"`
	Judge       string  `parquet:"judge"`
	JudgePrompt string  `parquet:"judge_prompt"`
	Generator   string  `parquet:"generator"`
	Prompt      string  `parquet:"prompt"`
	Source      string  `parquet:"source"`
	Document    string  `parquet:"document"`
	Offset      int64   `parquet:"offset"`
}

// Reject is a row that did not go on to the next dataset, and why.
type Reject struct {
	ID          string `parquet:"id"`
	Stage       string `parquet:"stage"`  // ingest, backtranslate, rate, curate …
	Reason      string `parquet:"reason"` // a short fixed word such as too_short, duplicate, no_score
	Detail      string `parquet:"detail"`
	Instruction string `parquet:"instruction"`
	Text        string `parquet:"text"` // the row's text, or the answer that could not be read; at most 4,000 characters
	Source      string `parquet:"source"`
	Document    string `parquet:"document"`
	Offset      int64  `parquet:"offset"`
}

// RowID returns the digest of the segment's text.
func (r Segment) RowID() string { return r.ID }

// RowID returns the digest of the pair's two texts.
func (r Seed) RowID() string { return r.ID }

// RowID returns the id of the segment that the instruction was written for.
func (r Candidate) RowID() string { return r.ID }

// RowID returns the id of the segment that was rated.
func (r Rating) RowID() string { return r.ID }

// RowID returns the id of the seed pair or segment behind the example.
func (r Example) RowID() string { return r.ID }

// RowID returns the id of the row that was turned away.
func (r Reject) RowID() string { return r.ID }
