package workflows

import (
	"encoding/json"
	"testing"

	"github.com/selfalign/selfalign/activities"
	"github.com/selfalign/selfalign/config"
	"github.com/selfalign/selfalign/internal/dataset"
)

// Whatever a run waits for, its message names every way out.
func TestMessages(t *testing.T) {
	t.Parallel()
	auth := map[string]activities.Trouble{"00 augment": {Class: "auth", Message: "401: refused.", Way: "give a key, then retry"}}
	for _, s := range []struct {
		about       string
		run         run
		phase, want string
	}{
		{"runs", run{}, PhaseRunning, ""},
		{"blocked", run{blocked: auth}, PhaseBlocked, "00 augment: 401: refused. Give a key\nThen: starter retry demo"},
		{
			"blocked and paused",
			run{blocked: auth, st: State{Paused: true}},
			PhaseBlocked,
			"00 augment: 401: refused. Give a key\nThen: starter retry demo\nIt is paused as well: starter resume demo",
		},
		{"budget", run{blocked: map[string]activities.Trouble{"01 rate": {Class: troubleBudget, Message: "used up", Way: "raise it"}}}, PhaseBlocked, "01 rate: used up. Raise it"},
		{
			"nothing that a retry mends",
			run{blocked: map[string]activities.Trouble{"00 ingest seeds": {Class: "source", Message: "the sources gave no seeds", Way: "mend them, then start a new run"}}},
			PhaseBlocked, "00 ingest seeds: the sources gave no seeds. Mend them, then start a new run\nThis one cannot go on as it is: starter cancel demo",
		},
		{
			"paused at a gate",
			run{gates: map[string]string{"01 train m1": "m1 on 9 examples"}, st: State{Paused: true}},
			PhasePaused,
			"Go on with: starter resume demo\n01 train m1 waits for approval: m1 on 9 examples\nGo on with: starter approve demo",
		},
		{"at a gate", run{gates: map[string]string{"01 train m1": "m1 on 9 examples"}}, PhaseApproval, "01 train m1 waits for approval: m1 on 9 examples\nGo on with: starter approve demo"},
	} {
		s.run.name = "demo"
		if got := s.run.status(); got.Phase != s.phase || got.Message != s.want {
			t.Errorf("%s: %s, %q", s.about, got.Phase, got.Message)
		}
	}
}

func TestDescribeBudget(t *testing.T) {
	t.Parallel()
	spent := activities.Spending{Spent: dataset.Usage{Calls: 90, PromptTokens: 1000, CompletionTokens: 200, MicroUSD: 3_465_100, UnknownPrice: 2}, InDoubt: dataset.Usage{Calls: 8}}
	for _, s := range []struct {
		budget  config.Budget
		want    string
		options string
	}{
		{config.Budget{Calls: 100}, "98 of 100 calls, 8 calls in doubt among them", "--calls N"},
		{config.Budget{USD: 3.5, Tokens: 1300}, "1200 of 1300 tokens, $3.4651 of $3.5 and 2 calls at an unknown price, 8 calls in doubt among them", "--usd N --tokens N"},
		{config.Budget{}, "98 calls", "--usd N"},
	} {
		if got := describeBudget(spent, s.budget); got != s.want || raise(s.budget) != s.options {
			t.Errorf("%+v: %q, %q", s.budget, got, raise(s.budget))
		}
	}
}

func TestDescribeStages(t *testing.T) {
	t.Parallel()
	stages := []StageStatus{
		{Name: "ingest seeds"},
		{Name: "augment", Usage: dataset.Usage{Calls: 60, PromptTokens: 600, MicroUSD: 2_000_000}},
		{Name: "rate", Iteration: 1, Usage: dataset.Usage{Calls: 20, PromptTokens: 300, MicroUSD: 1_000_000}},
		{Name: "rate", Iteration: 2, Usage: dataset.Usage{Calls: 10, CompletionTokens: 200, MicroUSD: 465_100}, InDoubt: dataset.Usage{Calls: 8}},
	}
	for want, b := range map[string]config.Budget{
		" (augment $2.0000, rate $1.4651)":       {USD: 3.5, Calls: 100},
		" (augment 60 calls, rate 38 calls)":     {Calls: 98, Tokens: 5000},
		" (augment 600 tokens, rate 500 tokens)": {Tokens: 1100},
	} {
		if got := describeStages(stages, b); got != want {
			t.Errorf("%+v: %q, want %q", b, got, want)
		}
	}
	if got := describeStages(stages[:1], config.Budget{Calls: 1}); got != "" {
		t.Errorf("nothing paid: %q", got)
	}
}

// The report of an iteration is told of in the next ones too, which run in other executions.
func TestReportIsToldOverIterations(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 5)
	told := ""
	w.selects = func(s activities.SelectWork) {
		if s.Iteration != 2 || s.Partition != 0 {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		var last Status // written when the ratings of iteration 2 were done
		if err := json.Unmarshal(w.records["demo/status.json"], &last); err != nil {
			t.Error(err)
		}
		told = last.Report
	}
	_, err := w.play(t, spec(), nil)
	if err != nil || told != "s3://bucket/runs/demo/report.html" {
		t.Errorf("in iteration 2 the report is at %q, %v", told, err)
	}
}
