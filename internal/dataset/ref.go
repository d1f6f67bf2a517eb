package dataset

// Kind says what a dataset's rows are.
type Kind string

// The datasets of a run, in the order in which they come to be.
const (
	KindSeeds      Kind = "seeds"
	KindSegments   Kind = "segments"
	KindCandidates Kind = "candidates"
	KindRatings    Kind = "ratings"
	KindTraining   Kind = "training"
)

// Ref points at a committed dataset. It is the only form in which a dataset enters a workflow's history.
type Ref struct {
	Kind     Kind   `json:"kind"`
	Dir      string `json:"dir"`      // key prefix in the bucket, without a slash at its end
	Bits     int    `json:"bits"`     // the dataset has 2^Bits partitions
	Rows     int64  `json:"rows"`     // rows kept
	Rejected int64  `json:"rejected"` // rows turned away
	Digest   string `json:"digest"`   // of all rows, independent of how they are encoded
}

// Partitions returns how many partitions the dataset has.
func (r Ref) Partitions() int { return 1 << r.Bits }

// IsZero reports whether the reference points at nothing.
func (r Ref) IsZero() bool { return r.Dir == "" }

// ModelRef names a model that answers requests. A newly trained model under an old name differs in Revision.
type ModelRef struct {
	Provider string `json:"provider"` // a provider of the worker's settings
	Name     string `json:"name"`     // the model's name in a request
	Revision string `json:"revision"` // digest of what it was trained on, or the name where it was not trained here
}

// Usage counts what was asked of models and what it cost.
type Usage struct {
	Calls            int64 `json:"calls"`
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	MicroUSD         int64 `json:"micro_usd"`     // cost in millionths of a US dollar, of the calls whose price is known
	UnknownPrice     int64 `json:"unknown_price"` // calls whose price is not known
}

// Add returns the sum of both.
func (u Usage) Add(v Usage) Usage {
	return Usage{
		Calls:            u.Calls + v.Calls,
		PromptTokens:     u.PromptTokens + v.PromptTokens,
		CompletionTokens: u.CompletionTokens + v.CompletionTokens,
		MicroUSD:         u.MicroUSD + v.MicroUSD,
		UnknownPrice:     u.UnknownPrice + v.UnknownPrice,
	}
}

// Minus returns the difference of both.
func (u Usage) Minus(v Usage) Usage {
	return Usage{
		Calls:            u.Calls - v.Calls,
		PromptTokens:     u.PromptTokens - v.PromptTokens,
		CompletionTokens: u.CompletionTokens - v.CompletionTokens,
		MicroUSD:         u.MicroUSD - v.MicroUSD,
		UnknownPrice:     u.UnknownPrice - v.UnknownPrice,
	}
}

// Receipt says what became of one partition. It travels in the key-value metadata of the partition's Parquet object.
type Receipt struct {
	Partition int                `json:"partition"`
	Input     int64              `json:"input"`               // rows that went in; Rows + Rejected = Input
	Rows      int64              `json:"rows"`                // rows kept
	Rejected  int64              `json:"rejected"`            // rows turned away
	Digest    string             `json:"digest"`              // of the kept rows in order of id
	Bytes     int64              `json:"bytes"`               // size of the Parquet object of kept rows
	Reasons   map[string]int64   `json:"reasons,omitempty"`   // reject reason → rows
	Histogram map[string]int64   `json:"histogram,omitempty"` // score → rows, in datasets that have one
	Lengths   map[string]Moments `json:"lengths,omitempty"`   // characters, by text column
	Usage     Usage              `json:"usage"`               // what the run that made the partition paid for its answers, over all attempts
	InDoubt   Usage              `json:"in_doubt"`            // calls in flight at a crash, counted as spent
	Reused    int64              `json:"reused"`              // rows answered from the ledger without paying

	RejectedDigest string `json:"rejected_digest,omitempty"` // of the rows turned away, in order; names their object

	Answers Answers `json:"answers,omitzero"` // of models, that the rows were made of or turned away for

	Contaminated map[string]int64 `json:"contaminated,omitempty"` // evaluation set → rows turned away since their instruction shares an n-gram with it
}

// Answers counts what became of a model's answers, all attempts together. Refusals of the endpoint are none.
type Answers struct {
	Read       int64 `json:"read"`                 // answers that a value was read out of
	Unreadable int64 `json:"unreadable,omitempty"` // answers that were asked for again, or made a row be turned away
	TextScore  int64 `json:"text_score,omitempty"` // of Read, scores taken from the text since the score's token was not found
}

// Add returns the sum of both.
func (a Answers) Add(b Answers) Answers {
	return Answers{Read: a.Read + b.Read, Unreadable: a.Unreadable + b.Unreadable, TextScore: a.TextScore + b.TextScore}
}

// ParseRate returns the share of answers that were read; 1 of none.
func (a Answers) ParseRate() float64 {
	if a.Read+a.Unreadable == 0 {
		return 1
	}
	return float64(a.Read) / float64(a.Read+a.Unreadable)
}

// RangeSummary adds up the receipts of consecutive partitions [From, To). The receipts themselves lie in S3.
type RangeSummary struct {
	From      int                `json:"from"`
	To        int                `json:"to"`
	Input     int64              `json:"input"`
	Rows      int64              `json:"rows"`
	Rejected  int64              `json:"rejected"`
	Digest    string             `json:"digest"`
	Bytes     int64              `json:"bytes"`
	Reasons   map[string]int64   `json:"reasons,omitempty"`
	Histogram map[string]int64   `json:"histogram,omitempty"`
	Lengths   map[string]Moments `json:"lengths,omitempty"`
	Usage     Usage              `json:"usage"`
	InDoubt   Usage              `json:"in_doubt"`
	Reused    int64              `json:"reused"`
	Key       string             `json:"key"` // the range manifest with every receipt
	Answers   Answers            `json:"answers,omitzero"`

	Contaminated map[string]int64 `json:"contaminated,omitempty"`
}

// Manifest describes a dataset. It is written last: a dataset without one does not exist.
type Manifest struct {
	Format      int                `json:"format"` // 1
	Kind        Kind               `json:"kind"`
	Bits        int                `json:"bits"`
	Input       int64              `json:"input"`
	Rows        int64              `json:"rows"`
	Rejected    int64              `json:"rejected"`
	Bytes       int64              `json:"bytes"`
	Digest      string             `json:"digest"`
	Columns     []string           `json:"columns"`
	Reasons     map[string]int64   `json:"reasons,omitempty"`
	Histogram   map[string]int64   `json:"histogram,omitempty"`
	Parents     []Ref              `json:"parents,omitempty"`     // lineage: the datasets it was made from
	Origins     []Origin           `json:"origins,omitempty"`     // seeds and segments: the sources, as they were when the run began
	Fingerprint string             `json:"fingerprint,omitempty"` // of the task that made it: template, model revision, sampling
	Model       *ModelRef          `json:"model,omitempty"`       // the model that was asked
	Tokenizer   string             `json:"tokenizer,omitempty"`   // whose chat template it was asked with, applied here: hf://owner/name@commit or a path; chat_template.json beside this has its text
	Iteration   int                `json:"iteration,omitempty"`
	Run         string             `json:"run,omitempty"`
	Spec        string             `json:"spec,omitempty"`    // digest of the run spec
	Ranges      []RangeSummary     `json:"ranges"`            // where every partition's receipt is found
	Lengths     map[string]Moments `json:"lengths,omitempty"` // characters, by text column
	Answers     Answers            `json:"answers,omitzero"`

	Contaminated map[string]int64 `json:"contaminated,omitempty"` // as of Receipt
}

// Moments are the sums from which a mean and a standard deviation follow. They add up exactly, in any order.
type Moments struct {
	N          int64 `json:"n"`
	Sum        int64 `json:"sum"`
	SumSquares int64 `json:"sum_squares"`
}
