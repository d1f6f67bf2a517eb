package estimate_test

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/starter/estimate"
)

func setup() (config.Run, config.Worker) {
	r := config.DefaultRun()
	r.Rate.Calibration.Pairs = 0
	r.Name, r.Model = "r", config.Model{Base: "b", Trainer: "t"}
	w := config.DefaultWorker()
	w.Providers = map[string]config.Provider{"p": {
		Limits: config.Limits{InFlight: 1000},
		Prices: map[string]config.Price{"ft:b*": {Input: 1, Output: 2, Training: 3}, "judge": {Input: 10, Output: 20}},
	}}
	w.Trainers = map[string]config.Trainer{"t": {Backend: config.BackendOpenAI, Provider: "p"}}
	w.Servers = map[string]config.Server{"t": {Backend: config.BackendOpenAI, Provider: "p"}}
	return r, w
}

var (
	seeds    = estimate.Texts{Rows: 3200, Instruction: 40, Output: 260}
	segments = estimate.Texts{Rows: 10_000, Output: 400}
	prompts  = estimate.Prompts{Backtranslate: 100, Rate: 500}
)

func names(p estimate.Plan) string {
	var out []string
	for _, s := range p.Stages {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

func TestPlanOfThePaper(t *testing.T) {
	t.Parallel()
	r, w := setup()
	p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if got, want := names(p), "train myx, augment, train m0, rate, train m1, rate, train m2"; got != want {
		t.Fatalf("stages are %s", got)
	}
	train, augment, rate := p.Stages[0], p.Stages[1], p.Stages[3]
	// 3,200 examples: 500 steps of 32 are 5 passes over 300 tokens each, at $3 a million.
	if train.TrainedTokens != 5*3200*300 || math.Abs(*train.Cost-14.4) > 1e-9 || train.Calls != 0 {
		t.Errorf("training is %+v, cost %v", train, *train.Cost)
	}
	// 2 % are asked again, and of these 2 % a third time.
	if augment.Calls != 10_204 || augment.PromptTokens != 10_204*500 || augment.CompletionTokens != 10_204*80 {
		t.Errorf("augment is %+v", augment)
	}
	if want := 10_204 * (500*1 + 80*2) / 1e6; math.Abs(*augment.Cost-want) > 1e-9 {
		t.Errorf("augment costs %v, want %v", *augment.Cost, want)
	}
	if rate.Calls != 11_344 || rate.PromptTokens != 11_344*(500+80+400) {
		t.Errorf("rate is %+v", rate)
	}
	if p.AtMost.Calls != 3*3*10_000 || p.Total.Calls != 10_204+2*11_344 || p.Total.Unknown || p.AtMost.Cost <= p.Total.Cost {
		t.Errorf("totals are %+v and %+v", p.Total, p.AtMost)
	}
	if len(p.Warnings) != 0 {
		t.Errorf("warnings: %v", p.Warnings)
	}
}

func TestCalibrationIsPlanned(t *testing.T) {
	t.Parallel()
	r, w := setup()
	without := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	r.Rate.Calibration.Pairs, r.Rate.Samples = 50, 2
	p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if got, want := names(p), "train myx, augment, train m0, calibrate, rate, train m1, calibrate, rate, train m2"; got != want {
		t.Fatalf("stages are %s", got)
	}
	c := p.Stages[3]
	if c.Rows != 200 || c.Calls != 227 || c.PromptTokens != 227*(500+40+260) || c.Cost == nil || p.AtMost.Calls <= without.AtMost.Calls {
		t.Errorf("%+v", c)
	}
	few := seeds
	few.Rows = 1
	if got := names(estimate.Make(r, w, few, segments, prompts, estimate.Sets{})); strings.Contains(got, "calibrate") {
		t.Errorf("stages are %s", got)
	}
}

func TestPlanWithAJudge(t *testing.T) {
	t.Parallel()
	r, w := setup()
	r.Rate.Judge, r.Rate.Samples = &config.Judge{Provider: "p", Model: "judge"}, 3
	p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if got, want := names(p), "train myx, augment, rate, train m1, train myx, augment, rate, train m2"; got != want {
		t.Fatalf("stages are %s", got)
	}
	if rate := p.Stages[2]; rate.Rows != 30_000 || math.Abs(*rate.Cost-float64(rate.Calls)*(980*10+200*20)/1e6) > 1e-6 {
		t.Errorf("rate is %+v, cost %v", rate, *rate.Cost)
	}
	r.Rate.Judge.Model = "other"
	p = estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if !p.Total.Unknown || p.Stages[2].Cost != nil || len(p.Warnings) != 1 {
		t.Errorf("an unknown price: %+v, %v", p.Total, p.Warnings)
	}
}

func TestTimeFollowsTheNarrowestLimit(t *testing.T) {
	t.Parallel()
	r, w := setup()
	seconds := func() float64 {
		return *estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{}).Stages[1].Seconds
	}
	r.Augment.InFlight = 100
	flight := seconds()
	if want := math.Ceil(10_204.0/100) * (0.6 + 80.0/60); math.Abs(flight-want) > 1e-9 {
		t.Errorf("by calls in flight %v, want %v", flight, want)
	}
	p := w.Providers["p"]
	p.Limits.RequestsPerMinute = 60
	w.Providers["p"] = p
	if got := seconds(); got != 10_204 {
		t.Errorf("by requests %v", got)
	}
	p.Limits.TokensPerMinute = 580
	w.Providers["p"] = p
	if got := seconds(); got != 10_204*60 {
		t.Errorf("by tokens %v", got)
	}
}

func TestBatchesCostLessAndTakeADay(t *testing.T) {
	t.Parallel()
	r, w := setup()
	live := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	p := w.Providers["p"]
	p.Batch, p.BatchDiscount = true, 0.5
	w.Providers["p"] = p
	r.Augment.Delivery, r.Rate.Delivery = config.DeliveryAuto, config.DeliveryLive
	plan := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	got, was := plan.Stages[1], live.Stages[1]
	if !got.Batch || math.Abs(*got.Cost-*was.Cost/2) > 1e-9 || *got.Seconds != 86_400 {
		t.Errorf("augment is %+v, $%v of $%v, %v s", got, *got.Cost, *was.Cost, *got.Seconds)
	}
	if rate := plan.Stages[3]; rate.Batch || *rate.Cost != *live.Stages[3].Cost {
		t.Errorf("rate is %+v", rate)
	}
	r.Augment.Deadline = config.Duration(time.Hour)
	if soon := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{}).Stages[1]; soon.Batch || *soon.Cost != *was.Cost || *soon.Seconds != *was.Seconds {
		t.Errorf("with a deadline of an hour augment is %+v", soon)
	}
	r.Augment.Deadline, p.BatchDiscount = 0, 0
	w.Providers["p"] = p
	if same := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{}).Stages[1]; same.Batch {
		t.Errorf("without a discount augment is %+v", same)
	}
	if plan.AtMost.Cost >= live.AtMost.Cost || len(plan.Assumptions) != len(live.Assumptions)+1 {
		t.Errorf("at most %v of %v; %q", plan.AtMost.Cost, live.AtMost.Cost, plan.Assumptions)
	}
}

func TestBudgetThatWillNotDo(t *testing.T) {
	t.Parallel()
	r, w := setup()
	r.Budget = config.Budget{Calls: 100, Tokens: 1 << 40}
	p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if len(p.Warnings) != 1 || !strings.HasPrefix(p.Warnings[0], "budget.calls is 100 and about") {
		t.Errorf("warnings: %v", p.Warnings)
	}
	if p = estimate.Make(r, w, estimate.Texts{}, estimate.Texts{}, prompts, estimate.Sets{}); len(p.Warnings) != 2 {
		t.Errorf("nothing to do: %v", p.Warnings)
	}
}

// Where machines cost by the hour, a plan says before anything is spent what is known of it, and what a budget cannot hold back.
func TestTrainingByTheHour(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trainer config.Trainer
		cost    float64 // of the first job, 4.8 million tokens; -1: not known
		says    []string
	}{
		{config.Trainer{Backend: config.BackendCommand}, 0, []string{"counted as free", "does not hold back a job of trainer t: nobody says what its machines cost (Try: instance_hour"}},
		{config.Trainer{Backend: config.BackendCommand, InstanceHour: 3, TokensPerSecond: 4000}, 1, nil},
		{config.Trainer{Backend: config.BackendSlurm}, -1, []string{"trainer t cost is not known (Try: instance_hour", "does not hold back"}},
		{config.Trainer{Backend: config.BackendKubernetes, InstanceHour: 3, Template: "kind: Job"}, -1, []string{"costs $3 an hour, for as long as a job takes"}},
		{config.Trainer{Backend: config.BackendKubernetes, InstanceHour: 3, Template: "kind: TrainJob"}, -1, []string{"a TrainJob has no time limit"}},
		{config.Trainer{Backend: config.BackendSageMaker, InstanceHour: 3, TokensPerSecond: 4000, Template: "ResourceConfig: {InstanceCount: 2}"}, 2, nil},
		{config.Trainer{Backend: config.BackendSageMaker}, -1, []string{"nobody says what its machines cost"}},
		{config.Trainer{Backend: config.BackendHTTP}, -1, []string{"max_cost_usd"}},
	} {
		r, w := setup()
		r.Model.Trainer, r.Budget.USD = "t", 1e6
		w.Trainers = map[string]config.Trainer{"t": c.trainer}
		p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
		train := p.Stages[0]
		switch {
		case c.cost < 0 && (train.Cost != nil || !p.Total.Unknown), c.cost >= 0 && (train.Cost == nil || math.Abs(*train.Cost-c.cost) > 1e-9):
			t.Errorf("%+v: %+v", c.trainer, train)
		case (c.trainer.TokensPerSecond > 0) != (train.Seconds != nil):
			t.Errorf("%+v takes %v", c.trainer, train.Seconds)
		}
		words := strings.Join(append(p.Warnings, p.Assumptions...), "\n")
		for _, want := range c.says {
			if !strings.Contains(words, want) {
				t.Errorf("%+v: no %q in\n%s", c.trainer, want, words)
			}
		}
		if strings.Contains(words, `provider ""`) || strings.Contains(words, "at provider ,") || c.says == nil && strings.Contains(words, "hold back") {
			t.Errorf("%+v:\n%s", c.trainer, words)
		}
		r.Budget.USD = 0
		if p = estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{}); strings.Contains(strings.Join(p.Warnings, "\n"), "hold back") {
			t.Errorf("without a budget: %v", p.Warnings)
		}
	}
}

// A gate has M0 trained, keeps seeds from training and asks: for each of them an answer of both models and two judgements.
func TestGateIsPlanned(t *testing.T) {
	t.Parallel()
	r, w := setup()
	r.Iterations = 1
	r.Rate.Judge = &config.Judge{Provider: "p", Model: "judge"}
	r.Gate = &config.Gate{Holdout: 200, Contest: config.Contest{Limit: 150}}
	r.Gate.Answers.Attempts, r.Gate.Compare.Attempts = 1, 1
	p := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	if got, want := names(p), "train myx, augment, train m0, rate, train m1, gate answers, gate baseline, gate judge"; got != want {
		t.Fatalf("stages are %s", got)
	}
	if n := len(p.Stages); p.Stages[0].Rows != 3000 || p.Stages[n-1].Calls != 300 || p.Stages[n-2].Calls != 150 || p.Stages[n-3].Calls != 150 {
		t.Errorf("%+v", p.Stages)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	file := func(name, body string) estimate.File {
		return estimate.File{Name: name, Size: int64(len(body)), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }}
	}
	got, err := estimate.Seeds(t.Context(), []estimate.Input{{
		Source: config.Source{Format: "pairs", Instruction: "q", Output: "a"},
		Files:  []estimate.File{file("s.jsonl", `{"q":"Say hello","a":"Hello there, friend"}`+"\n"+`{"q":"","a":"x"}`+"\nnot json\n")},
	}})
	if err != nil || got.Rows != 1 || got.Rejected != 2 || got.ReadShare != 1 || got.Instruction < 1 || got.Output <= got.Instruction {
		t.Errorf("seeds: %+v, %v", got, err)
	}
	var files []estimate.File
	pages, err := filepath.Glob("../../examples/corpus/*")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no example pages: %v", err)
	}
	for _, page := range pages {
		body, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file(filepath.Base(page), string(body)))
	}
	docs, err := estimate.Documents(t.Context(), []estimate.Input{{Source: config.Source{Format: "auto"}, Files: files}}, config.DefaultRun().Segments)
	if err != nil || docs.Rows < 20 || docs.Files != len(pages) || docs.Output < 100 || docs.Instruction != 0 {
		t.Errorf("documents: %+v, %v", docs, err)
	}
}

// What evaluations ask is planned too: the labelled set for each judge, both answers the first time that a model gives them, and
// the judge in both orders; and the budget must cover it.
func TestEvaluationsArePlanned(t *testing.T) {
	t.Parallel()
	r, w := setup()
	r.Rate.Judge = &config.Judge{Provider: "p", Model: "judge"}
	without := estimate.Make(r, w, seeds, segments, prompts, estimate.Sets{})
	e := config.Evaluate{Against: "0", Prompts: []config.Source{{Path: "p"}}, Labelled: []config.Source{{Path: "l"}}, Contest: config.Contest{Limit: 100}}
	e.Answers, e.Compare = r.Augment.Sampling, r.Rate.Sampling
	r.Evaluate = &e
	r.Gate = &config.Gate{Holdout: 200, Contest: e.Contest}
	sets := estimate.Sets{Prompts: estimate.Texts{Rows: 805, Instruction: 30}, Labelled: estimate.Texts{Rows: 250, Instruction: 30, Output: 300}}
	with := prompts
	with.Respond, with.Compare = 20, 300
	p := estimate.Make(r, w, seeds, segments, with, sets)
	want := "train myx, augment, train m0, " +
		"rate labelled, rate, train m1, eval answers, eval baseline, eval judge, gate answers, gate baseline, gate judge, " +
		"train myx, augment, rate labelled, rate, train m2, eval answers, eval judge, gate answers, gate judge"
	if got := names(p); got != want {
		t.Fatalf("stages are %s", got)
	}
	calls := map[string]int64{}
	for _, s := range p.Stages {
		if s.Iteration == 1 {
			calls[s.Name] = s.Rows
			if s.Calls > 0 && s.Cost == nil {
				t.Errorf("%s has no cost", s.Name)
			}
		}
	}
	if calls["rate labelled"] != 250 || calls["eval answers"] != 100 || calls["eval baseline"] != 100 || calls["eval judge"] != 200 || calls["gate judge"] != 200 {
		t.Errorf("calls %v", calls)
	}
	if more := p.Total.Calls - without.Total.Calls; more < 2*250+2*100+100+2*200+3*100+2*200 || p.Total.Cost <= without.Total.Cost {
		t.Errorf("%d calls more", more)
	}
	r.Budget.Calls = without.Total.Calls + 10
	if p = estimate.Make(r, w, seeds, segments, with, sets); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "budget.calls") {
		t.Errorf("a budget without room for evaluations: %v", p.Warnings)
	}
	// Against the model before: its answers of the iteration before are found again. Against outputs nobody else answers.
	for against, baselines := range map[string]int{config.AgainstPrevious: 1, config.AgainstOutputs: 0, "1": 1} {
		e.Against, r.Gate = against, nil
		if got := strings.Count(names(estimate.Make(r, w, seeds, segments, with, sets)), "eval baseline"); got != baselines {
			t.Errorf("against %s: the baseline answers %d times", against, got)
		}
	}
}
