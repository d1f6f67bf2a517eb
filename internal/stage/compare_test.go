package stage

import (
	"fmt"
	"strings"
	"testing"

	"github.com/selfalign/selfalign/internal/dataset"
	"github.com/selfalign/selfalign/internal/prompt"
)

func (b *bench) comparisons(dir string, n int) dataset.Ref {
	b.t.Helper()
	var rows []dataset.Comparison
	for i := range n {
		c := dataset.Comparison{Instruction: fmt.Sprintf("Tell me about matter %d.", i), Output: "from the model", Baseline: "from the baseline", Generator: "m2", BaselineGenerator: "m1"}
		c.ID = dataset.PromptID(c.Instruction)
		rows = append(rows, c)
	}
	if _, err := dataset.WritePartition(b.t.Context(), b.st, dir, 0, 0, rows, nil, dataset.Receipt{Input: int64(n)}); err != nil {
		b.t.Fatal(err)
	}
	return dataset.Ref{Kind: dataset.KindComparisons, Dir: dir, Rows: int64(n), Digest: "x"}
}

// TestBothOrdersDecide has a judge that is fair, leans to a place, contradicts itself or says nothing readable.
func TestBothOrdersDecide(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, 0)
	b.ref.answer = func(q question) reply {
		modelFirst := strings.Index(q.text, "from the model") < strings.Index(q.text, "from the baseline")
		say := func(model bool) reply {
			if model == modelFirst {
				return reply{text: "Clearer.\nVerdict: first"}
			}
			return reply{text: "Clearer.\nVerdict: second"}
		}
		for i, answer := range []func() reply{
			func() reply { return say(true) },
			func() reply { return say(false) },
			func() reply { return reply{text: "Verdict: first"} }, // leans to the first place
			func() reply { return reply{text: "Verdict: tie"} },
			func() reply { // prefers the model in one order and says tie in the other
				if modelFirst {
					return reply{text: "Verdict: first"}
				}
				return reply{text: "Verdict: tie"}
			},
			func() reply { // is readable in one order
				if modelFirst {
					return say(true)
				}
				return reply{text: "I cannot decide."}
			},
			func() reply { return reply{text: "Verdict: first or second"} },
		} {
			if strings.Contains(q.text, fmt.Sprintf("matter %d.", i)) {
				return answer()
			}
		}
		t.Errorf("unexpected question %q", q.text)
		return reply{}
	}
	w := b.backtranslate("judgements")
	w.Task, w.Input, w.Samples, w.Attempts = TaskCompare, b.comparisons("comparisons", 7), 2, 2
	results := b.run(w)
	if r := results[0].Receipt; r.Rows != 6 || r.Rejected != 1 || r.Input != 7 {
		t.Fatalf("receipt %+v", r)
	}
	want := map[string]string{
		"matter 0.": "1 win model model", "matter 1.": "0 loss baseline baseline", "matter 2.": "0.5 draw model baseline",
		"matter 3.": "0.5 draw tie tie", "matter 4.": "0.5 draw model tie", "matter 5.": "0.5 draw model ",
	}
	for _, j := range rowsOf[dataset.Judgement](b, w) {
		got := fmt.Sprintf("%g %s %s %s", j.Share, j.Outcome, j.Forward, j.Backward)
		if w := want[strings.TrimPrefix(j.Instruction, "Tell me about ")]; got != w {
			t.Errorf("%s: %s, want %s", j.Instruction, got, w)
		}
		if j.Judge != "r1" || !strings.HasPrefix(j.JudgePrompt, prompt.Compare+"@") || j.Generator != "m2" {
			t.Errorf("lineage of %+v", j)
		}
	}
	for _, x := range b.rejects(w) {
		if x.Reason != "verdict_unclear" || x.Stage != TaskCompare {
			t.Errorf("rejected as %s in %s", x.Reason, x.Stage)
		}
	}
	// Again, under another name: free.
	before := b.ref.asked()
	w.Output = "again"
	b.run(w)
	if n := b.ref.asked() - before; n != 0 {
		t.Errorf("%d questions asked again", n)
	}
	w.Output, w.Samples = "odd", 3
	if _, err := w.check(); err == nil {
		t.Error("an odd number of samples asks one order more often")
	}
}
