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
	specs := [2]json.RawMessage{
		json.RawMessage(`{"name":"a","curate":{"threshold":4},"seeds":[{"path":"x"}],"only":"here","none":null}`),
		json.RawMessage(`{"name":"b","curate":{"threshold":5},"seeds":[{"path":"x"},{"path":"<script>"}]}`),
	}
	c, err := Compare(t.Context(), st, d[0], d[1], specs[0], specs[1], Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Spec); got != "[{curate.threshold 4 5} {only here } {seeds[1].path  <script>}]" {
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
	if _, err := Compare(t.Context(), st, d[0], d[1], json.RawMessage(`{`), specs[1], Options{}); err == nil {
		t.Error("half a spec is compared")
	}
}
