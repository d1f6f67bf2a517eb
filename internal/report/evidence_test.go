package report

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/blob"
	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
	"github.com/selfalign/selfalign/internal/eval"
)

// measured puts evaluations and a funnel beside a run, as its activities write them.
func measured(t *testing.T, st *blob.Store, in *Input, spice string) {
	t.Helper()
	in.Dir = "runs/d"
	put := func(key string, value any) {
		t.Helper()
		body, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Put(t.Context(), in.Dir+"/"+key, body); err != nil {
			t.Fatal(err)
		}
	}
	result := func(name string, iteration int, model, baseline string, wins, draws, losses int) eval.Result {
		var scores []float64
		for range wins {
			scores = append(scores, eval.Win)
		}
		for range draws {
			scores = append(scores, eval.Draw)
		}
		for range losses {
			scores = append(scores, eval.Loss)
		}
		return eval.Result{
			Format: 1, Name: name + spice, Iteration: iteration, Model: model + spice, Baseline: baseline + spice, Judge: "gpt-4" + spice, Prompts: int64(len(scores)),
			WinRate: eval.Rate(scores, 0), Consistent: 0.83, ParseRate: 0.99,
			LengthControlled: &eval.LengthControlled{N: len(scores), Rate: 0.55, Low: 0.5, High: 0.6},
		}
	}
	put("01/eval/result.json", result("eval", 1, "M1", "M0", 62, 10, 28))
	put("02/gate/result.json", result("gate", 2, "M2", "M1", 40, 12, 48))
	put("02/eval/result.json", result("eval", 2, "M2", "M0", 70, 8, 22))
	put("02/labelled/result.json", eval.Judged{
		Format: 1, Iteration: 2, Judge: "j", ParseRate: 0.97,
		Selection: eval.Selection{N: 250, Good: 50, Rated: 243, Selected: 30, True: 21, Precision: eval.Share{Value: 0.7, Low: 0.52, High: 0.83}, Recall: eval.Share{Value: 0.42, Low: 0.29, High: 0.56}, AUC: 0.81},
	})
	drift := eval.DriftExamples{Drift: eval.Drift{From: 1, To: 2, Kept: 20, In: 25, Out: 48, Jaccard: 20.0 / 93}}
	for i := range 20 {
		row := eval.DriftRow{ID: fmt.Sprintf("%032x", i+1), Instruction: fmt.Sprintf(instructionOn(i)+spice, topics[i%len(topics)]), Output: outputOn(i) + spice}
		row.After = 5
		drift.Entered = append(drift.Entered, row)
		row.Before, row.After = 4.5, 0
		drift.Left = append(drift.Left, row)
	}
	put("02/drift.json", drift)
	put("eval/"+"by-hand"+"/result.json", result("by-hand", 0, "M2", "text-davinci-003", 30, 5, 65))
	var points []eval.Point
	scaled := eval.Scaled{Format: 1, Name: "scaling" + spice, Iteration: 2}
	for _, n := range []int{10, 20, 40, 80} {
		r := result("eval", 0, fmt.Sprintf("N=%d", n), "M0", 20+int(8*math.Log(float64(n))), 4, 76-int(8*math.Log(float64(n))))
		scaled.Results = append(scaled.Results, r)
		points = append(points, eval.Point{N: int64(n), Rate: r.Rate})
	}
	var err error
	if scaled.Scaling, err = eval.FitScaling(points); err != nil {
		t.Fatal(err)
	}
	put("eval/scaling/scaling.json", scaled)

	var f dataset.Funnel
	tallies := map[string]*dataset.Tally{}
	for i, name := range []string{"pages" + spice, "s3://bucket/uploads/0123456789abcdef0123456789abcdef/"} {
		tally := &dataset.Tally{
			Documents: 48, Pieces: 271, Segments: 220, Whole: map[string]int64{"not_html": 3}, Rejected: map[string]int64{"too_short": 30, "navigation_header": 10, "repetitive": 10, "contaminated": 1},
			Contaminated: map[string]int64{"alpaca_eval" + spice: 1}, Masked: map[string]int64{"email": 4}, Chars: dataset.Moments{N: 220, Sum: 220 * 1134, SumSquares: 220 * (1134*1134 + 330*330)},
		}
		tally.Documents += int64(i)
		tallies[name] = tally
	}
	f.Add(tallies, dataset.Examples{})
	if err := dataset.WriteFunnel(t.Context(), st, in.Segments.Dir, f); err != nil {
		t.Fatal(err)
	}
}

func TestEvidence(t *testing.T) {
	t.Parallel()
	d := build(t, 420, "", Options{})
	var models []string
	for _, r := range d.Evidence.WinRates {
		models = append(models, fmt.Sprintf("%s %d %s", r.Name, r.Iteration, r.Model))
	}
	if got := strings.Join(models, ", "); got != "eval 1 M1, gate 2 M2, eval 2 M2, by-hand 0 M2" {
		t.Errorf("win rates: %s", got)
	}
	if len(d.Evidence.Labelled) != 1 || len(d.Evidence.Scaling) != 1 || len(d.Evidence.Drift) != 1 {
		t.Fatalf("%+v", d.Evidence)
	}
	if x := d.Evidence.Drift[0]; len(x.Entered) != maxDriftRows || len(x.Left) != maxDriftRows || len([]rune(x.Left[0].Output)) > maxDriftText+1 {
		t.Errorf("drift: %d and %d rows", len(x.Entered), len(x.Left))
	}
	better := cards(d)[3]
	if better.Value != "74.0 % win rate" || better.Class != "good" || !strings.Contains(strings.Join(better.Lines, "\n"), "M2 against M0: better") {
		t.Errorf("%+v", better)
	}
	for i := range d.Evidence.WinRates {
		d.Evidence.WinRates[i].Consistent = 0.1
	}
	if c := cards(d)[3]; !strings.Contains(strings.Join(c.Lines, "\n"), "the same in both orders only in 10 %") {
		t.Errorf("a judge that contradicts itself is not told of: %+v", c)
	}
	f := d.Funnels[0]
	if f.Set != stepSegments || len(f.Sources) != 2 || f.Total.Documents != 97 || f.Rows != 420 {
		t.Errorf("%+v", f)
	}
	steps, sets := contamination(d)
	if got := fmt.Sprint(steps, sets); got != "[Segments Instructions written] [{alpaca_eval [2 4]} {gsm8k [-1 0]}]" {
		t.Errorf("found of evaluation sets: %s", got)
	}
	for _, s := range funnelSteps(f) {
		if s.Count > s.Most {
			t.Errorf("%+v", s)
		}
	}
}

// TestNothingMeasured: what was not run is blank, and the summary says so.
func TestNothingMeasured(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	in := example(t, st, 60, "")
	in.Dir = "runs/elsewhere"
	d, err := Build(t.Context(), st, in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if c := cards(d)[3]; c.Value != "not measured" || c.Class != "open" {
		t.Errorf("%+v", c)
	}
	var page strings.Builder
	if err := HTML(&page, d); err != nil || strings.Count(page.String(), `class="blank"`) != 3 {
		t.Errorf("%d blanks, %v", strings.Count(page.String(), `class="blank"`), err)
	}
}

// TestVariety counts verbs of instructions that are known, and takes a prefix of a large set.
func TestVariety(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	in := example(t, st, 420, "")
	memo := &Memo{}
	d, err := Build(t.Context(), st, in, Options{Instructions: 30, Memo: memo})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Variety) != 2 || d.Variety[0].Looked != 30 || d.Variety[1].Set != "Curated set, iteration 2" {
		t.Fatalf("%+v", d.Variety)
	}
	for _, v := range d.Variety {
		var n int64
		for _, verb := range v.Top {
			n += verb.Count
		}
		if n != v.Found || v.Found == 0 || v.Found > v.Looked || v.NearDuplicates > v.Looked || v.NearDuplicates == 0 {
			t.Errorf("%+v", v)
		}
	}
	if len(memo.variety) != 2 {
		t.Errorf("%d sets remembered", len(memo.variety))
	}
	again, err := Build(t.Context(), st, in, Options{Instructions: 30, Memo: memo})
	if err != nil || fmt.Sprint(again.Variety) != fmt.Sprint(d.Variety) {
		t.Errorf("%v, %v", again.Variety, err)
	}
}

// TestSunburst draws sets that have no room for words, one verb, and none.
func TestSunburst(t *testing.T) {
	t.Parallel()
	for _, v := range []Variety{{}, {Top: nil}, build(t, 60, "", Options{}).Variety[0]} {
		svg := string(sunburst(v))
		if strings.Count(svg, "<g ") != len(v.Top) || strings.Contains(svg, "NaN") {
			t.Error(svg)
		}
	}
}
