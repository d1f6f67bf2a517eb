package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Tags that models are asked with when they are evaluated.
const (
	TagsBoth      = "both"      // S_a and S_w, as the paper does at inference
	TagsSeed      = "seed"      // S_a
	TagsAugmented = "augmented" // S_w
	TagsNone      = "none"
)

// Contest is how two models are compared: both answer the same prompts, and a judge says which answer is better, asked in both
// orders.
type Contest struct {
	// Who compares. Absent: the fixed judge of rate.judge, else the older of both models, which is no impartial judge.
	Judge *Judge `yaml:"judge" json:"judge,omitempty"`
	// System prompts that the models answer under: both tags (the paper), seed (S_a), augmented (S_w) or none.
	Tags string `yaml:"tags" json:"tags" jsonschema:"enum=both,enum=seed,enum=augmented,enum=none"`
	// Prompts at most; the first by id, which are a fair sample.
	Limit int `yaml:"limit" json:"limit" jsonschema:"minimum=1,maximum=20000"`
	// How the models are asked.
	Answers Sampling `yaml:"answers" json:"answers"`
	// How the judge is asked.
	Compare Sampling `yaml:"compare" json:"compare"`
}

func defaultContest() Contest {
	return Contest{
		Tags: TagsBoth, Limit: 20000,
		Answers: Sampling{Temperature: 0.7, TopP: 0.9, MaxTokens: 2048, Attempts: 3, InFlight: 64, Delivery: DeliveryLive},
		Compare: Sampling{Temperature: 0, TopP: 1, MaxTokens: 1024, Attempts: 3, InFlight: 64, Delivery: DeliveryLive},
	}
}

// Opponents that an iteration's model can be compared with.
const (
	AgainstPrevious = "previous"
	AgainstOutputs  = "outputs"
)

// Evaluate has the model of each iteration evaluated while the run goes on.
type Evaluate struct {
	// Prompts: files like AlpacaEval's, a JSON list, JSON lines or Parquet with instruction (or prompt, or question), or a dataset of the Hub.
	Prompts []Source `yaml:"prompts" json:"prompts,omitempty" jsonschema:"maxItems=100"`
	// What each iteration's model is compared with: the number of an iteration (0 is the model of the seeds alone), previous, or outputs (those below).
	Against string `yaml:"against" json:"against" jsonschema:"pattern=^(previous|outputs|[0-9]{1\\,2})$"`
	// Outputs of another model to the same prompts, such as AlpacaEval's model_outputs.json.
	Outputs []Source `yaml:"outputs" json:"outputs,omitempty" jsonschema:"maxItems=100"`
	// A set of pairs that people called good or bad, on which each iteration's judge is measured: objects with instruction, output and label (true or false, 1 or 0, good or bad).
	Labelled []Source `yaml:"labelled" json:"labelled,omitempty" jsonschema:"maxItems=100"`
	Contest  `yaml:",inline"`
}

func (e *Evaluate) setDefaults() { *e = Evaluate{Against: "0", Contest: defaultContest()} }

// NeedsM0 reports whether M0 is trained: it rates in iteration 1, or a later model is compared with it.
func (r Run) NeedsM0() bool {
	e := r.Evaluate
	return r.Rate.Judge == nil || r.Gate != nil || (e != nil && len(e.Prompts) > 0 && (e.Against == "0" || e.Against == AgainstPrevious))
}

// Policies of a gate.
const (
	GateContinue = "continue" // records the comparison
	GateStop     = "stop"     // ends the run when the new model is not better
	GateRollback = "rollback" // the same, and the better one of both is the result
	GateAsk      = "ask"      // waits for a person when the new model is not better
)

// Gate compares the model of each iteration with the one before, on seed prompts that no model is trained on.
type Gate struct {
	// Seed pairs that are held out of all training, the first by id.
	Holdout int `yaml:"holdout" json:"holdout" jsonschema:"minimum=2,maximum=10000"`
	// What happens when the new model is not better, which is when the 95 % interval of its win rate holds or is below one half: continue (recorded only), stop, rollback (stop, and the better of both is the result) or ask (wait for a person).
	Policy  string `yaml:"policy" json:"policy" jsonschema:"enum=continue,enum=stop,enum=rollback,enum=ask"`
	Contest `yaml:",inline"`
}

func (g *Gate) setDefaults() { *g = Gate{Holdout: 50, Policy: GateContinue, Contest: defaultContest()} }

// Stop are the rules by which a run ends before its last iteration. An absent one does not hold.
type Stop struct {
	// Ends when the curated set has at least this Jaccard similarity with that of the iteration before: training again would give nearly the same model.
	Similarity float64 `yaml:"similarity" json:"similarity" jsonschema:"minimum=0,maximum=1"`
	// Ends when fewer rows than this were selected.
	MinSelected int64 `yaml:"min_selected" json:"min_selected" jsonschema:"minimum=0"`
	// Ends when the budget is used up, rather than wait for a larger one.
	Budget bool `yaml:"budget" json:"budget"`
}

// Side is one of the two models of an evaluation: that of a run's iteration, one of a provider, or a file of outputs.
type Side struct {
	// A run whose model it is. Absent: the run that the evaluation is of.
	Run string `yaml:"run" json:"run"`
	// The iteration whose model it is; 0 is the model of the seeds alone. -1: none.
	Iteration int `yaml:"iteration" json:"iteration" jsonschema:"minimum=-1,maximum=100"`
	// A provider of the worker's settings.
	Provider string `yaml:"provider" json:"provider"`
	// The model's name at the provider.
	Model string `yaml:"model" json:"model"`
	// Files of outputs, such as AlpacaEval's model_outputs.json.
	Outputs []Source `yaml:"outputs" json:"outputs,omitempty" jsonschema:"maxItems=100"`
	// System prompts that it answers under, where they differ from the evaluation's: both, seed, augmented or none.
	Tags string `yaml:"tags" json:"tags" jsonschema:"enum=both,enum=seed,enum=augmented,enum=none"`
}

// Evaluation is the spec of one evaluation: a model, what it is compared with, prompts and a judge.
type Evaluation struct {
	// Name of the evaluation; starting the same spec twice under one name is one evaluation.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9._-]{0\\,62}$"`
	// The run that it belongs to, whose models it may name by their iterations.
	Run string `yaml:"run" json:"run" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]{0\\,62}$"`
	// The model that is evaluated.
	Model Side `yaml:"model" json:"model"`
	// What it is compared with.
	Baseline Side `yaml:"baseline" json:"baseline"`
	// Prompts: files like AlpacaEval's, a JSON list, JSON lines or Parquet with instruction (or prompt, or question), or a dataset of the Hub. Absent: those of the baseline's outputs.
	Prompts []Source `yaml:"prompts" json:"prompts,omitempty" jsonschema:"maxItems=100"`
	// Takes the instructions of the run's seeds as prompts. Models were trained on them, so this flatters all models.
	SeedPrompts bool `yaml:"seed_prompts" json:"seed_prompts,omitempty"`
	// Who compares: a provider and a model, or the model of a run's iteration.
	Judge Side `yaml:"judge" json:"judge"`
	// Trains on parts of a curated set and evaluates each, in place of one model.
	Scaling *Scaling `yaml:"scaling" json:"scaling,omitempty"`
	// System prompts that the models answer under: both tags (the paper), seed (S_a), augmented (S_w) or none.
	Tags string `yaml:"tags" json:"tags" jsonschema:"enum=both,enum=seed,enum=augmented,enum=none"`
	// Prompts at most; the first by id, which are a fair sample.
	Limit int `yaml:"limit" json:"limit" jsonschema:"minimum=1,maximum=20000"`
	// How the models are asked.
	Answers Sampling `yaml:"answers" json:"answers"`
	// How the judge is asked.
	Compare Sampling `yaml:"compare" json:"compare"`
	// What the evaluation may spend; it stops before it would cross a limit and waits.
	Budget Budget `yaml:"budget" json:"budget"`
}

// Scaling trains models on nested parts of a run's curated set and fits win rate = α ln N + C.
type Scaling struct {
	// The iteration whose curated set is taken.
	Iteration int `yaml:"iteration" json:"iteration" jsonschema:"minimum=1,maximum=100"`
	// Sizes of the training sets, seeds included; each holds the smaller ones.
	Sizes []int `yaml:"sizes" json:"sizes" jsonschema:"minItems=2,maxItems=16"`
}

// DefaultEvaluation returns a spec with every default filled in.
func DefaultEvaluation() Evaluation {
	c := defaultContest()
	none := Side{Iteration: -1}
	return Evaluation{Model: none, Baseline: none, Judge: none, Tags: c.Tags, Limit: c.Limit, Answers: c.Answers, Compare: c.Compare}
}

// LoadEvaluation reads the spec of an evaluation, over DefaultEvaluation, and checks it. All mistakes come at once, as an *Error.
func LoadEvaluation(path string, overrides ...string) (Evaluation, error) {
	body, err := readFile(path)
	if err != nil {
		return Evaluation{}, err
	}
	return ParseEvaluation(path, body, overrides...)
}

// ParseEvaluation is LoadEvaluation of a body; name stands for the file in messages.
func ParseEvaluation(name string, body []byte, overrides ...string) (Evaluation, error) {
	e := DefaultEvaluation()
	err := load(name, body, &e, overrides, func() problems { return e.check() })
	return e, err
}

// Validate reports every impossible value at once, as an *Error.
func (e Evaluation) Validate() error { return e.check().err("") }

// evalFormats are those of prompts, outputs and labelled sets: all but auto say what auto finds out.
var evalFormats = []string{"auto", "pairs", "jsonl", "csv", "tsv", "parquet"}

func (e Evaluation) check() problems {
	var ps problems
	ps.fields(reflect.ValueOf(e), "")
	ps.sources("prompts", e.Prompts, evalFormats)
	if e.Scaling == nil {
		ps.side("model", e.Model, e.Run)
	} else {
		ps.scaling(e)
	}
	ps.side("baseline", e.Baseline, e.Run)
	if len(e.Judge.Outputs) > 0 {
		ps.add("judge.outputs", "cannot judge", "", "a provider and a model, or an iteration")
	} else {
		ps.side("judge", e.Judge, e.Run)
	}
	switch {
	case e.SeedPrompts && len(e.Prompts) > 0:
		ps.add("seed_prompts", "cannot stand beside prompts", "true", "remove one of both")
	case e.SeedPrompts && e.Run == "":
		ps.add("seed_prompts", "needs a run, whose seeds they are", "true", "run: NAME")
	case !e.SeedPrompts && len(e.Prompts) == 0 && len(e.Baseline.Outputs) == 0:
		ps.add("prompts", "is missing", "", "- path: prompts.jsonl")
	}
	return ps
}

func (ps *problems) scaling(e Evaluation) {
	if e.Run == "" {
		ps.add("scaling", "needs a run, whose curated set it takes", "", "run: NAME")
	}
	for i, n := range e.Scaling.Sizes {
		if n < 1 || (i > 0 && n <= e.Scaling.Sizes[i-1]) {
			ps.add(fmt.Sprintf("scaling.sizes[%d]", i), "must be above the one before", strconv.Itoa(n), "[100, 200, 400]")
		}
	}
}

// side checks that a side is one thing.
func (ps *problems) side(at string, s Side, run string) {
	ways := 0
	for _, set := range []bool{s.Iteration >= 0, s.Provider != "" || s.Model != "", len(s.Outputs) > 0} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0:
		ps.add(at, "is missing", "", "an iteration, a provider and a model, or outputs")
	case ways > 1:
		ps.add(at, "is more than one thing", "", "either an iteration, or a provider and a model, or outputs")
	case (s.Provider == "") != (s.Model == ""):
		ps.add(at, "provider and model go together", quote(strings.TrimPrefix(s.Provider+"/"+s.Model, "/")), "")
	case s.Iteration >= 0 && s.Run == "" && run == "":
		ps.add(at+".iteration", "needs a run, whose iteration it is", strconv.Itoa(s.Iteration), "run: NAME")
	}
	ps.sources(at+".outputs", s.Outputs, evalFormats)
}

// evaluating checks what a run spec says about evaluations.
func (ps *problems) evaluating(r Run) {
	if e := r.Evaluate; e != nil {
		ps.sources("evaluate.prompts", e.Prompts, evalFormats)
		ps.sources("evaluate.outputs", e.Outputs, evalFormats)
		ps.sources("evaluate.labelled", e.Labelled, evalFormats)
		switch {
		case len(e.Prompts) == 0 && len(e.Outputs) == 0 && len(e.Labelled) == 0:
			ps.add("evaluate.prompts", "is missing", "", "- path: prompts.jsonl")
		case e.Against == AgainstOutputs && len(e.Outputs) == 0:
			ps.add("evaluate.outputs", "is missing, and against says outputs", "", "- path: model_outputs.json")
		case e.Against != AgainstOutputs && len(e.Outputs) > 0:
			ps.add("evaluate.against", "is not outputs, and outputs are given", quote(e.Against), "against: outputs")
		}
	}
}

// judges checks that the providers of judges are known.
func (ps *problems) judges(r Run, w Worker) {
	if r.Evaluate != nil && r.Evaluate.Judge != nil {
		ps.reference("evaluate.judge.provider", r.Evaluate.Judge.Provider, "provider", w.Providers)
	}
	if r.Gate != nil && r.Gate.Judge != nil {
		ps.reference("gate.judge.provider", r.Gate.Judge.Provider, "provider", w.Providers)
	}
}

// CheckEvaluation reports every name in the spec of an evaluation that the worker's settings do not define.
func CheckEvaluation(e Evaluation, w Worker) error {
	var ps problems
	for _, s := range []struct {
		at   string
		side Side
	}{{"model", e.Model}, {"baseline", e.Baseline}, {"judge", e.Judge}} {
		if s.side.Provider != "" {
			ps.reference(s.at+".provider", s.side.Provider, "provider", w.Providers)
		}
		ps.mayRead(s.at+".outputs", s.side.Outputs, w)
	}
	ps.mayRead("prompts", e.Prompts, w)
	return ps.err("")
}
