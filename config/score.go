package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Score is the spec of the generate-and-score recipe: load prompts, generate answers, score them, keep some, push them. It
// names providers; what these are stands in the settings of the worker. docs/from-distilabel.md maps it to the public recipe.
type Score struct {
	// Name of the run and of its workflow; starting the same spec twice under one name is one run.
	Name string `yaml:"name" json:"name" jsonschema:"required,pattern=^[a-z0-9][a-z0-9._-]{0\\,62}$" try:"my-run (lower-case letters, digits, dots and dashes)"`
	// Where prompts come from.
	Load Load `yaml:"load" json:"load" jsonschema:"required"`
	// The model that answers. Absent: the dataset has answers already (load.generation), and these are scored.
	Generate *Generate `yaml:"generate" json:"generate"`
	// The model that scores each pair of instruction and answer from 1 to 5, with a reason.
	Score Scoring `yaml:"score" json:"score" jsonschema:"required"`
	// Which rows and columns are kept.
	Keep Keep `yaml:"keep" json:"keep"`
	// Where the result goes.
	Push Push `yaml:"push" json:"push"`
	// How datasets are laid out.
	Data Data `yaml:"data" json:"data"`
	// What the run may spend; it stops before it would cross a limit and waits.
	Budget Budget `yaml:"budget" json:"budget"`
	// Gates at which the run waits for a person: publish is before anything is pushed.
	Approve []string `yaml:"approve" json:"approve" jsonschema:"enum=publish,uniqueItems=true"`
	// Your own templates in place of the embedded ones.
	Prompts ScorePrompts `yaml:"prompts" json:"prompts"`
}

// GatePublish is the gate before results are pushed.
const GatePublish = "publish"

// Load says where prompts come from, and which columns they are in.
type Load struct {
	// A dataset of the Hub as hf://owner/name, a local file or folder, which the starter uploads, or an s3:// object or prefix (with a slash at its end).
	Path string `yaml:"path" json:"path" jsonschema:"required"`
	// hf://: the dataset's config (subset).
	Config string `yaml:"config" json:"config"`
	// hf://: the split; default: the only one, else train.
	Split string `yaml:"split" json:"split"`
	// hf://: branch, tag or commit; what it is when the run begins is kept.
	Revision string `yaml:"revision" json:"revision"`
	// What files hold: auto, jsonl (one object a line, or an array of objects) or parquet.
	Format string `yaml:"format" json:"format" jsonschema:"enum=auto,enum=jsonl,enum=parquet"`
	// The column that holds the instruction; a.b for one inside another. Left as it is, also a column called prompt, question, query or input is found.
	Instruction string `yaml:"instruction" json:"instruction"`
	// The column that holds a system prompt for each row; absent: none.
	System string `yaml:"system" json:"system"`
	// The column that holds the answer, where the dataset has answers already and generate is absent.
	Generation string `yaml:"generation" json:"generation"`
	// The column that says which model wrote that answer.
	GenerationModel string `yaml:"generation_model" json:"generation_model"`
	// Rows that are read, from the first; 0: all.
	NumExamples int64 `yaml:"num_examples" json:"num_examples" jsonschema:"minimum=0"`
}

// Generate is the model that answers the prompts.
type Generate struct {
	// A provider of the worker's settings.
	Provider string `yaml:"provider" json:"provider" jsonschema:"required"`
	// The model's name at the provider.
	Model string `yaml:"model" json:"model" jsonschema:"required"`
	// System prompt for rows that bring none.
	System string `yaml:"system" json:"system"`
	// Answers to each prompt.
	NumGenerations int `yaml:"num_generations" json:"num_generations" jsonschema:"minimum=1,maximum=100"`
	// Keeps answers that end at max_tokens, as they are. Otherwise they are asked for again, up to attempts times, and then rejected as answer_cut.
	KeepTruncated bool `yaml:"keep_truncated" json:"keep_truncated,omitempty"`
	// Calls in flight wanted, under the recipe's name for it; 0: in_flight. No call waits for the others of a batch here.
	InputBatchSize int `yaml:"input_batch_size" json:"input_batch_size" jsonschema:"minimum=0,maximum=100000"`
	Sampling       `yaml:",inline"`
}

// Scoring is the model that scores.
type Scoring struct {
	// A provider of the worker's settings.
	Provider string `yaml:"provider" json:"provider" jsonschema:"required"`
	// The model's name at the provider.
	Model string `yaml:"model" json:"model" jsonschema:"required"`
	// How a score is taken from an answer: text (its last line), logprobs (the expected value over the probabilities of the score token) or json (an object of reason and score).
	Method string `yaml:"method" json:"method" jsonschema:"enum=text,enum=logprobs,enum=json"`
	// What the embedded template asks for: points (the five levels of the paper) or additive (one point for each criterion met).
	Rubric string `yaml:"rubric" json:"rubric" jsonschema:"enum=points,enum=additive"`
	// Scores of each pair that are averaged.
	Samples int `yaml:"samples" json:"samples" jsonschema:"minimum=1,maximum=100"`
	// Calls in flight wanted, under the recipe's name for it; 0: in_flight. No call waits for the others of a batch here.
	InputBatchSize int `yaml:"input_batch_size" json:"input_batch_size" jsonschema:"minimum=0,maximum=100000"`
	Sampling       `yaml:",inline"`
}

// Which of several answers to a prompt are kept.
const (
	GenerationsBest = "best"
	GenerationsAll  = "all"
)

// Keep says what becomes of scored rows. Each kind of result is a config (subset) of the dataset that is pushed.
type Keep struct {
	// The columns of the result, in this order.
	Columns []string `yaml:"columns" json:"columns" jsonschema:"minItems=1,maxItems=20,uniqueItems=true,enum=id,enum=prompt_id,enum=sample,enum=system,enum=instruction,enum=generation,enum=generation_model,enum=generation_prompt,enum=score,enum=reason,enum=scoring_model,enum=scoring_prompt,enum=source,enum=document,enum=offset"`
	// Of several answers to a prompt: best (the highest score; of equals the first) or all.
	Generations string `yaml:"generations" json:"generations" jsonschema:"enum=best,enum=all"`
	// Rows with a lower score are left out; 0: none are.
	MinScore float64 `yaml:"min_score" json:"min_score" jsonschema:"minimum=0,maximum=5"`
	// Adds the config preferences: the best and the worst answer to each prompt.
	Preferences bool `yaml:"preferences" json:"preferences"`
	// Preferences: least difference of the two scores; equal ones are never a pair.
	MinGap float64 `yaml:"min_gap" json:"min_gap" jsonschema:"minimum=0,maximum=4"`
	// Adds the config scored: every scored answer, whatever was kept.
	Scored bool `yaml:"scored" json:"scored"`
	// Share of the prompts that goes into a split called test; the same prompts in every config and every run.
	Test float64 `yaml:"test" json:"test" jsonschema:"minimum=0,exclusiveMaximum=1"`
}

// Push says where the result goes. It always lies in the run's own bucket, too, as Parquet and JSONL: starter pull fetches it.
type Push struct {
	// The Hugging Face Hub; absent: nothing is pushed there.
	Hub *PushHub `yaml:"hub" json:"hub"`
	// An s3:// prefix, with a slash at its end, that gets a copy; absent: none.
	S3 string `yaml:"s3" json:"s3"`
	// Writes JSONL beside Parquet, in the bucket and under s3.
	JSONL bool `yaml:"jsonl" json:"jsonl"`
}

// PushHub is a dataset of the Hub.
type PushHub struct {
	// owner/name; it is made if it is not there.
	Repo string `yaml:"repo" json:"repo" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"`
	// Branch that gets the commit.
	Branch string `yaml:"branch" json:"branch"`
	// Makes the dataset public. Otherwise it is made private, and a dataset that is public already is refused.
	Public bool `yaml:"public" json:"public"`
	// The Hub's identifier of a licence, such as apache-2.0; absent: other.
	License string `yaml:"license" json:"license"`
	// ISO codes of languages, for the card.
	Languages []string `yaml:"languages" json:"languages" jsonschema:"maxItems=100"`
	// Notes about where the texts come from and under which terms, for the card.
	Sources []string `yaml:"sources" json:"sources" jsonschema:"maxItems=100"`
}

// ScorePrompts replaces embedded templates. The starter puts the files' texts in place of their paths.
type ScorePrompts struct {
	// File with the template that asks for an answer.
	Respond string `yaml:"respond" json:"respond"`
	// File with the template that asks for a score.
	Score string `yaml:"score" json:"score"`
}

// RecipeColumns are those that the recipe keeps.
func RecipeColumns() []string {
	return []string{"instruction", "generation", "generation_model", "score", "reason", "scoring_model"}
}

// recipeSampling are the recipe's own values, and ours where it has none.
func recipeSampling() Sampling {
	return Sampling{Temperature: 0.7, TopP: 1, MaxTokens: 1024, Attempts: 3, InFlight: 64, Delivery: DeliveryLive}
}

// DefaultScore returns a spec with every default filled in: the recipe's values where it names one. Name, source and models have
// none.
func DefaultScore() Score {
	s := Score{
		Load:  Load{Format: "auto", Instruction: "instruction", Generation: "generation"},
		Score: Scoring{Method: MethodText, Rubric: RubricPoints, Samples: 1, Sampling: recipeSampling()},
		Keep:  Keep{Columns: RecipeColumns(), Generations: GenerationsBest},
		Data:  Data{RowsPerPartition: 4096, MinPartitions: 1, TasksInWork: 64},
	}
	return s
}

func (g *Generate) setDefaults() { *g = Generate{NumGenerations: 1, Sampling: recipeSampling()} }

// Calls returns the calls in flight wanted.
func (g Generate) Calls() int { return calls(g.InputBatchSize, g.InFlight) }

// Calls returns the calls in flight wanted.
func (s Scoring) Calls() int { return calls(s.InputBatchSize, s.InFlight) }

func calls(batch, inFlight int) int {
	if batch > 0 {
		return batch
	}
	return inFlight
}

// Address returns the source's path with the dataset's config, split and revision in it.
func (l Load) Address() string {
	if !strings.HasPrefix(l.Path, "hf://") {
		return l.Path
	}
	base, query, _ := strings.Cut(l.Path, "?")
	if l.Revision != "" {
		base += "@" + url.PathEscape(l.Revision)
	}
	if l.Config != "" {
		query += "&config=" + url.QueryEscape(l.Config)
	}
	if l.Split != "" {
		query += "&split=" + url.QueryEscape(l.Split)
	}
	if query = strings.TrimPrefix(query, "&"); query != "" {
		base += "?" + query
	}
	return base
}

// At returns the source pinned to a commit of the Hub; "" changes nothing.
func (l Load) At(commit string) Load {
	base, query, asked := strings.Cut(l.Path, "?")
	if commit == "" || !strings.HasPrefix(base, "hf://") {
		return l
	}
	repo, tail, _ := strings.Cut(base, "@")
	steps := 1 // of the revision
	if strings.HasPrefix(tail, "refs/") {
		steps = 3 // refs/pr/1
	}
	if parts := strings.SplitN(tail, "/", steps+1); len(parts) > steps {
		repo += "@" + commit + "/" + parts[steps]
		commit = ""
	}
	if l.Path, l.Revision = repo, commit; asked {
		l.Path += "?" + query
	}
	return l
}

// ScoreDigest names a spec by its content, as Digest does.
func ScoreDigest(s Score) string {
	body, err := json.Marshal(s)
	if err != nil {
		body = fmt.Appendf(nil, "%#v", s)
	}
	sum := sha256.Sum256(append([]byte("score\n"), body...))
	return hex.EncodeToString(sum[:])
}

// LoadScore reads a spec over DefaultScore, with overrides as LoadRun takes them, and checks it. All mistakes come at once, as
// an *Error.
func LoadScore(path string, overrides ...string) (Score, error) {
	body, err := readFile(path)
	if err != nil {
		return Score{}, err
	}
	return ParseScore(path, body, overrides...)
}

// ParseScore is LoadScore of a body; name stands for the file in messages.
func ParseScore(name string, body []byte, overrides ...string) (Score, error) {
	s := DefaultScore()
	err := load(name, body, &s, overrides, func() problems { return s.check() })
	return s, err
}

// Validate reports every impossible value at once, as an *Error.
func (s Score) Validate() error { return s.check().err("") }

func (s Score) check() problems {
	var ps problems
	ps.fields(reflect.ValueOf(s), "")
	ps.load(s)
	if s.Score.Rubric == RubricAdditive && s.Prompts.Score != "" {
		ps.add("score.rubric", "cannot stand beside prompts.score, a rubric of your own", quote(s.Score.Rubric), "remove one of both")
	}
	if s.Keep.Preferences && s.Generate != nil && s.Generate.NumGenerations < 2 {
		ps.add("keep.preferences", "needs several answers to a prompt", "true", "generate.num_generations: 2")
	}
	if s.Keep.MinScore > 0 && s.Keep.MinScore < 1 {
		ps.add("keep.min_score", "must be from 1 to 5, or 0 for none", plain(s.Keep.MinScore), "4")
	}
	ps.push("push", &s.Push, s.Approve)
	return ps
}

// push checks where results go; nil: nowhere.
func (ps *problems) push(at string, p *Push, approve []string) {
	if p != nil && p.S3 != "" {
		ps.sourcePath(at+".s3", p.S3)
		if !strings.HasPrefix(p.S3, "s3://") || !strings.HasSuffix(p.S3, "/") {
			ps.add(at+".s3", "must be an s3:// prefix with a slash at its end", quote(p.S3), "s3://bucket/folder/")
		}
	}
	if slices.Contains(approve, GatePublish) && !p.Leaves() {
		ps.add("approve", "publish waits for nothing: "+at+" names no place", "publish", at+": {hub: {repo: owner/name}}")
	}
}

// Leaves reports whether results go anywhere but the run's own bucket.
func (p *Push) Leaves() bool { return p != nil && (p.Hub != nil || p.S3 != "") }

// pushable checks that the worker's settings let results be pushed.
func (ps *problems) pushable(at string, p *Push, w Worker) {
	if p != nil && p.Hub != nil && w.Hub.TokenEnv == "" {
		ps.add(at+".hub", "cannot be pushed to: the worker's settings name no variable with the Hub's token", quote(p.Hub.Repo), "hub: {token_env: HF_TOKEN} in the worker's settings")
	}
}

func (ps *problems) load(s Score) {
	l := s.Load
	hubbed := strings.HasPrefix(l.Path, "hf://")
	switch {
	case hubbed && strings.TrimPrefix(l.Path, "hf://") == "":
		ps.add("load.path", "must name a dataset", quote(l.Path), "hf://owner/name")
	case hubbed && l.Revision != "" && strings.Contains(l.Path, "@"):
		ps.add("load.revision", "stands in load.path already", quote(l.Revision), "remove one of both")
	case l.Path != "" && !hubbed:
		ps.sourcePath("load.path", l.Path)
		for _, f := range []struct{ name, value string }{{"config", l.Config}, {"split", l.Split}, {"revision", l.Revision}} {
			if f.value != "" {
				ps.add("load."+f.name, "is for hf:// datasets", quote(f.value), "remove it")
			}
		}
	}
	if s.Generate == nil && l.Generation == "" {
		ps.add("load.generation", "is missing: without a generate block the dataset must bring the answers", "", "the column that holds them, or a generate block")
	}
}

// CheckScoreTogether reports every name in a spec that the worker's settings do not define, and a budget in US dollars that
// cannot be kept because a price is not known.
func CheckScoreTogether(s Score, w Worker) error {
	var ps problems
	if s.Generate != nil {
		ps.reference("generate.provider", s.Generate.Provider, "provider", w.Providers)
	}
	ps.reference("score.provider", s.Score.Provider, "provider", w.Providers)
	ps.pushable("push", &s.Push, w)
	if s.Budget.USD > 0 && len(ps) == 0 {
		for _, m := range s.ModelsAsked() {
			if _, ok := w.Providers[m.Provider].Price(m.Model); !ok {
				ps.add("budget.usd", "cannot be kept: the worker's settings have no price for model "+quote(m.Model)+" at provider "+m.Provider, plain(s.Budget.USD),
					"providers."+m.Provider+".prices, or a budget in calls or tokens")
			}
		}
	}
	return ps.err("")
}

// ModelsAsked returns the models that a run asks, the generator first.
func (s Score) ModelsAsked() []Asked {
	var out []Asked
	if s.Generate != nil {
		out = append(out, Asked{Provider: s.Generate.Provider, Model: s.Generate.Model})
	}
	return append(out, Asked{Provider: s.Score.Provider, Model: s.Score.Model})
}
