package eval

// Result is one evaluation: runs/<run>/<iteration>/<name>/result.json, or runs/<run>/eval/<name>/result.json where it was asked for by
// itself. Workflows carry it as it is: it holds no rows.
type Result struct {
	Format    int    `json:"format"`    // 1
	Name      string `json:"name"`      // eval, gate, or the evaluation's own name
	Iteration int    `json:"iteration"` // of the run; 0 where there is none
	Model     string `json:"model"`     // as people call it: M2, a provider's model, a file
	Baseline  string `json:"baseline"`
	Judge     string `json:"judge"`
	// Revisions are what the ledger knows the three by; "" of a file.
	ModelRevision    string `json:"model_revision,omitempty"`
	BaselineRevision string `json:"baseline_revision,omitempty"`
	JudgeRevision    string `json:"judge_revision,omitempty"`
	// SelfJudged says that the judge is one of the two models, or was trained in the same run.
	SelfJudged bool   `json:"self_judged"`
	Tags       string `json:"tags"` // system prompts that the models answered under, the baseline's after a slash where they differ

	Prompts int64 `json:"prompts"` // in the set
	WinRate
	// NoBaseline and Unjudged prompts do not count in n: the baseline has no output, or the judge gave nothing readable in either order.
	NoBaseline int64 `json:"no_baseline"`
	Unjudged   int64 `json:"unjudged"`
	// Same outputs are draws for which nobody was asked.
	Same int64 `json:"same"`
	// Consistent is the share of judged prompts on which the judge said the same in both orders; Orders is its agreement
	// with itself, by Cohen's kappa over model, baseline and tie.
	Consistent float64   `json:"consistent"`
	Orders     Agreement `json:"orders"`
	// FirstPlace is how often the answer that stood first was preferred, of verdicts for one of both: 0.5 is no lean.
	FirstPlace float64 `json:"first_place"`
	// ParseRate is the share of the judge's answers that could be read, all attempts together.
	ParseRate float64 `json:"parse_rate"`

	LengthControlled *LengthControlled `json:"length_controlled,omitempty"` // nil of fewer than 10 comparisons

	Outcomes string `json:"outcomes"` // folder of the dataset with a row for each prompt
	Key      string `json:"key"`      // of this object
}

// Judged is how well a judge selects from a labelled set: runs/<run>/<iteration>/labelled/result.json.
type Judged struct {
	Format    int    `json:"format"` // 1
	Iteration int    `json:"iteration"`
	Judge     string `json:"judge"` // revision
	Selection
	ParseRate float64 `json:"parse_rate"`
	// WithPrevious is how far the judge agrees, on what is selected, with that of the iteration before; nil in the first.
	WithPrevious *Agreement `json:"with_previous,omitempty"`
	Key          string     `json:"key"`
}

// What a gate decides.
const (
	GoOn     = "go on"
	End      = "end"
	RollBack = "roll back"
	AskFor   = "ask"
)

// Verdict is what follows from comparing a model with the one before.
type Verdict struct {
	Result
	Policy   string `json:"policy"`
	Decision string `json:"decision"` // GoOn, End, RollBack or AskFor
	Better   bool   `json:"better"`   // the whole interval is above one half
	// Reason says it in words.
	Reason string `json:"reason"`
}

// Scaled is a scaling evaluation: runs/<run>/eval/<name>/scaling.json.
type Scaled struct {
	Format    int      `json:"format"` // 1
	Name      string   `json:"name"`
	Iteration int      `json:"iteration"` // whose curated set was cut
	Results   []Result `json:"results"`   // in the order of Points
	Scaling
	Key string `json:"key"`
}
