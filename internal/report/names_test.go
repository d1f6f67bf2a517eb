package report

import (
	"testing"
	"time"

	"github.com/selfalign/selfalign/internal/dataset"
)

func TestNamesHaveAnIndex(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"M2":                             "M<sub>2</sub>",
		"from Base model + Myx, M0.":     "from Base model + M<sub>yx</sub>, M<sub>0</sub>.",
		"M1 M12 A5 (M3)":                 "M<sub>1</sub> M<sub>12</sub> A<sub>5</sub> (M<sub>3</sub>)",
		"org/M2 M2-large m2 AM2 M2b":     "org/M2 M2-large m2 AM2 M2b",
		`<b>M2</b> & "M2"`:               "&lt;b&gt;M2&lt;/b&gt; &amp; &#34;M2&#34;",
		"M2 <script>alert(M1)</script>":  "M<sub>2</sub> &lt;script&gt;alert(M<sub>1</sub>)&lt;/script&gt;",
		"M2 against M0: better \xff\xfe": "M<sub>2</sub> against M<sub>0</sub>: better \uFFFD",
	} {
		if got := string(sub(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := modelName("myx") + modelName("m12") + modelName("s100") + stageName(Stage{Name: "train m1"}) + stageName(Stage{Name: "trained m1"}); got != "MyxM12s100train M1trained m1" {
		t.Error(got)
	}
}

// TestExpenses has groups that sum up to the whole, whatever the order of the stages.
func TestExpenses(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 1, 9, minute, 0, 0, time.UTC) }
	d := Data{Input: Input{
		Trainings: []Training{{Model: "m0", CostKnown: true, CostMicroUSD: 70}, {Model: "m1"}},
		Stages: []Stage{
			{Name: "preflight", State: "done", StartedAt: at(0), EndedAt: at(1)},
			{Name: "rate", Iteration: 1, State: "running", StartedAt: at(9), Usage: dataset.Usage{Calls: 4, MicroUSD: 9}, Reused: 3},
			{Name: "train m0", State: "done", StartedAt: at(2), EndedAt: at(8), Usage: dataset.Usage{MicroUSD: 70}},
			{Name: "ingest seeds", State: "done", StartedAt: at(1), EndedAt: at(2)},
			{Name: "train m1", Iteration: 1, State: "done", StartedAt: at(12), EndedAt: at(13)},
			{Name: "calibrate", Iteration: 1, State: "done", StartedAt: at(8), EndedAt: at(9), Usage: dataset.Usage{Calls: 1, UnknownPrice: 1}},
			{Name: "rate labelled", Iteration: 1, State: "done", StartedAt: at(11), EndedAt: at(12), Usage: dataset.Usage{Calls: 2, MicroUSD: 2}},
			{Name: "eval judge", Iteration: 1, State: "done", StartedAt: at(14), EndedAt: at(15), Usage: dataset.Usage{Calls: 2, MicroUSD: 1}},
			{Name: "gate pairs", Iteration: 1, State: "done", StartedAt: at(13), EndedAt: at(14)},
			{Name: "evaluating", Iteration: 1, State: "done", StartedAt: at(15), EndedAt: at(16)},
		},
	}}
	var sum dataset.Usage
	for _, s := range d.Stages {
		d.Spent = d.Spent.Add(s.Usage)
	}
	var got string
	for _, group := range expenses(d) {
		for _, e := range group {
			sum = sum.Add(e.Usage)
			got += e.Purpose + " " + e.State + " " + took(e.StartedAt, e.EndedAt) + " " + e.Cost() + "; "
		}
		got += "| "
	}
	want := "preparing the data done 2 min –; training done 6 min < $0.0001; | trying out the judge done 4 min ≥ < $0.0001; rating running – < $0.0001; training done 60 s unknown; evaluating done 2 min < $0.0001; other steps done 60 s –; | "
	if got != want || sum != d.Spent {
		t.Errorf("got  %s\nwant %s\nsum %+v of %+v", got, want, sum, d.Spent)
	}
	if got := costInAll(d); got != "≥ < $0.0001" {
		t.Errorf("in all %s", got)
	}
}
