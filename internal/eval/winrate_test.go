package eval_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/selfalign/selfalign/internal/eval"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	w := eval.Rate([]float64{eval.Win, eval.Win, eval.Draw, eval.Loss}, 1)
	if w.N != 5 || w.Wins != 2 || w.Draws != 1 || w.Losses != 2 || w.Missing != 1 {
		t.Errorf("counts %+v", w)
	}
	near(t, "rate", w.Rate, 2.5/5, 1e-12)
	near(t, "standard error", w.StandardError, math.Sqrt((2*0.25+2*0.25)/4/5), 1e-12)
	if w.Low < 0 || w.Low >= w.Rate || w.High <= w.Rate || w.High > 1 || !w.Even() {
		t.Errorf("interval [%v, %v] of %v", w.Low, w.High, w.Rate)
	}
	if of := eval.Rate(nil, 0); of.N != 0 || of.Low != 0 || of.High != 1 || !of.Even() {
		t.Errorf("of nothing: %+v", of)
	}
	if all := eval.Rate([]float64{1, 1, 1}, 0); all.Rate != 1 || all.Low != 1 || all.Even() {
		t.Errorf("of wins alone: %+v", all)
	}
	if eval.Rate(nil, 3).Rate != 0 {
		t.Error("missing outputs are losses")
	}
}

func TestRateOfManyComparisons(t *testing.T) {
	t.Parallel()
	few, many := make([]float64, 20_000), make([]float64, 20_001)
	for i := range many {
		many[i] = float64(i % 2)
	}
	copy(few, many)
	a, b := eval.Rate(few, 0), eval.Rate(many, 0)
	near(t, "low", a.Low, b.Low, 1e-3)
	near(t, "high", a.High, b.High, 1e-3)
}

func TestRateIsASymmetricShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 0.5, 1, 0.25}), 1, 30).Draw(t, "scores")
		missing := rapid.Int64Range(0, 5).Draw(t, "missing")
		w := eval.Rate(scores, missing)
		if w.Wins+w.Draws+w.Losses != w.N || w.N != int64(len(scores))+missing {
			t.Fatalf("counts %+v", w)
		}
		if w.Low > w.Rate+1e-12 || w.High < w.Rate-1e-12 || w.Low < 0 || w.High > 1 {
			t.Fatalf("interval %+v", w)
		}
		other := make([]float64, 0, len(scores)+int(missing))
		for _, s := range scores {
			other = append(other, 1-s)
		}
		for range missing {
			other = append(other, 1)
		}
		if v, o := eval.Rate(other, 0), w.Opposite(); math.Abs(v.Rate-o.Rate) > 1e-12 || v.Wins != o.Wins || math.Abs(v.StandardError-o.StandardError) > 1e-12 {
			t.Fatalf("seen from the other side %+v, want %+v", v, o)
		}
		if again := eval.Rate(append(scores[1:], scores[0]), missing); again != w {
			t.Fatalf("another order gives %+v, not %+v", again, w)
		}
	})
}

// annotations are synthetic. What alpaca_eval 0.6.6 tells of them (metrics.get_winrate) was computed with its own code.
func annotations() string {
	preferences := strings.Fields("1 2 1.5 0 NaN 2 2 1.25 1.9 1.4999 1.5001 1 2 2 1 1.0 2.0 1.5 1.75 1.1 1.6 2 1 2")
	var b strings.Builder
	b.WriteString("[")
	for i, p := range preferences {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"instruction": "Instruction %d NaN \" NaN", "output_1": %q, "output_2": %q, "generator_1": "base", "generator_2": "model", "annotator": "judge", "dataset": "synthetic", "preference": %s}`,
			i, strings.Repeat("b", 20+(i*37)%90), strings.Repeat("m", 25+(i*53)%110), p)
	}
	b.WriteString("]\n")
	return b.String()
}

func TestImportGivesAlpacaEvalsNumbers(t *testing.T) {
	t.Parallel()
	list, err := eval.ReadAnnotations(strings.NewReader(annotations()))
	if err != nil {
		t.Fatal(err)
	}
	if list[3].Instruction != `Instruction 3 NaN " NaN` || list[4].Preference != nil {
		t.Errorf("read %+v", list[3:5])
	}
	p, err := eval.Import(list)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "win_rate", p.WinRate, 56.95652173913043, 1e-9)
	near(t, "standard_error", p.StandardError, 8.427434580005649, 1e-9)
	near(t, "discrete_win_rate", p.DiscreteWinRate, 58.69565217391305, 1e-9)
	near(t, "avg_length", p.AverageLength, 79.91666666666667, 1e-9)
	if p.Wins != 12 || p.WinsBase != 8 || p.Draws != 3 || p.Total != 23 || p.Model != "model" || p.Baseline != "base" {
		t.Errorf("counts %+v", p)
	}
	w := eval.Rate(sharesOf(eval.Shares(list)), 0)
	near(t, "our rate", 100*w.Rate, p.WinRate, 1e-9)
	near(t, "our standard error", 100*w.StandardError, p.StandardError, 1e-9)
}

func sharesOf(all []eval.Compared) []float64 {
	out := make([]float64, len(all))
	for i, c := range all {
		out[i] = c.Share
	}
	return out
}

func TestRecordsInOtherForms(t *testing.T) {
	t.Parallel()
	lines := "{\"instruction\":\"a\",\"output_2\":\"x\"}\n{\"instruction\":\"b\",\"preference\":NaN,\"generator_2\":\"g\"}\n"
	out, err := eval.ReadAnnotations(strings.NewReader(lines))
	if err != nil || len(out) != 2 || out[1].Generator2 != "g" || out[1].Preference != nil {
		t.Errorf("lines: %v, %v", out, err)
	}
	for name, text := range map[string]string{
		"nothing": "", "an empty list": "[]", "no end": `[{"instruction":"a"}`, "more": `[{"instruction":"a"}] []`,
		"another shape": `{"instruction": 3}`, "a list of words": `["a"]`,
	} {
		if got, err := eval.ReadAnnotations(strings.NewReader(text)); err == nil {
			t.Errorf("%s was read as %v", name, got)
		}
	}
	if _, err := eval.Import([]eval.Annotation{{}}); err == nil {
		t.Error("annotations without a preference have a win rate")
	}
}

func FuzzReadAnnotations(f *testing.F) {
	f.Add(annotations())
	f.Add("{\"preference\":NaN}\n{\"preference\":1}")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := eval.ReadAnnotations(strings.NewReader(text))
		if err != nil {
			return
		}
		if p, err := eval.Import(list); err == nil && !(p.WinRate >= 0 && p.WinRate <= 100 && p.Wins+p.WinsBase+p.Draws == p.Total) {
			t.Errorf("%+v", p)
		}
	})
}

func lengths(t *testing.T) []eval.Compared {
	t.Helper()
	body, err := os.ReadFile("testdata/lengths.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Baseline, Model int64
		Preference      float64
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	var out []eval.Compared
	for _, l := range list {
		out = append(out, eval.Compared{Share: l.Preference - 1, Chars: l.Model, BaselineChars: l.Baseline})
	}
	return out
}

func TestControlLength(t *testing.T) {
	t.Parallel()
	all := lengths(t)
	near(t, "raw rate", eval.Rate(sharesOf(all), 0).Rate, 0.595, 1e-9)
	l, ok := eval.ControlLength(all)
	if !ok {
		t.Fatal("nothing was fitted")
	}
	// alpaca_eval 0.6.6, length_controlled_minimal, with its L1 penalty: 58.32 % and a coefficient of 1.156.
	near(t, "rate at equal length", l.Rate, 0.5832, 0.005)
	near(t, "effect of length", l.LengthEffect, 1.156, 0.05)
	if l.Low >= l.Rate || l.High <= l.Rate || l.N != 400 {
		t.Errorf("%+v", l)
	}
	if _, ok := eval.ControlLength(all[:9]); ok {
		t.Error("nine comparisons are too few")
	}
	same := make([]eval.Compared, 20)
	if _, ok := eval.ControlLength(same); ok {
		t.Error("outputs of equal length tell nothing of length")
	}
	for i := range same { // longer always wins: the fit must stay finite
		same[i] = eval.Compared{Share: float64(i % 2), Chars: int64(100 * (i % 2)), BaselineChars: 50}
	}
	if l, ok := eval.ControlLength(same); !ok || math.IsNaN(l.Rate) || math.Abs(l.Rate-0.5) > 0.01 {
		t.Errorf("where the longer always wins: %+v, %v", l, ok)
	}
}

func TestControlLengthIsFinite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(10, 60).Draw(t, "n")
		all := make([]eval.Compared, n)
		for i := range all {
			all[i] = eval.Compared{
				Share: rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "share"),
				Chars: rapid.Int64Range(0, 100_000).Draw(t, "chars"), BaselineChars: rapid.Int64Range(0, 100_000).Draw(t, "baseline"),
			}
		}
		l, ok := eval.ControlLength(all)
		if ok && !(l.Low >= 0 && l.Low <= l.Rate && l.Rate <= l.High && l.High <= 1 && !math.IsNaN(l.LengthEffect)) {
			t.Fatalf("%+v", l)
		}
	})
}
