package config

import "time"

// Run is the spec of a self-training run: what goes in, which models do what, when it stops, what it may cost.
// It names providers, trainers and servers; what these are stands in the settings of the worker.
type Run struct {
	// Name of the run and of its workflow; starting the same spec twice under one name is one run.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9._-]{0\\,62}$" try:"my-run (lower-case letters, digits, dots and dashes)"`
	// Human-written pairs of instruction and output.
	Seeds []Source `yaml:"seeds" json:"seeds" jsonschema:"required,minItems=1,maxItems=1000" try:"[{path: seeds.jsonl}]"`
	// Unlabelled documents, which are cut into segments.
	Documents []Source `yaml:"documents" json:"documents" jsonschema:"required,minItems=1,maxItems=1000" try:"[{path: pages/}]"`
	// How documents are cut and cleaned.
	Segments Segments `yaml:"segments" json:"segments"`
	// Segments that are dropped since another says almost the same.
	NearDuplicates NearDuplicates `yaml:"near_duplicates" json:"near_duplicates,omitzero"`
	// What evaluation sets hold, and segments must not.
	Decontaminate Decontaminate `yaml:"decontaminate" json:"decontaminate,omitzero"`
	// How datasets are laid out.
	Data Data `yaml:"data" json:"data"`
	// What is trained, by whom, and where the results answer.
	Model Model `yaml:"model" json:"model" jsonschema:"required"`
	// The generation of one instruction for each segment.
	Augment Augment `yaml:"augment" json:"augment"`
	// The rating of every candidate.
	Rate Rate `yaml:"rate" json:"rate"`
	// The selection of rated candidates.
	Curate Curate `yaml:"curate" json:"curate"`
	// Iterations of rating, selecting and training. The paper uses 2.
	Iterations int `yaml:"iterations" json:"iterations" jsonschema:"minimum=1,maximum=100"`
	// What the run may spend; it stops before it would cross a limit and waits.
	Budget Budget `yaml:"budget" json:"budget"`
	// Gates at which the run waits for a person before it goes on: finetune is before each training, publish before anything is pushed.
	Approve []string `yaml:"approve" json:"approve" jsonschema:"enum=finetune,enum=publish,uniqueItems=true"`
	// The user's own templates in place of the embedded ones.
	Prompts Prompts `yaml:"prompts" json:"prompts"`
	// Evaluates the model of each iteration. Absent: none is.
	Evaluate *Evaluate `yaml:"evaluate" json:"evaluate,omitempty"`
	// Compares each model with the one before on seed prompts that are held out. Absent, as in the paper: every model is taken.
	Gate *Gate `yaml:"gate" json:"gate,omitempty"`
	// Rules by which the run ends before its last iteration.
	Stop *Stop `yaml:"stop" json:"stop,omitempty"`
	// Where the training sets go when the run has ended well, each iteration's as a config (subset) called iteration-1, iteration-2 and so on. Absent: nowhere; starter push does it later.
	Publish *Push `yaml:"publish" json:"publish,omitempty"`
}

// Source is one input: local files, which the starter uploads, objects in S3, a dataset of the Hugging Face Hub, or a file on
// the web.
type Source struct {
	// A file, folder or pattern (pages/**/*.html) relative to the spec's own folder; s3://bucket/key, a prefix that ends in a slash, or a pattern; hf://owner/name for a dataset of the Hub, hf://owner/name/file or pattern for files of it; or an https:// address that the worker's settings allow.
	Path string `yaml:"path" json:"path" jsonschema:"required"`
	// What the file holds. Seeds: auto, pairs, alpaca, chat, oasst (Open Assistant) or parquet. Documents: auto, html, text, jsonl, csv, tsv, warc, wet, zip, tar, parquet or paths (a Common Crawl list of files). The default goes by the name and the first bytes; seeds by the names of their fields.
	Format string `yaml:"format" json:"format" jsonschema:"enum=auto,enum=pairs,enum=alpaca,enum=chat,enum=oasst,enum=html,enum=text,enum=jsonl,enum=csv,enum=tsv,enum=warc,enum=wet,enum=zip,enum=tar,enum=parquet,enum=paths"`
	// Seeds, prompts and outputs of evaluations: the field or column that holds the instruction; a.b for one inside another. Left as it is, auto also finds other usual names.
	Instruction string `yaml:"instruction" json:"instruction"`
	// Seeds and outputs of evaluations: the field or column that holds the output.
	Output string `yaml:"output" json:"output"`
	// Labelled sets: the field or column that holds the label; default: label.
	Label string `yaml:"label" json:"label,omitempty"`
	// Documents in JSONL, CSV and Parquet: the field or column that holds the text; a.b for one inside another.
	Text string `yaml:"text" json:"text"`
	// Documents in JSONL, CSV and Parquet: the field or column that holds the title, where there is one; default: title.
	Title string `yaml:"title" json:"title,omitempty"`
	// Open Assistant conversations and documents: the language that is kept, any for all.
	Language string `yaml:"language" json:"language"`
	// Hub: config of the dataset; default: the one that the dataset calls so.
	Config string `yaml:"config" json:"config,omitempty"`
	// Hub: split; default: the only one, else train.
	Split string `yaml:"split" json:"split,omitempty"`
	// Hub: branch, tag or commit; default: main. A run reads the commit that it found when it began.
	Revision string `yaml:"revision" json:"revision,omitempty"`
	// Files at most, chosen evenly by their names; 0: all.
	Limit int `yaml:"limit" json:"limit,omitempty" jsonschema:"minimum=0,maximum=2000000"`
}

// Data sets how datasets are laid out.
type Data struct {
	// Rows in a partition, at most, on average.
	RowsPerPartition int `yaml:"rows_per_partition" json:"rows_per_partition" jsonschema:"minimum=1,maximum=4096"`
	// Partitions at least; rounded up to a power of two.
	MinPartitions int `yaml:"min_partitions" json:"min_partitions" jsonschema:"minimum=1,maximum=65536"`
	// Tasks of ingest and selection handed out at once, over all workers together. A worker does as many at a time as it has cores, and four at least.
	TasksInWork int `yaml:"tasks_in_work" json:"tasks_in_work,omitempty" jsonschema:"minimum=1,maximum=1000"`
}

// Model says what is trained, by whom, and where the results answer.
type Model struct {
	// The base model's name at the trainer. Every iteration starts from it.
	Base string `yaml:"base" json:"base" jsonschema:"required" try:"what the trainer calls the model to begin from, such as Qwen/Qwen3-8B-Base"`
	// The provider at which the untrained base model answers, for the preflight; default: the server's provider.
	Provider string `yaml:"provider" json:"provider"`
	// A trainer of the worker's settings.
	Trainer string `yaml:"trainer" json:"trainer" jsonschema:"required" try:"a name under trainers in the worker's settings"`
	// A server of the worker's settings; default: the one with the trainer's name.
	Server string `yaml:"server" json:"server"`
	// Which of its models go on answering when the run has ended, where the server loads or starts them itself: last (the default), all or none.
	Keep string `yaml:"keep" json:"keep,omitempty" jsonschema:"enum=last,enum=all,enum=none"`
	// Share of the training set that is held out and given to the trainer as validation set; the same rows in every iteration.
	Validation float64 `yaml:"validation" json:"validation,omitempty" jsonschema:"minimum=0,maximum=0.5"`
	// Replaces single hyperparameters of the paper.
	Hyper Hyper `yaml:"hyperparameters" json:"hyperparameters"`
}

// Hyper overrides the paper's hyperparameters; a field that is absent or 0 keeps the paper's value for the number of examples.
type Hyper struct {
	// Passes over the training set; not together with steps.
	Epochs float64 `yaml:"epochs" json:"epochs" jsonschema:"minimum=0,maximum=1000"`
	// Optimizer steps; not together with epochs.
	Steps int `yaml:"steps" json:"steps" jsonschema:"minimum=0,maximum=10000000"`
	// Examples in a step.
	BatchSize int `yaml:"batch_size" json:"batch_size" jsonschema:"minimum=0,maximum=65536"`
	// Learning rate at the start.
	LearningRate float64 `yaml:"learning_rate" json:"learning_rate" jsonschema:"minimum=0,maximum=1"`
	// Learning rate at the end.
	LearningRateEnd float64 `yaml:"learning_rate_end" json:"learning_rate_end" jsonschema:"minimum=0,maximum=1"`
	// Weight decay.
	WeightDecay float64 `yaml:"weight_decay" json:"weight_decay" jsonschema:"minimum=0,maximum=1"`
	// Dropout.
	Dropout float64 `yaml:"dropout" json:"dropout" jsonschema:"minimum=0,exclusiveMaximum=1"`
	// Seed of the trainer's random numbers.
	Seed int64 `yaml:"seed" json:"seed"`
}

// Sampling is how a model is asked.
type Sampling struct {
	// Sampling temperature; 0 is greedy.
	Temperature float64 `yaml:"temperature" json:"temperature" jsonschema:"minimum=0,maximum=2"`
	// Nucleus sampling: the probability mass kept.
	TopP float64 `yaml:"top_p" json:"top_p" jsonschema:"exclusiveMinimum=0,maximum=1"`
	// Longest answer, in tokens.
	MaxTokens int `yaml:"max_tokens" json:"max_tokens" jsonschema:"minimum=1,maximum=1000000"`
	// Times that a row is asked until its answer can be read; then it is rejected.
	Attempts int `yaml:"attempts" json:"attempts" jsonschema:"minimum=1,maximum=20"`
	// Calls in flight wanted, over all workers together.
	InFlight int `yaml:"in_flight" json:"in_flight" jsonschema:"minimum=1,maximum=100000"`
	// How questions reach the endpoint: live (one call each, at once), batch (many in a file, through the Batch API: cheaper, and done within 24 hours), or auto: batch where the worker's settings say that the provider has the Batch API and takes something off the price there, and the deadline leaves time for it.
	Delivery string `yaml:"delivery" json:"delivery" jsonschema:"enum=live,enum=batch,enum=auto"`
	// With delivery auto: when the stage is wanted, from its beginning. Under 24h everything is asked live; later, what no batch would bring in time. 0: the cheaper way, however long it takes.
	Deadline Duration `yaml:"deadline" json:"deadline,omitempty" min:"0s" max:"8760h"`
}

// Ways of delivery.
const (
	DeliveryLive  = "live"
	DeliveryBatch = "batch"
	DeliveryAuto  = "auto"
)

// batchWindow is how long a Batch API may take.
const batchWindow = 24 * time.Hour

// ByBatch reports whether questions to a provider's model go through its Batch API: asked for by name, or as the cheaper of
// two ways that keep the deadline.
func (s Sampling) ByBatch(p Provider, model string) bool {
	if s.Delivery != DeliveryAuto {
		return s.Delivery == DeliveryBatch
	}
	price, known := p.PriceOfTrained(model)
	cheaper := p.BatchDiscount > 0 && (!known || price.Input > 0 || price.Output > 0)
	return p.Batch && cheaper && (s.Deadline == 0 || time.Duration(s.Deadline) >= batchWindow)
}

// Modes of augmentation.
const (
	// AugmentAuto is once when the model rates itself and each with a fixed judge.
	AugmentAuto = "auto"
	// AugmentOnce generates instructions once, as the paper does.
	AugmentOnce = "once"
	// AugmentEach trains the backward model again and generates again in each iteration.
	AugmentEach = "each"
)

// Augment is the self-augmentation step: one generated instruction for each segment.
type Augment struct {
	// When instructions are generated: once (the paper), each (in every iteration), or auto: once when the model rates itself, each with a fixed judge.
	Mode     string `yaml:"mode" json:"mode" jsonschema:"enum=auto,enum=once,enum=each"`
	Sampling `yaml:",inline"`
}

// What goes on answering after a run.
const (
	KeepLast = "last" // the newest model that answers instructions
	KeepAll  = "all"
	KeepNone = "none"
)

// Methods of rating.
const (
	// MethodText reads the score from the judge's last line.
	MethodText = "text"
	// MethodLogProbs takes the expected score from the probabilities of the judge's score token.
	MethodLogProbs = "logprobs"
	// MethodJSON has the judge answer with a JSON object.
	MethodJSON = "json"
)

// Rubrics of the embedded rating templates.
const (
	// RubricPoints has the judge choose one of five levels, as in the paper.
	RubricPoints = "points"
	// RubricAdditive has the judge count one point for each criterion that is met.
	RubricAdditive = "additive"
)

// Rate is the rating of the self-curation step.
type Rate struct {
	// How a score is taken from an answer: text (its last line), logprobs (the expected value over the probabilities of the score token; finer, for endpoints that tell them) or json (an object of reason and score; for endpoints that can be held to a JSON schema).
	Method string `yaml:"method" json:"method" jsonschema:"enum=text,enum=logprobs,enum=json"`
	// What the embedded template asks for: points (the five levels of the paper) or additive (one point for each criterion met, which suits weaker judges). A template of your own decides for itself.
	Rubric string `yaml:"rubric" json:"rubric" jsonschema:"enum=points,enum=additive"`
	// How the judge is tried out in each iteration.
	Calibration Calibration `yaml:"calibration" json:"calibration"`
	// A fixed model that rates. Absent: the model of the iteration before rates, as in the paper.
	Judge *Judge `yaml:"judge" json:"judge"`
	// Ratings of each row that are averaged.
	Samples  int `yaml:"samples" json:"samples" jsonschema:"minimum=1,maximum=100"`
	Sampling `yaml:",inline"`
}

// Calibration tries the judge out in each iteration, on pairs that are known to be good or bad.
type Calibration struct {
	// Seed pairs that are rated beside as many pairs of a seed's instruction with another seed's output. 0: the judge is not tried out.
	Pairs int `yaml:"pairs" json:"pairs" jsonschema:"minimum=0,maximum=1000"`
}

// Judge is a fixed model that rates in place of the model itself. The result is then distilled, and reports say so.
type Judge struct {
	// A provider of the worker's settings.
	Provider string `yaml:"provider" json:"provider" jsonschema:"required"`
	// The model's name at the provider.
	Model string `yaml:"model" json:"model" jsonschema:"required"`
}

// Curate is the selection.
type Curate struct {
	// Rows with a score of at least this are kept. 4.5 is the paper's A5, 4 its A4.
	Threshold float64 `yaml:"threshold" json:"threshold" jsonschema:"minimum=1,maximum=5"`
	// Pairs with a longer instruction are rejected; in characters, 0: off. REInstruct: 500.
	MaxInstructionChars int `yaml:"max_instruction_chars" json:"max_instruction_chars,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// Pairs whose instruction contains one of these words, in any case, are rejected. REInstruct: this.
	InstructionWords []string `yaml:"instruction_words" json:"instruction_words,omitempty" jsonschema:"maxItems=1000"`
}

// Budget caps what a run may spend on model calls. Zero means no cap.
type Budget struct {
	// US dollars. Needs a price for every model that the run asks.
	USD float64 `yaml:"usd" json:"usd" jsonschema:"minimum=0,maximum=1000000000"`
	// Calls.
	Calls int64 `yaml:"calls" json:"calls" jsonschema:"minimum=0"`
	// Tokens, of prompts and answers together.
	Tokens int64 `yaml:"tokens" json:"tokens" jsonschema:"minimum=0"`
}

// Prompts replaces embedded templates by the user's own files. The starter puts the files' texts in place of their paths.
type Prompts struct {
	// File with the template that asks for an instruction.
	Backtranslate string `yaml:"backtranslate" json:"backtranslate"`
	// File with the template that asks for a rating.
	Rate string `yaml:"rate" json:"rate"`
}

// DefaultRun returns a spec with every default filled in: the paper's values where it names one. Name, seeds, documents and
// the model have none.
func DefaultRun() Run {
	sampling := Sampling{Temperature: 0.7, TopP: 0.9, MaxTokens: 512, Attempts: 3, InFlight: 64, Delivery: DeliveryLive}
	r := Run{
		Segments: Segments{
			MinChars: 600, MaxChars: 3000, Long: LongReject, RepeatNGram: 3, RepeatJaccard: 0.6, UppercaseRatio: 0.9,
			LanguageConfidence: 0.8,
		},
		NearDuplicates: NearDuplicates{Threshold: 0.8, NGram: 5, Permutations: 128},
		Decontaminate:  Decontaminate{NGram: 13, Instructions: true},
		Data:           Data{RowsPerPartition: 4096, MinPartitions: 1, TasksInWork: 64},
		Augment:        Augment{Mode: AugmentAuto, Sampling: sampling},
		Rate:           Rate{Method: MethodText, Rubric: RubricPoints, Calibration: Calibration{Pairs: 50}, Samples: 1, Sampling: sampling},
		Curate:         Curate{Threshold: 4.5},
		Iterations:     2,
	}
	r.Rate.MaxTokens = 1024
	return r
}

// setDefaults fills a source that a list is about to hold.
func (s *Source) setDefaults() {
	*s = Source{Format: "auto", Instruction: "instruction", Output: "output", Text: "text", Language: "en"}
}

// AugmentMode returns once or each: what the mode auto means for this run.
func (r Run) AugmentMode() string {
	switch {
	case r.Augment.Mode == AugmentOnce || r.Augment.Mode == AugmentEach:
		return r.Augment.Mode
	case r.Rate.Judge != nil:
		return AugmentEach
	default:
		return AugmentOnce
	}
}

// ServerName returns the name of the server that makes trained models answer: the trainer's own where the spec names none.
func (r Run) ServerName() string {
	if r.Model.Server != "" {
		return r.Model.Server
	}
	return r.Model.Trainer
}

// Gates are the places at which a run can wait for a person.
func Gates() []string { return []string{"finetune"} }
