package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/devstack/s3d/s3test"
)

// TestCompare knows what every row of two runs has to be counted as.
func TestCompare(t *testing.T) {
	t.Parallel()
	st := s3test.Store(t)
	const n = 200
	var rated [2][]dataset.Rating
	want := SetChange{}
	for i := range n {
		text := fmt.Sprintf("Text %d. %s", i, spice)
		r := dataset.Rating{ID: dataset.SegmentID(text), Instruction: fmt.Sprintf("Write text %d. %s", i, spice), Output: text, Score: 3, Reason: "r"}
		other := r
		switch i % 8 {
		case 0:
			rated[0] = append(rated[0], r)
			want.OnlyA++
			continue
		case 1:
			rated[1] = append(rated[1], r)
			want.OnlyB++
			continue
		case 2:
			other.Score = 4.5
			want.Up++
		case 3:
			other.Score = 1
			want.Down++
		case 4:
			other.Instruction += " Briefly."
			want.Rewritten++
		}
		want.Both++
		rated[0], rated[1] = append(rated[0], r), append(rated[1], other)
	}
	var d [2]Data
	for i, name := range []string{"a" + spice, "b"} {
		// Other numbers of partitions must not matter.
		ref := commit(t, st, "runs/"+[]string{"a", "b"}[i]+"/ratings", 2+i, dataset.Manifest{Kind: dataset.KindRatings}, rated[i], nil)
		seeds := commit(t, st, "runs/"+[]string{"a", "b"}[i]+"/seeds", 1, dataset.Manifest{Kind: dataset.KindSeeds}, []dataset.Seed{{ID: dataset.PairID("q", "a"), Instruction: "q", Output: "a"}}, nil)
		d[i] = Data{Input: Input{Run: name, Phase: "completed", Threshold: float64(4 + i), Seeds: seeds, Rounds: []Round{{Iteration: 1, Ratings: ref}}}}
	}
	specs := [2]Spec{
		{JSON: json.RawMessage(`{"name":"a","curate":{"threshold":4},"seeds":[{"path":"x"}],"only":"here","none":null}`)},
		{JSON: json.RawMessage(`{"name":"b","curate":{"threshold":5},"seeds":[{"path":"x"},{"path":"<script>"}]}`)},
	}
	c, err := Compare(t.Context(), st, d[0], d[1], specs[0], specs[1], Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Spec); got != "[{curate.threshold 4 5  } {only here   } {seeds[1].path  <script>  }]" {
		t.Errorf("spec: %s", got)
	}
	if len(c.Sets) != 2 || !c.Sets[0].Equal || c.Sets[0].Both != 1 {
		t.Fatalf("%+v", c.Sets)
	}
	s := c.Sets[1]
	if s.Both != want.Both || s.OnlyA != want.OnlyA || s.OnlyB != want.OnlyB || s.Up != want.Up || s.Down != want.Down || s.Rewritten != want.Rewritten || s.Sampled {
		t.Errorf("%+v, want %+v", s, want)
	}
	if len(s.Moved) != movedRows || len(s.JustA) != movedRows || len(s.JustB) != movedRows || s.MeanA != 3 || s.MeanB == 3 {
		t.Errorf("%d, %d, %d examples, means %g and %g", len(s.Moved), len(s.JustA), len(s.JustB), s.MeanA, s.MeanB)
	}
	back, err := Compare(t.Context(), st, d[1], d[0], specs[1], specs[0], Options{})
	if err != nil || back.Sets[1].OnlyA != s.OnlyB || back.Sets[1].Up != s.Down || back.Sets[1].Both != s.Both {
		t.Errorf("the other way round: %+v, %v", back.Sets[1], err)
	}
	part, err := Compare(t.Context(), st, d[0], d[1], specs[0], specs[1], Options{Scan: 50})
	if p := part.Sets[1]; err != nil || !p.Sampled || p.Both+p.OnlyA+p.OnlyB == 0 || p.Both+p.OnlyA+p.OnlyB > 100 || p.RowsA != s.RowsA {
		t.Errorf("a sample: %+v, %v", p, err)
	}

	var text, page bytes.Buffer
	if err := c.Text(&text); err != nil || strings.ContainsAny(text.String(), "\x1b\u202e") || !strings.Contains(text.String(), "Ratings, iteration 1") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := c.HTML(&page); err != nil || strings.Contains(page.String(), "<script") || strings.Contains(page.String(), "<img") || !strings.Contains(page.String(), "&lt;script&gt;") {
		t.Errorf("%v\n%.2000s", err, page.String())
	}
	raw, err := json.Marshal(c)
	if err != nil || !json.Valid(raw) {
		t.Error(err)
	}
	if _, err := Compare(t.Context(), st, d[0], d[1], Spec{JSON: json.RawMessage(`{`)}, specs[1], Options{}); err == nil {
		t.Error("half a spec is compared")
	}
}

// What was changed while a run went on counts as much as what its spec says.
func TestCompareInForce(t *testing.T) {
	t.Parallel()
	spec := func(threshold, iterations string) json.RawMessage {
		return json.RawMessage(`{"name":"x","curate":{"threshold":` + threshold + `},"iterations":` + iterations + `,"budget":{"usd":5}}`)
	}
	c, err := Compare(t.Context(), nil, Data{Input: Input{Run: "a"}}, Data{Input: Input{Run: "b"}},
		Spec{JSON: spec("4.5", "2"), Set: map[string]string{"curate.threshold": "4", "budget.usd": "5"}},
		Spec{JSON: spec("4.5", "3"), Set: map[string]string{"iterations": "2"}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := []SpecChange{
		{Path: "curate.threshold", A: "4.5", B: "4.5", SetA: "4"},
		{Path: "iterations", A: "2", B: "3", SetB: "2"},
	}
	if fmt.Sprint(c.Spec) != fmt.Sprint(want) {
		t.Errorf("%+v", c.Spec)
	}
	var text, page bytes.Buffer
	if err := c.Text(&text); err != nil || !strings.Contains(text.String(), "4 (set; spec 4.5)") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if err := c.HTML(&page); err != nil || !strings.Contains(page.String(), "2 (set; spec 3)") {
		t.Errorf("%v\n%s", err, page.String())
	}
}

// The known part of a cost is told, and that it is a part.
func TestCostKnown(t *testing.T) {
	t.Parallel()
	paid := func(calls, micro, unknown int64) dataset.Usage {
		return dataset.Usage{Calls: calls, MicroUSD: micro, UnknownPrice: unknown}
	}
	for want, d := range map[string]Input{
		"–":            {},
		"$0.50":        {Spent: paid(3, 500_000, 0), Trainings: []Training{{CostKnown: true}}},
		"≥ $0.50":      {Spent: paid(3, 500_000, 0), Trainings: []Training{{}}},
		"≥ $0.60":      {Spent: paid(3, 600_000, 1), Trainings: []Training{{}}},
		"$0 for calls": {Trainings: []Training{{CostKnown: true}, {}}},
		"$0":           {Trainings: []Training{{CostKnown: true}}},
		"unknown":      {Spent: paid(3, 0, 3), Trainings: []Training{{}}},
	} {
		if got := itCost(Data{Input: d}); got.Value != want {
			t.Errorf("%q, want %q; %v", got.Value, want, got.Lines)
		}
	}
}
