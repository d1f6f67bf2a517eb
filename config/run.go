package config

// Run is the spec of a self-training run: what goes in, which models do what, when it stops, what it may cost.
// It names providers, trainers and servers; what these are stands in the settings of the worker.
type Run struct {
	Name       string   `yaml:"name" json:"name"`
	Seeds      []Source `yaml:"seeds" json:"seeds"`
	Documents  []Source `yaml:"documents" json:"documents"`
	Segments   Segments `yaml:"segments" json:"segments"`
	Data       Data     `yaml:"data" json:"data"`
	Model      Model    `yaml:"model" json:"model"`
	Augment    Augment  `yaml:"augment" json:"augment"`
	Rate       Rate     `yaml:"rate" json:"rate"`
	Curate     Curate   `yaml:"curate" json:"curate"`
	Iterations int      `yaml:"iterations" json:"iterations"` // T; the paper uses 2
	Budget     Budget   `yaml:"budget" json:"budget"`
	Approve    []string `yaml:"approve" json:"approve"` // gates that wait for a person: finetune
	Prompts    Prompts  `yaml:"prompts" json:"prompts"`
}

// Source is one input: a local file or folder (which the starter uploads) or an s3:// object or prefix.
type Source struct {
	Path        string `yaml:"path" json:"path"`
	Format      string `yaml:"format" json:"format"`           // seeds: auto, pairs, oasst; documents: auto, html, text, jsonl
	Instruction string `yaml:"instruction" json:"instruction"` // pairs: name of the field; default instruction
	Output      string `yaml:"output" json:"output"`           // pairs: name of the field; default output
	Text        string `yaml:"text" json:"text"`               // jsonl documents: name of the field; default text
	Language    string `yaml:"language" json:"language"`       // oasst: language kept; default en
}

// Segments are the rules by which documents are cut and cleaned (paper, section 3.1).
type Segments struct {
	MinChars       int      `yaml:"min_chars" json:"min_chars"`             // 600
	MaxChars       int      `yaml:"max_chars" json:"max_chars"`             // 3000
	RepeatNGram    int      `yaml:"repeat_ngram" json:"repeat_ngram"`       // words in an n-gram; 3
	RepeatJaccard  float64  `yaml:"repeat_jaccard" json:"repeat_jaccard"`   // two sentences above this are a repetition; 0.6
	UppercaseRatio float64  `yaml:"uppercase_ratio" json:"uppercase_ratio"` // a header with more capitals than this is dropped; 0.9
	Navigation     []string `yaml:"navigation" json:"navigation"`           // headers containing one of these are dropped
}

// Data sets how datasets are laid out.
type Data struct {
	RowsPerPartition int `yaml:"rows_per_partition" json:"rows_per_partition"` // at most, on average; 4096
	MinPartitions    int `yaml:"min_partitions" json:"min_partitions"`         // rounded up to a power of two; 1
}

// Model says what is trained, by whom, and where the results answer.
type Model struct {
	Base     string `yaml:"base" json:"base"`         // the base model's name at the trainer
	Provider string `yaml:"provider" json:"provider"` // provider where the untrained base model answers (for plan and preflight)
	Trainer  string `yaml:"trainer" json:"trainer"`   // a trainer of the worker's settings
	Server   string `yaml:"server" json:"server"`     // a server of the worker's settings; default: the one of the same name as the trainer
	Hyper    Hyper  `yaml:"hyperparameters" json:"hyperparameters"`
}

// Hyper overrides the paper's hyperparameters; a zero field keeps the paper's value for the number of examples.
type Hyper struct {
	Epochs          float64 `yaml:"epochs" json:"epochs"`
	Steps           int     `yaml:"steps" json:"steps"`
	BatchSize       int     `yaml:"batch_size" json:"batch_size"`
	LearningRate    float64 `yaml:"learning_rate" json:"learning_rate"`
	LearningRateEnd float64 `yaml:"learning_rate_end" json:"learning_rate_end"`
	WeightDecay     float64 `yaml:"weight_decay" json:"weight_decay"`
	Dropout         float64 `yaml:"dropout" json:"dropout"`
	Seed            int64   `yaml:"seed" json:"seed"`
}

// Sampling is how a model is asked.
type Sampling struct {
	Temperature float64 `yaml:"temperature" json:"temperature"`
	TopP        float64 `yaml:"top_p" json:"top_p"`
	MaxTokens   int     `yaml:"max_tokens" json:"max_tokens"`
	Attempts    int     `yaml:"attempts" json:"attempts"`   // times a row is asked until its answer parses; 3
	InFlight    int     `yaml:"in_flight" json:"in_flight"` // calls in flight wanted over all workers; 64
}

// Augment is the self-augmentation step.
type Augment struct {
	Mode     string `yaml:"mode" json:"mode"` // auto, once or each
	Sampling `yaml:",inline"`
}

// Rate is the self-curation step's rating.
type Rate struct {
	Judge    *Judge `yaml:"judge" json:"judge"`     // absent: the model of the iteration before rates, as in the paper
	Samples  int    `yaml:"samples" json:"samples"` // ratings averaged for each row; 1
	Sampling `yaml:",inline"`
}

// Judge is a fixed model that rates in place of the model itself.
type Judge struct {
	Provider string `yaml:"provider" json:"provider"`
	Model    string `yaml:"model" json:"model"`
}

// Curate is the selection.
type Curate struct {
	Threshold float64 `yaml:"threshold" json:"threshold"` // rows with a score of at least this are kept; 4.5, the paper's A_5
}

// Budget caps what a run may spend. Zero means no cap.
type Budget struct {
	USD    float64 `yaml:"usd" json:"usd"`
	Calls  int64   `yaml:"calls" json:"calls"`
	Tokens int64   `yaml:"tokens" json:"tokens"`
}

// Prompts replaces embedded templates by the user's own. The starter puts the files' texts in place of their paths.
type Prompts struct {
	Backtranslate string `yaml:"backtranslate" json:"backtranslate"`
	Rate          string `yaml:"rate" json:"rate"`
}
