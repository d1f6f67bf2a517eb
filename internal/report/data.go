// Package report shows what a run took in, what it made of it and what that cost, on one page that needs nothing else.
package report

import (
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/eval"
)

// Input is what is known of a run besides its datasets.
type Input struct {
	Run       string    `json:"run"`
	Dir       string    `json:"dir,omitempty"` // where results of evaluations lie beside it; "" is runs/ and its name
	Phase     string    `json:"phase"`         // running, completed, converged, cancelled, blocked …
	Message   string    `json:"message"`       // what the run waits for, or how it ended
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at"` // zero while it runs
	// At is when the report is made. It is told, not read off a clock, so that equal runs give equal reports.
	At         time.Time `json:"at"`
	Iterations int       `json:"iterations"` // T wanted
	Threshold  float64   `json:"threshold"`  // rows with at least this score are kept
	Base       string    `json:"base"`       // the base model

	Seeds      dataset.Ref      `json:"seeds"`
	Segments   dataset.Ref      `json:"segments"`
	Candidates dataset.Ref      `json:"candidates"` // the newest A; made once, or in each iteration
	Backward   dataset.ModelRef `json:"backward"`   // Myx
	Rounds     []Round          `json:"rounds"`     // in order of iteration; may begin with iteration 0, which made M0
	Stages     []Stage          `json:"stages"`
	Trainings  []Training       `json:"trainings"`
	Spent      dataset.Usage    `json:"spent"`
	InDoubt    dataset.Usage    `json:"in_doubt"`
	Budget     Budget           `json:"budget"`

	Spec       string   `json:"spec"` // the run spec as text
	SpecDigest string   `json:"spec_digest"`
	Teachers   []string `json:"teachers"` // what rated or wrote in the model's place, such as "gpt-4o rated"; none: not distilled
	// Recipe is what a generate-and-score run read and made; nil of a self-training run.
	Recipe *Recipe `json:"recipe,omitempty"`

	Links    []Link   `json:"links"`    // http and https only; others are shown as text
	Warnings []string `json:"warnings"` // what a person should look at
}

// Recipe is what a generate-and-score run read and made, each dataset zero until it stands.
type Recipe struct {
	Prompts dataset.Ref `json:"prompts,omitzero"` // or pairs, where it generates nothing
	Answers dataset.Ref `json:"answers,omitzero"`
	Kept    dataset.Ref `json:"kept,omitzero"`
}

// Add puts a dataset where it belongs; of two of a kind the first stands.
func (r *Recipe) Add(ref dataset.Ref) {
	places := map[dataset.Kind]*dataset.Ref{dataset.KindPrompts: &r.Prompts, dataset.KindResponses: &r.Answers, dataset.KindCurated: &r.Kept}
	if at, ok := places[ref.Kind]; ok && at.IsZero() {
		*at = ref
	}
	if r.Prompts.IsZero() && ref.Kind == dataset.KindResponses { // it generates nothing
		r.Prompts = ref
	}
}

// Round is one iteration.
type Round struct {
	Iteration int              `json:"iteration"`
	Ratings   dataset.Ref      `json:"ratings"` // zero in iteration 0
	Training  dataset.Ref      `json:"training"`
	Selected  int64            `json:"selected"`  // rows of A_k
	Threshold float64          `json:"threshold"` // 0: Input.Threshold
	Judge     dataset.ModelRef `json:"judge"`
	Model     dataset.ModelRef `json:"model"` // Mt
	// Calibration is how the judge did on pairs known to be good or bad; nil when it was not tried out.
	Calibration *eval.Calibration `json:"calibration,omitempty"`
	Gate        *eval.Verdict     `json:"gate,omitempty"` // its model against the one before
}

// Stage is one step of the run and what it cost.
type Stage struct {
	Name      string        `json:"name"`
	Iteration int           `json:"iteration"`
	State     string        `json:"state"`
	Unit      string        `json:"unit"` // rows, documents or steps
	Done      int64         `json:"done"`
	Rejected  int64         `json:"rejected"`
	Reused    int64         `json:"reused"` // answered from the ledger, unpaid
	Usage     dataset.Usage `json:"usage"`
	StartedAt time.Time     `json:"started_at"`
	EndedAt   time.Time     `json:"ended_at"`
}

// Training is one fine-tuning job.
type Training struct {
	Model        string   `json:"model"` // the name of its job: myx, m0, m1 …
	Name         string   `json:"name"`  // at the provider
	Examples     int64    `json:"examples"`
	Steps        int      `json:"steps"`
	Loss         float64  `json:"loss"`
	CostMicroUSD int64    `json:"cost_micro_usd"`
	CostKnown    bool     `json:"cost_known"`
	NotExpressed []string `json:"not_expressed"` // of the recipe, by the trainer
}

// Budget is what the run may spend; 0 is no cap.
type Budget struct {
	USD    float64 `json:"usd"`
	Calls  int64   `json:"calls"`
	Tokens int64   `json:"tokens"`
}

// Link is an address worth following.
type Link struct {
	Label string `json:"label"`
	URL   string `json:"url"`
}

// Data is the whole report. Its JSON is the machine-readable form. Texts of the run's data in it are clipped.
type Data struct {
	Format int `json:"format"` // 1
	Input
	Flow       []Flow       `json:"flow"`
	Sets       []Set        `json:"sets"`
	Histograms []Histogram  `json:"histograms"`
	Changes    []Change     `json:"changes"`
	Rejections []Rejection  `json:"rejections"`
	Samples    []ScoreGroup `json:"samples"` // of the newest ratings, highest score first
	Lineage    []Lineage    `json:"lineage"`
	// Scanned is how many ratings the figures marked as sampled come from; Partial says that there are more.
	Scanned  int64     `json:"scanned"`
	Partial  bool      `json:"partial"`
	Funnels  []Funnel  `json:"funnels,omitempty"`
	Variety  []Variety `json:"variety,omitempty"`
	Evidence Evidence  `json:"evidence"`
	// Refresh, where it is not 0, has the page load itself again every so many seconds: the run goes on.
	Refresh int `json:"-"`
}

// Flow is one step of the way from what came in to what came out: In = Out + Rejected.
type Flow struct {
	Name     string `json:"name"`
	In       int64  `json:"in"`
	Out      int64  `json:"out"`
	Rejected int64  `json:"rejected"`
	// Contaminated counts, by evaluation set, the rejected rows whose instruction shares an n-gram with it; 0: it was looked for.
	Contaminated map[string]int64 `json:"contaminated,omitempty"`
}

// Length is a mean and a standard deviation in characters.
type Length struct {
	Mean float64 `json:"mean"`
	Std  float64 `json:"std"`
}

// Set is one set of pairs beside its counterpart in the paper.
type Set struct {
	Name        string `json:"name"`
	Note        string `json:"note,omitempty"`
	Rows        int64  `json:"rows"`
	Instruction Length `json:"instruction"`
	Output      Length `json:"output"`
	Sampled     bool   `json:"sampled"` // the lengths come from a sample
	Paper       *Paper `json:"paper,omitempty"`
}

// Bar is one score and how many rows have it.
type Bar struct {
	Score float64 `json:"score"`
	Rows  int64   `json:"rows"`
}

// Histogram is how one iteration's judge rated.
type Histogram struct {
	Iteration int              `json:"iteration"`
	Judge     dataset.ModelRef `json:"judge"`
	Rows      int64            `json:"rows"`
	Rejected  int64            `json:"rejected"` // no valid rating
	Mean      float64          `json:"mean"`
	Selected  int64            `json:"selected"`
	Threshold float64          `json:"threshold"`
	Bars      []Bar            `json:"bars"` // ascending; every half point from 1 to 5 that occurs, and every whole one
}

// Change is how the ratings of the same pairs moved from one iteration to the next.
type Change struct {
	From    int         `json:"from"`
	To      int         `json:"to"`
	Rows    int64       `json:"rows"`   // pairs seen in both
	Matrix  [5][5]int64 `json:"matrix"` // [score before - 1][score after - 1], rounded
	Up      int64       `json:"up"`
	Down    int64       `json:"down"`
	Jaccard float64     `json:"jaccard"` // of the selections; 1 is the same rows
	Sampled bool        `json:"sampled"`
}

// Rejection is why rows were turned away on the way to one dataset.
type Rejection struct {
	Step     string    `json:"step"`
	Reason   string    `json:"reason"`
	Meaning  string    `json:"meaning,omitempty"`
	Rows     int64     `json:"rows"`
	Share    float64   `json:"share"` // of the rows that came in
	Examples []Example `json:"examples,omitempty"`
}

// Example is one row that was turned away.
type Example struct {
	Detail      string `json:"detail,omitempty"`
	Instruction string `json:"instruction,omitempty"`
	Text        string `json:"text"`
	Source      string `json:"source"`
}

// ScoreGroup is a few of the rows with one (rounded) score.
type ScoreGroup struct {
	Score int      `json:"score"`
	Rows  int64    `json:"rows"`
	Pairs []Sample `json:"pairs"`
}

// Sample is one rated pair with where it comes from.
type Sample struct {
	ID          string    `json:"id"`
	Instruction string    `json:"instruction"`
	Output      string    `json:"output"`
	Score       float64   `json:"score"`
	Scores      []float64 `json:"scores,omitempty"`
	Before      []float64 `json:"before,omitempty"` // its scores in the iterations before, oldest first; 0 where unrated
	Reason      string    `json:"reason"`
	Source      string    `json:"source"`
	Generator   string    `json:"generator"`
	Judge       string    `json:"judge"`
	JudgePrompt string    `json:"judge_prompt"`
	Prompt      string    `json:"prompt"`
}

// Lineage is one dataset or model and what it was made from.
type Lineage struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"` // dataset or model
	Detail  string   `json:"detail"`
	Rows    int64    `json:"rows,omitempty"`
	Digest  string   `json:"digest"`
	Where   string   `json:"where"` // s3:// address, or provider/name
	Parents []string `json:"parents,omitempty"`
}
